"""How record batches are told to another process of this host: a layout, and descriptors.

The layout names every buffer as a piece of a descriptor, so that what lies in a segment or in a
mapped file is mapped by the other side and never copied. Memory that lies elsewhere is copied
into a segment first, and the layout says how much and why.

An array is written down depth first: offset, length, and the number of each of its buffers; a
struct's fields follow it, the number of its dictionary follows the indices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.data import mapping
from wherry.data.arrays import fields_of
from wherry.data.chunk import column_bytes
from wherry.data.place import Place, Places
from wherry.data.segment import SegmentPool
from wherry.data.types import check_schema, layout_of

VERSION: Final = 1
ABSENT: Final = -1
"""Number of a buffer that an array lacks: a validity bitmap, if there are no nulls."""
EMPTY: Final = -2
"""Number of a buffer without bytes."""
DESCRIPTORS_MAX: Final = 4096
"""Segments and files that one layout names."""

_SPARE_BYTES: Final = 4096
"""Bytes around the rows of a slice that are not worth a second copy."""
_ALIGNMENTS: Final = {
    "bits": (1, 1),
    "narrow": (1, 4, 1),
    "wide": (1, 8, 1),
    "views": (1, 8),
    "struct": (1,),
}


class Layout(Struct, frozen=True, array_like=True):
    """What is sent beside the descriptors.

    Attributes
    ----------
    version : int
        Of this format.
    schema : bytes
        As Arrow IPC has it.
    buffers : tuple of (int, int, int)
        Descriptor, offset in bytes, size in bytes.
    dictionaries : tuple of tuple of int
        Arrays that indices refer to.
    batches : tuple of tuple of int
        Rows, then the columns.
    copied_bytes : int
        That had to be copied into segments.
    why : str
        Why, if so.
    """

    version: int
    schema: bytes
    buffers: tuple[tuple[int, int, int], ...]
    dictionaries: tuple[tuple[int, ...], ...]
    batches: tuple[tuple[int, ...], ...]
    copied_bytes: int = 0
    why: str = ""


class Exported(Struct, frozen=True, eq=False):
    """Batches that another process may map, until this is let go of.

    Attributes
    ----------
    layout : bytes
        Of what is mapped.
    descriptors : tuple of int
        What is sent with it; they stay ours.
    mapped_bytes, copied_bytes : int
        Bytes of all buffers, and how many of those were copied into segments.
    why : str
        Why they were.
    """

    layout: bytes
    descriptors: tuple[int, ...]
    mapped_bytes: int
    copied_bytes: int
    why: str
    _places: tuple[Place, ...]
    _keep: tuple[object, ...]

    def drop(self) -> None:
        """Have no segment that the batches lie in ever written to again.

        For a reader of which nobody knows when it ends: what it has mapped stays as it is.
        """
        for place in self._places:
            place.retire()


def alignments(t: pa.DataType) -> tuple[int, ...]:
    """Give what addresses of an array's buffers must be a multiple of; more buffers: of 1."""
    known = _ALIGNMENTS.get(layout_of(t))
    if known is not None:
        return known
    if pa.types.is_fixed_size_binary(t):
        return (1, 1)
    width = int(t.byte_width)
    return (1, min(8, width))


def export(schema: pa.Schema, batches: Sequence[pa.RecordBatch], pool: SegmentPool) -> Exported:
    """Give the layout and the descriptors of batches.

    Parameters
    ----------
    schema : pa.Schema
        Of all of them.
    pool : SegmentPool
        Where they lie, for the most part, and where memory is copied to that lies in no segment.

    Raises
    ------
    InputError
        When a column has a type that Wherry does not read, or the buffers lie in more than
        `DESCRIPTORS_MAX` files and segments.
    Retryable
        When the pool has no room for what must be copied.
    """
    if schema.names:
        check_schema(schema, "the piece")
    return _Writer(pool).write(schema, batches)


class _Copy:
    """A copy that others may use as long as a piece keeps it and, with it, what was copied."""

    __slots__ = ("__weakref__", "buffer")

    def __init__(self, buffer: pa.Buffer) -> None:
        self.buffer = buffer


_copied: WeakKeyDictionary[SegmentPool, WeakValueDictionary[tuple[int, str, int], _Copy]]
_copied = WeakKeyDictionary()
"""By pool, and by address and size of what was copied: dictionaries belong to many pieces."""


class _Writer:
    """What one layout has named so far."""

    def __init__(self, pool: SegmentPool) -> None:
        self._pool = pool
        self._places = Places()
        self._numbers: dict[int, int] = {}
        self._used: list[Place] = []
        self._buffers: list[tuple[int, int, int]] = []
        self._known: dict[tuple[int, int, int], int] = {}
        self._dictionaries: list[tuple[int, ...]] = []
        self._written: dict[object, int] = {}
        self._copies: list[_Copy] = []
        self._lasts = False
        self._trims: list[pa.Array] = []
        self._copied = 0
        self._whys: dict[str, None] = {}

    def write(self, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> Exported:
        told = []
        for batch in batches:
            row = [batch.num_rows]
            for column in batch.columns:
                trimmed = self._trimmed(column)
                self._lasts = trimmed is column
                self._array(trimmed, row)
            told.append(tuple(row))
        why = "; ".join(self._whys)
        layout = Layout(
            VERSION,
            schema.serialize().to_pybytes(),
            tuple(self._buffers),
            tuple(self._dictionaries),
            tuple(told),
            self._copied,
            why,
        )
        return Exported(
            msgspec.msgpack.encode(layout),
            tuple(place.descriptor for place in self._used),
            sum(size for _, _, size in self._buffers),
            self._copied,
            why,
            tuple(self._used),
            (tuple(batches), tuple(self._copies)),
        )

    def _trimmed(self, column: pa.Array) -> pa.Array:
        """Give a column that must be copied without what lies around its rows."""
        own = [b for b in _own_buffers(column) if b is not None and b.size]
        if any(self._place(b.address, b.size) for b in own):
            return column
        held = sum(b.size for b in own)
        if held <= 2 * column_bytes(column, dictionary=False) + _SPARE_BYTES:
            return column
        trimmed = pa.concat_arrays([column])
        self._trims.append(trimmed)  # Buffers are known by address as long as this writes.
        return trimmed

    def _array(self, array: pa.Array, out: list[int]) -> None:
        self._part(array, array.offset, len(array), out)

    def _part(self, array: pa.Array, offset: int, length: int, out: list[int]) -> None:
        """Write an array down whose parent, if it has one, skips its first rows by itself."""
        out += (offset, length)
        if pa.types.is_dictionary(array.type):
            self._flat(array.indices, out)
            out.append(self._dictionary(array.dictionary))
            return
        self._flat(array, out)
        for field in fields_of(array):
            self._part(field, field.offset - array.offset, offset + length, out)

    def _flat(self, array: pa.Array, out: list[int]) -> None:
        kind = layout_of(array.type)
        buffers = array.buffers()[:1] if kind == "struct" else array.buffers()
        if kind == "views":
            out.append(len(buffers))
        needed = alignments(array.type)
        for at, buffer in enumerate(buffers):
            out.append(self._buffer(buffer, needed[at] if at < len(needed) else 1))

    def _dictionary(self, values: pa.Array) -> int:
        places = tuple(None if b is None else (b.address, b.size) for b in values.buffers())
        key = (values.type, values.offset, len(values), places)
        known = self._written.get(key)
        if known is None:
            row: list[int] = []
            self._array(values, row)
            known = self._written[key] = len(self._dictionaries)
            self._dictionaries.append(tuple(row))
        return known

    def _buffer(self, buffer: pa.Buffer | None, alignment: int) -> int:
        if buffer is None:
            return ABSENT
        if not buffer.size:
            return EMPTY
        key = (buffer.address, buffer.size, alignment)
        known = self._known.get(key)
        if known is None:
            place = self._place(buffer.address, buffer.size)
            why = _why_copied(place, buffer.address, alignment)
            if why:
                buffer = self._copy(buffer, why)
                place = self._place(buffer.address, buffer.size)
            assert place is not None
            known = self._known[key] = len(self._buffers)
            self._buffers.append((self._number(place), buffer.address - place.address, buffer.size))
        return known

    def _copy(self, buffer: pa.Buffer, why: str) -> pa.Buffer:
        """Give a buffer in a segment; the copy of another piece if that still has both."""
        known, key = _copied.setdefault(self._pool, WeakValueDictionary()), (buffer.address, why)
        found = known.get((*key, buffer.size)) if self._lasts else None
        if found is None:
            found = _Copy(self._pool.allocate(buffer.size))
            np.frombuffer(found.buffer, np.uint8)[:] = np.frombuffer(buffer, np.uint8)
            self._copied += buffer.size
            self._whys[why] = None
            if self._lasts:
                known[*key, buffer.size] = found
        self._copies.append(found)
        return found.buffer

    def _place(self, address: int, size: int) -> Place | None:
        found = self._places.at(address, size)
        if found is None:
            found = self._pool.locate(address) or mapping.locate(address)
            if found is None or not found.holds(address, size):
                return None
            self._places.add(found)
        return found

    def _number(self, place: Place) -> int:
        known = self._numbers.get(place.address)
        if known is None:
            if len(self._used) == DESCRIPTORS_MAX:
                raise InputError(
                    f"the piece lies in more than {DESCRIPTORS_MAX} files and segments"
                )
            known = self._numbers[place.address] = len(self._used)
            self._used.append(place)
        return known


def _why_copied(place: Place | None, address: int, alignment: int) -> str:
    if place is None:
        return "memory outside of segments"
    if place.descriptor < 0:
        return f"memory {place.why}"
    return "memory that is not aligned" if address % alignment else ""


def _own_buffers(column: pa.Array) -> Iterator[pa.Buffer | None]:
    """Give the buffers of a column but those of its dictionaries."""
    if pa.types.is_dictionary(column.type):
        yield from column.indices.buffers()
        return
    yield from column.buffers()[:1] if fields_of(column) else column.buffers()
    for field in fields_of(column):
        yield from _own_buffers(field)
