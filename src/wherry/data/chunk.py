"""The unit that moves: a reference to rows of a stored batch, and what bytes an array refers to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.arrays import dictionaries_of, fields_of, leaves
from wherry.data.types import layout_of

INLINE_VIEW_BYTES = 12
"""A view of at most this many bytes lies in the view itself (Arrow columnar format)."""

Region = tuple[int, int]
"""Address and size of a piece of memory, in bytes."""


class ChunkRef(Struct, frozen=True, order=True):
    """Names rows [offset, offset + rows) of stored batch `batch` of file or table `fragment`."""

    fragment: int
    batch: int
    offset: int
    rows: int


def buffer_addresses(batch: pa.RecordBatch) -> set[Region]:
    """Give address and size in bytes of every non-empty buffer of `batch`, dictionaries too."""
    return {
        (buffer.address, buffer.size)
        for column in batch.columns
        for array in leaves(column)
        for buffer in array.buffers()
        if buffer is not None and buffer.size
    }


def referenced_bytes(batches: Iterable[pa.RecordBatch]) -> int:
    """Give the bytes that `batches` refer to together; a dictionary they share counts once."""
    dictionaries: dict[tuple[Region, ...], int] = {}
    total = 0
    for column in (column for batch in batches for column in batch.columns):
        total += column_bytes(column, dictionary=False)
        for values in dictionaries_of(column):
            identity = tuple((b.address, b.size) for b in values.buffers() if b is not None)
            dictionaries[identity] = column_bytes(values)
    return total + sum(dictionaries.values())


def column_bytes(array: pa.Array, *, dictionary: bool = True) -> int:
    """Give the bytes that `array` refers to for its own rows, whatever its buffers hold besides.

    Validity bitmap, values or offsets, the range of data the offsets span, the data behind the
    views, the fields of a struct, and (unless `dictionary` is False) the dictionary. Bits
    count as the bytes they touch.

    Parameters
    ----------
    array : pa.Array
        Of a type Wherry reads; any length and offset.
    """
    rows = len(array)
    if rows == 0:
        return 0
    if pa.types.is_dictionary(array.type):
        indices = column_bytes(array.indices)
        return indices + (column_bytes(array.dictionary) if dictionary else 0)
    validity = array.buffers()[0]
    own = _bits(array.offset, rows) if validity is not None else 0
    if pa.types.is_struct(array.type):
        return own + sum(column_bytes(f, dictionary=dictionary) for f in fields_of(array))
    return own + _value_bytes(array)


def _value_bytes(array: pa.Array) -> int:
    rows, kind = len(array), layout_of(array.type)
    if kind == "bits":
        return _bits(array.offset, rows)
    if kind == "views":
        return 16 * rows + _behind_views(array)
    if kind in {"narrow", "wide"}:
        dtype = np.int32 if kind == "narrow" else np.int64
        end = array.offset + rows + 1
        offsets = np.frombuffer(array.buffers()[1], dtype, end)[array.offset :]
        return offsets.nbytes + int(offsets[-1] - offsets[0])
    return rows * int(array.type.byte_width)


def _behind_views(array: pa.Array) -> int:
    end = array.offset + len(array)
    views = np.frombuffer(array.buffers()[1], np.int32, 4 * end).reshape(-1, 4)
    lengths = views[array.offset :, 0]
    if array.null_count:
        lengths = lengths[array.is_valid().to_numpy(zero_copy_only=False)]
    return int(lengths[lengths > INLINE_VIEW_BYTES].sum(dtype=np.int64))


def _bits(offset: int, rows: int) -> int:
    return (offset % 8 + rows + 7) // 8
