"""Orders by a small number: rows are dealt into buckets, and buckets of chunks put side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from wherry.ir.stage import Order
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import values_address

_buckets = skeletons("buckets")


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
    wanted = np.arange(step.buckets + 1)
    ends = []
    for piece in pieces:
        numbers = np.asarray(piece.column(step.by[0].column))
        if len(numbers) and not (numbers[1:] >= numbers[:-1]).all():
            return None
        ends.append(np.searchsorted(numbers, wanted))
    rows = [
        piece.slice(at[bucket], at[bucket + 1] - at[bucket])
        for bucket in range(step.buckets)
        for piece, at in zip(pieces, ends, strict=True)
        if at[bucket + 1] > at[bucket]
    ]
    return pa.Table.from_batches(rows, pieces[0].schema)
