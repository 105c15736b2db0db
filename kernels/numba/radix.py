"""Aggregation of many groups: rows are dealt into partitions by hash, then each is grouped alone.

A partition's table stays in the second-level cache, and partitions need no merge, so threads take
one each. A record is a row's words side by side (`render.records`): the key's first. Records of a
chunk lie in pages of PAGE; a page belongs to one partition, and partitions have lists of pages, so
that no pass is needed to count and one frequent key needs no more room than many rare ones.

Equal rows give equal bytes whatever the number of threads: within a partition rows are in their
order, and groups are put in order of first appearance over all partitions at the end.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from wherry.kernels.layout import BLOCK, PAGE, PIECE_WORDS
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.deal import hash_of, mix
from wherry.kernels.numba.vector import (
    call_accumulate,
    load_i16,
    load_i32,
    load_i64,
    load_u8,
    popcount,
    shift_right,
    store_8,
    store_16,
    store_32,
    store_64,
)


@intrinsic
def prefetch(typing_context, address):
    """Fetch the line at an address into the caches, which may be any number."""

    def code(context, builder, signature, arguments):
        byte, number = ir.IntType(8), ir.IntType(32)
        pointer = ir.PointerType(byte)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, everywhere, data = (ir.Constant(number, n) for n in (0, 3, 1))
        place = builder.inttoptr(arguments[0], pointer)
        builder.call(function, [place, read, everywhere, data])
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic
def clear(typing_context, target, count):
    """Set `count` bytes to zero."""

    def code(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.PointerType(ir.IntType(8)))
        cgutils.memset(builder, pointer, arguments[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@njit(inline="always")
def _begin(group, first, firsts, states, stride, initial):
    store_64(firsts + group * 8, first)
    to = states + group * stride
    for offset in range(0, stride, 8):
        store_64(to + offset, load_i64(initial + offset))


@njit(inline="always")
def _number_words(
    source, numbers, width, some, bits, shift, table, seen, firsts, base, states, stride, initial,
    groups, ids,
):  # fmt: skip
    """Give how many groups there are, with those of `some` records whose key is one word."""
    mask = (1 << (64 - shift)) - 1
    for i in range(some):
        word = load_i64(source + i * width)
        slot = shift_right(mix(0, word) << bits, shift)
        at = table + slot * 16
        group = load_i64(at + 8)
        while group != 0 and load_i64(at) != word:
            slot = (slot + 1) & mask
            at = table + slot * 16
            group = load_i64(at + 8)
        group -= 1
        if group < 0:
            group = groups
            groups += 1
            store_64(at, word)
            store_64(at + 8, groups)
            store_64(seen + group * 8, word)
            _begin(group, base + load_i32(numbers + i * 4), firsts, states, stride, initial)
        store_64(ids + i * 8, group)
    return groups


@njit(inline="always")
def _number_keys(
    source, numbers, width, some, bits, shift, table, seen, firsts, base, states, stride, initial,
    groups, ids, words, have,
):  # fmt: skip
    """Do the same for keys of `words` words: slots hold hashes, keys are compared where seen."""
    mask = (1 << (64 - shift)) - 1
    for i in range(some):
        key = source + i * width
        hashed = hash_of(key, have)
        slot = shift_right(hashed << bits, shift)
        while True:
            at = table + slot * 16
            group = load_i64(at + 8) - 1
            if group < 0:
                group = groups
                groups += 1
                store_64(at, hashed)
                store_64(at + 8, groups)
                to = seen + group * words * 8
                for w in range(words):
                    store_64(to + w * 8, load_i64(key + w * 8) if w < have else 0)
                _begin(group, base + load_i32(numbers + i * 4), firsts, states, stride, initial)
                break
            same = load_i64(at) == hashed
            to = seen + group * words * 8
            for w in range(words):
                other = load_i64(key + w * 8) if w < have else 0
                same = same and load_i64(to + w * 8) == other
            if same:
                break
            slot = (slot + 1) & mask
        store_64(ids + i * 8, group)
    return groups


@kernel(15)
def fold_partition(
    part,
    pieces,
    count,
    words,
    bits,
    table,
    table_bits,
    seen,
    firsts,
    capacity,
    states,
    stride,
    initial,
    scratch,
    progress,
):
    """Group the records of one partition, piece after piece, until the groups might need more room.

    Parameters
    ----------
    pieces, count : int
        PIECE_WORDS int64 a piece: pages, row numbers, following, first, counts (as `deal` filled
        them), bytes of a record, words of its key, address of `fold(records, n, ids, states)`,
        number of the first row.
    words : int
        Words of a key here; a piece's key may lack the last ones, which are then 0.
    table, table_bits : int
        Two int64 a slot, the key or its hash and the group's number plus 1; log2 of the slots.
    seen, firsts, capacity : int
        Keys and first rows of groups, and how many there is room for.
    scratch : int
        Room for PAGE int64.
    progress : int
        Three int64 that survive calls: piece, records of it done, groups so far.

    Returns
    -------
    int
        1 when every record is done, 0 when there must be room for BLOCK more groups.
    """
    number, done, groups = load_i64(progress), load_i64(progress + 8), load_i64(progress + 16)
    shift = 64 - table_bits
    if number == 0 and done == 0:
        clear(table, 16 << table_bits)
    while number < count:
        piece = pieces + number * (PIECE_WORDS * 8)
        pages, rows = load_i64(piece), load_i64(piece + 8)
        following, first = load_i64(piece + 16), load_i64(piece + 24)
        total = load_i64(load_i64(piece + 32) + part * 8)
        width, have = load_i64(piece + 40), load_i64(piece + 48)
        fold, base = load_i64(piece + 56), load_i64(piece + 64)
        page = 0
        if done < total:
            page = load_i32(first + part * 4)
            for _ in range(done // PAGE):
                page = load_i32(following + page * 4)
        while done < total:
            if groups + BLOCK > capacity:
                store_64(progress, number)
                store_64(progress + 8, done)
                store_64(progress + 16, groups)
                return 0
            inside = done & (PAGE - 1)
            some = min(BLOCK, total - done)
            source = pages + (page * PAGE + inside) * width
            numbers = rows + (page * PAGE + inside) * 4
            # Pages are too short for the processor to see what comes next.
            ahead = page * PAGE + inside + BLOCK
            if inside + BLOCK == PAGE and done + BLOCK < total:
                page = load_i32(following + page * 4)
                ahead = page * PAGE
            for line in range(0, BLOCK * width, 64):
                prefetch(pages + ahead * width + line)
            for line in range(0, BLOCK * 4, 64):
                prefetch(rows + ahead * 4 + line)
            if words == 1:
                groups = _number_words(
                    source, numbers, width, some, bits, shift, table, seen, firsts, base,
                    states, stride, initial, groups, scratch,
                )  # fmt: skip
            else:
                groups = _number_keys(
                    source, numbers, width, some, bits, shift, table, seen, firsts, base,
                    states, stride, initial, groups, scratch, words, have,
                )  # fmt: skip
            call_accumulate(fold, source, some, scratch, states)
            done += some
        number += 1
        done = 0
    store_64(progress, number)
    store_64(progress + 8, 0)
    store_64(progress + 16, groups)
    return 1


@kernel(6)
def enter(table, table_bits, bits, seen, words, groups):
    """Enter groups into a table, emptied before; their numbers are their places in `seen`."""
    mask, shift = (1 << table_bits) - 1, 64 - table_bits
    clear(table, 16 << table_bits)
    for group in range(groups):
        key = seen + group * words * 8
        hashed = hash_of(key, words)
        slot = shift_right(hashed << bits, shift)
        while load_i64(table + slot * 16 + 8) != 0:
            slot = (slot + 1) & mask
        store_64(table + slot * 16, load_i64(key) if words == 1 else hashed)
        store_64(table + slot * 16 + 8, group + 1)
    return groups


@kernel(10)
def rank_range(firsts, lows, highs, parts, base, bitmap, words, ranks, start, places):
    """Give how many groups begin in a range of rows, and write the place of each in the answer.

    Parameters
    ----------
    firsts, lows, highs, parts : int
        int64 a partition: address of its groups' first rows, which ascend, and which of its groups
        begin in the range.
    base, words : int
        The first row of the range, and its rows divided by 64.
    bitmap, ranks : int
        Room for a word of 64 bits and an int64 per 64 rows.
    start : int
        How many groups begin before the range.
    places : int
        An int64 a partition: the address of the int32 places of its groups.
    """
    clear(bitmap, words * 8)
    for part in range(parts):
        rows = load_i64(firsts + part * 8)
        for group in range(load_i64(lows + part * 8), load_i64(highs + part * 8)):
            row = load_i64(rows + group * 8) - base
            at = bitmap + (row >> 6) * 8
            store_64(at, load_i64(at) | (1 << (row & 63)))
    total = start
    for word in range(words):
        store_64(ranks + word * 8, total)
        total += popcount(load_i64(bitmap + word * 8))
    for part in range(parts):
        rows, to = load_i64(firsts + part * 8), load_i64(places + part * 8)
        for group in range(load_i64(lows + part * 8), load_i64(highs + part * 8)):
            row = load_i64(rows + group * 8) - base
            below = load_i64(bitmap + (row >> 6) * 8) & ((1 << (row & 63)) - 1)
            store_32(to + group * 4, load_i64(ranks + (row >> 6) * 8) + popcount(below))
    return total - start


@njit(inline="always")
def copy_field(source, width, target):
    """Copy 1, 2, 4, 8 or a multiple of 8 bytes."""
    if width == 8:
        store_64(target, load_i64(source))
    elif width == 4:
        store_32(target, load_i32(source))
    elif width == 2:
        store_16(target, load_i16(source))
    elif width == 1:
        store_8(target, load_u8(source))
    else:
        for offset in range(0, width, 8):
            store_64(target + offset, load_i64(source + offset))


@kernel(8)
def put_in_order(places, lows, highs, parts, sources, step, width, target):
    """Write one field of the groups of all partitions, side by side, to their places.

    A range of rows at a time: its places lie close together, so they stay in the second-level
    cache, while each partition's fields are read one after the other.

    Parameters
    ----------
    places, lows, highs, parts : int
        As `rank_range` wrote and took them.
    sources, step : int
        An int64 a partition: where the field of its first group lies; the bytes to the next one's.
    width : int
        Bytes of the field: 1, 2, 4, 8 or a multiple of 8.
    """
    for part in range(parts):
        to, low = load_i64(places + part * 8), load_i64(lows + part * 8)
        source = load_i64(sources + part * 8) + low * step
        for group in range(low, load_i64(highs + part * 8)):
            copy_field(source, width, target + load_i32(to + group * 4) * width)
            source += step
    return parts
