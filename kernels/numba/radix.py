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

from wherry.kernels.layout import BLOCK, PAGE, PIECE_WORDS, STAGE, STAGE_SLACK
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    call_accumulate,
    call_values,
    fence,
    load_i32,
    load_i64,
    load_u8,
    lowest,
    popcount,
    shift_right,
    store_8,
    store_16,
    store_32,
    store_64,
)

_LINE = ir.VectorType(ir.IntType(64), 8)


def _pointer(builder, address):
    return builder.inttoptr(address, ir.PointerType(_LINE))


@intrinsic
def copy_64(typing_context, target, source):
    """Copy 64 bytes."""

    def code(context, builder, signature, arguments):
        value = builder.load(_pointer(builder, arguments[1]))
        value.align = 1
        builder.store(value, _pointer(builder, arguments[0])).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def stream_64(typing_context, target, source):
    """Copy 64 bytes to an address that is a multiple of 64, past the caches."""

    def code(context, builder, signature, arguments):
        value = builder.load(_pointer(builder, arguments[1]))
        value.align = 1
        stored = builder.store(value, _pointer(builder, arguments[0]))
        stored.align = 64
        one = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        stored.set_metadata("nontemporal", one)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


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
def _mix(hashed, word):
    # The high half is folded in, because a product's high bits do not depend on it alone.
    word = hashed ^ word
    return (word ^ shift_right(word, 32)) * -7046029254386353131


@njit(inline="always")
def hash_of(key, words):
    """Give the hash of a key of `words` words; its top bits are the good ones.

    Words that are 0 behind the first change nothing: a chunk without nulls leaves them out.
    """
    hashed = _mix(0, load_i64(key))
    for w in range(1, words):
        word = load_i64(key + w * 8)
        mixed = _mix(hashed ^ shift_right(hashed, 29), word + w)
        hashed = mixed if word != 0 else hashed
    return hashed


@kernel(19)
def deal(
    record,
    context,
    blocks,
    tail,
    tail_rows,
    chosen,
    key_words,
    width,
    bits,
    scratch,
    stage,
    fill,
    current,
    pages,
    rows,
    following,
    first,
    counts,
    room,
):
    """Write the chosen rows of a chunk as records, by partition.

    Parameters
    ----------
    record : int
        Address of `record(context, row, target)`: 64 records, `width` bytes each.
    chosen : int
        Words of bits, one a block, of the rows that count; 0 for all.
    key_words : int
        How many words of a record are hashed: those of key and null bits.
    bits : int
        Partitions are numbered by so many top bits of the hash.
    scratch, stage, fill, current : int
        Room for a block of records; for STAGE records (and slack) and STAGE int32 a partition; an
        int64 a partition, zero; and one more, -1.
    pages, rows : int
        Where records go, a multiple of 64, and the int32 row numbers that go with them.
    following, first, counts : int
        The page behind each page and the first page of each partition, int32; how many records
        each partition has, int64.
    room : int
        Pages there are.

    Returns
    -------
    int
        How many pages were used; -1 if there was no room.
    """
    slot = STAGE * width + STAGE_SLACK
    row_stage = stage + (1 << bits) * slot
    used = 0
    shift = 64 - bits
    for block in range(blocks + (1 if tail_rows > 0 else 0)):
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        if chosen != 0:
            word = load_i64(chosen + block * 8)
        if word == 0:
            continue
        call_values(record, at, row, scratch)
        while word != 0:
            lane = lowest(word)
            word &= word - 1
            source = scratch + lane * width
            part = shift_right(hash_of(source, key_words), shift)
            staged = load_i64(fill + part * 8)
            target = stage + part * slot + (staged & (STAGE - 1)) * width
            copy_64(target, source)
            for offset in range(64, width, 64):
                copy_64(target + offset, source + offset)
            store_32(row_stage + (part * STAGE + (staged & (STAGE - 1))) * 4, block * BLOCK + lane)
            staged += 1
            store_64(fill + part * 8, staged)
            if staged & (STAGE - 1) == 0:
                page = load_i64(current + part * 8)
                if staged & (PAGE - 1) == STAGE & (PAGE - 1):
                    if used == room:
                        return -1
                    if page < 0:
                        store_32(first + part * 4, used)
                    else:
                        store_32(following + page * 4, used)
                    page = used
                    store_64(current + part * 8, page)
                    used += 1
                place = page * PAGE + ((staged - STAGE) & (PAGE - 1))
                source = stage + part * slot
                for offset in range(0, STAGE * width, 64):
                    stream_64(pages + place * width + offset, source + offset)
                stream_64(rows + place * 4, row_stage + part * STAGE * 4)
    for part in range(1 << bits):
        staged = load_i64(fill + part * 8)
        rest = staged & (STAGE - 1)
        if rest > 0:
            page = load_i64(current + part * 8)
            start = staged - rest
            if start & (PAGE - 1) == 0:
                if used == room:
                    return -1
                if page < 0:
                    store_32(first + part * 4, used)
                else:
                    store_32(following + page * 4, used)
                page = used
                used += 1
            place = page * PAGE + (start & (PAGE - 1))
            source = stage + part * slot
            for offset in range(0, rest * width, 8):
                store_64(pages + place * width + offset, load_i64(source + offset))
            for i in range(rest):
                number = load_i32(row_stage + (part * STAGE + i) * 4)
                store_32(rows + (place + i) * 4, number)
        store_64(counts + part * 8, staged)
    fence()
    return used


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
        slot = shift_right(_mix(0, word) << bits, shift)
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


@kernel(9)
def order_range(firsts, lows, highs, parts, base, bitmap, words, ranks, numbers):
    """Give how many groups begin in a range of rows; write the partition of each, in their order.

    Parameters
    ----------
    firsts, lows, highs, parts : int
        int64 a partition: address of its groups' first rows, which ascend, and which of its groups
        begin in the range.
    base, words : int
        The first row of the range, and its rows divided by 64.
    bitmap, ranks : int
        Room for a word of 64 bits and an int64 per 64 rows.
    numbers : int
        uint8 partitions come here.
    """
    clear(bitmap, words * 8)
    for part in range(parts):
        rows = load_i64(firsts + part * 8)
        for group in range(load_i64(lows + part * 8), load_i64(highs + part * 8)):
            row = load_i64(rows + group * 8) - base
            at = bitmap + (row >> 6) * 8
            store_64(at, load_i64(at) | (1 << (row & 63)))
    total = 0
    for word in range(words):
        store_64(ranks + word * 8, total)
        total += popcount(load_i64(bitmap + word * 8))
    for part in range(parts):
        rows = load_i64(firsts + part * 8)
        for group in range(load_i64(lows + part * 8), load_i64(highs + part * 8)):
            row = load_i64(rows + group * 8) - base
            below = load_i64(bitmap + (row >> 6) * 8) & ((1 << (row & 63)) - 1)
            store_8(numbers + load_i64(ranks + (row >> 6) * 8) + popcount(below), part)
    return total


@kernel(6)
def take_ordered(numbers, count, cursors, step, width, target):
    """Write one field of `count` groups side by side, in the order that `numbers` gives partitions.

    Parameters
    ----------
    cursors : int
        An int64 a partition: where the field of its next group lies; moved on by `step` bytes.
    width : int
        Bytes of the field: 1, 2, 4, 8 or a multiple of 8.
    """
    for i in range(count):
        at = cursors + load_u8(numbers + i) * 8
        source = load_i64(at)
        store_64(at, source + step)
        if width == 8:
            store_64(target + i * 8, load_i64(source))
        elif width == 4:
            store_32(target + i * 4, load_i32(source))
        elif width == 2:
            store_16(target + i * 2, load_i32(source))
        elif width == 1:
            store_8(target + i, load_u8(source))
        else:
            for offset in range(0, width, 8):
                store_64(target + i * width + offset, load_i64(source + offset))
    return count
