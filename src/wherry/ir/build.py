"""The rows that a join is made with: the answer of another query, at hand as a constant.

A build is the value of a `Literal` like any other: it is lifted out of the plan, so that one plan
serves every build. Its rows are too many for a frame, which carries what is known of them instead
(`Known`); the bytes are sent once to each device whose programs read them, and are kept by digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final, TypeAlias

import msgspec
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError, InputError
from wherry.base.ids import digest
from wherry.base.units import format_bytes
from wherry.data.arrays import empty_batch, plain
from wherry.data.chunk import referenced_bytes
from wherry.data.ipc_plain import check_plain
from wherry.data.statistics import ColumnStatistics, column_statistics
from wherry.data.types import Plain, from_plain, to_plain, type_class, value_type
from wherry.data.validate import check_column
from wherry.ir.expr import Literal, Node
from wherry.ir.types import is_coded

ROWS_MAX: Final = (1 << 31) - 2
"""Programs number the rows of a build in 32 bits, and one number more stands for no row."""

_KEY_BYTES: Final = 16
"""Of one key in a table at most: a decimal's."""
_ROW_BYTES: Final = 32
"""What a table has for a row besides its keys at most: 64 bits, ranks or four slots, two chains."""
_LEAST_BYTES: Final = 1 << 21

_KEYS: Final = b"keys"
"""Where the schema of a message says how many columns are keys."""

Key: TypeAlias = tuple[object, ...]


class Image(msgspec.Struct, array_like=True, frozen=True):
    """What a frame says of a build; bounds are plain images of each key's least and greatest."""

    digest: bytes
    rows: int
    nbytes: int
    bounds: tuple[tuple[Plain, Plain], ...]


class Known(Struct, frozen=True):
    """What is known of a build without its rows: enough to choose chunks and devices.

    Attributes
    ----------
    keys : int
        How many of the first columns are keys.
    rows, nbytes : int
        Size of the rows; an estimate before the build's query has run.
    bounds : tuple of ColumnStatistics
        Of each key.
    """

    keys: int
    rows: int
    nbytes: int
    bounds: tuple[ColumnStatistics, ...]

    def __str__(self) -> str:
        return f"{self.rows:,} rows"

    @property
    def table_bytes(self) -> int:
        """Memory that the rows, and a program's table of their keys, take at most."""
        return self.nbytes + self.state_bytes + _LEAST_BYTES

    @property
    def state_bytes(self) -> int:
        """Memory of the table alone, at most: what looking keys up touches again and again."""
        return self.rows * (self.keys * _KEY_BYTES + _ROW_BYTES)


def known(build: Node) -> Known:
    """Give what is known of the build that a constant holds, be its rows here or not."""
    assert isinstance(build, Literal)
    assert isinstance(build.value, Known | Build)
    return build.value if isinstance(build.value, Known) else build.value.known


class Build:
    """The rows of a build; never changed.

    Parameters
    ----------
    rows : pyarrow.RecordBatch
        Keys first, none of them null; then the columns that a join adds.
    keys : int
        How many of the columns are keys.
    identity : bytes, optional
        What the build is known by, if its rows never travel as bytes; otherwise it is the digest
        of those bytes, and computing it takes about a nanosecond a byte.
    """

    def __init__(self, rows: pa.RecordBatch, keys: int, identity: bytes = b"") -> None:
        self.batch = rows
        self._identity = identity
        bounds = tuple(column_statistics(array) for array in rows.columns[:keys])
        self.known = Known(keys, rows.num_rows, referenced_bytes([rows]), bounds)

    def __str__(self) -> str:
        return str(self.known)

    @cached_property
    def message(self) -> pa.Buffer:
        """The rows as they travel: an Arrow IPC stream."""
        sink = pa.BufferOutputStream()
        marked = self.batch.replace_schema_metadata({_KEYS: str(self.known.keys)})
        with pa.ipc.new_stream(sink, marked.schema) as writer:
            writer.write_batch(marked)
        return sink.getvalue()

    @cached_property
    def digest(self) -> bytes:
        """The identity of the rows: 16 bytes."""
        return self._identity or digest(self.message)

    def image(self) -> Image:
        """Give what a frame says of the build."""
        bounds = tuple((to_plain(b.min), to_plain(b.max)) for b in self.known.bounds)
        return Image(self.digest, self.known.rows, self.known.nbytes, bounds)

    def texts(self, key: int) -> pa.Array:
        """Give the different texts of a key, in order of first appearance."""
        return self._coded[key].dictionary

    @property
    def key_columns(self) -> list[pa.Array]:
        """The keys as programs compare them: texts as int32 numbers of the different texts."""
        columns = self.batch.columns[: self.known.keys]
        coded = self._coded
        return [coded[n].indices if n in coded else array for n, array in enumerate(columns)]

    @cached_property
    def _coded(self) -> dict[int, pa.DictionaryArray]:
        found = {}
        for number, array in enumerate(self.batch.columns[: self.known.keys]):
            if is_coded(array.type):
                found[number] = plain(array).dictionary_encode()
        return found

    @cached_property
    def rows_of(self) -> dict[Key, list[int]]:
        """The row numbers of each key, in order: what the reference looks keys up in."""
        found: dict[Key, list[int]] = {}
        columns = map(key_values, self.key_columns)
        for row, key in enumerate(zip(*columns, strict=True)):
            found.setdefault(key, []).append(row)
        return found


def rows_held(build: Node) -> Build:
    """Give the build that a constant holds."""
    assert isinstance(build, Literal)
    assert isinstance(build.value, Build), f"the rows of the join are not here, only {build.value}"
    return build.value


def build_of(table: pa.Table, keys: int, identity: bytes = b"") -> Build:
    """Give the build of a query's answer.

    Raises
    ------
    InputError
        If it has more rows than programs can number, or more text than one column can hold.
    """
    if table.num_rows > ROWS_MAX:
        raise InputError(
            f"the other side of a join has {table.num_rows:,} rows; possible: {ROWS_MAX:,}"
        )
    try:
        batches = table.unify_dictionaries().combine_chunks().to_batches()
    except pa.ArrowInvalid as problem:
        raise InputError(f"the other side of a join cannot be put together: {problem}") from None
    if len(batches) > 1:
        size = format_bytes(table.nbytes)
        raise InputError(
            f"the other side of a join has {size}, too much text for one column; "
            "cast its utf8 columns to pa.large_utf8()"
        )
    return Build(batches[0] if batches else empty_batch(table.schema), keys, identity)


def received(message: pa.Buffer) -> Build:
    """Give the build that arrived as bytes, every column checked.

    Raises
    ------
    CorruptError
        If the bytes are not one batch of rows, or a key is null.
    """
    try:
        check_plain(message, "the rows of a join")
        with pa.ipc.open_stream(message) as reader:
            (batch,) = reader
            keys = int(batch.schema.metadata[_KEYS])
            _ = batch.schema.names  # may be no text
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as problem:
        raise CorruptError(f"{len(message)} bytes are not the rows of a join: {problem}") from None
    if not 0 < keys <= batch.num_columns:
        raise CorruptError(f"the rows of a join: {keys} keys in {batch.num_columns} columns")
    for field, array in zip(batch.schema, batch.columns, strict=True):
        check_column(field, array, "the rows of a join")
    if any(array.null_count for array in batch.columns[:keys]):
        raise CorruptError("the rows of a join: a key is null")
    return Build(batch.replace_schema_metadata(None), keys, digest(message))


def image_of(literal: Literal) -> Plain | Image:
    """Give what a frame says of a constant: its plain image, or what is known of a build."""
    return literal.value.image() if isinstance(literal.value, Build) else to_plain(literal.value)


def known_of(image: Image, types: Sequence[pa.DataType]) -> Known:
    """Give what a frame says of a build whose keys have these types."""
    bounds = tuple(
        ColumnStatistics(from_plain(low, value_type(t)), from_plain(high, value_type(t)), 0)
        for (low, high), t in zip(image.bounds, types, strict=True)
    )
    return Known(len(bounds), image.rows, image.nbytes, bounds)


def key_values(array: pa.Array) -> list[object]:
    """Give keys as Python values of which equal ones are equal: all NaN are one; None for nulls."""
    if pa.types.is_floating(array.type):
        return ["NaN" if value != value else value for value in array.to_pylist()]  # noqa: PLR0124
    if type_class(array.type) in {"temporal", "time", "duration"}:
        # Python has no nanoseconds.
        array = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    values: list[object] = array.to_pylist()
    return values


def may_hold(known: Known, key: int, chunk: ColumnStatistics | None) -> bool:
    """Tell whether some value within a chunk's bounds may be one of the build's keys."""
    if known.rows == 0:
        return False
    bounds = known.bounds[key] if known.bounds else None
    if chunk is None or bounds is None:
        return True
    if chunk.min is None or chunk.max is None or bounds.min is None or bounds.max is None:
        return True
    try:
        return bool(chunk.min <= bounds.max and chunk.max >= bounds.min)  # type: ignore[operator]
    except TypeError:
        return True
