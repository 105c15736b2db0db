"""From the values of a page to its rows: nulls between them, rows left out, and how they lie."""

from numba import njit

from wherry.kernels.numba.parquet.lanes import (
    bytes_to_bits,
    copy_bytes,
    narrow_1,
    narrow_2,
    spread_1,
    spread_2,
    spread_4,
    spread_8,
    spread_16,
)
from wherry.kernels.numba.parquet.levels import bits_at, put_bits
from wherry.kernels.numba.vector import (
    BLOCK,
    compress_bits,
    copy_16,
    load_i64,
    popcount,
    shift_right,
    store_32,
    store_64,
)
from wherry.kernels.numba.widths import SPARSE, append_values, compress_values

_SHORT = 16


@njit(inline="always")
def _some(bits, row, left):
    """Give the bits of the block of rows at `row`, of which there are `left`."""
    word = bits_at(bits, row)
    return word if left >= BLOCK else word & ((1 << left) - 1)


@njit(nogil=True, error_model="numpy")
def spread_rows(width, source, valid, row, count, target):
    """Write `count` rows: the next value where the bit is set, zeros elsewhere."""
    lanes = 64 // width
    ones = -1 if lanes == 64 else (1 << lanes) - 1
    for start in range(0, count, lanes):
        word = bits_at(valid, row + start) & ones
        if count - start < lanes:
            word &= (1 << (count - start)) - 1
        place = target + start * width
        if width == 8:
            spread_8(place, source, word)
        elif width == 4:
            spread_4(place, source, word)
        elif width == 16:
            spread_16(place, source, word)
        elif width == 2:
            spread_2(place, source, word)
        else:
            spread_1(place, source, word)
        source += popcount(word) * width
    return 0


@njit(nogil=True, error_model="numpy")
def keep_rows(width, source, kept, row, count, target):
    """Write the rows whose bits are set, `row` being the bit of the first of `count` rows."""
    for start in range(0, count, BLOCK):
        word = _some(kept, row + start, count - start)
        chosen = popcount(word)
        at = source + start * width
        if chosen > SPARSE and count - start >= BLOCK:
            compress_values(width, target, at, word)
        else:
            append_values(width, target, at, word)
        target += chosen * width
    return 0


@njit(inline="always")
def _put_block(bits, row, word, count):
    """Put up to 64 bits in two pieces, as `put_bits` takes no more than 56."""
    put_bits(bits, row, word, min(count, 32))
    if count > 32:
        put_bits(bits, row + 32, shift_right(word, 32), count - 32)


@njit(nogil=True, error_model="numpy")
def keep_bits(source, kept, row, count, target, written):
    """Write those of `count` bits whose rows are kept, from bit `written` on; give the set ones."""
    ones = 0
    for start in range(0, count, BLOCK):
        word = _some(kept, row + start, count - start)
        piece = compress_bits(bits_at(source, start), word)
        chosen = popcount(word)
        _put_block(target, written, piece, chosen)
        written += chosen
        ones += popcount(piece)
    return ones


@njit(nogil=True, error_model="numpy")
def put_flags(source, count, target, written):
    """Write `count` bytes as bits, from bit `written` on."""
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        _put_block(target, written + start, bytes_to_bits(source + start), size)
    return 0


@njit(nogil=True, error_model="numpy")
def put_codes(width, source, count, target):
    """Write int32 codes as indices of `width` bytes, 1 or 2."""
    for i in range(0, count, 16):
        if width == 1:
            narrow_1(source + i * 4, target + i)
        else:
            narrow_2(source + i * 4, target + i * 2)
    return 0


@njit(nogil=True, error_model="numpy")
def text_size(spans, count):
    """Give the bytes of `count` texts in all."""
    total = 0
    for i in range(count):
        total += load_i64(spans + i * 8) & 0xFFFFFFFF
    return total


@njit(nogil=True, error_model="numpy")
def put_texts(spans, count, base, offset_width, offsets, used, target):
    """Write `count` texts from `used` on, and where each begins and the last ends."""
    for i in range(count):
        span = load_i64(spans + i * 8)
        size, source, place = span & 0xFFFFFFFF, base + (span >> 32), target + used
        if offset_width == 4:
            store_32(offsets + i * 4, used)
        else:
            store_64(offsets + i * 8, used)
        copy_16(place, source)
        if size > _SHORT:
            if size <= 4 * _SHORT:
                for at in range(_SHORT, size, _SHORT):
                    copy_16(place + at, source + at)
            else:
                copy_bytes(place, source, size)
        used += size
    if offset_width == 4:
        store_32(offsets + count * 4, used)
    else:
        store_64(offsets + count * 8, used)
    return used
