"""Vector operations of the Parquet skeletons: unpack bits, look up, spread, narrow and widen.

As in `vector`, addresses are int64 and everything is portable LLVM IR. Reads may go `SLACK` bytes
behind the last value and writes as far behind the last place.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from wherry.kernels.numba import emit

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))


def _at(builder, address, offset):
    return builder.add(address, ir.Constant(_I64, offset))


def _vector(element, values):
    return ir.Constant(ir.VectorType(element, len(values)), values)


def _every(builder, start, stop, step):
    """Loop `i` from `start` to below `stop`."""
    return cgutils.for_range_slice(
        builder, ir.Constant(_I64, start), stop, ir.Constant(_I64, step), _I64
    )


def _steps(count, body):
    """Give the code of an intrinsic of int64 without result that runs `body` in its builder."""

    def code(context, builder, signature, arguments):
        body(builder, *arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * count), code


def _copier(size):
    @intrinsic
    def copy(typing_context, target, source):
        def body(builder, target, source):
            emit.store(builder, emit.load(builder, source, ir.VectorType(_I8, size)), target)

        return _steps(2, body)

    return copy


copy_32, copy_64 = map(_copier, (32, 64))


@intrinsic
def copy_bytes(typing_context, target, source, size):
    """Copy `size` bytes that do not overlap."""

    def body(builder, target, source, size):
        pointer = ir.PointerType(_I8)
        name = "llvm.memcpy.p0.p0.i64"
        copy = emit.function(builder, name, ir.VoidType(), [pointer, pointer, _I64, _I1])
        places = [builder.inttoptr(a, pointer) for a in (target, source)]
        builder.call(copy, [*places, size, ir.Constant(_I1, 0)])

    return _steps(3, body)


@intrinsic
def fill_32(typing_context, value, count, target):
    """Write the low 32 bits of `value`, `count` times."""

    def body(builder, value, count, target):
        same = emit.splat(builder, builder.trunc(value, _I32), 16)
        with _every(builder, 0, count, 16) as (i, _):
            emit.store(builder, same, builder.add(target, builder.shl(i, ir.Constant(_I64, 2))))

    return _steps(3, body)


def _window(builder, loaded, width, bits, first, lanes):
    """Give `lanes` values of `width` bits from value `first` on, as integers of `bits` bits.

    Each lane gets the bytes its value begins in, shifted and cut; the bytes of a value must fit a
    lane whatever bit they begin at.
    """
    each = bits // 8
    starts = [(first + i) * width for i in range(lanes)]
    places = [min((s >> 3) + j, 63) for s in starts for j in range(each)]
    unset = ir.Constant(loaded.type, ir.Undefined)
    element = ir.IntType(bits)
    moved = builder.shuffle_vector(loaded, unset, _vector(_I32, places))
    words = builder.bitcast(moved, ir.VectorType(element, lanes))
    words = builder.lshr(words, _vector(element, [s & 7 for s in starts]))
    return builder.and_(words, _vector(element, [(1 << width) - 1] * lanes))


def _by_width(builder, width, most, body):
    """Run `body(w)` for the w that `width` is, 1 to `most`."""
    done = builder.append_basic_block("unpacked")
    choice = builder.switch(width, done)
    for w in range(1, most + 1):
        block = builder.append_basic_block(f"width_{w}")
        choice.add_case(ir.Constant(_I64, w), block)
        builder.position_at_end(block)
        body(w)
        builder.branch(done)
    builder.position_at_end(done)


def _packed(builder, source, i, width):
    """Load the 64 bytes that hold value `i`, a multiple of 8, and those behind it."""
    offset = builder.lshr(builder.mul(i, ir.Constant(_I64, width)), ir.Constant(_I64, 3))
    return emit.load(builder, builder.add(source, offset), ir.VectorType(_I8, 64))


@intrinsic
def unpack_32(typing_context, width, source, count, target):
    """Write `count` values of `width` bits, 1 to 32, as int32."""

    def body(builder, width, source, count, target):
        def unpack(w):
            with _every(builder, 0, count, 16) as (i, _):
                place = builder.add(target, builder.shl(i, ir.Constant(_I64, 2)))
                loaded = _packed(builder, source, i, w)
                if w <= 25:
                    emit.store(builder, _window(builder, loaded, w, 32, 0, 16), place)
                    return
                for half in (0, 8):
                    words = _window(builder, loaded, w, 64, half, 8)
                    words = builder.trunc(words, ir.VectorType(_I32, 8))
                    emit.store(builder, words, _at(builder, place, half * 4))

        _by_width(builder, width, 32, unpack)

    return _steps(4, body)


def _looker(width, wide=False):
    """Give an intrinsic that looks 16 codes up in a table of values of `width` bytes, 1, 4 or 8.

    It gives the bits of the codes that are not below `limit`; what is written for them is another
    value of the table. `wide` values are written as integers of 16 bytes.
    """
    element = ir.IntType(max(width, 4) * 8)  # Bytes are read with the three behind them.
    pointers = ir.VectorType(ir.PointerType(element), 16)
    values, flags = ir.VectorType(element, 16), ir.VectorType(_I1, 16)

    @intrinsic
    def look_up(typing_context, table, limit, codes, target):
        def code(context, builder, signature, arguments):
            table, limit, codes, target = arguments
            codes = emit.load(builder, codes, ir.VectorType(_I32, 16))
            most = emit.splat(builder, builder.trunc(limit, _I32), 16)
            inside = builder.icmp_unsigned("<", codes, most)
            codes = builder.select(inside, codes, _vector(_I32, [0] * 16))
            places = builder.zext(codes, ir.VectorType(_I64, 16))
            places = builder.mul(places, _vector(_I64, [width] * 16))
            places = builder.add(places, emit.splat(builder, table, 16))
            places = builder.inttoptr(places, pointers)
            name = f"llvm.masked.gather.v16i{element.width}.v16p0"
            gather = emit.function(builder, name, values, [pointers, _I32, flags, values])
            every = _vector(_I1, [1] * 16)
            align, unset = ir.Constant(_I32, 1), ir.Constant(values, ir.Undefined)
            found = builder.call(gather, [places, align, every, unset])
            if width == 1:
                found = builder.trunc(found, ir.VectorType(_I8, 16))
            emit.store(builder, _widened(builder, found, 16) if wide else found, target)
            beyond = builder.bitcast(builder.not_(inside), _I16)
            return builder.zext(beyond, _I64)

        return types.int64(*[types.int64] * 4), code

    return look_up


def _widened(builder, low, lanes):
    """Give `lanes` int64 as integers of 16 bytes."""
    high = builder.ashr(low, _vector(_I64, [63] * lanes))
    order = [place for i in range(lanes) for place in (i, i + lanes)]
    return builder.shuffle_vector(low, high, _vector(_I32, order))


look_up_1, look_up_4, look_up_8, look_up_wide = *map(_looker, (1, 4, 8)), _looker(8, wide=True)


@intrinsic
def outside(typing_context, limit, codes):
    """Give the bits of those of 16 codes that are not below `limit`, as unsigned numbers."""

    def code(context, builder, signature, arguments):
        limit, codes = arguments
        most = emit.splat(builder, builder.trunc(limit, _I32), 16)
        found = builder.icmp_unsigned(
            ">=", emit.load(builder, codes, ir.VectorType(_I32, 16)), most
        )
        return builder.zext(builder.bitcast(found, _I16), _I64)

    return types.int64(types.int64, types.int64), code


def _spreader(width):
    """Give an intrinsic that puts values of `width` bytes at the set bits, one vector of rows."""
    element = ir.IntType(min(width, 8) * 8)
    lanes = 64 // min(width, 8)
    rows = 64 // width
    vector, flags = ir.VectorType(element, lanes), ir.VectorType(_I1, lanes)
    name = f"llvm.masked.expandload.v{lanes}i{element.width}"

    @intrinsic
    def spread(typing_context, target, source, mask):
        def body(builder, target, source, mask):
            bits = builder.trunc(mask, ir.IntType(rows)) if rows < 64 else mask
            chosen = builder.bitcast(bits, ir.VectorType(_I1, rows))
            if rows < lanes:
                twice = _vector(_I32, [i // 2 for i in range(lanes)])
                unset = ir.Constant(chosen.type, ir.Undefined)
                chosen = builder.shuffle_vector(chosen, unset, twice)
            pointer = ir.PointerType(element)
            expand = emit.function(builder, name, vector, [pointer, flags, vector])
            place = builder.inttoptr(source, pointer)
            zero = ir.Constant(vector, [0] * lanes)
            emit.store(builder, builder.call(expand, [place, chosen, zero]), target)

        return _steps(3, body)

    return spread


spread_1, spread_2, spread_4, spread_8, spread_16 = map(_spreader, (1, 2, 4, 8, 16))


def _narrower(width):
    @intrinsic
    def narrow(typing_context, source, target):
        def body(builder, source, target):
            wide = emit.load(builder, source, ir.VectorType(_I32, 16))
            emit.store(
                builder, builder.trunc(wide, ir.VectorType(ir.IntType(width * 8), 16)), target
            )

        return _steps(2, body)

    return narrow


narrow_1, narrow_2 = map(_narrower, (1, 2))


def _widener(width):
    """Give an intrinsic that makes 8 integers of `width` bytes into 16 bytes each."""

    @intrinsic
    def widen(typing_context, source, target):
        def body(builder, source, target):
            low = emit.load(builder, source, ir.VectorType(ir.IntType(width * 8), 8))
            if width < 8:
                low = builder.sext(low, ir.VectorType(_I64, 8))
            emit.store(builder, _widened(builder, low, 8), target)

        return _steps(2, body)

    return widen


widen_4, widen_8 = map(_widener, (4, 8))


def _big_endian(width):
    @intrinsic
    def read(typing_context, source, size, target):
        def body(builder, source, size, target):
            whole = ir.IntType(width * 8)
            swap = emit.function(builder, f"llvm.bswap.i{width * 8}", whole, [whole])
            value = builder.call(swap, [emit.load(builder, source, whole)])
            unused = builder.sub(ir.Constant(_I64, width), size)
            shift = builder.shl(unused, ir.Constant(_I64, 3))
            shift = builder.zext(shift, whole) if width > 8 else shift
            emit.store(builder, builder.ashr(value, shift), target)

        return _steps(3, body)

    return read


# Write the big-endian integer of `size` bytes, from 1 on, as a little-endian one of 8 or 16.
big_endian_8, big_endian_16 = map(_big_endian, (8, 16))


@intrinsic
def bits_to_bytes(typing_context, word, target):
    """Write 64 bytes of 0 or 1."""

    def body(builder, word, target):
        flags = builder.bitcast(word, ir.VectorType(_I1, 64))
        emit.store(builder, builder.zext(flags, ir.VectorType(_I8, 64)), target)

    return _steps(2, body)


@intrinsic
def bytes_to_bits(typing_context, source):
    """Give the bits of the 64 bytes that are not 0."""

    def code(context, builder, signature, arguments):
        read = emit.load(builder, arguments[0], ir.VectorType(_I8, 64))
        zero = ir.Constant(read.type, [0] * 64)
        return builder.bitcast(builder.icmp_unsigned("!=", read, zero), _I64)

    return types.int64(types.int64), code


def _extreme(width, *, signed, largest):
    """Give an intrinsic that gives the least or largest of `count` integers, at least one."""
    element, each = ir.IntType(8 * width), 64 // width
    lanes = ir.VectorType(element, each)
    name = f"{'s' if signed else 'u'}{'max' if largest else 'min'}"

    @intrinsic
    def find(typing_context, source, count):
        def code(context, builder, signature, arguments):
            source, count = arguments
            scaled = ir.Constant(_I64, width)
            over = f"llvm.{name}.v{each}i{8 * width}", f"llvm.{name}.i{8 * width}"
            wider = emit.function(builder, over[0], lanes, [lanes, lanes])
            narrower = emit.function(builder, over[1], element, [element, element])
            reduce = f"llvm.vector.reduce.{name}.v{each}i{8 * width}"
            reduce = emit.function(builder, reduce, element, [lanes])
            first = emit.load(builder, source, element)
            held = cgutils.alloca_once_value(builder, emit.splat(builder, first, each))
            whole = builder.and_(count, ir.Constant(_I64, -each))
            with _every(builder, 0, whole, each) as (i, _):
                here = emit.load(builder, builder.add(source, builder.mul(i, scaled)), lanes)
                builder.store(builder.call(wider, [builder.load(held), here]), held)
            found = cgutils.alloca_once_value(builder, builder.call(reduce, [builder.load(held)]))
            with cgutils.for_range_slice(builder, whole, count, ir.Constant(_I64, 1), _I64) as (
                i,
                _,
            ):
                here = emit.load(builder, builder.add(source, builder.mul(i, scaled)), element)
                builder.store(builder.call(narrower, [builder.load(found), here]), found)
            value = builder.load(found)
            if width == 8:
                return value
            return builder.sext(value, _I64) if signed else builder.zext(value, _I64)

        return types.int64(types.int64, types.int64), code

    return find


def _extremes(width, *, signed):
    return [_extreme(width, signed=signed, largest=largest) for largest in (False, True)]


least_i1, largest_i1 = _extremes(1, signed=True)
least_i2, largest_i2 = _extremes(2, signed=True)
least_i4, largest_i4 = _extremes(4, signed=True)
least_i8, largest_i8 = _extremes(8, signed=True)
least_u1, largest_u1 = _extremes(1, signed=False)
least_u2, largest_u2 = _extremes(2, signed=False)
least_u4, largest_u4 = _extremes(4, signed=False)
least_u8, largest_u8 = _extremes(8, signed=False)


STEP_WINDOW = 512
"""Places of a snappy stream whose steps are measured at once; a multiple of 64."""


@intrinsic
def step_room(typing_context):
    """Give the address of `STEP_WINDOW` bytes on the stack; they hold anything."""

    def code(context, builder, signature, arguments):
        room = cgutils.alloca_once(builder, ir.ArrayType(_I8, STEP_WINDOW))
        return builder.ptrtoint(room, _I64)

    return types.int64(), code


def _by_tag(name, entries):
    """Give an intrinsic that looks a byte up in a table of 256 int32 of its own."""
    table = ir.ArrayType(_I32, 256)

    @intrinsic
    def look_up(typing_context, tag):
        def code(context, builder, signature, arguments):
            held = cgutils.global_constant(builder, name, ir.Constant(table, entries))
            place = builder.gep(held, [ir.Constant(_I64, 0), arguments[0]], inbounds=True)
            return builder.zext(builder.load(place), _I64)

        return types.int64(types.int64), code

    return look_up


def _literal_step(tag):
    """Give the bytes of a short literal, and 8 bits for the tag and for each of them."""
    size = (tag >> 2) + 1 if tag & 3 == 0 else 0
    return size | (8 * size + 8) << 8 if 0 < size <= 4 else 0


def _copy_step(tag):
    """Give size, the bits above the offset's first byte, and the mask of its bytes in the stream.

    They begin at bit 0, 8 and 16; the first two are those of a copy with an offset of 1 byte.
    """
    if tag & 3 == 1:
        return ((tag >> 2 & 7) + 4) | (tag >> 5) << 8 | 0xFF << 16
    return ((tag >> 2) + 1) | 0xFFFF << 16 if tag & 3 == 2 else 0


literal_step = _by_tag("literal_steps", [_literal_step(tag) for tag in range(256)])
copy_step = _by_tag("copy_steps", [_copy_step(tag) for tag in range(256)])


@intrinsic
def step_sizes(typing_context, source, target):
    """Write, for 64 places of a snappy stream, the bytes of the step that would begin there.

    A step is a copy with an offset of 1 or 2 bytes, or a literal of 1 to 4 bytes and then such a
    copy; for anything else 0 is written. Reads 69 bytes.
    """
    lanes = ir.VectorType(_I8, 64)

    def every(value):
        return ir.Constant(lanes, [value] * 64)

    def copies(builder, tags):
        """Give which tags begin such copies, and their sizes."""
        kinds = builder.and_(tags, every(3))
        short = builder.icmp_unsigned("<", builder.sub(kinds, every(1)), every(2))
        return short, builder.add(kinds, every(1))

    def body(builder, source, target):
        tags = emit.load(builder, source, lanes)
        copy, size = copies(builder, tags)
        found = builder.select(copy, size, every(0))
        for literal in range(1, 5):
            behind = emit.load(builder, _at(builder, source, literal + 1), lanes)
            follows, size = copies(builder, behind)
            here = builder.icmp_unsigned("==", tags, every((literal - 1) << 2))
            size = builder.add(size, every(literal + 1))
            found = builder.select(builder.and_(here, follows), size, found)
        emit.store(builder, found, target)

    return _steps(2, body)
