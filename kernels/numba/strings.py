"""Tests of text, a block at a time: which of 64 texts compare so with a constant, or match parts.

A constant is an address and a length. Parts are how `like` without wildcards for single characters
reads: a count, the length of each, three probes, then their bytes; the first part is a prefix, the
last a suffix, the others stand between them in order. One part alone is equality. Probes are places
of the middle one of three parts whose bytes are rare in texts.

Constants are compared eight bytes of eight texts at a time; a part is searched for in the bytes of
all 64 texts at once. Nothing is read outside the texts of the block.
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
from wherry.kernels.numba.radix import prefetch
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
    shift_right,
)

_DENSE = 8
"""Below so many rows each is searched by itself."""
_AHEAD = 4096
"""Bytes from a text to what is fetched meanwhile: what hardware fetches ends where it must guess."""
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


@intrinsic
def _fitting(typing_context, text, first, second, third, one, two, three):
    """Give the bits of the 64 places from `text` on where three bytes stand at three distances."""

    def code(context, builder, signature, arguments):
        text, *rest = arguments
        found = None
        for distance, byte in zip(rest[:3], rest[3:], strict=True):
            values = emit.load(builder, builder.add(text, distance), ir.VectorType(_I8, BLOCK))
            wanted = emit.splat(builder, builder.trunc(byte, _I8), BLOCK)
            same = builder.icmp_signed("==", values, wanted)
            found = same if found is None else builder.and_(found, same)
        return builder.bitcast(found, _I64)

    return types.int64(*[types.int64] * 7), code


@intrinsic
def _probed(typing_context, text, left, probes, constant):
    """Give the bits of the 64 places from `text` on where all three probed bytes fit.

    Only the first `left` bytes from `text` on are read.
    """

    def code(context, builder, signature, arguments):
        text, left, probes, constant = arguments
        bytes_, flags = ir.VectorType(_I8, BLOCK), ir.VectorType(_I1, BLOCK)
        fitting = None
        kind = ir.FunctionType(bytes_, [ir.PointerType(bytes_), _I32, flags, bytes_])
        load = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v64i8.p0")
        for number in range(3):
            place = builder.inttoptr(
                builder.add(probes, ir.Constant(_I64, 8 * number)), ir.PointerType(_I64)
            )
            probe = builder.load(place, align=1)
            wanted = builder.load(
                builder.inttoptr(builder.add(constant, probe), ir.PointerType(_I8))
            )
            room = builder.sub(left, probe)
            whole = builder.icmp_signed(">=", room, ir.Constant(_I64, BLOCK))
            at = builder.add(text, probe)
            value = cgutils.alloca_once(builder, bytes_)
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    builder.store(emit.load(builder, at, ir.VectorType(_I8, BLOCK)), value)
                with otherwise:
                    some = builder.icmp_signed(">", room, ir.Constant(_I64, 0))
                    one = ir.Constant(_I64, 1)
                    bits = builder.sub(builder.shl(one, room), one)
                    bits = builder.select(some, bits, ir.Constant(_I64, 0))
                    pointer = builder.inttoptr(at, ir.PointerType(bytes_))
                    mask = builder.bitcast(bits, flags)
                    none = ir.Constant(bytes_, [0] * BLOCK)
                    found = builder.call(load, [pointer, ir.Constant(_I32, 1), mask, none])
                    builder.store(found, value)
            same = builder.icmp_signed(
                "==", builder.load(value), emit.splat(builder, wanted, BLOCK)
            )
            fitting = same if fitting is None else builder.and_(fitting, same)
        return builder.bitcast(fitting, _I64)

    return types.int64(*[types.int64] * 4), code


def _begun(width):
    @intrinsic
    def begun(typing_context, offsets, place):
        """Give the bits of the 64 texts that begin at `place` or before."""

        def code(context, builder, signature, arguments):
            offsets, place = arguments
            element = ir.IntType(8 * width)
            starts = emit.load(builder, offsets, ir.VectorType(element, BLOCK))
            limit = place if width == 8 else builder.trunc(place, element)
            before = builder.icmp_signed("<=", starts, emit.splat(builder, limit, BLOCK))
            return builder.bitcast(before, _I64)

        return types.int64(types.int64, types.int64), code

    return begun


_begun_narrow, _begun_wide = _begun(4), _begun(8)


@njit(inline="always")
def same_bytes(left, right, size):
    """Tell whether `size` bytes are the same in two places."""
    at = 0
    while at + 8 <= size:
        if load_i64(left + at) != load_i64(right + at):
            return False
        at += 8
    if size >= 8:
        # The last word may overlap the one before it.
        return load_i64(left + size - 8) == load_i64(right + size - 8)
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
            prefetch(data + line + _AHEAD)
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
def _next(text, end, part, size, probes):
    """Give where `part` stands next in the bytes from `text` to `end`, or `end`."""
    while text + size <= end:
        places = _probed(text, end - text, probes, part)
        while places != 0:
            at = text + lowest(places)
            places &= places - 1
            if at + size <= end and same_bytes(at, part, size):
                return at
        text += BLOCK
    return end


@njit(inline="always")
def _containing(offsets, width, data, needed, part, size, probes):
    """Give the bits of the needed texts that hold `part`, found in the bytes of all of them."""
    found = 0
    if popcount(needed) < _DENSE:
        rest = needed
        while rest != 0:
            lane = lowest(rest)
            rest &= rest - 1
            end = data + offset_at(offsets, width, lane + 1)
            if _next(data + offset_at(offsets, width, lane), end, part, size, probes) < end:
                found |= 1 << lane
        return found
    first, last = lowest(needed), BLOCK - 1
    while (needed >> last) & 1 == 0:
        last -= 1
    lanes = -1 if last == BLOCK - 1 else (1 << (last + 1)) - 1
    at = data + offset_at(offsets, width, first)
    end = data + offset_at(offsets, width, last + 1)
    one, two, three = load_i64(probes), load_i64(probes + 8), load_i64(probes + 16)
    # Behind this place some byte of 64 parts side by side would be beyond the end.
    final = end - BLOCK - max(one, two, three)
    if final < at:
        while at < end:
            at = _next(at, end, part, size, probes)
            if at < end:
                found |= _holder(offsets, width, data, at, size, lanes)
                at += 1
        return found & needed
    bytes_ = load_u8(part + one), load_u8(part + two), load_u8(part + three)
    while True:
        # Which of 64 steps fit anywhere is noted without a branch; few do.
        steps, seen = min(BLOCK, (final - at + BLOCK - 1) // BLOCK + 1), 0
        for step in range(steps):
            place = min(at + step * BLOCK, final)
            prefetch(place + _AHEAD)
            fits = _fitting(place, one, two, three, bytes_[0], bytes_[1], bytes_[2])
            seen |= (1 if fits != 0 else 0) << step
        while seen != 0:
            place = min(at + lowest(seen) * BLOCK, final)
            seen &= seen - 1
            fits = _fitting(place, one, two, three, bytes_[0], bytes_[1], bytes_[2])
            while fits != 0:
                text = place + lowest(fits)
                fits &= fits - 1
                if text + size <= end and same_bytes(text, part, size):
                    found |= _holder(offsets, width, data, text, size, lanes)
        at += steps * BLOCK
        if at - BLOCK >= final:
            return found & needed


@njit(inline="always")
def _holder(offsets, width, data, text, size, lanes):
    """Give the bit of the text that `size` bytes stand in, 0 if they reach into the next one."""
    place = text - data
    begun = _begun_narrow(offsets, place) if width == 4 else _begun_wide(offsets, place)
    lane = popcount(begun & lanes) - 1
    return (1 if place + size <= offset_at(offsets, width, lane + 1) else 0) << lane


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
                return _containing(offsets, width, data, needed, bytes_, size, probes)
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
