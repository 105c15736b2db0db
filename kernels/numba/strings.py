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
from wherry.kernels.numba.vector import (
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

_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_LANES = 8


def _bounds(builder, offsets, width, lanes):
    """Give where `lanes` texts begin and end, as int64."""
    element, wide = ir.IntType(8 * width), ir.VectorType(_I64, lanes)
    following = builder.add(offsets, ir.Constant(_I64, width))
    found = [emit.load(builder, at, ir.VectorType(element, lanes)) for at in (offsets, following)]
    return found if width == 8 else [builder.sext(value, wide) for value in found]


def _gathered(builder, places, mask):
    wide = places.type
    pointers = builder.inttoptr(places, ir.VectorType(ir.PointerType(_I64), _LANES))
    kind = ir.FunctionType(wide, [pointers.type, _I32, mask.type, wide])
    name = f"llvm.masked.gather.v{_LANES}i64.v{_LANES}p0"
    gather = cgutils.get_or_insert_function(builder.module, kind, name)
    none = ir.Constant(wide, [0] * _LANES)
    return builder.call(gather, [pointers, ir.Constant(_I32, 1), mask, none])


def _same_words(builder, places, mask, constant, size):
    """Narrow `mask` to the lanes whose `size` bytes, at least 8, are the constant's."""
    kept = cgutils.alloca_once_value(builder, mask)
    words = builder.lshr(builder.add(size, ir.Constant(_I64, 7)), ir.Constant(_I64, 3))
    last = builder.sub(size, ir.Constant(_I64, 8))
    with cgutils.for_range(builder, words) as loop:
        # The last word may overlap the one before: it ends where the text ends.
        at = builder.shl(loop.index, ir.Constant(_I64, 3))
        at = builder.select(builder.icmp_signed("<", at, last), at, last)
        wanted = builder.load(
            builder.inttoptr(builder.add(constant, at), ir.PointerType(_I64)), align=1
        )
        mask = builder.load(kept)
        found = _gathered(builder, builder.add(places, emit.splat(builder, at, _LANES)), mask)
        same = builder.icmp_signed("==", found, emit.splat(builder, wanted, _LANES))
        builder.store(builder.and_(mask, same), kept)
    return builder.load(kept)


def _beginning(width):
    @intrinsic
    def beginning(typing_context, offsets, data, lanes, constant, size, longer, end):
        """Tell which of 8 texts equal a constant, or begin with it if `longer` is not 0.

        Only texts of `lanes` count. The upper 8 bits of the answer are texts that are undecided,
        because 8 bytes from their beginning reach beyond `end`, where the block's texts end.
        """

        def code(context, builder, signature, arguments):
            offsets, data, lanes, constant, size, longer, end = arguments
            flags = ir.VectorType(_I1, _LANES)
            starts, ends = _bounds(builder, offsets, width, _LANES)
            lengths, wanted = builder.sub(ends, starts), emit.splat(builder, size, _LANES)
            equal = builder.icmp_signed("==", lengths, wanted)
            more = builder.and_(
                builder.icmp_signed(">", lengths, wanted),
                emit.splat(
                    builder, builder.icmp_signed("!=", longer, ir.Constant(_I64, 0)), _LANES
                ),
            )
            asked = builder.bitcast(builder.trunc(lanes, _I8), flags)
            mask = builder.and_(builder.or_(equal, more), asked)
            places = builder.add(starts, emit.splat(builder, data, _LANES))
            none = ir.Constant(flags, [0] * _LANES)
            found = cgutils.alloca_once_value(builder, none)
            undecided = cgutils.alloca_once_value(builder, none)
            long = builder.icmp_signed(">=", size, ir.Constant(_I64, 8))
            with builder.if_else(long) as (then, otherwise):
                with then:
                    builder.store(_same_words(builder, places, mask, constant, size), found)
                with otherwise:
                    reach = builder.add(starts, ir.Constant(starts.type, [8] * _LANES))
                    inside = builder.icmp_signed("<=", reach, emit.splat(builder, end, _LANES))
                    safe = builder.and_(mask, inside)
                    bits = builder.shl(size, ir.Constant(_I64, 3))
                    ones = builder.sub(
                        builder.shl(ir.Constant(_I64, 1), bits), ir.Constant(_I64, 1)
                    )
                    texts = _gathered(builder, places, safe)
                    texts = builder.and_(texts, emit.splat(builder, ones, _LANES))
                    word = _short_word(builder, constant, size)
                    same = builder.icmp_signed("==", texts, emit.splat(builder, word, _LANES))
                    builder.store(builder.and_(safe, same), found)
                    builder.store(builder.and_(mask, builder.not_(inside)), undecided)
            low, high = (
                builder.zext(builder.bitcast(builder.load(x), _I8), _I64)
                for x in (found, undecided)
            )
            return builder.or_(low, builder.shl(high, ir.Constant(_I64, 8)))

        return types.int64(*[types.int64] * 7), code

    return beginning


def _short_word(builder, constant, size):
    """Give fewer than 8 bytes as a word, reading no more of them."""
    word = cgutils.alloca_once_value(builder, ir.Constant(_I64, 0))
    with cgutils.for_range(builder, size) as loop:
        at = builder.inttoptr(builder.add(constant, loop.index), ir.PointerType(_I8))
        byte = builder.zext(builder.load(at), _I64)
        shifted = builder.shl(byte, builder.shl(loop.index, ir.Constant(_I64, 3)))
        builder.store(builder.or_(builder.load(word), shifted), word)
    return builder.load(word)


_begin_narrow, _begin_wide = _beginning(4), _beginning(8)


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
def _compared(offsets, width, data, needed, end, constant, size, longer):
    """Give the bits of the needed texts that equal a constant, or begin with it."""
    found = 0
    for first in range(0, BLOCK, 8):
        lanes = shift_right(needed, first) & 255
        if lanes == 0:
            continue
        at = offsets + first * width
        if width == 4:
            made = _begin_narrow(at, data, lanes, constant, size, longer, end)
        else:
            made = _begin_wide(at, data, lanes, constant, size, longer, end)
        found |= (made & 255) << first
        undecided = made >> 8
        while undecided != 0:
            lane = first + lowest(undecided)
            undecided &= undecided - 1
            if same_bytes(data + offset_at(offsets, width, lane), constant, size):
                found |= 1 << lane
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
    while True:
        at = _next(at, end, part, size, probes)
        if at >= end:
            return found & needed
        place = at - data
        begun = _begun_narrow(offsets, place) if width == 4 else _begun_wide(offsets, place)
        lane = popcount(begun & lanes) - 1
        text_end = data + offset_at(offsets, width, lane + 1)
        if at + size <= text_end:
            found |= 1 << lane
            at = text_end
        else:
            at += 1


@njit(inline="always")
def _ordered(offsets, width):
    """Give how many texts of a block there are: behind the last row offsets are 0."""
    lane = BLOCK if offset_at(offsets, width, BLOCK) > 0 else 0
    while lane < BLOCK and offset_at(offsets, width, lane + 1) >= offset_at(offsets, width, lane):
        lane += 1
    return lane


@njit(inline="always")
def _tested(offsets, width, data, row, needed, constant, constant_size, test):
    offsets += row * width
    count = _ordered(offsets, width)
    if count < BLOCK:
        needed &= (1 << count) - 1
    end = offset_at(offsets, width, count)
    if test <= UNEQUAL:
        found = _compared(offsets, width, data, needed, end, constant, constant_size, 0)
        return found if test == EQUAL else needed & ~found
    if test == PARTS:
        parts = load_i64(constant)
        first = load_i64(constant + 8)
        bytes_ = constant + 8 + parts * 8 + 24
        if parts == 1:
            return _compared(offsets, width, data, needed, end, bytes_, first, 0)
        if parts == 2 and load_i64(constant + 16) == 0:
            return _compared(offsets, width, data, needed, end, bytes_, first, 1)
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
