"""A journal in one SQLite file: write-ahead log, synced at every commit, commits shared by threads.

One process drives a journal (`open_sqlite`); others may look meanwhile (`look_sqlite`). Beside the
file lie its log (`-wal`, `-shm`, SQLite's own) and `-lock`, which a driving process holds locked
for as long as it lives, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from wherry.base.errors import CorruptError, InputError, WherryError
from wherry.run.journal import Damage, JournalBusy, JournalError, JournalFull, refused
from wherry.run.journal_group import GroupCommit, Operation
from wherry.run.journal_salvage import reasons, salvage, sync_folder, torn
from wherry.run.journal_sql import ASIDE, PAGE, Ask, SqlJournal, grouped, told
from wherry.run.journal_tables import APPLICATION, TABLES, VERSION, Row, Table, definitions

PAGE_BYTES: Final = 4096
CACHE_KIB: Final = 4096
"""Of pages, for each of two connections."""
LOG_PAGES: Final = 2000
"""After so many, the log is copied into the file."""
_BUSY_S: Final = 5.0

T = TypeVar("T")


def open_sqlite(path: str | os.PathLike[str], *, home: bool = True) -> SqliteJournal:
    """Open a journal to drive it; it is made if there is none.

    Parameters
    ----------
    path : path
        Of its file.
    home : bool
        Whether receipts are kept for good here; other nodes drop them when home has them.

    Raises
    ------
    JournalBusy
        If another process, or this one, drives it already.
    InputError
        If it cannot be written, is no journal, or was made by a newer version.
    """
    return SqliteJournal(Path(path), driving=True, home=home)


def look_sqlite(path: str | os.PathLike[str]) -> SqliteJournal:
    """Open a journal to read it, while another process may drive it; writing is refused.

    Raises
    ------
    InputError
        If there is none, it cannot be read, is no journal, or was made by a newer version.
    """
    return SqliteJournal(Path(path), driving=False, home=True)


class SqliteJournal(SqlJournal):
    """A journal in a file; see `wherry.run.journal.Journal` for what it can do."""

    def __init__(self, path: Path, *, driving: bool, home: bool) -> None:
        super().__init__("rowid", home=home)
        self.path = path
        self._driving = driving
        self._pid = os.getpid()
        self._salvaged = 0
        self._reading = threading.Lock()
        self._group = GroupCommit(lambda done: self._healed(lambda: self._carry_out(done)))
        self._writing = self._group.lock
        self._closed = False
        self._lock = _DriverLock(path) if driving else None
        try:
            self._begin()
        except BaseException:
            if self._lock is not None:
                self._lock.release()
            raise

    def _begin(self) -> None:
        exists = self.path.exists() and self.path.stat().st_size > 0
        if not self._driving and not exists:
            raise InputError(f"there is no journal {self.path}")
        if self._driving:
            found = self._prepared(exists=exists)
        with self._reporting():
            self._reader = self._connected("ro")
            _verified(self._reader, self.path)
        if self._driving and found:
            self._write([(ASIDE, (one.table, one.key, one.problem, b"")) for one in found])
        self._lost = self._still_lost()

    def _prepared(self, *, exists: bool) -> list[Damage]:
        """Open the file to be written, salvaged first where that is needed; tell of a torn log."""
        with self._reporting():
            if not exists:
                _make_whole(self.path)
            else:
                why = reasons(self.path)
                if why:
                    salvage(self.path, make, why)
            found = torn(self.path)
            try:
                self._writer = self._driven()
            except (sqlite3.DatabaseError, CorruptError) as error:
                if not isinstance(_reported(error, self.path), CorruptError):
                    raise
                salvage(self.path, make, [Damage("file", self.path.name, str(error))])
                self._writer = self._driven()
        return found

    def _driven(self) -> sqlite3.Connection:
        """Give the connection that writes, once nothing is wrong that shows at once."""
        with _closed_on_error(self._connected("rw")) as writer:
            _verified(writer, self.path)
            writer.execute("PRAGMA synchronous=FULL")
            writer.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            (pages,) = writer.execute("PRAGMA page_count").fetchone()
            size = self.path.stat().st_size
            # A log that somebody still reads from is left as it is.
            emptied = not self.path.with_name(self.path.name + "-wal").stat().st_size
            if emptied and size != pages * PAGE_BYTES:
                raise CorruptError(f"{self.path}: {size} bytes, but {pages} pages of {PAGE_BYTES}")
            for table in TABLES:
                # The right edge of each tree, where SQLite would write next.
                writer.execute(f"SELECT max(rowid) FROM {table.name}").fetchone()  # noqa: S608
            if emptied:
                _lay_out_log(self.path)
            return writer

    def _connected(self, mode: str) -> sqlite3.Connection:
        found = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        with _closed_on_error(found):
            # A damaged text must come as far as its checksum.
            found.text_factory = _text
            found.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            return found

    # -- reading

    def _rows(self, statement: str, *values: Any) -> list[Row]:
        self._usable()

        def ask() -> list[Row]:
            with self._reading, self._reporting():
                return self._reader.execute(statement, values).fetchall()

        return self._healed(ask)

    def _everything(self, table: Table) -> Iterator[list[Row]]:
        start, after = self._select[table.name], 0
        while rows := self._rows(f"{start} WHERE rowid > ? ORDER BY rowid LIMIT {PAGE}", after):
            numbers = [row[-1] for row in rows]
            if [after, *numbers] != sorted({after, *numbers}):
                problem = f"the rows of {table.name} are not in order"
                if not self._driving:
                    raise CorruptError(f"the journal {self.path}: {problem}")
                self._salvage([Damage("file", self.path.name, problem)], self._salvaged)
                after = 0
                continue
            after = numbers[-1]
            yield rows

    def check(self) -> list[Damage]:
        """Read everything, the file's structure too; what is damaged is set aside or salvaged."""
        before = len(self.damages())
        super().check()
        problems = [row[0] for row in self._rows("PRAGMA integrity_check(100)")]
        if problems != ["ok"]:
            wrong = [Damage("file", self.path.name, text) for text in problems]
            if not self._driving:
                return self.damages()[before:] + wrong
            self._salvage(wrong, self._salvaged)
        return self.damages()[before:]

    # -- writing

    def _write(self, done: list[Operation]) -> None:
        self._usable()
        if not self._driving:
            raise InputError(f"the journal {self.path} was opened to be read only")
        self._group.write(done)

    def _carry_out(self, done: list[Operation]) -> None:
        with self._reporting(), self._transaction():
            for statement, rows in grouped(done):
                self._writer.executemany(statement, rows)

    def _carry_out_alone(self, done: list[Operation]) -> None:
        with self._writing:
            self._carry_out(done)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    def _alone(self, work: Callable[[Ask], T]) -> T:
        self._usable()
        if not self._driving:
            raise InputError(f"the journal {self.path} was opened to be read only")

        def rows(statement: str, *values: Any) -> list[Row]:
            return self._writer.execute(statement, values).fetchall()

        def done() -> T:
            with self._reporting(), self._transaction():
                return work(rows)

        with self._writing:
            return self._healed(done)

    # -- damage

    def _healed(self, work: Callable[[], T]) -> T:
        """Do something; if the file is damaged, salvage it and do it again."""
        salvaged = self._salvaged
        try:
            return work()
        except CorruptError as error:
            if not self._driving:
                raise
            self._salvage([Damage("file", self.path.name, str(error))], salvaged)
            return work()

    def _salvage(self, why: list[Damage], salvaged: int) -> None:
        """Salvage the file under those who use it, unless another thread just did."""
        with self._writing, self._reading:
            if self._salvaged == salvaged:
                self._reader.close()
                self._writer.close()
                salvage(self.path, make, why)
                with self._reporting():
                    self._writer = self._driven()
                    self._reader = self._connected("ro")
                self._salvaged += 1
        self._lost = self._still_lost()

    def _set_aside(self, table: Table, row: Row) -> None:
        if not self._driving:
            self._lost.add((table.name, told(row[: len(table.key)])))
            return
        salvaged = self._salvaged
        try:
            if self._listed_as(table, row):
                self._carry_out_alone(self._aside(table, row))
                return
            problem = f"a row of {table.name} is not where its key is"
        except (CorruptError, UnicodeEncodeError) as error:  # what it was found by is damaged too
            problem = str(error)
        self._salvage([Damage("file", self.path.name, problem)], salvaged)

    def _listed_as(self, table: Table, row: Row) -> bool:
        """Say whether the index has a row's key, so that the key at least is as it was."""
        where = " AND ".join(f'"{name}" = ?' for name in table.key)
        index = f"{table.name} INDEXED BY {table.name}_key"
        with self._reading, self._reporting():
            found = self._reader.execute(
                f"SELECT rowid FROM {index} WHERE {where}",  # noqa: S608 - our names
                row[: len(table.key)],
            ).fetchall()
        return found == [(row[-1],)]

    # -- its life

    def close(self) -> None:
        """End the use of the journal; a second time does nothing."""
        if self._closed or os.getpid() != self._pid:
            return
        with self._writing, self._reading:
            self._closed = True
            self._reader.close()
            if self._lock is not None:
                self._writer.close()
                self._lock.release()

    def _usable(self) -> None:
        if self._closed:
            raise JournalError(f"the journal {self.path} is closed")
        if os.getpid() != self._pid:
            raise JournalError(
                f"the journal {self.path} was opened by process {self._pid}, and this is a fork of "
                f"it; possible: open it anew"
            )

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OverflowError as error:
            raise refused("a record:", str(error), "numbers of 64 bits") from None
        except sqlite3.Error as error:
            raise _reported(error, self.path) from error


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _text(image: bytes) -> str:
    return image.decode("utf-8", "surrogateescape")


def _reported(error: Exception, path: Path) -> WherryError:
    """Give an error of SQLite as what it means for the journal."""
    if isinstance(error, WherryError):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    seen = f"the journal {path}: {error}"
    if code == sqlite3.SQLITE_FULL:
        return JournalFull(f"{seen}; nothing of the batch was written")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return JournalBusy(f"{seen}; another process is at it")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return InputError(f"{seen}; possible: a file and folder that can be written")
    if code == sqlite3.SQLITE_NOTADB:
        return InputError(f"{seen}; possible: a journal that Wherry made, or a new file")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR}:  # our statements are right
        return CorruptError(seen)
    return JournalError(seen)


def _verified(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise InputError(f"{path} is a database, but no journal that Wherry made")
    if version > VERSION:
        raise InputError(
            f"the journal {path} has version {version}; this Wherry reads versions up to {VERSION}"
        )


def make(path: Path) -> None:
    """Make an empty journal; whatever its path, its pages are the same."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as found:
        found.execute(f"PRAGMA page_size={PAGE_BYTES}")
        found.execute("PRAGMA journal_mode=WAL")
        found.execute("PRAGMA synchronous=FULL")
        found.execute("BEGIN IMMEDIATE")
        for statement in definitions("sqlite"):
            found.execute(statement)
        found.execute(f"PRAGMA application_id={APPLICATION}")
        found.execute(f"PRAGMA user_version={VERSION}")
        found.execute("COMMIT")
    sync_folder(path)


def _make_whole(path: Path) -> None:
    """Make an empty journal under another name first: who is killed meanwhile leaves no half."""
    making = path.with_name(f"{path.name}-making")
    making.unlink(missing_ok=True)
    for one in (making, path):  # a log without its file is nobody's
        for end in ("-wal", "-shm"):
            one.with_name(one.name + end).unlink(missing_ok=True)
    make(making)
    making.replace(path)
    sync_folder(path)


def _lay_out_log(path: Path) -> None:
    """Have the log's blocks on disk, so that to sync a commit writes nothing but its pages.

    SQLite takes a log of zeros for an empty one, and does not shorten it.
    """
    with path.with_name(path.name + "-wal").open("rb+", buffering=0) as file:
        try:
            size = 32 + LOG_PAGES * (PAGE_BYTES + 24)
            if file.write(bytes(size)) < size:  # what is left of the disk others need, too
                file.truncate(0)
            os.fsync(file.fileno())
        except OSError:  # no room: it grows as it is needed, as far as it can
            file.truncate(0)


class _DriverLock:
    """Held by the one process that drives a journal; a fork does not inherit it."""

    _mine: Final[set[tuple[int, int]]] = set()
    """Files that this process has locked: to close one again would end the lock."""
    _guard: Final = threading.Lock()

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + "-lock")
        with self._guard:
            self._taken()

    def _taken(self) -> None:
        try:
            known = self._path.stat()
            if (known.st_dev, known.st_ino) in self._mine:
                raise JournalBusy(f"this process drives the journal {self._path} locks already")
        except FileNotFoundError:
            pass
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from None
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            driver = os.read(self._file, 100).decode("ascii", "replace") or "another process"
            os.close(self._file)
            raise JournalBusy(f"the journal is driven by {driver} ({self._path})") from None
        status = os.fstat(self._file)
        self._key = (status.st_dev, status.st_ino)
        self._mine.add(self._key)
        with contextlib.suppress(OSError):  # the lock holds; a full disk only hides whose it is
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"process {os.getpid()}".encode(), 0)

    def release(self) -> None:
        """End the lock; the file stays, for to remove it could remove another's."""
        with self._guard:
            self._mine.discard(self._key)
            os.close(self._file)
