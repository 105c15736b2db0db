"""A journal that was damaged tells of everything it lost, and goes on with the rest."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wherry.base.errors import CorruptError, InputError
from wherry.run.journal import Journal
from wherry.run.journal_sqlite import SqliteJournal, look_sqlite, open_sqlite
from wherry.run.records import (
    PARKED,
    Answered,
    Code,
    Effect,
    Forgotten,
    Held,
    Leased,
    Receipted,
    Stepped,
)


def id_of(number: int) -> bytes:
    return random.Random(number).randbytes(16)


def held_of(number: int, hop: int = 0) -> Held:
    noise = random.Random(number * 1000 + hop).randbytes(100)
    program = b"p" * 16
    message = b"WHRY" + id_of(number) + program + noise
    return Held(id_of(number), 1, hop, PARKED, program, 2, message, "", 10 + number, "", "t")


def filled(path: Path, rows: int = 300) -> dict[tuple[str, Any], Any]:
    """Fill a journal and give its records by kind and key."""
    with_steps = [one for n in range(rows) for one in _of(n)]
    journal = open_sqlite(path)
    for at in range(0, len(with_steps), 100):
        journal.write(with_steps[at : at + 100])
    journal.write([Code(b"p" * 16, "program", bytes(9000))])
    journal.close()
    return {("code", b"p" * 16): Code(b"p" * 16, "program", bytes(9000))} | {
        (type(one).__name__, one[0] if not hasattr(one, "id") else one.id): one
        for one in with_steps
    }


def _of(n: int) -> list[Any]:
    id_ = id_of(n)
    return [
        held_of(n),
        Stepped(id_, 0, 1, "csd", id_ * 5, b""),
        Effect(id_[::-1], id_, 0, True, b"done"),
        Leased(b"r" + id_, id_, 77 + n, 5),
        Receipted(id_, 1, 0, "csd", "t", b"used"),
        Answered(id_, False, id_ * 3, 4),
    ]


def read(journal: Journal, kind: str, key: bytes) -> Any:
    """Give what a journal has under a key, or the words it says instead."""
    ask = {
        "Held": lambda: journal.held(key),
        "Stepped": lambda: journal.stepped(key, 0),
        "Effect": lambda: journal.effect(key[::-1]),
        "Leased": lambda: next(iter(journal.leases_of(key)), None),
        "Receipted": lambda: next(journal.receipts(key), None),
        "Answered": lambda: journal.answered(key),
        "code": lambda: journal.code(key),
    }
    try:
        return ask[kind]()
    except CorruptError as error:
        return error


def reopened(path: Path) -> SqliteJournal:
    """Open a journal and have it look at all of itself."""
    journal = open_sqlite(path)
    journal.check()
    assert journal.check() == []
    return journal


def accounted(journal: Journal, records: dict[tuple[str, Any], Any]) -> int:
    """Check that a record is as it was, or missing and told; give how many are missing."""
    told = [f"{one.table} {one.key}" for one in journal.damages()]
    missing = 0
    for (kind, key), record in records.items():
        found = read(journal, kind, key)
        if found != record:
            missing += 1
            assert found is None or isinstance(found, CorruptError), (found, record)
            table = {"Stepped": "step", "Receipted": "receipt", "Leased": "lease"}
            name = table.get(kind, {"Answered": "answer"}.get(kind, kind.lower()))
            named = key[::-1] if kind == "Effect" else key
            assert any(t.startswith(name) and (named.hex() in t or "rows" in t) for t in told), (
                f"{kind} {key.hex()} is gone and nobody says so: {told}"
            )
    return missing


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, Any], Any]]:
    path = tmp_path_factory.mktemp("whole") / "journal"
    return path, filled(path)


@pytest.fixture
def copied(tmp_path: Path, whole: tuple[Path, Any]) -> Path:
    shutil.copyfile(whole[0], tmp_path / "journal")
    return tmp_path / "journal"


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits(copied: Path, whole: tuple[Path, Any], seed: int) -> None:
    chance = random.Random(seed)
    image = bytearray(copied.read_bytes())
    for _ in range(chance.choice([1, 1, 3, 20])):
        image[chance.randrange(100, len(image))] ^= 1 << chance.randrange(8)
    copied.write_bytes(image)
    journal = reopened(copied)
    missing = accounted(journal, whole[1])
    assert missing < len(whole[1]) // 2
    journal.write([held_of(0, hop=9)])
    assert journal.held(id_of(0)) == held_of(0, hop=9)
    journal.close()


@pytest.mark.parametrize("page", range(1, 60, 3))
def test_pages_of_noise(copied: Path, whole: tuple[Path, Any], page: int) -> None:
    image = bytearray(copied.read_bytes())
    image[4096 * (page - 1) : 4096 * page] = random.Random(page).randbytes(4096)
    copied.write_bytes(image)
    journal = reopened(copied)
    assert accounted(journal, whole[1]) < len(whole[1]) // 2
    assert journal.damages()
    journal.close()
    again = open_sqlite(copied)
    assert again.damages()
    again.close()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_short(copied: Path, whole: tuple[Path, Any], share: float) -> None:
    size = copied.stat().st_size
    os.truncate(copied, int(size * share))
    journal = reopened(copied)
    missing = accounted(journal, whole[1])
    assert missing
    journal.close()
    assert copied.with_name("journal.damaged-1").stat().st_size == int(size * share)


def test_tables_before_the_cut_of_a_small_journal_go_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = open_sqlite(path)
    journal.write([held_of(n) for n in range(3)])
    journal.close()
    os.truncate(path, 14 * 4096 + 100)  # the first pages of later tables are gone
    journal = reopened(path)
    assert [journal.held(id_of(n)) for n in range(3)] == [held_of(n) for n in range(3)]
    told = [one.table for one in journal.damages()]
    assert "held" not in told
    assert "answer" in told
    journal.close()


def test_a_row_that_was_changed_is_named_and_the_rest_goes_on(
    copied: Path, whole: tuple[Path, Any]
) -> None:
    image = copied.read_bytes()
    noise = held_of(7).message[40:]
    assert image.count(noise) == 1
    copied.write_bytes(image.replace(noise, noise[:50] + b"!" + noise[51:]))
    journal = open_sqlite(copied)
    for _ in range(2):
        with pytest.raises(CorruptError, match=f"held {id_of(7).hex()} is not as it was written"):
            journal.held(id_of(7))
    assert [one.id for one in journal.due(20, 20)] == [id_of(n) for n in range(11) if n != 7]
    assert [(one.table, one.key) for one in journal.damages()] == [("held", id_of(7).hex())]
    assert f"held {id_of(7).hex()}" in journal.of(id_of(7)).damage
    assert journal.check() == []
    journal.close()
    again = open_sqlite(copied)
    with pytest.raises(CorruptError, match="not as it was written"):
        again.held(id_of(7))
    again.write([held_of(7)])
    assert again.held(id_of(7)) == held_of(7)
    assert again.of(id_of(7)).damage == ""
    again.write([Forgotten(id_of(7))])
    assert again.held(id_of(7)) is None
    again.close()
    last = open_sqlite(copied)
    assert last.held(id_of(7)) is None
    assert "written again or forgotten since" in last.damages()[0].problem
    last.close()


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a journal " * 1000)
    with pytest.raises(InputError, match="no journal"):
        open_sqlite(path)
    assert path.read_bytes() == b"not a journal " * 1000
    assert sorted(one.name for one in tmp_path.iterdir()) == ["notes.txt", "notes.txt-lock"]


_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_journal_damage import held_of
from wherry.run.journal_sqlite import open_sqlite
journal = open_sqlite({file!r})
for hop in range(1, 1 << 30):
    journal.write([held_of(n, hop) for n in range(5)])
    print(hop, flush=True)
"""


def killed(path: Path, after: int) -> int:
    """Kill a process that writes five states a batch; give the last batch it was told is there."""
    program = _WRITER.format(path=[str(Path(__file__).parent), *sys.path], file=str(path))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(after)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    return int([line for line in lines if line.endswith(b"\n")][-1])


@pytest.mark.parametrize("after", [1, 40, 700])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, after: int) -> None:
    path = tmp_path / "journal"
    hop = killed(path, after)
    journal = open_sqlite(path)
    hops = {one.hop for one in (journal.held(id_of(n)) for n in range(5)) if one}
    assert len(hops) == 1
    assert hops <= {hop, hop + 1}
    assert journal.damages() == []
    assert journal.check() == []
    journal.close()


def test_a_damaged_log_loses_nothing_silently(tmp_path: Path) -> None:
    source = tmp_path / "source"
    hop = killed(source, 300)
    log = tmp_path / "source-wal"
    kept = {name: (tmp_path / name).read_bytes() for name in ("source", "source-wal")}
    used = len(log.read_bytes().rstrip(b"\0"))
    chance = random.Random(1)
    seen = set()
    for case in range(30):
        path = tmp_path / f"case{case}"
        path.write_bytes(kept["source"])
        image = bytearray(kept["source-wal"])
        image[chance.randrange(used)] ^= 1 << chance.randrange(8)
        path.with_name(path.name + "-wal").write_bytes(image)
        journal = open_sqlite(path)
        hops = [one.hop if one else 0 for one in (journal.held(id_of(n)) for n in range(5))]
        if min(hops) < hop:
            assert journal.damages(), hops
        seen |= {one.table for one in journal.damages()}
        assert set(hops) <= set(range(hop + 2))
        assert journal.check() == []
        journal.close()
    assert "log" in seen


def test_a_torn_log_leaves_out_what_nobody_was_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    hop = killed(source, 30)
    kept = (tmp_path / "source").read_bytes(), (tmp_path / "source-wal").read_bytes()
    used = len(kept[1].rstrip(b"\0"))
    for case in range(8):
        path = tmp_path / f"case{case}"
        path.write_bytes(kept[0])
        path.with_name(path.name + "-wal").write_bytes(kept[1][: used - 600 * case - 1])
        journal = open_sqlite(path)
        hops = {one.hop if one else 0 for one in (journal.held(id_of(n)) for n in range(5))}
        assert len(hops) == 1
        assert hops <= set(range(hop - 5, hop + 2))
        assert journal.check() == []
        journal.close()


def test_looking_while_it_is_driven(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = open_sqlite(path)
    journal.write([held_of(1)])
    look = look_sqlite(path)
    assert look.held(id_of(1)) == held_of(1)
    journal.write([held_of(1, hop=5)])
    assert look.held(id_of(1)) == held_of(1, hop=5)
    with pytest.raises(InputError, match="read only"):
        look.write([held_of(2)])
    look.close()
    journal.close()
    with contextlib.closing(look_sqlite(path)) as look:
        assert look.listed() == [held_of(1, hop=5)]
