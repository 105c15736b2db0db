"""Run-length and bit-packed hybrids: definition levels as Arrow's validity, and integers."""

from numba import njit

from wherry.kernels.numba.parquet.lanes import fill_32, unpack_32
from wherry.kernels.numba.parquet.pages import varint
from wherry.kernels.numba.vector import load_i64, load_u8, popcount, shift_right, store_64
from wherry.kernels.parquet_layout import FAULT

_PIECE = 56
"""Bits put down at once: with the bits before them in their first byte they fit a word."""


@njit(inline="always")
def bits_at(bits, row):
    """Give the 64 bits from bit `row` on; reads up to 9 bytes there."""
    at, shift = bits + (row >> 3), row & 7
    if shift == 0:
        return load_i64(at)
    return shift_right(load_i64(at), shift) | (load_u8(at + 8) << (64 - shift))


@njit(inline="always")
def put_bits(bits, row, word, count):
    """Put `count` bits, at most 56, behind the `row` bits before; may overwrite 8 bytes."""
    at, shift = bits + (row >> 3), row & 7
    before = load_u8(at) & ((1 << shift) - 1)
    store_64(at, before | ((word & ((1 << count) - 1)) << shift))


@njit(nogil=True, error_model="numpy")
def count_bits(bits, row, count):
    """Give how many of `count` bits from `row` on are set."""
    ones = 0
    for done in range(0, count, 64):
        word = bits_at(bits, row + done)
        if count - done < 64:
            word &= (1 << (count - done)) - 1
        ones += popcount(word)
    return ones


@njit(nogil=True, error_model="numpy")
def validity(at, end, count, bits, row):
    """Write `count` levels of 0 or 1 as bits from bit `row` on; give how many are 1, or a fault."""
    done = ones = 0
    while done < count:
        header, at = varint(at, end)
        if at < 0:
            return FAULT.LEVELS
        size = shift_right(header, 1)
        packed = header & 1 == 1
        if packed:
            size = min(size, (count - done + 7) >> 3)
            if size > end - at:
                return FAULT.LEVELS
            size = min(size * 8, count - done)
        else:
            size = min(size, count - done)
            if at >= end or load_u8(at) > 1:
                return FAULT.LEVELS
        for start in range(0, size, _PIECE):
            piece = min(size - start, _PIECE)
            word = load_i64(at + (start >> 3)) if packed else -load_u8(at)
            word &= (1 << piece) - 1
            put_bits(bits, row + done + start, word, piece)
            ones += popcount(word)
        done += size
        at += min(shift_right(header, 1), end - at) if packed else 1
    return ones


@njit(nogil=True, error_model="numpy")
def unpacked(width, source, count, target):
    """Write `count` values of `width` bits, 1 to 32, as int32; in one place, as it is much code."""
    unpack_32(width, source, count, target)
    return 0


@njit(nogil=True, error_model="numpy")
def integers(at, end, width, count, target):
    """Write `count` numbers of `width` bits, at most 32, as int32; give 0 or a fault."""
    if width > 32:
        return FAULT.CODE_WIDTH
    done = 0
    if width == 0:
        fill_32(0, count, target)
        return 0
    each = (width + 7) >> 3
    while done < count:
        header, at = varint(at, end)
        if at < 0:
            return FAULT.VALUES_END
        size = shift_right(header, 1)
        if header & 1 == 1:
            held = min(size, (count - done + 7) >> 3) * 8
            wanted = min(held, count - done)
            if (wanted * width + 7) >> 3 > end - at:
                return FAULT.VALUES_END
            unpacked(width, at, wanted, target + done * 4)
            done += wanted
            at += min(min(size, 1 << 32) * width, end - at)
        else:
            if each > end - at:
                return FAULT.VALUES_END
            wanted = min(size, count - done)
            fill_32(load_i64(at) & ((1 << (8 * each)) - 1), wanted, target + done * 4)
            done += wanted
            at += each
    return 0
