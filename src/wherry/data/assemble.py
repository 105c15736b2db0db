"""Rows of a column that lie in several arrays, as the bytes of one: what has to be copied where.

Values of a fixed width are only pointed to. Bitmaps and offsets are made anew, because those of
neighbours begin at other bits and count from other places; they are a small part of a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.arrays import movable_type
from wherry.data.chunk import column_bytes
from wherry.data.types import layout_of

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

_LONGEST: Final = {"narrow": (1 << 31) - 1, "wide": (1 << 63) - 1}


class Span(Struct, frozen=True):
    """Bytes of the host: where they are, and what keeps them there."""

    address: int
    nbytes: int
    owner: object


Spans = tuple[Span, ...]
"""Bytes that are to lie one behind the other."""


class Assembled(Struct, frozen=True):
    """The rows of a column as an Arrow array would have them, offset 0.

    Attributes
    ----------
    rows : int
    valid : Spans or None
        One bit a row, the first the lowest; None: nothing is null.
    values : Spans
        Of fixed width, bits, or the rows + 1 offsets of text.
    data : Spans
        The bytes of text.
    """

    rows: int
    valid: Spans | None
    values: Spans
    data: Spans = ()

    @property
    def nbytes(self) -> int:
        """How many bytes there are in all."""
        every = (*(self.valid or ()), *self.values, *self.data)
        return sum(span.nbytes for span in every)


class Extent(Struct, frozen=True):
    """The bytes that the rows of a column take when they are assembled."""

    values: int
    valid: int
    data: int

    def __add__(self, other: Extent) -> Extent:
        """Give both together."""
        return Extent(self.values + other.values, self.valid + other.valid, self.data + other.data)


def extent_of(arrays: Sequence[pa.Array], *, nulls: bool) -> Extent:
    """Give what arrays take, without assembling them.

    Parameters
    ----------
    nulls : bool
        Whether there are bits that say what is null.
    """
    t, rows = arrays[0].type, sum(map(len, arrays))
    bits = -(-rows // 8)
    kind = layout_of(t)
    if kind == "bits":
        return Extent(bits, bits * nulls, 0)
    if kind == "fixed":
        return Extent(rows * (t.bit_width // 8), bits * nulls, 0)
    width = 8 if kind == "wide" else 4
    data = sum(end - begin for begin, end in map(_reach, arrays))
    return Extent((rows + 1) * width, bits * nulls, data)


def can_assemble(t: pa.DataType) -> bool:
    """Tell whether rows of a type can be assembled; codes as their index type."""
    return layout_of(t) in {"fixed", "bits", "narrow", "wide"}


def own_views(array: pa.Array) -> pa.Array:
    """Give views with no other rows' bytes behind them; of 2 GiB or more, which none reach, as is.

    A slice of views refers to all the bytes that the whole does.
    """
    behind = sum(buffer.size for buffer in array.buffers()[2:])
    needed = column_bytes(array) - 16 * len(array)
    if behind <= needed or needed > _LONGEST["narrow"]:
        return array
    return array.cast(movable_type(array.type)).cast(array.type)


def assembled(arrays: Sequence[pa.Array]) -> Assembled:
    """Give the rows of arrays of one type, in order.

    Raises
    ------
    OverflowError
        If texts are longer together than their type's offsets count.
    """
    kind, valid = layout_of(arrays[0].type), validity_of(arrays)
    rows = sum(map(len, arrays))
    match kind:
        case "fixed":
            width = arrays[0].type.bit_width // 8
            return Assembled(rows, valid, _values(arrays, width))
        case "bits":
            return Assembled(rows, valid, _bits([_plain_bits(array) for array in arrays]))
        case "narrow" | "wide":
            return Assembled(rows, valid, *_texts(arrays, kind))
    raise TypeError(f"{arrays[0].type} is not assembled")


def validity_of(arrays: Sequence[pa.Array]) -> Spans | None:
    """Give the bits that say which rows of arrays are not null; None: all of them.

    Of any type but a struct.
    """
    if not any(array.null_count for array in arrays):
        return None
    return _bits([_validity(array) for array in arrays])


def _values(arrays: Sequence[pa.Array], width: int) -> Spans:
    return _joined(_span(a.buffers()[1], a.offset * width, len(a) * width) for a in arrays)


def _span(buffer: pa.Buffer | None, begin: int, nbytes: int) -> Span:
    return Span(0 if buffer is None else buffer.address + begin, nbytes, buffer)


def _joined(spans: Iterable[Span]) -> Spans:
    """Give spans, neighbours of one buffer as one."""
    found: list[Span] = []
    for span in spans:
        last = found[-1] if found else None
        if not span.nbytes:
            continue
        if last is not None and last.address + last.nbytes == span.address:
            # Slices of a mapping keep it as a whole.
            owner = (last.owner, span.owner)
            found[-1] = Span(last.address, last.nbytes + span.nbytes, owner)
        else:
            found.append(span)
    return tuple(found)


def of_bytes(data: np.ndarray[Any, Any]) -> Span:
    """Give an array's bytes as a span."""
    return Span(data.ctypes.data, data.nbytes, data)


def _bits(arrays: Sequence[pa.Array]) -> Spans:
    """Give the values of boolean arrays, bit behind bit."""
    alone = len(arrays) == 1 and arrays[0].offset % 8 == 0
    # Arrays that are put together begin at a byte of their own.
    whole = arrays[0] if alone else pa.concat_arrays([*arrays, pa.nulls(0, pa.bool_())])
    return (_span(whole.buffers()[1], whole.offset // 8, -(-len(whole) // 8)),)


def _plain_bits(array: pa.Array) -> pa.Array:
    return pa.BooleanArray.from_buffers(
        pa.bool_(), len(array), [None, array.buffers()[1]], offset=array.offset
    )


def _validity(array: pa.Array) -> pa.Array:
    buffer = array.buffers()[0]
    if buffer is None:
        return pa.repeat(pa.scalar(value=True), len(array))
    return pa.BooleanArray.from_buffers(pa.bool_(), len(array), [None, buffer], offset=array.offset)


def _reach(array: pa.Array) -> tuple[int, int]:
    """Give the offsets of the first and behind the last byte of texts."""
    if not len(array):
        return 0, 0
    number = np.int64 if layout_of(array.type) == "wide" else np.int32
    found = np.frombuffer(array.buffers()[1], number)
    return int(found[array.offset]), int(found[array.offset + len(array)])


def _texts(arrays: Sequence[pa.Array], kind: str) -> tuple[Spans, Spans]:
    number = np.int64 if kind == "wide" else np.int32
    rows, at, done = sum(map(len, arrays)), 0, 0
    offsets, data = np.zeros(rows + 1, np.int64), list[Span]()
    for array in arrays:
        if not len(array):
            continue
        found = np.frombuffer(array.buffers()[1], number)[array.offset :][: len(array) + 1]
        begin, end = _reach(array)
        offsets[at : at + len(array) + 1] = found.astype(np.int64) - (begin - done)
        data.append(_span(array.buffers()[2], begin, end - begin))
        at, done = at + len(array), done + end - begin
    if done > _LONGEST[kind]:
        raise OverflowError(f"{done} bytes of {arrays[0].type}")
    return (of_bytes(offsets.astype(number)),), _joined(data)
