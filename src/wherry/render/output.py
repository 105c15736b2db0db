"""Columns of an answer: referenced where every row stays, otherwise written once into the pool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from wherry.data.segment import SegmentPool
from wherry.kernels.layout import BLOCK, SLACK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import (
    Chunk,
    Context,
    bitmap_address,
    offset_width,
    values_address,
)

_kernels = skeletons("filter")


@dataclass(frozen=True)
class Selection:
    """Which rows of a chunk are kept: all, those of a bitmap, or rows by number in that order.

    Parameters
    ----------
    rows : int
        Rows of the chunk.
    count : int
        How many are kept.
    words : numpy.ndarray, optional
        int64 words of bits, one a block.
    order : numpy.ndarray, optional
        int64 row numbers; outranks `words`.
    """

    rows: int
    count: int
    words: np.ndarray[Any, Any] | None = None
    order: np.ndarray[Any, Any] | None = None

    @property
    def whole(self) -> bool:
        """Tell whether every row is kept, in its place."""
        return self.order is None and self.count == self.rows

    @property
    def blocks(self) -> int:
        """Give the whole blocks of the chunk."""
        return self.rows // BLOCK

    @cached_property
    def numbers(self) -> np.ndarray[Any, Any]:
        """Give the kept rows by number."""
        if self.order is not None:
            return self.order
        if self.words is None:
            return np.arange(self.count, dtype=np.int64)
        found = np.empty(self.count, np.int64)
        words = self.words
        _kernels.row_numbers(words.ctypes.data, len(words), found.ctypes.data, self.count)
        return found


def keep_rows(array: pa.Array, selection: Selection, pool: SegmentPool) -> pa.Array:
    """Give the kept rows of a column: itself if it keeps all, otherwise written into the pool."""
    if selection.whole:
        return array
    t = array.type
    if pa.types.is_dictionary(t):
        codes = keep_rows(array.indices, selection, pool)
        return pa.DictionaryArray.from_arrays(
            codes, array.dictionary, ordered=t.ordered, safe=False
        )
    validity, nulls = _validity(array, selection, pool)
    if pa.types.is_boolean(t):
        bits, _ = _bits(array, 1, selection, pool)
        buffers = [bits]
    elif pa.types.is_string_view(t):
        buffers = [_fixed(array, 16, selection, pool), *array.buffers()[2:]]
    elif pa.types.is_string(t) or pa.types.is_large_string(t):
        buffers = _texts(array, selection, pool)
    else:
        buffers = [_fixed(array, t.bit_width // 8, selection, pool)]
    return pa.Array.from_buffers(t, selection.count, [validity, *buffers], nulls)


def allocate(pool: SegmentPool, nbytes: int) -> pa.Buffer:
    """Give `nbytes` of the pool with room behind them for a compress-store's last vector."""
    return pool.allocate(nbytes + SLACK).slice(0, nbytes)


def _fixed(array: pa.Array, width: int, selection: Selection, pool: SegmentPool) -> pa.Buffer:
    target, source = allocate(pool, selection.count * width), values_address(array)
    if selection.order is None and selection.words is not None:
        words = selection.words.ctypes.data
        rest = selection.rows % BLOCK
        _kernels.compact(width, source, words, selection.blocks, rest, target.address)
    else:
        rows = selection.numbers
        _kernels.gather(width, source, rows.ctypes.data, len(rows), target.address)
    return target


def bitmap_bytes(count: int) -> int:
    """Give the bytes of a bitmap of `count` bits."""
    return (count + 7) // 8


def _bits(
    array: pa.Array, number: int, selection: Selection, pool: SegmentPool
) -> tuple[pa.Buffer, int]:
    keep: list[Any] = []
    source = bitmap_address(array, number, keep)
    target = allocate(pool, bitmap_bytes(selection.count))
    if selection.order is None and selection.words is not None:
        words = selection.words.ctypes.data
        rest = selection.rows % BLOCK
        ones = _kernels.compact_bits(source, words, selection.blocks, rest, target.address)
    else:
        rows = selection.numbers
        ones = _kernels.gather_bits(source, rows.ctypes.data, len(rows), target.address)
    return target, ones


def _validity(
    array: pa.Array, selection: Selection, pool: SegmentPool
) -> tuple[pa.Buffer | None, int]:
    if not array.null_count or not selection.count:
        return None, 0
    bits, ones = _bits(array, 0, selection, pool)
    return (bits, selection.count - ones) if ones < selection.count else (None, 0)


def _texts(array: pa.Array, selection: Selection, pool: SegmentPool) -> list[pa.Buffer]:
    width, rows = offset_width(array.type), selection.numbers
    offsets = allocate(pool, (len(rows) + 1) * width)
    source = values_address(array)
    total = _kernels.gather_offsets(source, width, rows.ctypes.data, len(rows), offsets.address)
    data, given = allocate(pool, total), array.buffers()[2]
    if total:
        _kernels.gather_text(
            source, width, given.address, rows.ctypes.data, len(rows), data.address
        )
    return [offsets, data]


def compute_column(
    t: pa.DataType,
    function: int,
    context: Context,
    chunk: Chunk,
    selection: Selection,
    *,
    pool: SegmentPool,
) -> pa.Array:
    """Give a computed column for the kept rows of `selection`, whose `order` is None."""
    boolean = pa.types.is_boolean(t)
    width = 0 if boolean else t.bit_width // 8
    nbytes = bitmap_bytes(selection.count) if boolean else selection.count * width
    target, valid = allocate(pool, nbytes), allocate(pool, bitmap_bytes(selection.count))
    scratch = np.empty(BLOCK * 16, np.uint8)
    whole, padded = context.addresses
    words = 0 if selection.words is None else selection.words.ctypes.data
    ones = _kernels.compute(
        function, whole, chunk.blocks, padded, chunk.rest, words, width,
        target.address, valid.address, scratch.ctypes.data,
    )  # fmt: skip
    nulls = selection.count - ones
    return pa.Array.from_buffers(t, selection.count, [valid if nulls else None, target], nulls)
