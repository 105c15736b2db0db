"""A dataset that lies on several agents: which parts there are, who has each, what is known.

Caller and agents make the same source of a directory, with the same fingerprint: the parts that an
agent has itself are read where they lie, those of others are known by their statistics alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa

from wherry.base.errors import CorruptError, InputError
from wherry.data.decoding import Decoding
from wherry.data.fragments import Fragment, FragmentSource
from wherry.data.statistics import ChunkStatistics, ColumnStatistics
from wherry.data.types import check_schema, from_plain, to_plain, value_type
from wherry.serve.requests import INSTALL_BYTES_MAX, Bound, Part, Unpacking

PARTS_MAX: Final = 1 << 16
UNKNOWN: Final = ColumnStatistics(None, None, None)

Bounds = tuple[tuple[Bound, ...], ...]
"""Of one column: by part and stored batch."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A part, and who has it: agents' names, and the number of the part in their own listings."""

    part: Part
    holders: tuple[tuple[str, int], ...]


class Directory(msgspec.Struct, frozen=True, array_like=True):
    """A dataset, wherever its parts lie.

    Attributes
    ----------
    name : str
        Of the dataset, at every agent.
    schema : bytes
        As Arrow IPC.
    places : tuple of Place
        In stored order.
    bounds : dict of str to tuple
        What is known of columns, by part and stored batch.
    """

    name: str
    schema: bytes
    places: tuple[Place, ...]
    bounds: dict[str, Bounds] = {}


# Made by one thread: see wherry.base.decoders.
_directories = msgspec.msgpack.Decoder(Directory)


class FarPart:
    """A part that another agent has: everything of a `Fragment` but its rows."""

    def __init__(
        self,
        place: Place,
        schema: pa.Schema,
        known: Callable[[str], Sequence[Bound]],
        unpacking: Callable[[Sequence[str]], Sequence[Unpacking | None]],
    ) -> None:
        self.place, self.schema = place, schema
        self.label, self.rows = place.part.label, place.part.rows
        self.identity, self.decodes = place.part.identity, place.part.decodes
        self._known, self._unpacking = known, unpacking

    def read(self, batch: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Refuse: the rows are elsewhere."""
        del batch, columns
        holders = ", ".join(name for name, _ in self.place.holders)
        raise InputError(f"the rows of {self.label} are not here; they are at: {holders}")

    def decoding(self, batch: int, columns: Sequence[str]) -> Decoding | None:
        """Give what decoding `columns` of stored batch `batch` takes, as its holder says."""
        if not self.decodes:
            return None
        found = self._unpacking(columns)[batch]
        if found is None:
            return None
        return Decoding(found.columns, found.stored_bytes, found.why, found.codec)

    def late(self, batch: int, offset: int, rows: int, columns: Sequence[str]) -> None:
        """Give nothing: no row can be read here."""

    def check_unchanged(self) -> None:
        """Do nothing: whoever has it refuses what changed."""

    def statistics(self, batch: int) -> ChunkStatistics:
        """Give what is known of stored batch `batch`, each column when it is looked at."""
        return ChunkStatistics(self.rows[batch], _Columns(self.schema, self._known, batch))


class _Columns(Mapping[str, ColumnStatistics]):
    """Statistics of the columns of a stored batch, made of their plain images."""

    def __init__(
        self, schema: pa.Schema, known: Callable[[str], Sequence[Bound]], batch: int
    ) -> None:
        self._schema, self._known, self._batch = schema, known, batch

    def __getitem__(self, name: str) -> ColumnStatistics:
        place = self._schema.get_field_index(name)
        if place < 0:
            raise KeyError(name)
        found = self._known(name)
        return (
            statistics_of(found[self._batch], self._schema.field(place).type) if found else UNKNOWN
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._schema.names)

    def __len__(self) -> int:
        return len(self._schema)


def bound_of(known: ColumnStatistics) -> Bound:
    """Give statistics as they travel; what a Bloom filter knows does not."""
    return Bound(to_plain(known.min), to_plain(known.max), known.nulls, known.nans)


def statistics_of(bound: Bound, t: pa.DataType) -> ColumnStatistics:
    """Give the statistics of a column of type `t` that travelled."""
    t = value_type(t)
    if pa.types.is_struct(t):
        return ColumnStatistics(None, None, bound.nulls, bound.nans)
    low, high = from_plain(bound.min, t), from_plain(bound.max, t)
    return ColumnStatistics(low, high, bound.nulls, bound.nans)


def to_bytes(directory: Directory) -> bytes:
    """Give a directory as it travels."""
    return msgspec.msgpack.encode(directory)


def from_bytes(data: bytes) -> Directory:
    """Read a directory.

    Raises
    ------
    CorruptError
        If the bytes are none, or what they say cannot be.
    """
    if len(data) > INSTALL_BYTES_MAX:
        raise CorruptError(f"directory of {len(data)} bytes; possible: {INSTALL_BYTES_MAX}")
    try:
        found = _directories.decode(data)
        schema = schema_of(found)
        _check(found, schema)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InputError) as problem:
        raise CorruptError(f"directory of {len(data)} bytes: {problem}") from None
    return found


def schema_of(directory: Directory) -> pa.Schema:
    """Give the schema of a directory's rows.

    Raises
    ------
    CorruptError
        If the bytes are no schema, or one with types that Wherry does not read.
    """
    return schema_from(directory.schema, f"directory of {directory.name!r}")


def schema_from(data: bytes, what: str) -> pa.Schema:
    """Give the schema that bytes off the wire hold."""
    try:
        found = pa.ipc.read_schema(pa.py_buffer(data))
        check_schema(found, what)
        for field in found:
            _ = field.name, getattr(value_type(field.type), "tz", None)
    except (pa.ArrowException, OSError, UnicodeDecodeError, InputError) as problem:
        raise CorruptError(f"{what}: the schema cannot be read: {problem}") from None
    return found


def _check(directory: Directory, schema: pa.Schema) -> None:
    if not 0 < len(directory.places) <= PARTS_MAX:
        raise CorruptError(f"{len(directory.places)} parts; possible: 1 to {PARTS_MAX}")
    for place in directory.places:
        if min(place.part.rows, default=0) < 0 or not place.holders:
            raise CorruptError(f"part {place.part.label!r} has negative rows or no holder")
        constants(place.part, schema)
    for name, parts in directory.bounds.items():
        t = schema.field(name).type if schema.get_field_index(name) >= 0 else None
        if t is None or len(parts) != len(directory.places):
            raise CorruptError(f"bounds of column {name!r} do not fit the parts")
        for place, batches in zip(directory.places, parts, strict=True):
            if len(batches) not in {0, len(place.part.rows)}:
                raise CorruptError(f"bounds of column {name!r} do not fit {place.part.label!r}")
            for bound in batches:
                statistics_of(bound, t)


def constants(part: Part, schema: pa.Schema) -> dict[str, pa.Scalar]:
    """Give the columns of one value that the path of a part says.

    Raises
    ------
    InputError
        If there is no such column, or its type has no such value.
    """
    found: dict[str, pa.Scalar] = {}
    for name, plain in part.constants.items():
        if schema.get_field_index(name) < 0:
            raise InputError(f"part {part.label!r}: no column {name!r}")
        t = schema.field(name).type
        found[name] = pa.scalar(from_plain(plain, t), t)
    return found


def source_of(directory: Directory, fragment: Callable[[int], Fragment]) -> FragmentSource:
    """Give the source of a directory; `fragment` makes the fragment of each place, by number.

    Raises
    ------
    CorruptError
        If a part does not store the columns that the directory says it does.
    """
    schema = schema_of(directory)
    fixed = tuple(constants(place.part, schema) for place in directory.places)
    parts = tuple(fragment(number) for number in range(len(directory.places)))
    for part, said in zip(parts, fixed, strict=True):
        wanted = [(field.name, field.type) for field in schema if field.name not in said]
        if [(field.name, field.type) for field in part.schema] != wanted:
            raise CorruptError(
                f"directory of {directory.name!r}: {Path(part.label).name!r} stores other columns"
            )
    return FragmentSource(directory.name, schema, parts, None, fixed if any(fixed) else ())


def known_in(directory: Directory, number: int) -> FarPart:
    """Give the part of a place as far as the directory alone knows it."""
    place, schema = directory.places[number], stored_schema(directory, number)

    def known(column: str) -> Sequence[Bound]:
        parts = directory.bounds.get(column)
        return parts[number] if parts else ()

    def unpacking(columns: Sequence[str]) -> Sequence[Unpacking | None]:
        del columns
        return (None,) * len(place.part.rows)

    return FarPart(place, schema, known, unpacking)


def stored_schema(directory: Directory, number: int) -> pa.Schema:
    """Give the columns that a part stores: all but those that its path says."""
    schema, said = schema_of(directory), directory.places[number].part.constants
    return pa.schema([field for field in schema if field.name not in said])
