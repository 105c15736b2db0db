"""Rows into the order of a small number: stable, by counting, no comparison.

`order` gives row numbers, for whoever gathers by them. `number` and `deal` move the values
themselves: every column is read in step, as the memory likes it, and written once. Rows of a bucket
wait in the first-level cache until a column has whole lines of them, which go past the caches.
"""

from numba import njit

from wherry.kernels.layout import BLOCK, DEALT
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    all_32,
    below,
    call_values,
    copy_16,
    equal_16,
    fence,
    load_i16,
    load_i32,
    load_i64,
    narrow_32,
    popcount,
    store_32,
    store_64,
    stream_line,
)
from wherry.kernels.numba.widths import copy_value

_LINE = 64
_FEW = 32
"""Up to so many buckets it is cheapest to compare 64 numbers at once with each of them."""
_COLUMN = 32
"""Bytes of a column's description: width, source, target, stage."""


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


@kernel(10)
def number(values, context, blocks, tail, tail_rows, words, buckets, scratch, numbers, counts):
    """Write the bucket of each row as int16, a block behind another, and count the rows of each.

    Parameters
    ----------
    values : int
        Address of the block function that gives int32 numbers; 0: they lie at `context`.
    words : int
        The selection; rows outside are in bucket `buckets`. 0 selects every row.
    scratch : int
        Room for a block of int32.
    counts : int
        An int64 a bucket, and one for the rows outside, zeros.

    Returns
    -------
    int
        1, or 0 if a selected row's number is not in [0, buckets).
    """
    wrong = 0
    for block in range(blocks + (1 if tail_rows > 0 else 0)):
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        if words != 0:
            word = load_i64(words + block * 8)
        source = context + block * BLOCK * 4
        if values != 0:
            call_values(values, at, row, scratch)
            source = scratch
        elif block == blocks:
            for lane in range(tail_rows):
                store_32(scratch + lane * 4, load_i32(source + lane * 4))
            source = scratch
        wrong |= word & ~below(source, buckets)
        made = numbers + block * BLOCK * 2
        narrow_32(made, source, word, buckets)
        if buckets <= _FEW:
            for bucket in range(buckets):
                held = counts + bucket * 8
                store_64(held, load_i64(held) + popcount(equal_16(made, bucket)))
        elif wrong == 0:
            for lane in range(BLOCK):
                held = counts + load_i16(made + lane * 2) * 8
                store_64(held, load_i64(held) + 1)
    return 1 if wrong == 0 else 0


@njit(inline="always")
def _stage(width, source, places, rows, stage):
    for row in range(rows):
        copy_value(width, stage + load_i32(places + row * 4) * width, source + row * width)


@njit(inline="always")
def _stage_columns(columns, count, row, places, rows):
    for number in range(count):
        column = columns + number * _COLUMN
        width, stage = load_i64(column), load_i64(column + 24)
        source = load_i64(column + 8) + row * width
        if width == 8:
            _stage(8, source, places, rows, stage)
        elif width == 4:
            _stage(4, source, places, rows, stage)
        elif width == 16:
            _stage(16, source, places, rows, stage)
        elif width == 2:
            _stage(2, source, places, rows, stage)
        else:
            _stage(1, source, places, rows, stage)


@njit(inline="always")
def _place(numbers, rows, nexts, places, filled):
    """Give how many times a bucket got DEALT rows, with those buckets at `filled`, in order."""
    full = 0
    for row in range(rows):
        bucket = load_i16(numbers + row * 2)
        place = load_i64(nexts + bucket * 8)
        store_64(nexts + bucket * 8, place + 1)
        store_32(places + row * 4, bucket * (2 * DEALT) + (place & (2 * DEALT - 1)))
        # Written in any case and counted if it is to stay: no branch to guess.
        store_32(filled + full * 4, bucket)
        full += 1 if place & (DEALT - 1) == DEALT - 1 else 0
    return full


@njit(inline="always")
def _write(columns, count, bucket, first, last):
    """Write rows `first` to `last` of a bucket, at most DEALT of them, from where they wait."""
    whole = last - first == DEALT
    for number in range(count):
        column = columns + number * _COLUMN
        width = load_i64(column)
        target = load_i64(column + 16) + first * width
        start = bucket * (2 * DEALT) + (first & (2 * DEALT - 1))
        source = load_i64(column + 24) + start * width
        size = (last - first) * width
        if whole and size >= _LINE:
            for offset in range(0, size, _LINE):
                stream_line(target + offset, source + offset)
        elif whole:
            for offset in range(0, size, 16):
                copy_16(target + offset, source + offset)
        else:
            for row in range(last - first):
                copy_value(width, target + row * width, source + row * width)


@kernel(8)
def deal(numbers, rows, buckets, firsts, nexts, columns, count, scratch):
    """Write the rows of columns bucket after bucket, in stored order within.

    Parameters
    ----------
    numbers : int
        int16 from `number`.
    firsts, nexts : int
        int64 of each bucket, its first row in the answer, and twice the same; the entry behind
        them is 2 ** 62 in `firsts` and 0 in `nexts`: such rows are dropped.
    columns, count : int
        Four int64 a column: bytes of a value (1, 2, 4, 8 or 16), address of the first row's, where
        they go (a multiple of 64), room for 2 DEALT values for each bucket and those dropped.
    scratch : int
        Room for 2 DEALT + 1 int32.
    """
    places, filled = scratch, scratch + DEALT * 4
    for row in range(0, rows, DEALT):
        # The number of rows is a constant of the usual call, whose loops are then unrolled.
        if row + DEALT <= rows:
            full = _place(numbers + row * 2, DEALT, nexts, places, filled)
            _stage_columns(columns, count, row, places, DEALT)
        else:
            full = _place(numbers + row * 2, rows - row, nexts, places, filled)
            _stage_columns(columns, count, row, places, rows - row)
        for number in range(full):
            bucket = load_i32(filled + number * 4)
            last = load_i64(nexts + bucket * 8) & -DEALT
            first = max(load_i64(firsts + bucket * 8), last - DEALT)
            if first < last:
                _write(columns, count, bucket, first, last)
    for bucket in range(buckets):
        last = load_i64(nexts + bucket * 8)
        first = max(load_i64(firsts + bucket * 8), last & -DEALT)
        _write(columns, count, bucket, first, last)
    fence()
    return rows


@kernel(4)
def edges(values, rows, buckets, begins):
    """Write where each bucket begins among int32 numbers in order, and behind them their end.

    Gives 1, or 0 if they are not in order or not in [0, buckets).
    """
    bucket = -1
    row = 0
    while row < rows:
        value = load_i32(values + row * 4)
        if value < bucket or value >= buckets:
            return 0
        while bucket < value:
            bucket += 1
            store_64(begins + bucket * 8, row)
        row += 1
        while row + BLOCK <= rows and all_32(values + row * 4, bucket):
            row += BLOCK
    while bucket < buckets:
        bucket += 1
        store_64(begins + bucket * 8, rows)
    return 1


@kernel(4)
def runs(counts, buckets, line, target):
    """Write each bucket's number as int32, as often as it has rows; `line` is room for one."""
    for bucket in range(buckets):
        for offset in range(0, _LINE, 4):
            store_32(line + offset, bucket)
        end = target + load_i64(counts + bucket * 8) * 4
        while target < end and target & (_LINE - 1) != 0:
            store_32(target, bucket)
            target += 4
        while target + _LINE <= end:
            stream_line(target, line)
            target += _LINE
        while target < end:
            store_32(target, bucket)
            target += 4
    fence()
    return buckets
