"""The tables of a journal, the same in every database; rows and records, and a row's checksum.

A table is made from a kind of record: a column a field, in order, then `crc`, the checksum of the
record's msgpack image, key included, so that a row that was read from the wrong place shows as
much as one that was changed. `held` also has `home`, which of several homes drives it; that is no
part of the record. Rows are found by numbers of their own; keys are unique indexes. So new rows
fill pages to the end, and a damaged file can be read row by row, in order, around its damage.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import Struct

from wherry.base.ids import DIGEST_BYTES
from wherry.run.journal import refused
from wherry.run.records import (
    PARKED,
    Answered,
    Code,
    Effect,
    Forgotten,
    Held,
    Leased,
    Receipted,
    Signal,
    Stepped,
)

VERSION: Final = 1
"""Of the tables; a journal with a higher one was made by a newer Wherry."""

Row = tuple[Any, ...]

_SQLITE: Final = {bytes: "BLOB", str: "TEXT", int: "INTEGER", bool: "INTEGER"}
_POSTGRES: Final = {bytes: "BYTEA", str: "TEXT", int: "BIGINT", bool: "SMALLINT"}
_encode: Final = msgspec.msgpack.Encoder().encode
_INT64: Final = range(-(1 << 63), 1 << 63)


class Index(Struct, frozen=True):
    """An index besides the key's: over `columns`, of the rows that `only` says."""

    name: str
    columns: tuple[str, ...]
    only: str


class Table(Struct, frozen=True):
    """A table of the journal.

    Attributes
    ----------
    name : str
        Its name in the database.
    record : type
        The kind of record it keeps.
    key : tuple of str
        The columns that tell rows apart.
    indexes : tuple of Index
        What else rows are found by.
    extra : str
        A column for the database's own use, or none.
    keeps : str
        What must hold for a row to replace one with its key; empty: nothing.
    """

    name: str
    record: type[Any]
    key: tuple[str, ...]
    indexes: tuple[Index, ...] = ()
    extra: str = ""
    keeps: str = ""

    @property
    def columns(self) -> dict[str, type]:
        """Give the record's fields in order and what each holds."""
        hints = get_type_hints(self.record)
        names = msgspec.structs.fields(self.record)
        return {f.name: bytes if f.name == "names" else hints[f.name] for f in names}


UNTAKEN: Final = "length(taken) = 0"
"""What says of a signal that nobody took it."""

TABLES: Final = (
    Table(
        "held",
        Held,
        ("id",),
        (
            Index("held_live", ("id",), f"state <> {PARKED}"),
            Index("held_wake", ("wake_ns",), "wake_ns > 0"),
            Index("held_event", ("event",), "event <> ''"),
        ),
        extra="home",
    ),
    Table("step", Stepped, ("id", "hop")),
    Table("effect", Effect, ("key",), (Index("effect_id", ("id",), ""),)),
    Table("lease", Leased, ("id", "resource"), (Index("lease_until", ("until_ns",), ""),)),
    Table(
        "signal",
        Signal,
        ("name", "number"),
        (Index("signal_pending", ("name", "at_ns", "number"), UNTAKEN),),
        keeps="length(excluded.taken) > 0",
    ),
    Table(
        "receipt",
        Receipted,
        ("id", "epoch", "hop", "node", "life"),
        (Index("receipt_untold", ("id",), "told = 0"),),
    ),
    Table("answer", Answered, ("id",), (Index("answer_at", ("at_ns",), "at_ns > 0"),)),
    Table("code", Code, ("digest",)),
    Table("forgotten", Forgotten, ("id",), (Index("forgotten_at", ("at_ns",), ""),)),
)
BY_NAME: Final = {table.name: table for table in TABLES}
BY_RECORD: Final = {table.record: table for table in TABLES}


def quoted(names: Sequence[str]) -> str:
    """Give column names for a statement: `where` and `key` are words of SQL."""
    return ", ".join(f'"{name}"' for name in names)


def definitions(dialect: str) -> Iterator[str]:
    """Give the statements that make the tables, for "sqlite" or "postgres"."""
    kinds = _SQLITE if dialect == "sqlite" else _POSTGRES
    for table in TABLES:
        columns = {**table.columns, **({table.extra: int} if table.extra else {}), "crc": int}
        listed = ", ".join(f'"{name}" {kinds[kind]} NOT NULL' for name, kind in columns.items())
        yield f"CREATE TABLE {table.name} ({listed})"
        yield f"CREATE UNIQUE INDEX {table.name}_key ON {table.name} ({quoted(table.key)})"
        for index in table.indexes:
            only = f" WHERE {index.only}" if index.only else ""
            yield f"CREATE INDEX {index.name} ON {table.name} ({quoted(index.columns)}){only}"
    listed = ", ".join(f"{name} {kinds[str]} NOT NULL" for name in ("name", "row", "problem"))
    yield f"CREATE TABLE damaged ({listed}, image {kinds[bytes]} NOT NULL)"


def upsert(table: Table) -> str:
    """Give the statement that writes a row, or replaces the one with its key in its place."""
    names = [*table.columns, *([table.extra] if table.extra else []), "crc"]
    marks = ", ".join("?" * len(names))
    changed = ", ".join(f'"{n}" = excluded."{n}"' for n in names if n not in table.key)
    only = f" WHERE {table.keeps}" if table.keeps else ""
    return (
        f"INSERT INTO {table.name} ({quoted(names)}) VALUES ({marks}) "  # noqa: S608 - our names
        f"ON CONFLICT ({quoted(table.key)}) DO UPDATE SET {changed}{only}"
    )


def selected(table: Table, address: str) -> str:
    """Give the start of a statement that reads rows as `record_of` takes them.

    `address` is what the database calls where a row is.
    """
    columns = quoted([*table.columns, "crc"])
    return f"SELECT {columns}, {table.name}.{address} FROM {table.name}"  # noqa: S608 - our names


def checksum(table: Table, record: object) -> int:
    """Give the CRC-32 of a record and the name of its table, as a signed number of 32 bits."""
    return zlib.crc32(_encode(record), _SEEDS[table.name]) - (1 << 31)


_SEEDS: Final = {table.name: zlib.crc32(table.name.encode()) for table in TABLES}


def row_of(record: Any, home: int = 0) -> Row:
    """Give the row of a record as `upsert` takes it, `home` in it where the table has one.

    Raises
    ------
    InputError
        If a value does not fit its column.
    """
    table = BY_RECORD.get(type(record))
    if table is None:
        raise refused("a", type(record).__name__, ", ".join(t.record.__name__ for t in TABLES))
    try:
        crc = checksum(table, record)
    except (OverflowError, TypeError, UnicodeEncodeError) as wrong:
        raise refused(f"a {table.name}:", str(wrong), "what its fields declare") from None
    values = _VALUES[table.name](record)
    for value in values:
        if (value.__class__ is int and value not in _INT64) or (
            value.__class__ is str and "\0" in value
        ):
            raise refused(f"a {table.name} with", value, "numbers of 64 bits, texts without NUL")
    return (*values, home, crc) if table.extra else (*values, crc)


def _plain(record: Any) -> Row:
    return msgspec.structs.astuple(record)


def _code_values(code: Code) -> Row:
    if any(len(name) != DIGEST_BYTES for name in code.names):
        raise refused("code with names", code.names, f"digests of {DIGEST_BYTES} bytes")
    return code.digest, code.kind, code.body, b"".join(code.names)


def _flagged(record: Effect | Receipted | Answered) -> Row:
    return tuple(int(v) if v.__class__ is bool else v for v in msgspec.structs.astuple(record))


def record_of(table: Table, row: Row) -> Any | None:
    """Give the record of a row that `selected` read; None if it is not as it was written."""
    try:
        record = _RECORDS[table.name](row)
        return record if checksum(table, record) == row[-2] else None
    except (TypeError, ValueError, OverflowError, AttributeError):
        return None


def _code_of(row: Row) -> Code:
    names = row[3]
    split = (names[at : at + DIGEST_BYTES] for at in range(0, len(names), DIGEST_BYTES))
    return Code(row[0], row[1], row[2], tuple(split))


def _made(table: Table) -> Callable[[Row], Any]:
    record, kinds = table.record, list(table.columns.values())
    if bool not in kinds:
        return lambda row: record(*row[:-2])
    at = kinds.index(bool)
    return lambda row: record(*row[:at], bool(row[at]), *row[at + 1 : -2])


_WITH: Final[dict[str, Callable[[Any], Row]]] = {
    "code": _code_values,
    "effect": _flagged,
    "receipt": _flagged,
    "answer": _flagged,
}
_VALUES: Final = {table.name: _WITH.get(table.name, _plain) for table in TABLES}
_RECORDS: Final[dict[str, Callable[[Row], Any]]] = {
    table.name: _code_of if table.record is Code else _made(table) for table in TABLES
}
