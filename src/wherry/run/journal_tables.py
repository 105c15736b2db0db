"""The tables of a journal, the same in every database; rows and records, and a row's checksum.

A table has a column for each field that rows are found by, and `image`: the checksum of the row (4
bytes, CRC-32 of the table's name, the columns and the rest), then the record's other fields in
order, as a msgpack array. A field that is added to a record, with a default, reads as its default
in older rows. A row that was changed, or read from the wrong place, does not fit its checksum.

Rows are found by numbers of their own; keys are unique indexes. So new rows fill pages to the end,
and a damaged file can be read row by row, in order, around its damage. The message of a state names
the continuation and its program; both are columns already and are cut out of the image.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, get_type_hints
from zlib import crc32

import msgspec
from msgspec import Struct

from wherry.run.journal import refused
from wherry.run.records import (
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
APPLICATION: Final = 0x57485259
"""What says that a database is a journal: "WHRY"."""
UNTAKEN: Final = "length(taken) = 0"
"""What says of a signal that nobody took it."""
IMAGE: Final = "image"

Row = tuple[Any, ...]

_SQLITE: Final = {bytes: "BLOB", str: "TEXT", int: "INTEGER", bool: "INTEGER"}
_POSTGRES: Final = {bytes: "BYTEA", str: 'TEXT COLLATE "C"', int: "BIGINT", bool: "BOOLEAN"}
_CRC: Final = 4
_WHOLE: Final = 255
"""Where an id is that is nowhere, or too far away to be cut out."""
_BYTE: Final = tuple(bytes((at,)) for at in range(_WHOLE + 1))
_encode: Final = msgspec.msgpack.Encoder().encode


class Index(Struct, frozen=True):
    """An index besides the key's: over `columns`, of the rows that `only` says."""

    name: str
    columns: tuple[str, ...]
    only: str = ""


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
    columns : tuple of str
        The fields that rows are found by; those of the key first.
    indexes : tuple of Index
        What else than their keys rows are found by.
    home : bool
        Whether there is a column that says which of several homes drives the row.
    keeps : str
        What must hold for a row to replace one with its key; empty: nothing.
    """

    name: str
    record: type[Any]
    key: tuple[str, ...]
    columns: tuple[str, ...]
    indexes: tuple[Index, ...] = ()
    home: bool = False
    keeps: str = ""


TABLES: Final = (
    Table(
        "held",
        Held,
        ("id",),
        ("id", "state", "program", "wake_ns", "event", "tenant"),
        (
            Index("held_wake", ("wake_ns",), "wake_ns > 0"),
            Index("held_event", ("event",), "event <> ''"),
        ),
        home=True,
    ),
    Table("step", Stepped, ("id", "hop"), ("id", "hop")),
    Table("effect", Effect, ("key",), ("key", "id"), (Index("effect_id", ("id",)),)),
    Table(
        "lease",
        Leased,
        ("id", "resource"),
        ("id", "resource", "until_ns"),
        (Index("lease_until", ("until_ns",)),),
        home=True,
    ),
    Table(
        "signal",
        Signal,
        ("name", "number"),
        ("name", "number", "taken", "at_ns"),
        (Index("signal_pending", ("name", "at_ns", "number"), UNTAKEN),),
        keeps="length(excluded.taken) > 0",
    ),
    Table(
        "receipt",
        Receipted,
        ("id", "epoch", "hop", "node", "run"),
        ("id", "epoch", "hop", "node", "run", "tenant", "told"),
        (Index("receipt_untold", ("id",), "NOT told"),),
    ),
    Table("answer", Answered, ("id",), ("id", "at_ns"), (Index("answer_at", ("at_ns",)),)),
    Table("code", Code, ("digest",), ("digest",)),
    Table("forgotten", Forgotten, ("id",), ("id", "at_ns"), (Index("forgotten_at", ("at_ns",)),)),
)
BY_NAME: Final = {table.name: table for table in TABLES}
BY_RECORD: Final = {table.record: table for table in TABLES}


def quoted(names: Sequence[str]) -> str:
    """Give column names for a statement: `key` is a word of SQL."""
    return ", ".join(f'"{name}"' for name in names)


def definitions(dialect: str) -> Iterator[str]:
    """Give the statements that make the tables, for "sqlite" or "postgres"."""
    kinds = _SQLITE if dialect == "sqlite" else _POSTGRES
    for table in TABLES:
        hints = get_type_hints(table.record)
        columns = [f'"{name}" {kinds[hints[name]]} NOT NULL' for name in table.columns]
        columns += [f"home {kinds[int]} NOT NULL DEFAULT 0"] if table.home else []
        yield f"CREATE TABLE {table.name} ({', '.join(columns)}, {IMAGE} {kinds[bytes]} NOT NULL)"
        yield f"CREATE UNIQUE INDEX {table.name}_key ON {table.name} ({quoted(table.key)})"
        for index in table.indexes:
            only = f" WHERE {index.only}" if index.only else ""
            yield f"CREATE INDEX {index.name} ON {table.name} ({quoted(index.columns)}){only}"
    listed = ", ".join(f"{name} {kinds[str]} NOT NULL" for name in ("name", "row_key", "problem"))
    yield f"CREATE TABLE damaged ({listed}, {IMAGE} {kinds[bytes]} NOT NULL)"


def upsert(table: Table, home: int = 0, *, numbered: bool = False) -> str:
    """Give the statement that writes a row, or replaces the one with its key in its place.

    `home` is the number of the home that writes it, and that drives what it holds. With `numbered`,
    SQLite's number of the row comes first.
    """
    names = [*(["rowid"] if numbered else []), *table.columns, IMAGE]
    marks = ", ".join("?" * len(names))
    if table.home and home:
        names.append("home")
        marks += f", {home}"
    changed = ", ".join(f'"{n}" = excluded."{n}"' for n in names if n not in (*table.key, "rowid"))
    only = f" WHERE {table.keeps}" if table.keeps else ""
    return (
        f"INSERT INTO {table.name} ({quoted(names)}) VALUES ({marks}) "  # noqa: S608 - our names
        f"ON CONFLICT ({quoted(table.key)}) DO UPDATE SET {changed}{only}"
    )


def selected(table: Table, address: str) -> str:
    """Give the start of a statement that reads rows as `record_of` takes them.

    `address` is what the database calls where a row is.
    """
    columns = quoted([*table.columns, IMAGE])
    return f"SELECT {columns}, {table.name}.{address} FROM {table.name}"  # noqa: S608 - our names


def row_of(record: Any) -> Row:
    """Give the row of a record as `upsert` takes it.

    Raises
    ------
    InputError
        If a value does not fit.
    """
    codec = _CODECS.get(type(record))
    if codec is None:
        raise refused("a", type(record).__name__, ", ".join(t.record.__name__ for t in TABLES))
    try:
        return codec.row(record)
    except (OverflowError, TypeError, ValueError) as wrong:
        raise refused(f"a {codec.table.name}:", str(wrong), "what its fields declare") from None


def record_of(table: Table, row: Row) -> Any | None:
    """Give the record of a row that `selected` read; None if it is not as it was written."""
    try:
        return _CODECS[table.record].record(row)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        return None


class _Codec:
    """Between the records and the rows of a table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        fields = msgspec.structs.fields(table.record)
        hints = get_type_hints(table.record)
        rest = [field for field in fields if field.name not in table.columns]
        self._columns = _getter(table.columns)
        self._rest = _getter([field.name for field in rest])
        self._texts = tuple(at for at, n in enumerate(table.columns) if hints[n] is str)
        self._flags = tuple(at for at, n in enumerate(table.columns) if hints[n] is bool)
        self._width = len(table.columns)
        self._seed = crc32(table.name.encode())
        declared = [
            (f.name, hints[f.name]) if f.required else (f.name, hints[f.name], f.default)
            for f in rest
        ]
        kind = msgspec.defstruct("Rest", declared, array_like=True, gc=False)
        self._decode = msgspec.msgpack.Decoder(kind).decode
        places = [*table.columns, *(field.name for field in rest)]
        self._order = operator.itemgetter(*(places.index(field.name) for field in fields))

    def row(self, record: Any) -> Row:
        columns = self._columns(record)
        for at in self._texts:
            if "\0" in columns[at]:
                raise ValueError(f"{columns[at]!r} has a NUL")
        body = self._packed(columns, _encode(self._rest(record)))
        crc = crc32(body, crc32(_encode(columns), self._seed))
        return (*columns, crc.to_bytes(_CRC, "little") + body)

    def record(self, row: Row) -> Any | None:
        columns, image = row[: self._width], row[self._width]
        for at in self._flags:
            columns = (*columns[:at], bool(columns[at]), *columns[at + 1 :])
        body = image[_CRC:]
        crc = crc32(body, crc32(_encode(columns), self._seed))
        if crc.to_bytes(_CRC, "little") != image[:_CRC]:
            return None
        rest = self._rest(self._decode(self._unpacked(columns, body)))
        return self.table.record(*self._order((*columns, *rest)))

    def _packed(self, columns: Row, body: bytes) -> bytes:  # noqa: ARG002
        return body

    def _unpacked(self, columns: Row, body: bytes) -> bytes:  # noqa: ARG002
        return body


class _HeldCodec(_Codec):
    """The rest is stored without id and program; two bytes before it say where they were."""

    def _packed(self, columns: Row, body: bytes) -> bytes:
        at, body = _cut(body, columns[0])
        then, body = _cut(body, columns[2])
        return at + then + body

    def _unpacked(self, columns: Row, body: bytes) -> bytes:
        at, then, body = body[0], body[1], body[2:]
        if then != _WHOLE:
            body = body[:then] + columns[2] + body[then:]
        return body if at == _WHOLE else body[:at] + columns[0] + body[at:]


def _cut(body: bytes, named: bytes) -> tuple[bytes, bytes]:
    """Give where in a body something is, as a byte, and the body without it."""
    if named:
        before, found, after = body.partition(named)
        if found and len(before) < _WHOLE:
            return _BYTE[len(before)], before + after
    return _BYTE[_WHOLE], body


def _getter(names: Sequence[str]) -> Callable[[Any], Row]:
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda record: tuple(getattr(record, name) for name in names)


_CODECS: Final = {
    table.record: _HeldCodec(table) if table.record is Held else _Codec(table) for table in TABLES
}
