"""Snappy, decompressed with wide copies, every length and offset checked.

An element is copied whole, 64 bytes at a time; what is too much is overwritten by the next. So
`SLACK` bytes must be readable behind the source and writable behind the target.
"""

from numba import njit

from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.parquet.lanes import copy_64, copy_bytes
from wherry.kernels.numba.vector import copy_16, load_i64, load_u8, shift_right, store_8, store_64
from wherry.kernels.parquet_layout import FAULT

_STRIDES = 0xECA89880
"""Nibble `o`: the least multiple of an offset `o` below 8 that is at least 8."""


@njit(inline="always")
def _repeat(target, offset, size):
    """Copy `size` bytes, at most 64, from `offset` before `target`, where they may overlap."""
    if offset >= 16:
        for at in range(0, size, 16):
            copy_16(target + at, target + at - offset)
    elif offset >= 8:
        for at in range(0, size, 8):
            store_64(target + at, load_i64(target + at - offset))
    else:
        for at in range(8):
            store_8(target + at, load_u8(target + at - offset))
        stride = (_STRIDES >> (4 * offset)) & 15
        for at in range(8, size, 8):
            store_64(target + at, load_i64(target + at - stride))


@njit(inline="always")
def _copy(target, source, count):
    if count <= 64:
        copy_64(target, source)
    else:
        copy_bytes(target, source, count)


@njit(nogil=True, error_model="numpy")
def decompress(source, stored, target, size):
    """Give 0, or `FAULT.SNAPPY` unless exactly `size` bytes came of all `stored` ones."""
    at, end, out, limit = source, source + stored, target, target + size
    length = shift = 0
    while True:
        if at >= end or shift > 28:
            return FAULT.SNAPPY
        byte = load_u8(at)
        at += 1
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    if length != size:
        return FAULT.SNAPPY
    while at < end:
        word = load_i64(at)
        tag = word & 0xFF
        if tag & 3 == 0:
            count = (tag >> 2) + 1
            if count <= 16:
                if count >= end - at or count > limit - out:
                    return FAULT.SNAPPY
                copy_16(out, at + 1)
                out += count
                at += count + 1
                # A copy follows a short literal, as a rule, and lies in the same word.
                if count > 4 or at >= end:
                    continue
                word = shift_right(word, 2 * tag + 16)
                tag = word & 0xFF
                if tag & 3 == 0:
                    continue
            else:
                at += 1
                if count > 60:
                    extra = count - 60
                    count = (load_i64(at) & ((1 << (8 * extra)) - 1)) + 1
                    at += extra
                if count > end - at or count > limit - out:
                    return FAULT.SNAPPY
                _copy(out, at, count)
                out += count
                at += count
                continue
        kind = tag & 3
        if kind == 3:
            count = (tag >> 2) + 1
            offset = load_i64(at + 1) & 0xFFFFFFFF
            at += 5
        else:
            # Short and long offsets alternate at random: choose without a branch.
            near = kind & 1
            count = (tag >> 2) + 1
            offset = (word >> 8) & 0xFFFF
            count = count + 0 if near == 0 else ((tag >> 2) & 7) + 4
            offset = offset if near == 0 else (((tag & 0xE0) << 3) | (offset & 0xFF))
            at += kind + 1
        if offset == 0 or offset > out - target or count > limit - out:
            return FAULT.SNAPPY
        if offset < count:
            _repeat(out, offset, count)
        elif count <= 16:
            copy_16(out, out - offset)
        else:
            copy_64(out, out - offset)
        out += count
    return 0 if at == end and out == limit else FAULT.SNAPPY


@kernel(4)
def snappy(source, stored, target, size):
    """Do what `decompress` does, called from Python."""
    return decompress(source, stored, target, size)
