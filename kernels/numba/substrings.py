"""Where a part stands in the texts of a block: in the bytes of all 64 texts at once.

Three bytes of the part that are rare in texts are compared at 64 places together; where all three
fit, the part is compared whole, and the text is found that the place belongs to.
"""

from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from wherry.kernels.layout import BLOCK
from wherry.kernels.numba import emit
from wherry.kernels.numba.vector import (
    load_i64,
    load_u8,
    lowest,
    offset_at,
    popcount,
    prefetch,
)

_DENSE = 8
"""Below so many rows each is searched by itself."""
AHEAD = 4096
"""Bytes from a text to what is fetched meanwhile: hardware loses sight where code has to guess."""

_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))


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
def containing(offsets, width, data, needed, part, size, probes):
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
            prefetch(place + AHEAD)
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
