"""Groups of rows whose keys ascend: equal keys are neighbours, so nothing is hashed.

Keys are compared as lists of signed words, in the order the words have: any order will do, because
strictly ascending keys are different keys.
"""

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from wherry.kernels.layout import BLOCK, RUN_ROOM
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    call_mask,
    call_scatter,
    call_values,
    compress_8,
    load_i64,
    load_u8,
    lowest,
    popcount,
    store_8,
    store_16,
    store_32,
    store_64,
)

_WORD = ir.IntType(64)
_ROWS = ir.VectorType(_WORD, BLOCK)


def _comparer(compare):
    """Give an intrinsic that compares 64 words with those before them; bits of where it holds."""

    @intrinsic
    def bits(typing_context, address):
        def code(context, builder, signature, arguments):
            def words(offset):
                at = builder.add(arguments[0], ir.Constant(_WORD, offset))
                found = builder.load(builder.inttoptr(at, ir.PointerType(_ROWS)))
                found.align = 1
                return found

            return builder.bitcast(compare(builder, words(0), words(-8)), _WORD)

        return types.int64(types.int64), code

    return bits


_other = _comparer(lambda builder, word, before: builder.icmp_signed("!=", word, before))
_smaller = _comparer(lambda builder, word, before: builder.icmp_signed("<", word, before))


@njit(inline="always")
def _packed(keys, words, word, dense):
    """Write the keys of a block's chosen rows side by side, word by word."""
    for w in range(words):
        target = dense + w * RUN_ROOM
        compress_8(target, keys + w * (BLOCK * 8), word)


@njit(inline="always")
def _compared(words, dense, rows, first):
    """Give bits of the rows whose key is another than the row's before, and of smaller ones."""
    other = smaller = 0
    for i in range(words):
        at = dense + (words - 1 - i) * RUN_ROOM
        unequal = _other(at)
        smaller = _smaller(at) | (smaller & ~unequal)
        other |= unequal
    valid = -1 if rows == BLOCK else (1 << rows) - 1
    if first:
        other |= 1
        smaller &= ~1
    return other & valid, smaller & valid


@njit(inline="always")
def _remember(words, dense, rows):
    """Put the last key where the next block's first is compared with it."""
    for w in range(words):
        at = dense + w * RUN_ROOM
        store_64(at - 8, load_i64(at + (rows - 1) * 8))


@kernel(13)
def group_runs(
    mask,
    keys,
    runs,
    context,
    blocks,
    tail,
    tail_rows,
    words,
    seen,
    capacity,
    columns,
    scratch,
    progress,
):
    """Group rows as long as their keys ascend and the groups have room.

    Parameters
    ----------
    runs : int
        Address of `runs(context, row, mask, starts, columns)`, or 0 to look only whether keys
        ascend.
    seen, capacity : int
        As for `group_by.hashed`; there is room for a vector behind `seen`.
    columns : int
        What `runs` is given: int64 groups so far, then where each field of states lies. Before and
        behind each there is room for a vector.
    scratch : int
        Room for a block of int64 and RUN_ROOM bytes a word, and for RUN_ROOM bytes.
    progress : int
        Three int64 that survive calls: the next block, groups so far, rows passed so far.

    Returns
    -------
    int
        0 if there must be room for 64 more groups; otherwise 1: every row is done, or keys do not
        ascend in the next block, which `progress` tells.
    """
    block, groups, selected = load_i64(progress), load_i64(progress + 8), load_i64(progress + 16)
    dense = scratch + words * (BLOCK * 8) + BLOCK
    if groups > 0:
        for w in range(words):
            store_64(dense + w * RUN_ROOM - 8, load_i64(seen + ((groups - 1) * words + w) * 8))
    count = blocks + (1 if tail_rows > 0 else 0)
    done = 1
    while block < count:
        if groups + BLOCK > capacity:
            done = 0
            break
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        if mask != 0:
            word &= call_mask(mask, at, row)
        block += 1
        if word == 0:
            continue
        rows = popcount(word)
        call_values(keys, at, row, scratch)
        _packed(scratch, words, word, dense)
        starts, smaller = _compared(words, dense, rows, groups == 0)
        if smaller != 0:
            block -= 1
            break
        if runs != 0:
            store_64(columns, groups)
            call_scatter(runs, at, row, word, starts, columns)
        if words == 1:
            compress_8(seen + groups * 8, dense, starts)
            groups += popcount(starts)
        else:
            while starts != 0:
                lane = lowest(starts)
                starts &= starts - 1
                for w in range(words):
                    key = load_i64(dense + w * RUN_ROOM + lane * 8)
                    store_64(seen + (groups * words + w) * 8, key)
                groups += 1
        _remember(words, dense, rows)
        selected += rows
    store_64(progress, block)
    store_64(progress + 8, groups)
    store_64(progress + 16, selected)
    return done


@kernel(8)
def ascending(keys, context, blocks, tail, tail_rows, words, scratch, edges):
    """Tell whether every key is larger than the one before; write the first and last to `edges`.

    There is at least one row. `scratch` is as for `group_runs`.
    """
    dense = scratch + words * (BLOCK * 8) + BLOCK
    for block in range(blocks + (1 if tail_rows > 0 else 0)):
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        call_values(keys, at, row, scratch)
        _packed(scratch, words, word, dense)
        rows = popcount(word)
        other, smaller = _compared(words, dense, rows, block == 0)
        if smaller != 0 or popcount(other) != rows:
            return 0
        for w in range(words):
            if block == 0:
                store_64(edges + w * 8, load_i64(dense + w * RUN_ROOM))
            store_64(edges + (words + w) * 8, load_i64(dense + w * RUN_ROOM + (rows - 1) * 8))
        _remember(words, dense, rows)
    return 1


@kernel(5)
def take_field(source, step, count, width, target):
    """Write values of 1, 2, 4 or a multiple of 8 bytes, `step` bytes apart, side by side."""
    if width == 8:
        for i in range(count):
            store_64(target + i * 8, load_i64(source + i * step))
    elif width == 4:
        for i in range(count):
            store_32(target + i * 4, load_i64(source + i * step))
    elif width == 2:
        for i in range(count):
            store_16(target + i * 2, load_i64(source + i * step))
    elif width == 1:
        for i in range(count):
            store_8(target + i, load_u8(source + i * step))
    else:
        for i in range(count):
            for offset in range(0, width, 8):
                store_64(target + i * width + offset, load_i64(source + i * step + offset))
    return count
