"""Columns of an answer: referenced where every row stays, otherwise written once into the pool."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.arrays import fields_of
from wherry.data.segment import SegmentPool
from wherry.data.types import layout_of
from wherry.kernels.layout import BLOCK, SLACK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import (
    Chunk,
    bitmap_address,
    offset_width,
    value_width,
    values_address,
)

_kernels = skeletons("filter")


class Selection(Struct, frozen=True, dict=True):
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


COMPRESSED = frozenset({1, 2, 4, 8, 16})
"""Widths that a compress-store knows; values of others are copied one by one."""


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
    fields = [keep_rows(field, selection, pool) for field in fields_of(array)]
    buffers = [validity, *_values(array, selection, pool)]
    return pa.Array.from_buffers(t, selection.count, buffers, nulls, children=fields)


def _values(array: pa.Array, selection: Selection, pool: SegmentPool) -> list[pa.Buffer]:
    match layout_of(array.type):
        case "bits":
            return [_bits(array, 1, selection, pool)[0]]
        case "views":
            return [_fixed(array, selection, pool), *array.buffers()[2:]]
        case "narrow" | "wide":
            return _texts(array, selection, pool)
        case "struct":
            return []
    return [_fixed(array, selection, pool)]


def allocate(pool: SegmentPool, nbytes: int) -> pa.Buffer:
    """Give `nbytes` of the pool with room behind them for a compress-store's last vector."""
    return pool.allocate(nbytes + SLACK).slice(0, nbytes)


def _fixed(array: pa.Array, selection: Selection, pool: SegmentPool) -> pa.Buffer:
    width = value_width(array.type)
    target, source = allocate(pool, selection.count * width), values_address(array)
    if width not in COMPRESSED:
        rows = selection.numbers
        _kernels.gather_bytes(width, source, rows.ctypes.data, len(rows), target.address)
    elif selection.order is None and selection.words is not None:
        words = selection.words.ctypes.data
        rest = selection.rows % BLOCK
        _kernels.compact(width, source, words, selection.blocks, rest, target.address)
    else:
        rows = selection.numbers
        _kernels.gather(width, source, rows.ctypes.data, len(rows), target.address)
    return target


def gathers_parts(arrays: Sequence[pa.Array]) -> bool:
    """Tell whether `gather_parts` knows the type of some arrays, and none of them has nulls."""
    t = arrays[0].type
    plain = layout_of(t) == "fixed" and value_width(t) in COMPRESSED
    return plain and not any(array.null_count for array in arrays)


def gather_parts(
    arrays: Sequence[pa.Array],
    owners: np.ndarray[Any, Any],
    numbers: np.ndarray[Any, Any],
    pool: SegmentPool,
) -> pa.Array:
    """Write rows of several arrays as one, each row once, in the order that is asked for.

    Parameters
    ----------
    owners, numbers : numpy.ndarray
        int64: which array each row is of, and its number there.
    """
    width = value_width(arrays[0].type)
    owners, numbers = np.ascontiguousarray(owners), np.ascontiguousarray(numbers)
    sources = np.array([values_address(array) for array in arrays], np.int64)
    target = allocate(pool, len(numbers) * width)
    _kernels.gather_parts(
        width, sources.ctypes.data, owners.ctypes.data, numbers.ctypes.data, len(numbers),
        target.address,
    )  # fmt: skip
    return pa.Array.from_buffers(arrays[0].type, len(numbers), [None, target], 0)


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
    addresses: tuple[int, int],
    chunk: Chunk,
    selection: Selection,
    *,
    pool: SegmentPool,
) -> pa.Array:
    """Give a computed column for the kept rows of `selection`, whose `order` is None.

    Parameters
    ----------
    function : int
        Address of the block function.
    addresses : tuple of int
        Of the contexts of the chunk's whole blocks and of its padded rest.
    """
    boolean = pa.types.is_boolean(t)
    width = 0 if boolean else t.bit_width // 8
    nbytes = bitmap_bytes(selection.count) if boolean else selection.count * width
    target, valid = allocate(pool, nbytes), allocate(pool, bitmap_bytes(selection.count))
    scratch = np.empty(BLOCK * 16, np.uint8)
    whole, padded = addresses
    words = 0 if selection.words is None else selection.words.ctypes.data
    ones = _kernels.compute(
        function, whole, chunk.blocks, padded, chunk.rest, words, width,
        target.address, valid.address, scratch.ctypes.data,
    )  # fmt: skip
    nulls = selection.count - ones
    return pa.Array.from_buffers(t, selection.count, [valid if nulls else None, target], nulls)
