"""Texts as words of keys, a block at a time, and the length of the longest."""

from numba import njit

from wherry.kernels.layout import BLOCK, INLINE
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    load_i32,
    load_i64,
    load_u8,
    lowest,
    offset_at,
    store_64,
)


@njit(inline="always")
def _word(text, size, end):
    """Give up to 8 bytes of a text as a word, zeros behind them; nothing from `end` on is read."""
    if text + 8 <= end:
        word = load_i64(text)
        return word if size >= 8 else word & ((1 << (8 * size)) - 1)
    word = 0
    for i in range(min(size, 8)):
        word |= load_u8(text + i) << (8 * i)
    return word


@njit(inline="always")
def _pack(text, size, end, target, lane, words):
    for w in range(words):
        left = size - 8 * w
        word = 0 if left <= 0 else _word(text + 8 * w, left, end)
        if w == words - 1:
            word |= size << 56
        store_64(target + w * (BLOCK * 8) + lane * 8, word)


@njit(inline="always")
def _clear(asked, target, words):
    if asked != -1:
        for i in range(words * BLOCK):
            store_64(target + i * 8, 0)


@njit(inline="always")
def _packed(offsets, width, data, end, row, asked, target, words):
    _clear(asked, target, words)
    fits = 0
    start = offset_at(offsets, width, row)
    for lane in range(BLOCK):
        following = offset_at(offsets, width, row + lane + 1)
        size = following - start
        if asked >> lane & 1 != 0 and 0 <= size < 8 * words:
            _pack(data + start, size, end, target, lane, words)
            fits |= 1 << lane
        start = following
    return fits


@kernel(7)
def pack_narrow(offsets, data, end, row, asked, target, words):
    """Write the words of the asked rows' texts; give the bits of those that are short enough.

    Offsets are int32; the data ends at the address `end`.
    """
    return _packed(offsets, 4, data, end, row, asked, target, words)


@kernel(7)
def pack_wide(offsets, data, end, row, asked, target, words):
    """Do what `pack_narrow` does for int64 offsets."""
    return _packed(offsets, 8, data, end, row, asked, target, words)


@kernel(7)
def pack_views(views, buffers, end, row, asked, target, words):
    """Do what `pack_narrow` does for views; `buffers` is a table of data addresses."""
    _clear(asked, target, words)
    fits, rest = 0, asked
    while rest != 0:
        lane = lowest(rest)
        rest &= rest - 1
        view = views + (row + lane) * 16
        size = load_i32(view)
        if size < 0 or size >= 8 * words:
            continue
        text, stop = view + 4, view + 16
        if size > INLINE:
            text = load_i64(buffers + load_i32(view + 8) * 8) + load_i32(view + 12)
            stop = text + size
        _pack(text, size, stop, target, lane, words)
        fits |= 1 << lane
    return fits


@kernel(3)
def longest(texts, width, rows):
    """Give the longest size of texts that stand as offsets of 4 or 8 bytes or as views of 16."""
    most = 0
    if width == 16:
        for row in range(rows):
            most = max(most, load_i32(texts + row * 16))
    elif width == 4:
        for row in range(rows):
            most = max(most, load_i32(texts + row * 4 + 4) - load_i32(texts + row * 4))
    else:
        for row in range(rows):
            most = max(most, load_i64(texts + row * 8 + 8) - load_i64(texts + row * 8))
    return most
