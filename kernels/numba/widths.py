"""Values of 1, 2, 4, 8 or 16 bytes: one copied, the selected ones of a block put side by side."""

from numba import njit

from wherry.kernels.numba.vector import (
    compress_1,
    compress_2,
    compress_4,
    compress_8,
    compress_16,
    copy_16,
    load_i16,
    load_i32,
    load_i64,
    load_u8,
    lowest,
    store_8,
    store_16,
    store_32,
    store_64,
)

SPARSE = 8
"""Up to so many rows of a block are copied one by one, so that only their lines are touched."""


@njit(inline="always")
def copy_value(width, target, source):
    """Copy one value."""
    if width == 8:
        store_64(target, load_i64(source))
    elif width == 4:
        store_32(target, load_i32(source))
    elif width == 16:
        copy_16(target, source)
    elif width == 2:
        store_16(target, load_i16(source))
    else:
        store_8(target, load_u8(source))


@njit(inline="always")
def compress_values(width, target, source, word):
    """Write a block's selected values side by side, and up to SLACK bytes behind them."""
    if width == 8:
        compress_8(target, source, word)
    elif width == 4:
        compress_4(target, source, word)
    elif width == 16:
        compress_16(target, source, word)
    elif width == 2:
        compress_2(target, source, word)
    else:
        compress_1(target, source, word)


@njit(inline="always")
def append_values(width, target, source, word):
    """Write a block's selected values one by one, and nothing behind them."""
    while word != 0:
        copy_value(width, target, source + lowest(word) * width)
        target += width
        word &= word - 1


@njit(inline="always")
def copy_text(target, source, size):
    """Copy so many bytes, eight at a time; give where they end."""
    end = target + size
    while end - target >= 8:
        store_64(target, load_i64(source))
        target += 8
        source += 8
    while target < end:
        store_8(target, load_u8(source))
        target += 1
        source += 1
    return end
