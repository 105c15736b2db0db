"""Orders by a small number: rows are dealt into buckets, and buckets of chunks put side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.segment import SegmentPool
from wherry.data.types import layout_of
from wherry.ir.stage import Order, Step
from wherry.kernels.layout import BLOCK, DEALT
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Chunk, value_width, values_address
from wherry.render.output import COMPRESSED, Selection, allocate, keep_rows
from wherry.render.room import scratch

_buckets = skeletons("buckets")

MOST: Final = 4096
"""Buckets that rows are dealt into; of more, those of one column fill the second-level cache."""
_STAGED: Final = 1 << 19
"""Bytes that wait at a time for whole lines: a quarter of a second-level cache, or one column."""
_LINE: Final = 64

Array = np.ndarray[Any, Any]


class Numbered(Struct, frozen=True):
    """The bucket of every row of a chunk.

    Attributes
    ----------
    numbers : pyarrow.Buffer
        int16, whole blocks of them; rows that are left out have the number of no bucket.
    counts : numpy.ndarray
        int64: how many rows each bucket has, and how many are left out.
    """

    rows: int
    numbers: pa.Buffer
    counts: Array

    @property
    def buckets(self) -> int:
        """How many buckets there are."""
        return len(self.counts) - 1

    @property
    def kept(self) -> int:
        """How many rows are in a bucket."""
        return self.rows - int(self.counts[-1])


def into_buckets(after: Sequence[Step]) -> Order | None:
    """Give the order into at most MOST buckets that is all that follows, if it is."""
    step = after[0] if len(after) == 1 else None
    if not isinstance(step, Order) or step.buckets is None or step.buckets > MOST:
        return None
    return step


def number_rows(
    function: int,
    addresses: tuple[int, int],
    chunk: Chunk,
    words: Array | None,
    buckets: int,
    *,
    pool: SegmentPool,
) -> Numbered:
    """Give the bucket of every row of a chunk.

    Parameters
    ----------
    function : int
        Address of the block function of the int32 number; 0 if the numbers are stored.
    addresses : tuple of int
        Of the contexts of the chunk's whole blocks and of its padded rest; of stored numbers twice.
    words : numpy.ndarray, optional
        int64 words of bits: rows outside are left out.
    buckets : int
        At most MOST.

    Raises
    ------
    AssertionError
        If a number is not in [0, buckets).
    """
    blocks = -(-chunk.rows // BLOCK)
    numbers, counts = pool.allocate(blocks * BLOCK * 2), np.zeros(buckets + 1, np.int64)
    made = _buckets.number(
        function, addresses[0], chunk.blocks, addresses[1], chunk.rest,
        0 if words is None else words.ctypes.data, buckets,
        scratch("numbers", BLOCK * 4).ctypes.data, numbers.address, counts.ctypes.data,
    )  # fmt: skip
    assert made, f"a number is not in [0, {buckets})"
    counts[-1] = chunk.rows - counts[:-1].sum()
    return Numbered(chunk.rows, numbers, counts)


def dealt(arrays: Sequence[pa.Array], numbered: Numbered, pool: SegmentPool) -> list[pa.Array]:
    """Give columns bucket after bucket, in stored order within, each value written once.

    Values of a fixed width without nulls are moved as they are read. Others are gathered by row
    number, which is dealt like a column.
    """
    moved = {number: _moved(array) for number, array in enumerate(arrays)}
    found = {number: array for number, array in moved.items() if array is not None}
    if len(found) < len(arrays):
        found[-1] = pa.array(np.arange(numbered.rows, dtype=np.int64))
    buffers = dict(zip(found, _deal(list(found.values()), numbered, pool), strict=True))
    made = []
    for number, array in enumerate(arrays):
        if moved[number] is not None:
            made.append(_with_values(array, numbered.kept, buffers[number]))
        else:
            order = np.frombuffer(buffers[-1], np.int64)
            made.append(keep_rows(array, Selection(numbered.rows, len(order), order=order), pool))
    return made


def bucket_column(counts: Array, pool: SegmentPool) -> pa.Array:
    """Give the int32 number of every row, where buckets have so many of them (int64)."""
    rows = int(counts.sum())
    target = pool.allocate(rows * 4)
    line = scratch("line", _LINE).ctypes.data
    _buckets.runs(counts.ctypes.data, len(counts), line, target.address)
    return pa.Array.from_buffers(pa.int32(), rows, [None, target], 0)


def _moved(array: pa.Array) -> pa.Array | None:
    """Give the array whose values a column is moved by; None if it is more than these."""
    values = array.indices if pa.types.is_dictionary(array.type) else array
    plain = layout_of(values.type) in {"fixed", "views"} and not values.null_count
    return values if plain and value_width(values.type) in COMPRESSED else None


def _with_values(array: pa.Array, rows: int, values: pa.Buffer) -> pa.Array:
    t = array.type
    if pa.types.is_dictionary(t):
        codes = pa.Array.from_buffers(t.index_type, rows, [None, values], 0)
        return pa.DictionaryArray.from_arrays(
            codes, array.dictionary, ordered=t.ordered, safe=False
        )
    return pa.Array.from_buffers(t, rows, [None, values, *array.buffers()[2:]], 0)


def _deal(columns: list[pa.Array], numbered: Numbered, pool: SegmentPool) -> list[pa.Buffer]:
    """Give the values of columns as buffers of their own."""
    widths = [value_width(column.type) for column in columns]
    made = [allocate(pool, numbered.kept * width) for width in widths]
    jobs = np.empty((len(columns), 3), np.int64)
    jobs[:, 0], jobs[:, 1] = widths, [values_address(column) for column in columns]
    jobs[:, 2] = [buffer.address for buffer in made]
    counts = numbered.counts[:-1]
    deal_into(jobs, numbered, np.cumsum(counts) - counts)
    return made


def deal_into(columns: Array, numbered: Numbered, begins: Array) -> None:
    """Write columns, so many of them in step as there is room for on their way.

    Parameters
    ----------
    columns : numpy.ndarray
        int64 of shape (columns, 3): bytes of a value, where the chunk's first lies, and where the
        answer's first goes.
    begins : numpy.ndarray
        int64: the answer's row where the chunk's rows of each bucket begin.
    """
    room = 2 * DEALT * (numbered.buckets + 1)
    at_once = max(1, _STAGED // (room * int(columns[:, 0].max(initial=1))))
    for first in range(0, len(columns), at_once):
        some = columns[first : first + at_once]
        ends = np.cumsum(room * some[:, 0])
        stage = scratch("stage", int(ends[-1])).ctypes.data
        # Whole lines are copied from a stage that begins with one.
        jobs = np.column_stack([some, stage + ends - room * some[:, 0]])
        nexts, firsts = np.append(begins, 0), np.append(begins, 1 << 62)
        _buckets.deal(
            numbered.numbers.address, numbered.rows, numbered.buckets, firsts.ctypes.data,
            nexts.ctypes.data, jobs.ctypes.data, len(jobs),
            scratch("places", 4 * (2 * DEALT + 1)).ctypes.data,
        )  # fmt: skip


def bucket_places(column: pa.Array, buckets: int) -> np.ndarray[Any, Any]:
    """Give the int64 row numbers of an int32 column in its order; its numbers are below `buckets`.

    Raises
    ------
    AssertionError
        If some number is not.
    """
    ends, places = np.zeros(buckets, np.int64), np.empty(len(column), np.int64)
    made = _buckets.order(
        values_address(column), len(column), buckets, ends.ctypes.data, places.ctypes.data
    )
    assert made == len(column), f"a number is not in [0, {buckets})"
    return places


def side_by_side(pieces: Sequence[Any], step: Order) -> pa.Table | None:
    """Give the rows of all pieces bucket by bucket, by reference; None if some must be moved.

    Parameters
    ----------
    pieces : sequence of RecordBatch, or of what is not written yet
        Batches must each be in the order of `step` already.
    """
    assert step.buckets is not None
    if not all(isinstance(piece, pa.RecordBatch) for piece in pieces):
        return None
    ends = []
    for piece in pieces:
        numbers, at = piece.column(step.by[0].column), np.empty(step.buckets + 1, np.int64)
        if not _buckets.edges(
            values_address(numbers), len(numbers), step.buckets, at.ctypes.data
        ):  # fmt: skip
            return None
        ends.append(at)
    rows = [
        piece.slice(at[bucket], at[bucket + 1] - at[bucket])
        for bucket in range(step.buckets)
        for piece, at in zip(pieces, ends, strict=True)
        if at[bucket + 1] > at[bucket]
    ]
    return pa.Table.from_batches(rows, pieces[0].schema)
