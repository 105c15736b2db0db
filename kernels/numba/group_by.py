"""Aggregation by key: rows get the number of their group, and states are updated by number.

Groups are numbered in order of first appearance. A key is `words` int64 words; equal keys have
equal words. Small domains address a table by the one word itself, others hash.
"""

from numba import njit

from wherry.kernels.layout import BLOCK
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    call_mask,
    call_scatter,
    call_values,
    load_i16,
    load_i32,
    load_i64,
    load_u8,
    lowest,
    popcount,
    shift_right,
    store_32,
    store_64,
)


@njit(inline="always")
def begin(states, stride, group, initial):
    """Write the state of a group before any row."""
    for i in range(0, stride, 8):
        store_64(states + group * stride + i, load_i64(initial + i))


@kernel(14)
def direct(
    mask,
    keys,
    scatter,
    context,
    blocks,
    tail,
    tail_rows,
    table,
    slots,
    states,
    stride,
    initial,
    scratch,
    progress,
):
    """Group rows whose key is one word below the size of `table` (int32 group numbers, -1: none).

    Writes each group's word to `slots` and its state to `states`; `scratch` has room for two blocks
    of int64. Gives the number of groups; `progress` holds the next block, the groups so far, which
    are in `table` already, and the rows that passed.
    """
    first, groups, selected = load_i64(progress), load_i64(progress + 8), load_i64(progress + 16)
    ids = scratch + BLOCK * 8
    for block in range(first, blocks + (1 if tail_rows > 0 else 0)):
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        if mask != 0:
            word &= call_mask(mask, at, row)
        if word == 0:
            continue
        selected += popcount(word)
        call_values(keys, at, row, scratch)
        rest = word
        while rest != 0:
            lane = lowest(rest)
            rest &= rest - 1
            slot = load_i64(scratch + lane * 8)
            group = load_i32(table + slot * 4)
            if group < 0:
                group = groups
                groups += 1
                store_32(table + slot * 4, group)
                store_64(slots + group * 8, slot)
                begin(states, stride, group, initial)
            store_64(ids + lane * 8, group)
        call_scatter(scatter, at, row, word, ids, states)
    store_64(progress + 16, selected)
    return groups


@njit(inline="always")
def _integer(values, width, signed, row):
    if width == 8:
        return load_i64(values + row * 8)
    if width == 4:
        value = load_i32(values + row * 4)
        return value if signed != 0 else value & 0xFFFFFFFF
    if width == 2:
        value = load_i16(values + row * 2)
        return value if signed != 0 else value & 0xFFFF
    value = load_u8(values + row)
    return value if signed == 0 or value < 128 else value - 256


@njit(inline="always")
def mix(hashed, word):
    """Give a hash that one more word has gone into."""
    hashed = (hashed ^ word) * -7046029254386353131
    # A product's low bits know nothing of the word's high ones, where the ends of texts stand.
    return hashed ^ shift_right(hashed, 32) ^ shift_right(hashed, 47)


@kernel(17)
def hashed(
    mask,
    keys,
    scatter,
    context,
    blocks,
    tail,
    tail_rows,
    words,
    table,
    size,
    seen,
    capacity,
    states,
    stride,
    initial,
    scratch,
    progress,
):
    """Group rows by keys of `words` words until the groups might outgrow their room.

    Parameters
    ----------
    table, size : int
        int32 group numbers, -1 for none; `size` is a power of two.
    seen, capacity : int
        Keys of the groups, `words` words each, and how many groups `seen` and `states` can hold.
    progress : int
        Three int64 that survive calls: the next block, groups so far, rows passed so far.

    Returns
    -------
    int
        1 when every row is done, 0 when the caller must make room (capacity for 64 more groups and
        a table at most half full) and call again.
    """
    block, groups, selected = load_i64(progress), load_i64(progress + 8), load_i64(progress + 16)
    ids = scratch + words * (BLOCK * 8)
    count = blocks + (1 if tail_rows > 0 else 0)
    while block < count and groups + BLOCK <= capacity:
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        block += 1
        if mask != 0:
            word &= call_mask(mask, at, row)
        if word == 0:
            continue
        selected += popcount(word)
        call_values(keys, at, row, scratch)
        rest = word
        while rest != 0:
            lane = lowest(rest)
            rest &= rest - 1
            mixed = 0
            for w in range(words):
                mixed = mix(mixed, load_i64(scratch + w * (BLOCK * 8) + lane * 8))
            slot = mixed & (size - 1)
            while True:
                group = load_i32(table + slot * 4)
                if group < 0:
                    group = groups
                    groups += 1
                    store_32(table + slot * 4, group)
                    for w in range(words):
                        key = load_i64(scratch + w * (BLOCK * 8) + lane * 8)
                        store_64(seen + (group * words + w) * 8, key)
                    begin(states, stride, group, initial)
                    break
                same = True
                for w in range(words):
                    key = load_i64(scratch + w * (BLOCK * 8) + lane * 8)
                    same = same and load_i64(seen + (group * words + w) * 8) == key
                if same:
                    break
                slot = (slot + 1) & (size - 1)
            store_64(ids + lane * 8, group)
        call_scatter(scatter, at, row, word, ids, states)
    store_64(progress, block)
    store_64(progress + 8, groups)
    store_64(progress + 16, selected)
    return 1 if block == count else 0


@kernel(5)
def rehash(table, size, seen, words, groups):
    """Enter all groups into an empty table of `size` slots."""
    for group in range(groups):
        mixed = 0
        for w in range(words):
            mixed = mix(mixed, load_i64(seen + (group * words + w) * 8))
        slot = mixed & (size - 1)
        while load_i32(table + slot * 4) >= 0:
            slot = (slot + 1) & (size - 1)
        store_32(table + slot * 4, group)
    return groups


@kernel(3)
def enter(table, slots, groups):
    """Enter groups into a table that their words address."""
    for group in range(groups):
        store_32(table + load_i64(slots + group * 8) * 4, group)
    return groups


@kernel(5)
def bounds(values, width, signed, rows, found):
    """Write the smallest and the largest of integers of `width` bytes, nulls' included, to `found`.

    Unsigned ones of 8 bytes are taken for signed ones.
    """
    low = high = _integer(values, width, signed, 0)
    if width == 8:
        for row in range(rows):
            value = load_i64(values + row * 8)
            low, high = min(low, value), max(high, value)
    elif width == 4 and signed != 0:
        for row in range(rows):
            value = load_i32(values + row * 4)
            low, high = min(low, value), max(high, value)
    else:
        for row in range(rows):
            value = _integer(values, width, signed, row)
            low, high = min(low, value), max(high, value)
    store_64(found, low)
    store_64(found + 8, high)
    return rows
