"""The journal in a file: who may open it, threads, forks, and disks that are full."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from io import FileIO
from pathlib import Path

import pytest

from wherry.base.errors import InputError
from wherry.run.journal import JournalBusy, JournalError, JournalFull
from wherry.run.journal_sqlite import SqliteJournal, look_sqlite, open_sqlite
from wherry.run.records import Answered


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    found = open_sqlite(path)
    yield found
    found.close()


def answer(number: int, nbytes: int = 3) -> Answered:
    return Answered(number.to_bytes(16, "big"), False, bytes(nbytes), 1)


def run(program: str, path: Path) -> str:
    given = [sys.executable, "-c", program, str(path)]
    return subprocess.run(given, capture_output=True, text=True, check=False, timeout=60).stdout


_OPENS = """
import sys
from wherry.run.journal_sqlite import open_sqlite
try:
    open_sqlite(sys.argv[1]).close()
    print("opened")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_one_process_drives_a_journal(journal: SqliteJournal, path: Path) -> None:
    with pytest.raises(JournalBusy, match="this process drives"):
        open_sqlite(path)
    told = run(_OPENS, path)
    assert told.startswith("JournalBusy")
    assert f"process {os.getpid()}" in told
    journal.close()
    assert run(_OPENS, path) == "opened\n"


def test_a_journal_of_a_newer_version_is_refused(path: Path) -> None:
    open_sqlite(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    for opened in (open_sqlite, look_sqlite):
        with pytest.raises(InputError, match="has version 99; this Wherry reads versions up to"):
            opened(path)


def test_another_database_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="no journal"):
        open_sqlite(path)
    assert path.read_bytes() == before


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        open_sqlite(tmp_path / "absent" / "journal")
    with pytest.raises(InputError, match="there is no journal"):
        look_sqlite(tmp_path / "absent")


def test_threads_share_commits_and_each_gets_its_own_error(journal: SqliteJournal) -> None:
    commits: list[str] = []
    journal._writer.set_trace_callback(lambda s: commits.append(s) if s == "COMMIT" else None)
    wrong: list[Exception] = []

    def write(first: int) -> None:
        for number in range(first, first + 20):
            try:
                value = 1 << 63 if number % 50 == 49 else 1
                journal.write([answer(number), Answered(b"x", False, b"", value)])
            except InputError as error:
                wrong.append(error)

    threads = [threading.Thread(target=write, args=(20 * n,)) for n in range(20)]
    with journal._writing:  # all queue up behind this
        for thread in threads:
            thread.start()
        while journal._group.waiting < 20:
            pass
    for thread in threads:
        thread.join()
    written = [n for n in range(400) if journal.answered(answer(n).id) is not None]
    assert written == [n for n in range(400) if n % 50 != 49]
    assert len(wrong) == 8
    assert len(commits) < 392 - 15


def test_a_fork_is_told_to_open_it_anew_and_disturbs_nobody(
    journal: SqliteJournal, path: Path
) -> None:
    journal.write([answer(1)])
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            journal.answered(answer(1).id)
        except JournalError as error:
            os.write(writes, str(error).encode())
        finally:
            journal.close()
            os._exit(0)
    os.waitpid(child, 0)
    assert b"possible: open it anew" in os.read(reads, 1000)
    os.close(reads)
    os.close(writes)
    journal.write([answer(2)])
    assert journal.answered(answer(1).id) == answer(1)
    assert run(_OPENS, path).startswith("JournalBusy")
    assert journal.check() == []


def test_a_full_disk_takes_nothing_back(journal: SqliteJournal) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = journal.path.with_name("journal-wal").stat().st_size + (1 << 20)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    acknowledged = 0
    try:
        for number in range(1000):
            try:
                journal.write([answer(number, 1 << 18)])
            except JournalError as error:
                assert "I/O" in str(error)  # noqa: PT017 - which write it is, is not known
                break
            acknowledged += 1
        with pytest.raises(JournalError):
            journal.write([answer(1000, 1 << 18)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 10 < acknowledged < 1000
    journal.write([answer(5000)])
    there = [n for n in range(1001) if journal.answered(answer(n).id) is not None]
    assert there == list(range(acknowledged))
    assert journal.check() == []


def test_no_room_is_told_as_such(journal: SqliteJournal) -> None:
    pages = journal._writer.execute("PRAGMA page_count").fetchone()[0]
    journal._writer.execute(f"PRAGMA max_page_count={pages + 20}")
    with pytest.raises(JournalFull, match="full; nothing of the batch was written"):
        journal.write([answer(0), answer(1, 1 << 18)])
    assert journal.answered(answer(0).id) is None
    journal.write([answer(0)])
    assert journal.answered(answer(0).id) == answer(0)


def test_who_is_killed_while_making_it_leaves_no_half(tmp_path, monkeypatch):
    path = tmp_path / "j"

    def killed(_dialect):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wherry.run.journal_sqlite.definitions", killed)
        with pytest.raises(KeyboardInterrupt):
            open_sqlite(path)
    assert not path.exists()
    (tmp_path / "j-wal").write_bytes(b"of a journal that is gone")
    with closing(open_sqlite(path)) as journal:
        journal.write([Answered(b"a" * 16, False, b"1")])
        assert not (tmp_path / "j-making").exists()
    with closing(open_sqlite(path)) as journal:
        assert journal.answered(b"a" * 16) == Answered(b"a" * 16, False, b"1")


def test_a_log_that_does_not_fit_leaves_the_room_to_others(tmp_path, monkeypatch):
    open_sqlite(tmp_path / "j").close()
    written = FileIO.write

    class Short(FileIO):
        def write(self, data):
            return written(self, data[:5000])

    def opened(path, mode="r", **given):
        return Short(path, mode) if str(path).endswith("-wal") else FileIO(path, mode, **given)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        journal = open_sqlite(tmp_path / "j")
    assert (tmp_path / "j-wal").stat().st_size == 0
    journal.write([Answered(b"a" * 16, False, b"1")])
    journal.close()
