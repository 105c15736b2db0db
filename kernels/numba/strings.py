"""Tests of text, a block at a time: which of 64 texts compare so with a constant, or match parts.

A constant is an address and a length. Parts are how `like` without wildcards for single characters
reads: a count, the length of each, then their bytes; the first is a prefix, the last a suffix, the
others stand between them in order. One part alone is equality.
"""

from numba import njit

from wherry.kernels.layout import (
    EQUAL,
    GREATER,
    INLINE,
    LESS,
    LESS_EQUAL,
    PARTS,
    UNEQUAL,
)
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import load_i32, load_i64, load_u8, lowest, offset_at


@njit(inline="always")
def _same(left, right, size):
    at = 0
    while at + 8 <= size:
        if load_i64(left + at) != load_i64(right + at):
            return False
        at += 8
    while at < size:
        if load_u8(left + at) != load_u8(right + at):
            return False
        at += 1
    return True


@njit(nogil=True, error_model="numpy")
def _order(left, left_size, right, right_size):
    """Give a negative number, 0 or a positive one: bytes compared as in a dictionary."""
    for i in range(min(left_size, right_size)):
        difference = load_u8(left + i) - load_u8(right + i)
        if difference != 0:
            return difference
    return left_size - right_size


@njit(nogil=True, error_model="numpy")
def _find(text, size, part, part_size):
    """Give where `part` first stands in the text, or -1."""
    if part_size == 0:
        return 0
    first = load_u8(part)
    for i in range(size - part_size + 1):
        if load_u8(text + i) == first and _same(text + i, part, part_size):
            return i
    return -1


@njit(nogil=True, error_model="numpy")
def _matches(text, size, parts):
    count = load_i64(parts)
    part = parts + 8 + count * 8
    part_size = load_i64(parts + 8)
    if count == 1:
        return size == part_size and _same(text, part, size)
    if size < part_size or not _same(text, part, part_size):
        return 0
    text, size, part = text + part_size, size - part_size, part + part_size
    for i in range(1, count - 1):
        part_size = load_i64(parts + 8 + i * 8)
        at = _find(text, size, part, part_size)
        if at < 0:
            return 0
        text, size, part = text + at + part_size, size - at - part_size, part + part_size
    part_size = load_i64(parts + count * 8)
    return size >= part_size and _same(text + size - part_size, part, part_size)


@njit(nogil=True, error_model="numpy")
def _holds(text, size, constant, constant_size, test):
    if test == PARTS:
        return _matches(text, size, constant)
    if test <= UNEQUAL:
        same = size == constant_size and _same(text, constant, size)
        return same == (test == EQUAL)
    order = _order(text, size, constant, constant_size)
    if test == LESS:
        return order < 0
    if test == LESS_EQUAL:
        return order <= 0
    if test == GREATER:
        return order > 0
    return order >= 0


@njit(inline="always")
def _tested(offsets, width, data, row, needed, constant, constant_size, test):
    found = 0
    while needed != 0:
        lane = lowest(needed)
        needed &= needed - 1
        start = offset_at(offsets, width, row + lane)
        size = offset_at(offsets, width, row + lane + 1) - start
        found |= (1 if _holds(data + start, size, constant, constant_size, test) else 0) << lane
    return found


@kernel(7)
def test_narrow(offsets, data, row, needed, constant, constant_size, test):
    """Give the bits of the needed rows, from `row` on, that pass; offsets are int32."""
    return _tested(offsets, 4, data, row, needed, constant, constant_size, test)


@kernel(7)
def test_wide(offsets, data, row, needed, constant, constant_size, test):
    """Do what `test_narrow` does for int64 offsets."""
    return _tested(offsets, 8, data, row, needed, constant, constant_size, test)


@kernel(7)
def test_views(views, buffers, row, needed, constant, constant_size, test):
    """Do what `test_narrow` does for views; `buffers` is a table of data addresses."""
    found = 0
    while needed != 0:
        lane = lowest(needed)
        needed &= needed - 1
        view = views + (row + lane) * 16
        size = load_i32(view)
        text = view + 4
        if size > INLINE:
            text = load_i64(buffers + load_i32(view + 8) * 8) + load_i32(view + 12)
        found |= (1 if _holds(text, size, constant, constant_size, test) else 0) << lane
    return found
