"""Texts as words of keys, a block at a time, and the length of the longest."""

from numba import njit

from wherry.kernels.layout import BLOCK, INLINE
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.group_by import mix
from wherry.kernels.numba.substrings import same_bytes
from wherry.kernels.numba.vector import (
    load_i32,
    load_i64,
    load_u8,
    lowest,
    offset_at,
    store_8,
    store_32,
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


@njit(inline="always")
def _place(texts, width, data, row):
    """Give where a text lies and its size; `data` is a table of addresses when `width` is 16."""
    if width < 16:
        start = offset_at(texts, width, row)
        return data + start, offset_at(texts, width, row + 1) - start
    view = texts + row * 16
    size = load_i32(view)
    if size <= INLINE:
        return view + 4, size
    return load_i64(data + load_i32(view + 8) * 8) + load_i32(view + 12), size


@njit(inline="always")
def _hash(text, size):
    if size < 8:
        return mix(size, _word(text, size, text + size))
    mixed, at = size, 0
    while at + 8 < size:
        mixed = mix(mixed, load_i64(text + at))
        at += 8
    # The last word may overlap the one before it.
    return mix(mixed, load_i64(text + size - 8))


@kernel(12)
def number(texts, width, data, valid, begins, ends, codes, table, size, seen, capacity, progress):
    """Give texts numbers in order of appearance until there might be more than there is room for.

    Parameters
    ----------
    valid : int
        Validity bits from row 0 on, 0 if no text is null; codes of nulls are 0.
    codes, ends, begins : int
        int32 for each row, written from row `begins` to before row `ends`.
    texts, width, data : int
        Offsets of `width` 4 or 8 and bytes; views of 16 bytes and a table of addresses.
    table, size : int
        int32 numbers, -1 for none; `size` is a power of two and more than `capacity`.
    seen, capacity : int
        Address, size and hash of each text, and how many of them there is room for.
    progress : int
        The number of texts so far.

    Returns
    -------
    int
        The next row; less than `ends` when the caller must make room and call again.
    """
    count = load_i64(progress)
    row = begins
    while row < ends and count < capacity:
        code = 0
        if valid == 0 or load_u8(valid + (row >> 3)) >> (row & 7) & 1 != 0:
            text, length = _place(texts, width, data, row)
            hashed = _hash(text, length)
            slot = hashed & (size - 1)
            while True:
                code = load_i32(table + slot * 4)
                if code < 0:
                    code = count
                    count += 1
                    store_32(table + slot * 4, code)
                    store_64(seen + code * 24, text)
                    store_64(seen + code * 24 + 8, length)
                    store_64(seen + code * 24 + 16, hashed)
                    break
                known = seen + code * 24
                same = load_i64(known + 16) == hashed and load_i64(known + 8) == length
                if same and same_bytes(load_i64(known), text, length):
                    break
                slot = (slot + 1) & (size - 1)
        store_32(codes + row * 4, code)
        row += 1
    store_64(progress, count)
    return row


@kernel(4)
def renumber(table, size, seen, count):
    """Enter `count` texts into an empty table of `size` slots."""
    for code in range(count):
        slot = load_i64(seen + code * 24 + 16) & (size - 1)
        while load_i32(table + slot * 4) >= 0:
            slot = (slot + 1) & (size - 1)
        store_32(table + slot * 4, code)
    return count


@kernel(4)
def spell(seen, count, offsets, data):
    """Write texts side by side to `data`, which has room, and where each begins as int64."""
    at = 0
    for code in range(count):
        store_64(offsets + code * 8, at)
        text, size = load_i64(seen + code * 24), load_i64(seen + code * 24 + 8)
        copied = 0
        while copied + 8 <= size:
            store_64(data + at + copied, load_i64(text + copied))
            copied += 8
        while copied < size:
            store_8(data + at + copied, load_u8(text + copied))
            copied += 1
        at += size
    store_64(offsets + count * 8, at)
    return at
