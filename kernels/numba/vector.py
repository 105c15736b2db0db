"""The vocabulary of the skeletons: raw loads and stores, bits, compress-stores, block calls.

Addresses and masks are int64 throughout, because numba makes a float of int64 with uint64. A block
is 64 rows, and bit i of its mask is row i. Everything is portable LLVM IR, but for the compressing
of a block, which `compress.py` writes for each kind of processor.
"""

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from wherry.kernels.layout import BLOCK
from wherry.kernels.numba import compress as _compress
from wherry.kernels.numba import emit

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))


def _count(builder, value):
    return builder.call(emit.function(builder, "llvm.ctpop.i64", _I64, [_I64]), [value])


def _loader(kind, signed):
    @intrinsic
    def load(typing_context, address):
        def code(context, builder, signature, arguments):
            value = emit.load(builder, arguments[0], kind)
            if kind is _I64:
                return value
            return (builder.sext if signed else builder.zext)(value, _I64)

        return types.int64(types.int64), code

    return load


def _storer(kind):
    @intrinsic
    def store(typing_context, address, value):
        def code(context, builder, signature, arguments):
            value = arguments[1] if kind is _I64 else builder.trunc(arguments[1], kind)
            emit.store(builder, value, arguments[0])
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), code

    return store


load_u8, load_i16, load_i32, load_i64 = (
    _loader(kind, signed)
    for kind, signed in ((_I8, False), (_I16, True), (_I32, True), (_I64, True))
)
store_8, store_16, store_32, store_64 = (_storer(kind) for kind in (_I8, _I16, _I32, _I64))


@njit(inline="always")
def offset_at(offsets, width, row):
    """Give the offset of a row's text, `width` (4 or 8) bytes as it is stored."""
    return load_i32(offsets + row * 4) if width == 4 else load_i64(offsets + row * 8)


@intrinsic
def copy_16(typing_context, target, source):
    """Copy 16 bytes."""

    def code(context, builder, signature, arguments):
        emit.store(builder, emit.load(builder, arguments[1], ir.VectorType(_I64, 2)), arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def stream_line(typing_context, target, source):
    """Copy 64 bytes to a multiple of 64, past the caches; `fence` before another thread reads."""

    def code(context, builder, signature, arguments):
        line = ir.VectorType(_I64, 8)
        pointer = builder.inttoptr(arguments[0], ir.PointerType(line))
        store = builder.store(emit.load(builder, arguments[1], line), pointer)
        store.align = 64
        one = builder.module.add_metadata([ir.Constant(_I32, 1)])
        store.set_metadata("nontemporal", one)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def prefetch(typing_context, address):
    """Ask for the line at an address, wherever it is: outside of all memory that is void."""

    def code(context, builder, signature, arguments):
        pointer = ir.PointerType(_I8)
        kinds = [pointer, _I32, _I32, _I32]
        ask = emit.function(builder, "llvm.prefetch.p0", ir.VoidType(), kinds)
        read, near, data = (ir.Constant(_I32, n) for n in (0, 2, 1))
        builder.call(ask, [builder.inttoptr(arguments[0], pointer), read, near, data])
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic
def copy_line(typing_context, target, source):
    """Copy 64 bytes."""

    def code(context, builder, signature, arguments):
        emit.store(builder, emit.load(builder, arguments[1], ir.VectorType(_I64, 8)), arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def fence(typing_context):
    """Let every store before come before every store after, those past the caches too."""

    def code(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def take_next(typing_context, counter):
    """Give the int64 at an address and add 1 to it: each value goes to one thread only."""

    def code(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.PointerType(_I64))
        return builder.atomic_rmw("add", pointer, ir.Constant(_I64, 1), "monotonic")

    return types.int64(types.int64), code


@intrinsic
def lower_to(typing_context, address, value):
    """Give the int64 at an address, which becomes the smaller of it and `value`, in one step."""

    def code(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.PointerType(_I64))
        return builder.atomic_rmw("min", pointer, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), code


@intrinsic
def popcount(typing_context, word):
    """Give the number of set bits."""

    def code(context, builder, signature, arguments):
        return _count(builder, arguments[0])

    return types.int64(types.int64), code


@intrinsic
def lowest(typing_context, word):
    """Give the position of the lowest set bit; 64 if there is none."""

    def code(context, builder, signature, arguments):
        count = emit.function(builder, "llvm.cttz.i64", _I64, [_I64, _I1])
        return builder.call(count, [arguments[0], ir.Constant(_I1, 0)])

    return types.int64(types.int64), code


@intrinsic
def shift_right(typing_context, word, count):
    """Shift right, zeros coming in; `count` is below 64."""

    def code(context, builder, signature, arguments):
        return builder.lshr(*arguments)

    return types.int64(types.int64, types.int64), code


@intrinsic
def below(typing_context, source, limit):
    """Give the bits of 64 int32 that are in [0, limit)."""
    vector = ir.VectorType(_I32, BLOCK)

    def code(context, builder, signature, arguments):
        values = emit.load(builder, arguments[0], vector)
        limit = emit.splat(builder, builder.trunc(arguments[1], _I32), BLOCK)
        return builder.bitcast(builder.icmp_unsigned("<", values, limit), _I64)

    return types.int64(types.int64, types.int64), code


@intrinsic
def all_32(typing_context, source, value):
    """Give 1 if 64 int32 all equal the low 32 bits of `value`, else 0."""
    vector = ir.VectorType(_I32, BLOCK)

    def code(context, builder, signature, arguments):
        values = emit.load(builder, arguments[0], vector)
        value = emit.splat(builder, builder.trunc(arguments[1], _I32), BLOCK)
        other = builder.bitcast(builder.icmp_signed("!=", values, value), _I64)
        return builder.zext(builder.icmp_signed("==", other, ir.Constant(_I64, 0)), _I64)

    return types.int64(types.int64, types.int64), code


@intrinsic
def narrow_32(typing_context, target, source, word, other):
    """Write 64 int32 as int16; those that have no bit in `word` become `other`."""
    narrow = ir.VectorType(_I16, BLOCK)

    def code(context, builder, signature, arguments):
        target, source, word, other = arguments
        values = emit.load(builder, source, ir.VectorType(_I32, BLOCK))
        other = emit.splat(builder, builder.trunc(other, _I16), BLOCK)
        kept = builder.bitcast(word, ir.VectorType(_I1, BLOCK))
        emit.store(builder, builder.select(kept, builder.trunc(values, narrow), other), target)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), code


def _equal(element):
    vector = ir.VectorType(element, BLOCK)

    @intrinsic
    def equal(typing_context, source, value):
        """Give the bits of 64 integers that equal the low bits of `value`."""

        def code(context, builder, signature, arguments):
            values = emit.load(builder, arguments[0], vector)
            value = arguments[1] if element is _I64 else builder.trunc(arguments[1], element)
            same = builder.icmp_signed("==", values, emit.splat(builder, value, BLOCK))
            return builder.bitcast(same, _I64)

        return types.int64(types.int64, types.int64), code

    return equal


equal_8, equal_16, equal_32, equal_64 = map(_equal, (_I8, _I16, _I32, _I64))


@intrinsic
def compress_bits(typing_context, bits, mask):
    """Give the bits of `bits` that `mask` selects, moved together at the low end."""

    def code(context, builder, signature, arguments):
        return builder.call(emit.word(builder, _compress.BITS, _I64, [_I64] * 2), arguments)

    return types.int64(types.int64, types.int64), code


def _compressor(width):
    """Give an intrinsic that writes a block's selected values of `width` bytes side by side."""

    @intrinsic
    def compress(typing_context, target, source, mask):
        def code(context, builder, signature, arguments):
            word = emit.word(builder, f"compress_{width}", ir.VoidType(), [_I64] * 3)
            builder.call(word, arguments)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), code

    return compress


compress_1, compress_2, compress_4, compress_8, compress_16 = map(_compressor, _compress.WIDTHS)


def _caller(count, result):
    """Give an intrinsic that calls the function at an address with `count` int64 arguments."""
    kind = ir.FunctionType(_I64 if result else ir.VoidType(), [_I64] * count)

    def code(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.PointerType(kind))
        value = builder.call(pointer, list(arguments[1:]))
        return value if result else context.get_dummy_value()

    return (types.int64 if result else types.void)(*[types.int64] * (count + 1)), code


@intrinsic
def call_mask(typing_context, function, context, row):
    """Call `mask(context, row)`: the bits of the rows that pass."""
    return _caller(2, True)


@intrinsic
def call_values(typing_context, function, context, row, target):
    """Call `values(context, row, target)`: 64 values written, their validity bits returned."""
    return _caller(3, True)


@intrinsic
def call_probe(typing_context, function, context, row, table, target):
    """Call `probe(context, row, table, target)`: 64 keys written, bits of candidates returned."""
    return _caller(4, True)


@intrinsic
def call_accumulate(typing_context, function, context, row, mask, state):
    """Call `accumulate(context, row, mask, state)`."""
    return _caller(4, False)


@intrinsic
def call_scatter(typing_context, function, context, row, mask, ids, states):
    """Call `scatter(context, row, mask, ids, states)`: one state per group."""
    return _caller(5, False)


@intrinsic
def call_images(typing_context, function, context, row, needed, target):
    """Call `images(context, row, needed, target)`: key images written, fitting rows returned."""
    return _caller(4, True)


@intrinsic
def call_match(typing_context, function, images, needed, known, groups, masks):
    """Call `match(images, needed, known, groups, masks)`: the rows that no known group has."""
    return _caller(5, True)


@intrinsic
def call_learn(typing_context, function, images, lane, target):
    """Call `learn(images, lane, target)`: the key words of one row."""
    return _caller(3, False)


@intrinsic
def call_spread(typing_context, function, context, row, needed, masks, groups, lanes):
    """Call `spread(context, row, needed, masks, groups, lanes)`: rows into lanes by mask."""
    return _caller(6, False)


@intrinsic
def call_fold(typing_context, function, lanes, groups, states):
    """Call `fold(lanes, groups, states)`: lanes into states, and lanes begun anew."""
    return _caller(3, False)
