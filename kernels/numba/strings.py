"""Tests of text, a block at a time: which of 64 texts compare so with a constant, or match parts.

A constant is an address and a length. Parts are how `like` without wildcards for single characters
reads: a count, the length of each, three probes, then their bytes; the first part is a prefix, the
last a suffix, the others stand between them in order. One part alone is equality. Probes are places
of the middle one of three parts whose bytes are rare in texts.

Lengths are compared 64 at a time, then constants by eight bytes of the texts that are as long; a
part is searched for in the bytes of all 64 texts at once. Nothing is read outside the texts of the
block.
"""

from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from wherry.kernels.layout import (
    BLOCK,
    EQUAL,
    GREATER,
    INLINE,
    LESS,
    LESS_EQUAL,
    PARTS,
    UNEQUAL,
)
from wherry.kernels.numba import emit
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.substrings import AHEAD, containing, same_bytes
from wherry.kernels.numba.vector import (
    equal_8,
    equal_16,
    equal_32,
    equal_64,
    load_i32,
    load_i64,
    load_u8,
    lowest,
    offset_at,
    popcount,
    prefetch,
    shift_right,
)

_GATHERED = 20
"""From so many rows on the first bytes of all rows are compared, eight rows at a time."""

_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_LANES = 8


def _gathered(builder, places, mask):
    wide = places.type
    pointers = builder.inttoptr(places, ir.VectorType(ir.PointerType(_I64), _LANES))
    kind = ir.FunctionType(wide, [pointers.type, _I32, mask.type, wide])
    name = f"llvm.masked.gather.v{_LANES}i64.v{_LANES}p0"
    gather = cgutils.get_or_insert_function(builder.module, kind, name)
    none = ir.Constant(wide, [0] * _LANES)
    return builder.call(gather, [pointers, ir.Constant(_I32, 1), mask, none])


def _block_offsets(builder, offsets, width):
    """Give where the texts of a block begin and end, as they are stored."""
    vector = ir.VectorType(ir.IntType(8 * width), BLOCK)
    following = builder.add(offsets, ir.Constant(_I64, width))
    return [emit.load(builder, at, vector) for at in (offsets, following)]


def _ascending(width):
    @intrinsic
    def ascending(typing_context, offsets):
        """Give the bits of the 64 texts that do not end before they begin."""

        def code(context, builder, signature, arguments):
            starts, ends = _block_offsets(builder, arguments[0], width)
            return builder.bitcast(builder.icmp_signed(">=", ends, starts), _I64)

        return types.int64(types.int64), code

    return ascending


def _long(width, comparison):
    @intrinsic
    def long(typing_context, offsets, size):
        """Give the bits of the 64 texts whose length compares so with `size`."""

        def code(context, builder, signature, arguments):
            starts, ends = _block_offsets(builder, arguments[0], width)
            element = starts.type.element
            size = arguments[1] if width == 8 else builder.trunc(arguments[1], element)
            lengths, size = builder.sub(ends, starts), emit.splat(builder, size, BLOCK)
            return builder.bitcast(builder.icmp_signed(comparison, lengths, size), _I64)

        return types.int64(types.int64, types.int64), code

    return long


def _beginning(width):
    @intrinsic
    def beginning(typing_context, offsets, data, lanes, word, ones, last):
        """Give the bits of 8 texts that begin with the bytes of `word` that `ones` selects.

        Only texts of `lanes` count. `last` is the last place where 8 bytes may be read, and no text
        that counts has its first selected bytes beyond them.
        """

        def code(context, builder, signature, arguments):
            offsets, data, lanes, word, ones, last = arguments
            wide = ir.VectorType(_I64, _LANES)
            starts = emit.load(builder, offsets, ir.VectorType(ir.IntType(8 * width), _LANES))
            starts = starts if width == 8 else builder.sext(starts, wide)
            mask = builder.bitcast(builder.trunc(lanes, _I8), ir.VectorType(_I1, _LANES))
            last = emit.splat(builder, last, _LANES)
            beyond = builder.icmp_signed(">", starts, last)
            places = builder.select(beyond, last, starts)
            # Of texts that do not count the shift may be anything, and LLVM wants it below 64.
            shift = builder.shl(builder.sub(starts, places), ir.Constant(wide, [3] * _LANES))
            shift = builder.and_(shift, ir.Constant(wide, [63] * _LANES))
            found = _gathered(builder, builder.add(places, emit.splat(builder, data, _LANES)), mask)
            found = builder.lshr(found, shift)
            found = builder.and_(found, emit.splat(builder, ones, _LANES))
            same = builder.icmp_signed("==", found, emit.splat(builder, word, _LANES))
            return builder.zext(builder.bitcast(builder.and_(mask, same), _I8), _I64)

        return types.int64(*[types.int64] * 6), code

    return beginning


_ascending_narrow, _ascending_wide = _ascending(4), _ascending(8)
_just_narrow, _just_wide = _long(4, "=="), _long(8, "==")
_least_narrow, _least_wide = _long(4, ">="), _long(8, ">=")
_beginning_narrow, _beginning_wide = _beginning(4), _beginning(8)


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
        if load_u8(text + i) == first and same_bytes(text + i, part, part_size):
            return i
    return -1


@njit(nogil=True, error_model="numpy")
def _matches(text, size, parts):
    count = load_i64(parts)
    part = parts + 8 + count * 8 + 24
    part_size = load_i64(parts + 8)
    if count == 1:
        return size == part_size and same_bytes(text, part, size)
    if size < part_size or not same_bytes(text, part, part_size):
        return 0
    text, size, part = text + part_size, size - part_size, part + part_size
    for i in range(1, count - 1):
        part_size = load_i64(parts + 8 + i * 8)
        at = _find(text, size, part, part_size)
        if at < 0:
            return 0
        text, size, part = text + at + part_size, size - at - part_size, part + part_size
    part_size = load_i64(parts + count * 8)
    return size >= part_size and same_bytes(text + size - part_size, part, part_size)


@njit(nogil=True, error_model="numpy")
def _holds(text, size, constant, constant_size, test):
    if test == PARTS:
        return _matches(text, size, constant)
    if test <= UNEQUAL:
        same = size == constant_size and same_bytes(text, constant, size)
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
def _as_long(offsets, width, size, longer):
    """Give the bits of the texts that have `size` bytes, or at least so many if `longer`."""
    if width == 4:
        if size >= 1 << 31:
            return 0
        return _least_narrow(offsets, size) if longer else _just_narrow(offsets, size)
    return _least_wide(offsets, size) if longer else _just_wide(offsets, size)


@njit(inline="always")
def _compared(offsets, width, data, needed, end, constant, size, longer):
    """Give the bits of the needed texts that equal a constant, or begin with it if `longer`.

    Of the constant 8 bytes can be read, however short it is.
    """
    found = needed & _as_long(offsets, width, size, longer)
    if found == 0 or size == 0:
        return found
    last = end - 8
    if last < offset_at(offsets, width, 0):
        rest, found = found, 0
        while rest != 0:
            lane = lowest(rest)
            rest &= rest - 1
            same = same_bytes(data + offset_at(offsets, width, lane), constant, size)
            found |= (1 if same else 0) << lane
        return found
    held = popcount(found)
    if held * BLOCK >= end - offset_at(offsets, width, 0):
        # Texts are looked at in most lines: what comes behind them will be soon.
        for line in range(offset_at(offsets, width, 0), end, BLOCK):
            prefetch(data + line + AHEAD)
    ones = -1 if size >= 8 else (1 << (8 * size)) - 1
    word = load_i64(constant) & ones
    if held >= _GATHERED:
        found = _beginnings(offsets, width, data, found, word, ones, last)
    elif size < 8:
        rest = found
        while rest != 0:
            lane = lowest(rest)
            rest &= rest - 1
            start = offset_at(offsets, width, lane)
            at = min(start, last)
            text = shift_right(load_i64(data + at), (start - at) * 8) & ones
            found ^= (1 if text != word else 0) << lane
    if size < 8:
        return found
    rest, final = found, load_i64(constant + size - 8)
    while rest != 0:
        lane = lowest(rest)
        rest &= rest - 1
        text = data + offset_at(offsets, width, lane)
        # The last word may overlap the one before it.
        different = (load_i64(text) ^ word) | (load_i64(text + size - 8) ^ final)
        for at in range(8, size - 8, 8):
            different |= load_i64(text + at) ^ load_i64(constant + at)
        found ^= (1 if different != 0 else 0) << lane
    return found


@njit(inline="always")
def _beginnings(offsets, width, data, asked, word, ones, last):
    """Give the bits of the texts asked for that begin with a word, eight texts at a time."""
    found = 0
    for first in range(0, BLOCK, _LANES):
        lanes = shift_right(asked, first) & 255
        at = offsets + first * width
        if width == 4:
            same = _beginning_narrow(at, data, lanes, word, ones, last)
        else:
            same = _beginning_wide(at, data, lanes, word, ones, last)
        found |= same << first
    return found


@njit(inline="always")
def _ordered(offsets, width):
    """Give how many texts of a block there are: behind the last row offsets are 0."""
    if offset_at(offsets, width, BLOCK) > 0:
        return BLOCK
    return lowest(~(_ascending_narrow(offsets) if width == 4 else _ascending_wide(offsets)))


@njit(inline="always")
def _tested(offsets, width, data, row, needed, constant, constant_size, test):
    offsets += row * width
    count = _ordered(offsets, width)
    if count < BLOCK:
        needed &= (1 << count) - 1
    end = offset_at(offsets, width, count)
    if test <= UNEQUAL:
        found = _compared(offsets, width, data, needed, end, constant, constant_size, False)
        return found if test == EQUAL else needed & ~found
    if test == PARTS:
        parts = load_i64(constant)
        first = load_i64(constant + 8)
        bytes_ = constant + 8 + parts * 8 + 24
        if parts == 1:
            return _compared(offsets, width, data, needed, end, bytes_, first, False)
        if parts == 2 and load_i64(constant + 16) == 0:
            return _compared(offsets, width, data, needed, end, bytes_, first, True)
        if parts == 3 and first == 0 and load_i64(constant + 24) == 0:
            size = load_i64(constant + 16)
            if size > 0:
                probes = constant + 8 + parts * 8
                return containing(offsets, width, data, needed, bytes_, size, probes)
    found = 0
    while needed != 0:
        lane = lowest(needed)
        needed &= needed - 1
        start = offset_at(offsets, width, lane)
        size = offset_at(offsets, width, lane + 1) - start
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


@njit(inline="always")
def _equal_words(values, width, constant):
    """Give the bits of a block's values of 4, 8 or 16 bytes that equal the constant."""
    found = 0
    if width == 4:
        first = load_i32(constant)
        for lane in range(BLOCK):
            found |= (1 if load_i32(values + lane * 4) == first else 0) << lane
        return found
    first, second, step = load_i64(constant), load_i64(constant + width - 8), width
    for lane in range(BLOCK):
        at = values + lane * step
        same = (load_i64(at) == first) & (load_i64(at + step - 8) == second)
        found |= (1 if same else 0) << lane
    return found


@kernel(7)
def test_fixed(values, width, row, needed, constant, constant_size, test):
    """Do what `test_narrow` does for bytes that all have the same width."""
    words = width == 4 or width == 8 or width == 16
    if test <= UNEQUAL and words and constant_size == width:
        # The rows of a block that are not needed are there all the same, and may be read.
        found = _equal_words(values + row * width, width, constant)
        return needed & (found if test == EQUAL else ~found)
    found = 0
    while needed != 0:
        lane = lowest(needed)
        needed &= needed - 1
        text = values + (row + lane) * width
        found |= (1 if _holds(text, width, constant, constant_size, test) else 0) << lane
    return found


@kernel(5)
def test_codes(codes, width, row, few, valid):
    """Give the bits of the rows from `row` on whose code is one of a few, or of none but these.

    Parameters
    ----------
    width : int
        Bytes of a code: 1, 2, 4 or 8.
    few : int
        int64: how many codes, -1 to take all others instead, -1 if nulls are taken, the codes.
    valid : int
        Bits of the rows that are not null.
    """
    count, others, nulls = load_i64(few), load_i64(few + 8), load_i64(few + 16)
    at, found = codes + row * width, 0
    for number in range(count):
        code = load_i64(few + 24 + number * 8)
        if width < 8 and code >> (8 * width) != 0:
            continue  # The dictionary is longer than its codes can number.
        if width == 1:
            found |= equal_8(at, code)
        elif width == 2:
            found |= equal_16(at, code)
        elif width == 4:
            found |= equal_32(at, code)
        else:
            found |= equal_64(at, code)
    return ((found ^ others) & valid) | (nulls & ~valid)


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
