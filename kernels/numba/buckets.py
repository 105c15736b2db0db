"""Rows into the order of a small number, by counting: stable, two passes, no comparison."""

from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import load_i32, load_i64, store_64


@kernel(5)
def order(values, rows, buckets, ends, places):
    """Write the row numbers as int64, bucket after bucket, in stored order within.

    Parameters
    ----------
    values : int
        Address of int32 numbers in [0, buckets).
    ends : int
        Room for `buckets` int64, zeros; becomes where each bucket ends.

    Returns
    -------
    int
        The number of rows; -1 if a number is none of a bucket.
    """
    for row in range(rows):
        bucket = load_i32(values + row * 4)
        if bucket < 0 or bucket >= buckets:
            return -1
        at = ends + bucket * 8
        store_64(at, load_i64(at) + 1)
    begin = 0
    for bucket in range(buckets):
        count = load_i64(ends + bucket * 8)
        store_64(ends + bucket * 8, begin)
        begin += count
    for row in range(rows):
        at = ends + load_i32(values + row * 4) * 8
        place = load_i64(at)
        store_64(places + place * 8, row)
        store_64(at, place + 1)
    return rows
