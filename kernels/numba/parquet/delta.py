"""DELTA_BINARY_PACKED: differences, packed in small blocks that each have a width of their own."""

from numba import njit

from wherry.kernels.numba.parquet.levels import unpacked
from wherry.kernels.numba.parquet.pages import varint, zigzag
from wherry.kernels.numba.vector import load_i32, load_i64, load_u8, shift_right, store_32, store_64
from wherry.kernels.parquet_layout import FAULT

_LARGEST_BLOCK = 1 << 16
STRIP = 32
"""Differences unpacked at once; the format makes the smallest block a multiple of it."""


@njit(nogil=True, error_model="numpy")
def _put(width, target, row, value):
    if width == 4:
        store_32(target + row * 4, value)
    else:
        store_64(target + row * 8, value)


@njit(nogil=True, error_model="numpy")
def _wide(bits, source, i):
    """Give value `i` of those of 33 to 64 bits: too rare to be unpacked by vectors."""
    bit = i * bits
    at, shift = source + (bit >> 3), bit & 7
    value = shift_right(load_i64(at), shift)
    if shift > 0:
        value |= load_u8(at + 8) << (64 - shift)
    return value if bits == 64 else value & ((1 << bits) - 1)


@njit(nogil=True, error_model="numpy")
def differences(at, end, width, count, strip, target):
    """Write `count` integers of `width` (4 or 8) bytes; give 0 or a fault.

    `strip` is room for `STRIP` int32. Sums wrap, as the format says.
    """
    block, at = varint(at, end)
    parts, at = varint(at, end) if at > 0 else (0, at)
    total, at = varint(at, end) if at > 0 else (0, at)
    first, at = varint(at, end) if at > 0 else (0, at)
    if at < 0 or not 0 < block <= _LARGEST_BLOCK or not 0 < parts <= block or total != count:
        return FAULT.DELTA_HEADER
    each = block // parts
    if each * parts != block or each & (STRIP - 1) != 0:
        return FAULT.DELTA_HEADER
    value = zigzag(first)
    if count > 0:
        _put(width, target, 0, value)
    done = 1
    while done < count:
        least, at = varint(at, end)
        if at < 0 or parts > end - at:
            return FAULT.VALUES_END
        least = zigzag(least)
        widths = at
        at += parts
        for part in range(parts):
            if done >= count:
                break
            bits = load_u8(widths + part)
            wanted = min(each, count - done)
            if bits > 64 or (wanted * bits + 7) >> 3 > end - at:
                return FAULT.VALUES_END
            for start in range(0, wanted, STRIP):
                size = min(STRIP, wanted - start)
                source = at + (start >> 3) * bits
                if bits > 32:
                    for i in range(size):
                        value += least + _wide(bits, source, i)
                        _put(width, target, done + i, value)
                elif bits > 0:
                    unpacked(bits, source, size, strip)
                    for i in range(size):
                        value += least + (load_i32(strip + i * 4) & 0xFFFFFFFF)
                        _put(width, target, done + i, value)
                else:
                    for i in range(size):
                        value += least
                        _put(width, target, done + i, value)
                done += size
            at += min((each * bits) >> 3, end - at)
    return 0
