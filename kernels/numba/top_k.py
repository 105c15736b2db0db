"""The rows with the smallest keys, found in one pass over the column that matters most.

A key becomes an int64 word, so that smaller words come first whatever the type and direction. Words
of 64 rows are compared at once with the bound, the `count`-th smallest word so far; only rows that
pass are looked at one by one, and they are few: about count * log(rows / count) of them. A thread
goes on with its bound from chunk to chunk, and threads tell each other theirs. So which rows are
found depends on who was quick, but those that are really the first are always among them.
"""

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from wherry.kernels.layout import BLOCK, WORD_KINDS
from wherry.kernels.numba import emit
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    load_i64,
    load_u8,
    lower_to,
    lowest,
    prefetch,
    store_64,
    take_next,
)

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_LARGEST = (1 << 63) - 1
_BITS = [int(kind.lstrip("abcdefghijklmnopqrstuvwxyz")) for kind in WORD_KINDS]
_DONE, _TOO_WIDE, _TOO_MANY = 1, -1, -2
_TOLD = 64
"""Blocks after which a thread looks what bound others have found."""
_AHEAD = 2048
"""Bytes ahead of a block that are asked for."""
_DECIMAL = WORD_KINDS.index("decimal128")


def _all(value, t):
    return ir.Constant(t, [value] * t.count)


def _words(builder, address, flip, kind, lanes):
    """Give the words of `lanes` values as a vector, and where 64 bits cannot hold them or None.

    Words of a decimal that 64 bits cannot hold mean nothing.
    """
    name, bits = WORD_KINDS[kind], _BITS[kind]
    wide = ir.VectorType(_I64, lanes)
    stored = ir.VectorType(ir.IntType(min(bits, 64)), lanes * bits // min(bits, 64))
    values = builder.load(builder.inttoptr(address, ir.PointerType(stored)), align=1)
    outside = nan = None
    if kind == _DECIMAL:
        unset, numbers = ir.Constant(stored, ir.Undefined), ir.VectorType(_I32, lanes)
        low, high = (
            builder.shuffle_vector(
                values, unset, ir.Constant(numbers, list(range(part, 2 * lanes, 2)))
            )
            for part in (0, 1)
        )
        values, outside = low, builder.icmp_signed("!=", high, builder.ashr(low, _all(63, wide)))
    elif name.startswith("float"):
        size = builder.and_(values, _all((1 << (bits - 1)) - 1, stored))
        infinity = {32: 0xFF << 23, 64: 0x7FF << 52}[bits]
        nan = builder.icmp_signed(">", size, _all(infinity, stored))
        # The bits of a negative number count its size up; 0.0 and -0.0 are one.
        negative = builder.icmp_signed("<", values, _all(0, stored))
        values = builder.select(negative, builder.neg(size), size)
    extend = builder.zext if name.startswith("u") else builder.sext
    words = values if values.type == wide else extend(values, wide)
    if name == "uint64":
        words = builder.xor(words, _all(-(1 << 63), wide))
    words = builder.xor(words, emit.splat(builder, flip, lanes))
    if nan is not None:
        words = builder.select(nan, _all(_LARGEST, wide), words)  # behind all numbers, both ways
    return words, outside


def _by_kind(builder, kind, result, one):
    """Emit a switch over the kinds; give the value that the case taken made."""
    end = builder.append_basic_block("end")
    impossible = builder.append_basic_block("impossible")
    switch = builder.switch(kind, impossible)
    builder.position_at_end(impossible)
    builder.unreachable()
    made = []
    for number in range(len(WORD_KINDS)):
        block = builder.append_basic_block(WORD_KINDS[number])
        switch.add_case(ir.Constant(_I64, number), block)
        builder.position_at_end(block)
        made.append((one(number), builder.block))
        builder.branch(end)
    builder.position_at_end(end)
    found = builder.phi(result)
    for value, block in made:
        found.add_incoming(value, block)
    return found


@intrinsic
def _below(typing_context, kind, address, flip, bound):
    """Give the bits of 64 rows whose words are at most `bound`, or that 64 bits cannot hold."""

    def code(context, builder, signature, arguments):
        kind, address, flip, bound = arguments

        def one(number):
            words, outside = _words(builder, address, flip, number, BLOCK)
            passed = builder.icmp_signed("<=", words, emit.splat(builder, bound, BLOCK))
            passed = passed if outside is None else builder.or_(passed, outside)
            return builder.bitcast(passed, _I64)

        return _by_kind(builder, kind, _I64, one)

    return types.int64(*[types.int64] * 4), code


@intrinsic
def _word(typing_context, kind, address, flip):
    """Give the word of one value."""

    def code(context, builder, signature, arguments):
        kind, address, flip = arguments

        def one(number):
            words, _ = _words(builder, address, flip, number, 1)
            return builder.extract_element(words, ir.Constant(_I32, 0))

        return _by_kind(builder, kind, _I64, one)

    return types.int64(*[types.int64] * 3), code


@intrinsic
def _outside(typing_context, address):
    """Tell whether 64 bits cannot hold a decimal."""

    def code(context, builder, signature, arguments):
        _, outside = _words(builder, arguments[0], ir.Constant(_I64, 0), _DECIMAL, 1)
        return builder.zext(builder.extract_element(outside, ir.Constant(_I32, 0)), _I64)

    return types.int64(types.int64), code


@njit
def _smallest(words, size, count):
    """Give the `count`-th smallest of `size` words, whose order changes."""
    first, last, wanted = 0, size - 1, count - 1
    while first < last:
        pivot = load_i64(words + ((first + last) >> 1) * 8)
        left, right = first, last
        while left <= right:
            while load_i64(words + left * 8) < pivot:
                left += 1
            while load_i64(words + right * 8) > pivot:
                right -= 1
            if left <= right:
                kept = load_i64(words + left * 8)
                store_64(words + left * 8, load_i64(words + right * 8))
                store_64(words + right * 8, kept)
                left += 1
                right -= 1
        if wanted <= right:
            last = right
        elif wanted >= left:
            first = left
        else:
            break
    return load_i64(words + wanted * 8)


@njit
def _reduced(rows, words, spare, held, count, ties):
    """Keep what may be among the first `count`; give how many stay, behind them the bound.

    Rows whose word is the bound stay as long as there is room among the first, or all if `ties`.
    """
    for i in range(held):
        store_64(spare + i * 8, load_i64(words + i * 8))
    bound = _smallest(spare, held, count)
    room = count
    for i in range(held):
        room -= 1 if load_i64(words + i * 8) < bound else 0
    kept = 0
    for i in range(held):
        word = load_i64(words + i * 8)
        equal = word == bound
        if word < bound or (equal and (ties != 0 or room > 0)):
            room -= 1 if equal else 0
            store_64(rows + kept * 8, load_i64(rows + i * 8))
            store_64(words + kept * 8, word)
            kept += 1
    return kept, bound


@njit
def _passing(kind, width, flip, at, rows, valid, first, bound):
    """Give the bits of fewer than 64 rows at `at`, one by one; `first` is their number."""
    passed = 0
    for lane in range(rows):
        row = first + lane
        known = valid == 0 or (load_u8(valid + (row >> 3)) >> (row & 7)) & 1 != 0
        if known and (
            _word(kind, at + lane * width, flip) <= bound
            or (kind == _DECIMAL and _outside(at + lane * width) != 0)
        ):
            passed |= 1 << lane
    return passed


@njit
def _lowered(rows, words, spare, held, count, ties, shared):
    """Keep what may be among the first; give how many stay, and the largest word still wanted."""
    held, bound = _reduced(rows, words, spare, held, count, ties)
    told = lower_to(shared, bound)
    if ties == 0 and bound > -_LARGEST - 1:
        bound -= 1  # A later row with the same word comes later.
    return held, min(bound, told)


@njit
def _scan(kind, width, flip, chunk, count, ties, state, shared, found, capacity):
    """Add the rows of a chunk that can be among the first `count`."""
    values, valid = load_i64(chunk), load_i64(chunk + 8)
    rows, first = load_i64(chunk + 16), load_i64(chunk + 24)
    words, spare = found + capacity * 8, found + capacity * 16
    held, bound = load_i64(state), load_i64(state + 8)
    whole = rows // BLOCK
    for block in range(whole + (1 if rows % BLOCK else 0)):
        at = values + block * BLOCK * width
        if block & (_TOLD - 1) == 0:
            # Rows equal to another thread's bound stay: they may come before its own.
            bound = min(bound, lower_to(shared, _LARGEST))
        if block < whole:
            for line in range(width):
                prefetch(at + _AHEAD + line * 64)
            passed = _below(kind, at, flip, bound)
            if valid != 0:
                passed &= load_i64(valid + block * 8)
        else:
            passed = _passing(kind, width, flip, at, rows % BLOCK, valid, block * BLOCK, bound)
        while passed != 0:
            lane = lowest(passed)
            passed &= passed - 1
            if kind == _DECIMAL and _outside(at + lane * width) != 0:
                store_64(state + 16, _TOO_WIDE)
                return
            store_64(found + held * 8, first + block * BLOCK + lane)
            store_64(words + held * 8, _word(kind, at + lane * width, flip))
            held += 1
        if held + BLOCK > capacity:
            held, bound = _lowered(found, words, spare, held, count, ties, shared)
            if ties == 0 and bound == -_LARGEST - 1:
                store_64(state + 16, _DONE)
                break
            if held + BLOCK > capacity:
                store_64(state + 16, _TOO_MANY)
                return
    if held > count:
        held, bound = _lowered(found, words, spare, held, count, ties, shared)
    store_64(state, held)
    store_64(state + 8, bound)


@kernel(12)
def candidates_each(
    kind, width, flip, share, chunks, count, ties, state, shared, found, capacity, counter
):
    """Find the rows of a chunk that can be among the first `count` of all in order of words.

    Every thread finds some of them, in order of rows. Gives 0 when there is no chunk left, or no
    use in going on.

    Parameters
    ----------
    kind, width : int
        Place in WORD_KINDS, and bytes of a value.
    flip : int
        -1 for descending order, 0 for ascending.
    share : int
        Four int64 a chunk: where its values lie, and its validity bitmap (0 if all are; null rows
        are passed over), how many rows it has, and the number of the first of them.
    ties : int
        Not 0 keeps every row whose word equals the last one: other keys decide among them.
    state : int
        This thread's own: how many rows it found, the largest word of rows it still looks for
        (begins with the largest int64), and 0; or 1 if no further row can be among the first, -1
        if a decimal needs more than 64 bits, -2 if there are more ties than room.
    shared : int
        All threads' bound, of which each has found `count` rows: begins with the largest int64.
    found, capacity : int
        This thread's own room for 3 times `capacity` int64: row numbers, words, and scratch; more
        than count + 64.
    """
    if load_i64(state + 16) != 0:
        return 0
    chunk = take_next(counter)
    if chunk >= chunks:
        return 0
    _scan(kind, width, flip, share + chunk * 32, count, ties, state, shared, found, capacity)
    return 1
