"""Snappy, decompressed with wide copies, every length and offset checked.

Most streams alternate between literals of a few bytes and copies, in no order that a processor can
predict. Away from the ends a step therefore takes both, a literal of 0 to 4 bytes and then a copy,
without a branch that depends on which they are. What is too much of a wide copy is overwritten by
the next, so `SLACK` bytes must be readable behind the source and writable behind the target.
"""

from numba import njit

from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.parquet.lanes import (
    STEP_WINDOW,
    copy_64,
    copy_bytes,
    copy_step,
    literal_step,
    step_room,
    step_sizes,
)
from wherry.kernels.numba.vector import (
    copy_16,
    load_i64,
    load_u8,
    shift_right,
    store_8,
    store_64,
)
from wherry.kernels.parquet_layout import FAULT

_STRIDES = 0xECA89880
"""Nibble `o`: the least multiple of an offset `o` below 8 that is at least 8."""
_NEAR_END = 16
_NEAR_LIMIT = 128


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


@njit(nogil=True, error_model="numpy")
def _literal(at, end, out, limit):
    """Copy the literal at `at`; give where the stream goes on and where the output does."""
    count = (load_u8(at) >> 2) + 1
    at += 1
    if count > 60:
        extra = count - 60
        count = (load_i64(at) & ((1 << (8 * extra)) - 1)) + 1
        at += extra
    if count > end - at or count > limit - out:
        return FAULT.SNAPPY, out
    if count <= 64:
        copy_64(out, at)
    else:
        copy_bytes(out, at, count)
    return at + count, out + count


@njit(nogil=True, error_model="numpy")
def _copy(at, start, out, limit):
    """Do what `_literal` does for a copy of any kind."""
    word = load_i64(at)
    tag, kind = word & 0xFF, word & 3
    count = (tag >> 2) + 1
    if kind == 1:
        count = ((tag >> 2) & 7) + 4
        offset = ((tag & 0xE0) << 3) | ((word >> 8) & 0xFF)
        at += 2
    elif kind == 2:
        offset = (word >> 8) & 0xFFFF
        at += 3
    else:
        offset = (word >> 8) & 0xFFFFFFFF
        at += 5
    if offset == 0 or offset > out - start or count > limit - out:
        return FAULT.SNAPPY, out
    _repeat(out, offset, count)
    return at, out + count


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
    last, full = end - _NEAR_END, limit - _NEAR_LIMIT
    sizes = step_room()
    seen = known = at
    while at < end:
        while out < full:
            if at >= known:
                if at >= last:
                    break
                seen, known = at, min(at + STEP_WINDOW, last)
                for start in range(0, known - seen, 64):
                    step_sizes(seen + start, sizes + start)
            step = load_u8(sizes + (at - seen))
            if step == 0:
                break
            word = load_i64(at)
            at += step
            store_64(out, shift_right(word, 8))
            literal = literal_step(word & 0xFF)
            out += literal & 0xFF
            word = shift_right(word, literal >> 8)
            copy = copy_step(word & 0xFF)
            count = copy & 0xFF
            offset = (word >> 8) & (copy >> 16) | copy & 0x700
            if offset > out - target:
                return FAULT.SNAPPY
            if offset < count:
                if offset == 0:
                    return FAULT.SNAPPY
                _repeat(out, offset, count)
            else:
                copy_16(out, out - offset)
                if count > 16:
                    copy_16(out + 16, out + 16 - offset)
                    copy_16(out + 32, out + 32 - offset)
                    copy_16(out + 48, out + 48 - offset)
            out += count
        if at < end:
            if load_u8(at) & 3 == 0:
                at, out = _literal(at, end, out, limit)
            else:
                at, out = _copy(at, target, out, limit)
            if at < 0:
                return FAULT.SNAPPY
    return 0 if at == end and out == limit else FAULT.SNAPPY


@kernel(4)
def snappy(source, stored, target, size):
    """Do what `decompress` does, called from Python."""
    return decompress(source, stored, target, size)
