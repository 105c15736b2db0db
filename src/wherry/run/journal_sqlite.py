"""A journal in one SQLite file: write-ahead log, synced at every commit, commits shared by threads.

One process drives a journal (`open_sqlite`); others may look meanwhile (`look_sqlite`). Beside the
file lie its log (`-wal`, `-shm`, SQLite's own) and `-lock`, which a driving process holds locked
for as long as it lives, however it ends.
"""

from __future__ import annotations

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
from wherry.run.journal_sql import PAGE, Ask, Operation, SqlJournal, grouped
from wherry.run.journal_tables import VERSION, Row, Table, definitions

APPLICATION: Final = 0x57485259
"""SQLite's application id of a journal: "WHRY"."""
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


class _Batch:
    """What one call of `write` wants done, and what became of it."""

    __slots__ = ("done", "error", "wanted")

    def __init__(self, wanted: list[Operation]) -> None:
        self.wanted = wanted
        self.done = False
        self.error: Exception | None = None


class SqliteJournal(SqlJournal):
    """A journal in a file; see `wherry.run.journal.Journal` for what it can do."""

    def __init__(self, path: Path, *, driving: bool, home: bool) -> None:
        super().__init__("rowid", home=home)
        self.path = path
        self._driving = driving
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._queued: list[_Batch] = []
        self._queue = threading.Lock()
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
        with self._reporting():
            if self._driving:
                self._writer = self._connected("rwc")
                if exists:
                    _verified(self._writer, self.path)
                else:
                    _make(self._writer)
                    _sync_folder(self.path)
                self._writer.execute("PRAGMA synchronous=FULL")
                self._writer.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
            self._reader = self._connected("ro")
            if not self._driving:
                _verified(self._reader, self.path)
        self._lost = {(one.table, one.key) for one in self.damages()}

    def _connected(self, mode: str) -> sqlite3.Connection:
        found = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        # A damaged text must come as far as its checksum.
        found.text_factory = _text
        found.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        return found

    # -- reading

    def _rows(self, statement: str, *values: Any) -> list[Row]:
        self._usable()
        with self._reading, self._reporting():
            return self._reader.execute(statement, values).fetchall()

    def _everything(self, table: Table) -> Iterator[list[Row]]:
        start, after = self._select[table.name], 0
        while rows := self._rows(f"{start} WHERE rowid > ? ORDER BY rowid LIMIT {PAGE}", after):
            after = rows[-1][-1]
            yield rows

    def check(self) -> list[Damage]:
        """Read everything, the file's structure too; damaged rows are set aside."""
        found = super().check()
        problems = [row[0] for row in self._rows("PRAGMA integrity_check(100)")]
        return found + [Damage("file", "", text) for text in problems if text != "ok"]

    # -- writing

    def _write(self, done: list[Operation]) -> None:
        """Commit with whoever else waits: the first to come commits for all."""
        self._usable()
        if not self._driving:
            raise InputError(f"the journal {self.path} was opened to be read only")
        batch = _Batch(done)
        with self._queue:
            self._queued.append(batch)
        with self._writing:
            if not batch.done:
                with self._queue:
                    batches, self._queued = self._queued, []
                self._commit(batches)
        if batch.error is not None:
            raise batch.error

    def _commit(self, batches: list[_Batch]) -> None:
        try:
            self._carry_out([one for batch in batches for one in batch.wanted])
        except Exception as error:  # noqa: BLE001 - given to who asked
            if len(batches) > 1:
                for batch in batches:  # so that only who is to blame is told
                    self._commit([batch])
            batches[0].error = error
        for batch in batches:
            batch.done = True

    def _carry_out(self, done: list[Operation]) -> None:
        with self._reporting(), self._transaction():
            for statement, rows in grouped(done):
                self._writer.executemany(statement, rows)

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

        with self._writing, self._reporting(), self._transaction():
            return work(rows)

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


def _text(image: bytes) -> str:
    return image.decode("utf-8", "surrogateescape")


def _reported(error: sqlite3.Error, path: Path) -> WherryError:
    """Give an error of SQLite as what it means for the journal."""
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
    if code == sqlite3.SQLITE_CORRUPT:
        return CorruptError(f"{seen}; it is salvaged when it is opened again")
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


def _make(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in definitions("sqlite"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
            told = os.read(self._file, 100).decode("ascii", "replace") or "another process"
            os.close(self._file)
            raise JournalBusy(f"the journal is driven by {told} ({self._path})") from None
        status = os.fstat(self._file)
        self._key = (status.st_dev, status.st_ino)
        self._mine.add(self._key)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()}".encode(), 0)

    def release(self) -> None:
        """End the lock; the file stays, for to remove it could remove another's."""
        with self._guard:
            self._mine.discard(self._key)
            os.close(self._file)
