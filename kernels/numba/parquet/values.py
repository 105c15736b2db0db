"""The values of a page, nulls left out: from any encoding to the width they have in Arrow."""

from numba import njit

from wherry.kernels.numba.parquet.lanes import (
    big_endian_8,
    big_endian_16,
    bits_to_bytes,
    copy_bytes,
    largest_i1,
    largest_i2,
    largest_i4,
    largest_i8,
    largest_u1,
    largest_u2,
    largest_u4,
    largest_u8,
    least_i1,
    least_i2,
    least_i4,
    least_i8,
    least_u1,
    least_u2,
    least_u4,
    least_u8,
    look_up_1,
    look_up_4,
    look_up_8,
    look_up_wide,
    narrow_1,
    narrow_2,
    outside,
    widen_4,
    widen_8,
)
from wherry.kernels.numba.vector import (
    BLOCK,
    copy_16,
    load_i16,
    load_i32,
    load_i64,
    load_u8,
    store_8,
    store_16,
    store_32,
    store_64,
)
from wherry.kernels.parquet_layout import ENCODING, FAULT, FORM

_INLINE = 12


@njit(inline="always")
def is_coded(encoding):
    """Say whether values are indices of the dictionary."""
    return encoding == ENCODING.DICTIONARY or encoding == ENCODING.PLAIN_DICTIONARY


@njit(nogil=True, error_model="numpy")
def converted(form, stored_width, width, source, count, target):
    """Write `count` stored values in the form and width they have in Arrow."""
    if form == FORM.SAME:
        copy_bytes(target, source, count * width)
    elif form == FORM.NARROW:
        for i in range(0, count, 16):
            if width == 1:
                narrow_1(source + i * 4, target + i)
            else:
                narrow_2(source + i * 4, target + i * 2)
    elif form == FORM.WIDEN_4:
        _widen_all_4(source, count, target)
    elif form == FORM.WIDEN_8:
        _widen_all_8(source, count, target)
    else:
        for i in range(count):
            big_endian_16(source + i * stored_width, stored_width, target + i * 16)
    return 0


@njit(inline="always")
def _widen_all_4(source, count, target):
    """Write 16 bytes for each int32, never more than asked for: 8 of them are twice the slack."""
    whole = count & -8
    for i in range(0, whole, 8):
        widen_4(source + i * 4, target + i * 16)
    for i in range(whole, count):
        value = load_i32(source + i * 4)
        store_64(target + i * 16, value)
        store_64(target + i * 16 + 8, value >> 63)


@njit(inline="always")
def _widen_all_8(source, count, target):
    whole = count & -8
    for i in range(0, whole, 8):
        widen_8(source + i * 8, target + i * 16)
    for i in range(whole, count):
        value = load_i64(source + i * 8)
        store_64(target + i * 16, value)
        store_64(target + i * 16 + 8, value >> 63)


@njit(inline="always")
def is_slim(form, stored_width):
    """Say whether values of 16 bytes come from 8 or fewer: their table is then one of int64."""
    return (
        form == FORM.WIDEN_8
        or form == FORM.WIDEN_4
        or (form == FORM.BIG_ENDIAN and stored_width <= 8)
    )


@njit(nogil=True, error_model="numpy")
def slim(form, stored_width, source, count, target):
    """Write `count` stored values as int64."""
    if form == FORM.WIDEN_4:
        for i in range(count):
            store_64(target + i * 8, load_i32(source + i * 4))
    else:
        for i in range(count):
            big_endian_8(source + i * stored_width, stored_width, target + i * 8)
    return 0


@njit(nogil=True, error_model="numpy")
def looked_up_wide(table, limit, codes, count, target):
    """Do what `looked_up` does for a table of int64 and values of 16 bytes."""
    whole = count & -16
    beyond = 0
    for i in range(0, whole, 16):
        beyond |= look_up_wide(table, limit, codes + i * 4, target + i * 16)
    if beyond != 0:
        return FAULT.CODE_RANGE
    for i in range(whole, count):
        code = load_i32(codes + i * 4) & 0xFFFFFFFF
        if code >= limit:
            return FAULT.CODE_RANGE
        value = load_i64(table + code * 8)
        store_64(target + i * 16, value)
        store_64(target + i * 16 + 8, value >> 63)
    return 0


@njit(nogil=True, error_model="numpy")
def check_codes(limit, codes, count):
    """Give 0, or a fault when one of the `count` codes is not below `limit`."""
    for i in range(0, count, 16):
        beyond = outside(limit, codes + i * 4)
        if count - i < 16:
            beyond &= (1 << (count - i)) - 1
        if beyond != 0:
            return FAULT.CODE_RANGE
    return 0


@njit(nogil=True, error_model="numpy")
def looked_up(width, table, limit, codes, count, target):
    """Write the entries of a table of `limit` values at `count` codes; give 0 or a fault."""
    if width == 1 or width == 4 or width == 8:
        whole = count & -16
        beyond = 0
        for i in range(0, whole, 16):
            if width == 8:
                beyond |= look_up_8(table, limit, codes + i * 4, target + i * 8)
            elif width == 4:
                beyond |= look_up_4(table, limit, codes + i * 4, target + i * 4)
            else:
                beyond |= look_up_1(table, limit, codes + i * 4, target + i)
        if beyond != 0:
            return FAULT.CODE_RANGE
    else:
        whole = 0
    for i in range(whole, count):
        code = load_i32(codes + i * 4) & 0xFFFFFFFF
        if code >= limit:
            return FAULT.CODE_RANGE
        entry, place = table + code * width, target + i * width
        if width == 16:
            copy_16(place, entry)
        elif width == 8:
            store_64(place, load_i64(entry))
        elif width == 4:
            store_32(place, load_i32(entry))
        elif width == 2:
            store_16(place, load_i16(entry))
        else:
            store_8(place, load_u8(entry))
    return 0


@njit(nogil=True, error_model="numpy")
def spans(at, end, count, target):
    """Write, for each of `count` stored texts, where it begins behind `at` and its size.

    Both are in one int64, the size in its low half. Gives 0 or a fault.
    """
    base = at
    for i in range(count):
        if end - at < 4:
            return FAULT.TEXT_LENGTH
        size = load_i32(at) & 0xFFFFFFFF
        at += 4
        if size > end - at:
            return FAULT.TEXT_LENGTH
        store_64(target + i * 8, ((at - base) << 32) | size)
        at += size
    return 0


@njit(nogil=True, error_model="numpy")
def views(at, end, count, offset, target):
    """Write, for each of `count` stored texts, its view; `at` lies at `offset` of its buffer."""
    base = at - offset
    for i in range(count):
        if end - at < 4:
            return FAULT.TEXT_LENGTH
        size = load_i32(at) & 0xFFFFFFFF
        at += 4
        if size > end - at:
            return FAULT.TEXT_LENGTH
        view = target + i * 16
        if size <= _INLINE:
            low = (1 << (8 * min(size, 4))) - 1
            high = -1 if size == _INLINE else (1 << (8 * max(size - 4, 0))) - 1
            store_64(view, size | ((load_i32(at) & low) << 32))
            store_64(view + 8, load_i64(at + 4) & high)
        else:
            store_64(view, size | (load_i32(at) << 32))
            store_64(view + 8, (at - base) << 32)
        at += size
    return 0


@njit(nogil=True, error_model="numpy")
def bytes_of_bits(source, count, target):
    """Write `count` bits as bytes of 0 and 1, in blocks of 64: the last may overrun by 63."""
    for i in range(0, count, BLOCK):
        bits_to_bytes(load_i64(source + (i >> 3)), target + i)
    return 0


@njit(nogil=True, error_model="numpy")
def integer_range(kind, source, count):
    """Give the least and the largest of `count` integers, at least one.

    `kind` is their width in bytes, negative if they are unsigned. Those of 8 bytes without a sign
    are given as the bits they have.
    """
    if kind == 8:
        return least_i8(source, count), largest_i8(source, count)
    if kind == 4:
        return least_i4(source, count), largest_i4(source, count)
    if kind == 2:
        return least_i2(source, count), largest_i2(source, count)
    if kind == 1:
        return least_i1(source, count), largest_i1(source, count)
    if kind == -8:
        return least_u8(source, count), largest_u8(source, count)
    if kind == -4:
        return least_u4(source, count), largest_u4(source, count)
    if kind == -2:
        return least_u2(source, count), largest_u2(source, count)
    return least_u1(source, count), largest_u1(source, count)
