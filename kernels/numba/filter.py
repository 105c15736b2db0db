"""Selection of rows, and what is written for the rows that passed.

A selection is a word of 64 bits per block of 64 rows; the bits behind the last row are 0. Sparse
blocks are copied row by row, so that only the cache lines of rows that passed are touched; dense
ones go through a compress-store, which may overwrite `vector.SLACK` bytes behind the destination.
"""

from numba import njit

from wherry.kernels.layout import BLOCK
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    call_mask,
    call_values,
    compress_bits,
    load_i64,
    load_u8,
    lowest,
    offset_at,
    popcount,
    shift_right,
    store_32,
    store_64,
)
from wherry.kernels.numba.widths import (
    SPARSE,
    append_values,
    compress_values,
    copy_text,
    copy_value,
)


@kernel(6)
def select(mask, context, blocks, tail, tail_rows, words):
    """Give how many rows pass, having written the selection's words."""
    selected = 0
    for block in range(blocks):
        word = call_mask(mask, context, block * BLOCK)
        store_64(words + block * 8, word)
        selected += popcount(word)
    if tail_rows > 0:
        word = call_mask(mask, tail, 0) & ((1 << tail_rows) - 1)
        store_64(words + blocks * 8, word)
        selected += popcount(word)
    return selected


@kernel(4)
def narrow(words, count, passed, target):
    """Write which of the selected rows pass; `passed` has a bit for each of them, in order.

    `passed` is readable a word behind its last bit. `target` may be `words`.
    """
    at = 0
    for block in range(count):
        word = load_i64(words + block * 8)
        held = popcount(word)
        shift = at & (BLOCK - 1)
        bits = shift_right(load_i64(passed + (at >> 6) * 8), shift)
        if shift + held > BLOCK:
            bits |= load_i64(passed + (at >> 6) * 8 + 8) << (BLOCK - shift)
        at += held
        if held < BLOCK:
            left = 0
            while word != 0 and bits != 0:
                if bits & 1:
                    left |= word & -word
                word &= word - 1
                bits = shift_right(bits, 1)
            bits = left
        store_64(target + block * 8, bits)


@kernel(4)
def row_numbers(words, count, target, most):
    """Write the numbers of the first `most` selected rows as int64; give how many there were."""
    written = 0
    for block in range(count):
        word = load_i64(words + block * 8)
        while word != 0 and written < most:
            store_64(target + written * 8, block * BLOCK + lowest(word))
            word &= word - 1
            written += 1
    return written


@kernel(6)
def compact(width, source, words, blocks, tail_rows, target):
    """Write the selected values of `width` bytes; give how many."""
    start = target
    for block in range(blocks):
        word = load_i64(words + block * 8)
        count = popcount(word)
        at = source + block * (BLOCK * width)
        if count > SPARSE:
            compress_values(width, target, at, word)
        else:
            append_values(width, target, at, word)
        target += count * width
    if tail_rows > 0:
        word = load_i64(words + blocks * 8)
        append_values(width, target, source + blocks * (BLOCK * width), word)
        target += popcount(word) * width
    return (target - start) // width


@njit(inline="always")
def _part_word(address, rows):
    """Read the bits of `rows` rows at `address`, byte by byte: there may be no more bytes."""
    word = 0
    for byte in range((rows + 7) // 8):
        word |= load_u8(address + byte) << (8 * byte)
    return word


@kernel(5)
def compact_bits(source, words, blocks, tail_rows, target):
    """Write the selected bits of a bitmap; give how many of them are set."""
    held = fill = ones = 0
    for block in range(blocks + (1 if tail_rows > 0 else 0)):
        word = load_i64(words + block * 8)
        at = source + block * 8
        bits = load_i64(at) if block < blocks else _part_word(at, tail_rows)
        piece = compress_bits(bits, word)
        count = popcount(word)
        ones += popcount(piece)
        held |= piece << fill
        if fill + count >= BLOCK:
            store_64(target, held)
            target += 8
            held = shift_right(piece, BLOCK - fill) if fill > 0 else 0
            fill -= BLOCK
        fill += count
    if fill > 0:
        store_64(target, held)
    return ones


@kernel(10)
def compute(values, context, blocks, tail, tail_rows, words, width, target, valid, scratch):
    """Write computed values of the selected rows, and their validity where `valid` is not 0.

    Parameters
    ----------
    values : int
        Address of the block function.
    words : int
        The selection; 0 selects every row.
    width : int
        Bytes of a value; 0 means bits.
    scratch : int
        Room for a block of values.

    Returns
    -------
    int
        How many of the written values are valid.
    """
    ones = held = bits = fill = 0
    at = target
    for block in range(blocks + (1 if tail_rows > 0 else 0)):
        word = -1 if block < blocks else (1 << tail_rows) - 1
        if words != 0:
            word = load_i64(words + block * 8)
        if word == 0:
            continue
        count = popcount(word)
        dense = word == -1 and width != 0
        place = at if dense else scratch
        found = call_values(
            values,
            context if block < blocks else tail,
            block * BLOCK if block < blocks else 0,
            place,
        )
        if width == 0:
            piece = compress_bits(load_i64(scratch), word)
            bits |= piece << fill
        elif not dense:
            if count > SPARSE:
                compress_values(width, at, scratch, word)
            else:
                append_values(width, at, scratch, word)
        at += count * width
        known = compress_bits(found, word)
        ones += popcount(known)
        held |= known << fill
        if fill + count >= BLOCK:
            if valid != 0:
                store_64(valid, held)
                valid += 8
            held = shift_right(known, BLOCK - fill) if fill > 0 else 0
            if width == 0:
                store_64(at, bits)
                at += 8
                bits = shift_right(piece, BLOCK - fill) if fill > 0 else 0
            fill -= BLOCK
        fill += count
    if fill > 0 and valid != 0:
        store_64(valid, held)
    if fill > 0 and width == 0:
        store_64(at, bits)
    return ones


@kernel(5)
def gather(width, source, rows, count, target):
    """Write the values of `width` bytes at the given row numbers."""
    for i in range(count):
        copy_value(width, target + i * width, source + load_i64(rows + i * 8) * width)
    return count


@kernel(6)
def gather_parts(width, sources, parts, rows, count, target):
    """Write the values of `width` bytes at the given rows of the given parts.

    Parameters
    ----------
    sources, parts : int
        int64 address of each part's first value; int64 part of each row.
    """
    for i in range(count):
        source = load_i64(sources + load_i64(parts + i * 8) * 8)
        copy_value(width, target + i * width, source + load_i64(rows + i * 8) * width)
    return count


@kernel(5)
def gather_bytes(width, source, rows, count, target):
    """Do what `gather` does for values of any width."""
    for i in range(count):
        target = copy_text(target, source + load_i64(rows + i * 8) * width, width)
    return count


@kernel(4)
def gather_bits(source, rows, count, target):
    """Write the bits at the given row numbers; give how many of them are set."""
    held = ones = 0
    for i in range(count):
        row = load_i64(rows + i * 8)
        bit = (load_u8(source + (row >> 3)) >> (row & 7)) & 1
        held |= bit << (i & 63)
        ones += bit
        if i & 63 == 63 or i == count - 1:
            store_64(target + (i >> 6) * 8, held)
            held = 0
    return ones


@kernel(5)
def gather_offsets(offsets, width, rows, count, target):
    """Write the offsets of the texts at the given row numbers; give their bytes in all."""
    total = 0
    for i in range(count + 1):
        if width == 4:
            store_32(target + i * 4, total)
        else:
            store_64(target + i * 8, total)
        if i < count:
            row = load_i64(rows + i * 8)
            total += offset_at(offsets, width, row + 1) - offset_at(offsets, width, row)
    return total


@kernel(6)
def gather_text(offsets, width, data, rows, count, target):
    """Write the bytes of the texts at the given row numbers, one after another."""
    for i in range(count):
        row = load_i64(rows + i * 8)
        start, end = offset_at(offsets, width, row), offset_at(offsets, width, row + 1)
        target = copy_text(target, data + start, end - start)
    return count
