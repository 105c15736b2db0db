"""Batches of another process of this host, made of a layout and descriptors; nothing is copied.

Nothing that a layout says is believed: every number is checked against what it counts, every
buffer against the size of what it lies in, and every value that a program would trust is looked
at. What is mapped may still be written to by whoever made it, so descriptors are taken only from
processes that are trusted (`wherry.serve.connection`).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
import pyarrow as pa
from msgspec import Struct
from pyarrow import ipc

from wherry.base.errors import CorruptError, InputError
from wherry.data.mapping import decoded, reading
from wherry.data.types import check_schema, layout_of
from wherry.data.validate import check_batch
from wherry.serve.layout import ABSENT, EMPTY, VERSION, Layout, alignments
from wherry.serve.mappings import Mapping, Mappings

_LONGEST: Final = 1 << 48
"""Rows of an array, and bytes of a buffer: what no machine has, and what no sum overflows with."""
_COUNTS: Final = {"narrow": 3, "wide": 3, "struct": 1}
"""Buffers of an array, if they are not two."""
_NOTHING: Final = pa.py_buffer(b"")

_layouts: Final = msgspec.msgpack.Decoder(Layout)


class Imported(Struct, frozen=True, eq=False):
    """Batches that lie in the memory of another process.

    Attributes
    ----------
    schema : pa.Schema
        Of the batches.
    batches : tuple of pa.RecordBatch
        Every buffer is a piece of a mapping, and keeps it.
    copied_bytes, why : int, str
        What the other side had to copy so that they can be mapped, and why.
    """

    schema: pa.Schema
    batches: tuple[pa.RecordBatch, ...]
    copied_bytes: int
    why: str


class _Held:
    """What buffers of one import keep: its mappings, until the last of them is gone."""

    __slots__ = ("__weakref__", "mappings")

    def __init__(self, mappings: Sequence[Mapping]) -> None:
        self.mappings = mappings


def imported(
    layout: bytes,
    descriptors: Sequence[int],
    mappings: Mappings,
    label: str,
    *,
    gone: Callable[[], None] | None = None,
    most_bytes: int | None = None,
) -> Imported:
    """Give the batches that a layout tells of.

    Parameters
    ----------
    layout : bytes
        Of `wherry.serve.layout.export`.
    descriptors : sequence of int
        That came with it; they stay the caller's, who may close them afterwards.
    label : str
        What errors call it.
    gone : callable, optional
        Called once, from any thread, when no buffer of the batches is left; also if there never
        was one.
    most_bytes : int, optional
        Of all buffers together; the machine's memory unless given. Pages of a segment that nobody
        has written to come into being when they are read.

    Raises
    ------
    CorruptError
        When the layout is not one, or promises what the descriptors do not hold.
    InputError
        When a column has a type that Wherry does not read, or a dictionary a null in it.
    Retryable
        When the kernel has no room for another mapping.
    """
    try:
        told = _layouts.decode(layout)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise CorruptError(f"{label}: layout of {len(layout)} bytes: {problem}") from None
    if told.version != VERSION:
        raise CorruptError(f"{label}: layout of version {told.version}; possible: {VERSION}")
    if told.copied_bytes < 0:
        raise CorruptError(f"{label}: {told.copied_bytes} bytes were copied")
    held = _Held([mappings.map(descriptor) for descriptor in descriptors])
    if gone is not None:
        weakref.finalize(held, gone).atexit = False
    reader = _Reader(told, held, label, _memory_bytes() if most_bytes is None else most_bytes)
    schema = reader.schema()
    batches = tuple(reader.batch(numbers, schema) for numbers in told.batches)
    for batch in batches:
        check_batch(batch, label)
    return Imported(schema, batches, told.copied_bytes, told.why)


class _Reader:
    """What is read of one layout."""

    def __init__(self, layout: Layout, held: _Held, label: str, most_bytes: int) -> None:
        self._layout = layout
        self._label = label
        self._addresses: list[int] = []
        self._buffers: list[pa.Buffer] = []
        self._dictionaries: dict[tuple[int, pa.DataType], pa.Array] = {}
        left = most_bytes
        for at, (number, offset, size) in enumerate(layout.buffers):
            mapping = held.mappings[number] if 0 <= number < len(held.mappings) else None
            if mapping is None or offset < 0 or size < 1 or offset + size > mapping.size:
                raise self._corrupt(f"buffer {at} lies outside of what was sent")
            left -= size
            if left < 0:
                raise self._corrupt(f"buffers of more than {most_bytes} bytes")
            address = mapping.address + offset
            self._addresses.append(address)
            self._buffers.append(pa.foreign_buffer(address, size, held))

    def schema(self) -> pa.Schema:
        with reading(f"{self._label}: the schema"):
            found = decoded(ipc.read_schema(pa.py_buffer(self._layout.schema)))
        if found.names:
            check_schema(found, self._label)
        return found

    def batch(self, numbers: tuple[int, ...], schema: pa.Schema) -> pa.RecordBatch:
        left = iter(numbers)
        rows = self._count(left)
        with _making(self._label):
            columns = [self._array(field.type, left) for field in schema]
            if next(left, None) is not None:
                raise self._corrupt("more arrays than columns")
            if any(len(column) != rows for column in columns):
                raise self._corrupt(f"a column of another length than {rows}")
            if not columns:
                return pa.record_batch([pa.nulls(rows)], ["rows"]).select([])
            return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _array(self, t: pa.DataType, left: Iterator[int]) -> pa.Array:
        offset, length = self._count(left), self._count(left)
        if pa.types.is_dictionary(t):
            buffers = self._flat(t.index_type, left)
            values = self._dictionary(t.value_type, self._count(left))
            return pa.DictionaryArray.from_buffers(t, length, buffers, values, -1, offset)
        buffers = self._flat(t, left)
        fields = [self._array(field.type, left) for field in t] if pa.types.is_struct(t) else None
        return pa.Array.from_buffers(t, length, buffers, -1, offset, fields)

    def _dictionary(self, t: pa.DataType, number: int) -> pa.Array:
        known = self._dictionaries.get((number, t))
        if known is None:
            if number >= len(self._layout.dictionaries):
                raise self._corrupt(f"there is no dictionary {number}")
            left = iter(self._layout.dictionaries[number])
            known = self._dictionaries[number, t] = self._array(t, left)
        return known

    def _flat(self, t: pa.DataType, left: Iterator[int]) -> list[pa.Buffer | None]:
        kind, needed = layout_of(t), alignments(t)
        count = self._count(left) if kind == "views" else _COUNTS.get(kind, 2)
        if kind == "views" and count < 2:
            raise self._corrupt(f"an array of views with {count} buffers")
        return [
            self._buffer(self._next(left), at, needed[at] if at < len(needed) else 1)
            for at in range(count)
        ]

    def _buffer(self, number: int, at: int, alignment: int) -> pa.Buffer | None:
        if number == EMPTY or (number == ABSENT and at):
            return _NOTHING
        if number == ABSENT:
            return None
        if not 0 <= number < len(self._buffers):
            raise self._corrupt(f"there is no buffer {number}")
        if self._addresses[number] % alignment:
            raise self._corrupt(f"buffer {number} is not aligned to {alignment} bytes")
        return self._buffers[number]

    def _count(self, left: Iterator[int]) -> int:
        found = self._next(left)
        if not 0 <= found <= _LONGEST:
            raise self._corrupt(f"{found} is no count")
        return found

    def _next(self, left: Iterator[int]) -> int:
        found = next(left, None)
        if found is None:
            raise self._corrupt("fewer arrays than columns")
        return found

    def _corrupt(self, what: str) -> CorruptError:
        return CorruptError(f"{self._label} is corrupt: {what}")


@contextmanager
def _making(label: str) -> Iterator[None]:
    """Say of what pyarrow refuses to make an array of that it is corrupt."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as problem:
        raise CorruptError(f"{label} is corrupt: {problem}") from problem


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
