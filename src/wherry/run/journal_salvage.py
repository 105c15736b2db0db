"""Salvage: what can still be read of a damaged journal is copied, row by row, into a new file.

The damaged file is kept beside the new one (`.damaged-1`, with its log `.damaged-1-wal`), and
every row that is missing or not as it was written is told in the table `damaged`. A note
(`-salvage`) says that a journal needs it and which copy it is made from, so that a crash in the
middle only begins it anew.

Around a damaged page, rows are looked for by their numbers, first in small steps, then in larger
ones. A schema that cannot be read is replaced by that of a new journal, which has its tables at the
same places. Of a damaged log, every intact page image of an acknowledged batch is taken.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from wherry.base.errors import InputError
from wherry.run.journal import Damage
from wherry.run.journal_log import Log, read_log
from wherry.run.journal_sql import UNFIT, told
from wherry.run.journal_tables import (
    APPLICATION,
    IMAGE,
    TABLES,
    Row,
    Table,
    quoted,
    record_of,
    selected,
    upsert,
)

_PAGE: Final = 4096
_MAGIC: Final = b"SQLite format 3\0"
_NEAR: Final = 4
"""Rows that are stepped over at once next to damage; a page holds more of all but the largest."""
_STEPS: Final = 1024
"""Of such steps; then each is twice as long as the last."""
_MOST: Final = 1 << 48
"""No row has a higher number."""
_DAMAGED: Final = f"name, row_key, problem, {IMAGE}"
_TELL: Final = f"INSERT INTO damaged ({_DAMAGED}) VALUES (?, ?, ?, x'')"  # noqa: S608 - our names
_KEEP: Final = f"INSERT INTO damaged ({_DAMAGED}) VALUES (?, ?, ?, ?)"  # noqa: S608 - our names


def noted(path: Path) -> Path:
    """Give where it stands that a journal needs salvage."""
    return path.with_name(path.name + "-salvage")


def note(path: Path, copy: str = "") -> None:
    """Say that a journal needs salvage, from a copy that was made or has to be."""
    with noted(path).open("w") as file:
        file.write(copy)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path)


def reasons(path: Path) -> list[Damage]:
    """Give why a journal cannot be opened as it is; what SQLite sees for itself is not here."""
    found = []
    if noted(path).exists():
        found.append(Damage("file", path.name, "it was found damaged before"))
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            found.append(Damage("file", path.name, "its first page is damaged"))
    log = read_log(_log(path))
    if log.damaged:
        frames = ", ".join("its header" if n < 0 else f"frame {n}" for n in log.damaged[:8])
        found.append(Damage("log", path.name + "-wal", f"acknowledged batches, damaged: {frames}"))
    return found


def torn(path: Path) -> list[Damage]:
    """Give whether the last batch of the log is left out."""
    problem = (
        "the last batch is not whole and is left out: its writer died before it was acknowledged, "
        "or it was damaged since"
    )
    return [Damage("log", path.name + "-wal", problem)] if read_log(_log(path)).torn else []


def salvage(path: Path, make: Callable[[Path], None], why: list[Damage]) -> None:
    """Make a journal anew of what can be read of it; the damaged one is kept.

    Parameters
    ----------
    path : Path
        Of the journal; nobody else may use it.
    make : callable
        Makes an empty journal at a path.
    why : list of Damage
        What is known already; it is recorded with what is found.

    Raises
    ------
    InputError
        If nothing of it is a journal: then everything is left as it was.
    """
    copy = _copied(path)
    fresh, work = (path.with_name(path.name + end) for end in ("-salvaging", "-work"))
    for old in (fresh, work, _log(fresh)):
        old.unlink(missing_ok=True)
    make(fresh)
    _worked(copy, work, fresh, read_log(_log(copy)))
    found = _Found(list(why))
    _carried_over(work, fresh, found)
    work.unlink()
    if not found.rows and not _is_journal(path):
        for left in (fresh, copy, _log(copy), noted(path)):
            left.unlink(missing_ok=True)
        raise InputError(f"{path} is no journal that Wherry made; possible: one, or a new file")
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    fresh.replace(path)
    sync_folder(path)
    noted(path).unlink()
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Have the names in a file's folder on disk."""
    descriptor = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Found(Struct):
    damages: list[Damage]
    rows: int = 0
    unread: list[tuple[int, int]] = field(default_factory=list)


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _copied(path: Path) -> Path:
    """Give the copy of the damaged journal, made now unless that was done before."""
    if noted(path).exists() and (name := noted(path).read_text()):
        return path.with_name(name)
    copy = next(
        c for n in count(1) if not (c := path.with_name(f"{path.name}.damaged-{n}")).exists()
    )
    for source, target in ((_log(path), _log(copy)), (path, copy)):
        if source.exists():
            shutil.copyfile(source, target)
            with target.open("rb+") as file:
                os.fsync(file.fileno())
    note(path, copy.name)
    return copy


def _worked(copy: Path, work: Path, fresh: Path, log: Log) -> None:
    """Make a file that SQLite reads as far as possible: pages of the log put in, schema healed."""
    shutil.copyfile(copy, work)
    with work.open("rb+") as file:
        for number, image in log.pages.items():
            file.seek((number - 1) * len(image))
            file.write(image)
        # SQLite reads no table at all if the first page of one is beyond the file's end.
        pages = max(-(-file.seek(0, os.SEEK_END) // _PAGE), fresh.stat().st_size // _PAGE)
        file.truncate(pages * _PAGE)
    _without_log(work, pages)
    if not _tables_of(work):
        _heal(work, fresh)


def _heal(work: Path, fresh: Path) -> None:
    """Put in the pages of the schema, which are the same in every journal, and never change."""
    with contextlib.closing(_read_only(fresh)) as found:
        roots = {row[0] for row in found.execute("SELECT rootpage FROM sqlite_master")}
    template = fresh.read_bytes()
    with work.open("rb+") as file:
        for number in range(1, len(template) // _PAGE + 1):
            if number not in roots:
                file.seek((number - 1) * _PAGE)
                file.write(template[(number - 1) * _PAGE : number * _PAGE])
        pages = file.seek(0, os.SEEK_END) // _PAGE
    _without_log(work, pages)


def _without_log(work: Path, pages: int) -> None:
    """Have SQLite read a file as it is, to its end."""
    with work.open("rb+") as file:
        file.seek(18)
        file.write(b"\1\1")
        file.seek(28)
        file.write(pages.to_bytes(4, "big"))


def _is_journal(path: Path) -> bool:
    """Say whether a file's first bytes are those of a journal."""
    with path.open("rb") as file:
        head = file.read(72)
    return head.startswith(_MAGIC) and head[68:72] == APPLICATION.to_bytes(4, "big")


def _tables_of(path: Path) -> bool:
    """Say whether a file's first page tells of a journal's tables."""
    with contextlib.closing(_read_only(path)) as found:
        try:
            names = {row[0] for row in found.execute("SELECT name FROM sqlite_master")}
        except sqlite3.DatabaseError:
            return False
    return all(table.name in names for table in TABLES)


def _read_only(path: Path) -> sqlite3.Connection:
    found = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    found.text_factory = lambda image: image.decode("utf-8", "surrogateescape")
    # Else an index that disagrees with its table could hide rows.
    found.execute("PRAGMA cell_size_check=ON")
    return found


def _carried_over(work: Path, fresh: Path, found: _Found) -> None:
    with (
        contextlib.closing(_read_only(work)) as source,
        contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as target,
    ):
        target.execute("PRAGMA synchronous=FULL")
        target.execute("BEGIN")
        _earlier(source, target)
        for table in TABLES:
            _carry(source, target, table, found)
        for one in found.damages:
            target.execute(_TELL, (one.table, one.key, one.problem))
        target.execute("COMMIT")
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _earlier(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Keep what was told of damage before."""
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in source.execute(f"SELECT {_DAMAGED} FROM damaged"):  # noqa: S608 - our names
            target.execute(_KEEP, row)


def _carry(
    source: sqlite3.Connection, target: sqlite3.Connection, table: Table, found: _Found
) -> None:
    # Rows keep their numbers: somebody may be reading by them.
    found.unread, put = [], upsert(table, numbered=True)
    aside: set[str] = set()
    for row in _readable(source, table, found):
        if record_of(table, row) is None:
            key = told(row[: len(table.key)])
            image = repr(row[:-1]).encode("utf-8", "surrogateescape")
            target.execute(_KEEP, (table.name, key, UNFIT, image))
            aside.add(key)
        else:
            try:
                target.execute(put, (row[-1], *row[:-1]))
            except sqlite3.IntegrityError:  # a damaged tree gave the number twice
                target.execute(upsert(table), row[:-1])
            found.rows += 1
    for listed in _keys(source, table):
        if told(listed) not in aside and not _has(target, table, listed):
            found.damages.append(Damage(table.name, told(listed), "its row cannot be read"))
    for low, high in found.unread:
        rows = f"rows {low} to {'the last' if high >= _MOST else high}"
        found.damages.append(Damage(table.name, rows, "the pages of these numbers cannot be read"))


def _has(target: sqlite3.Connection, table: Table, key: Row) -> bool:
    where = " AND ".join(f'"{name}" = ?' for name in table.key)
    try:
        rows = target.execute(f"SELECT 1 FROM {table.name} WHERE {where}", key)  # noqa: S608
    except UnicodeEncodeError:  # the index itself has a damaged key
        return False
    return rows.fetchone() is not None


def _readable(source: sqlite3.Connection, table: Table, found: _Found) -> Iterator[Row]:
    """Give the rows that can be read, in order, and note which numbers lie between."""
    start, after = selected(table, "rowid"), 0
    while True:
        try:
            for row in source.execute(f"{start} WHERE rowid > {after} ORDER BY rowid"):
                yield row
                after = max(after, row[-1])
        except sqlite3.DatabaseError:
            beyond = _beyond(source, table, after)
            found.unread.append((after + 1, beyond))
            if beyond >= _MOST:
                return
            after = beyond
        else:
            return


def _beyond(source: sqlite3.Connection, table: Table, after: int) -> int:
    """Give the first number behind which rows can be read again, near enough."""
    step, low = _NEAR, after
    for tried in count():
        high = low + step
        if high >= _MOST or _seeks(source, table, high):
            break
        low = high
        step *= 1 if tried < _STEPS else 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _seeks(source, table, middle) else (middle, high)
    return high


def _seeks(source: sqlite3.Connection, table: Table, number: int) -> bool:
    try:
        row = f"{selected(table, 'rowid')} WHERE rowid > {number} ORDER BY rowid LIMIT 1"
        source.execute(row).fetchall()
    except sqlite3.DatabaseError:
        return False
    return True


def _keys(source: sqlite3.Connection, table: Table) -> Iterator[Row]:
    """Give the keys of rows as their index has them, as far as it can be read."""
    keys = quoted(table.key)
    index = f"{table.name} INDEXED BY {table.name}_key ORDER BY {keys}"
    with contextlib.suppress(sqlite3.DatabaseError):
        yield from source.execute(f"SELECT {keys} FROM {index}")  # noqa: S608 - our names
