"""The block functions of a pass: what the skeletons call for every 64 rows.

mask(context, row) -> bits                      which rows pass the predicate
values(context, row, target) -> validity        64 values of one output
accumulate(context, row, mask, state)           rows into one state
keys(context, row, target) -> 0                 64 group keys, word by word
probe(context, row, table, target) -> bits      64 keys of a join, and which may have a match
scatter(context, row, mask, ids, states) -> 0   rows into the state of their group
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa
from llvmlite import ir
from msgspec import Struct

from wherry.ir.expr import Node, columns_of, conjuncts
from wherry.ir.resolve import type_of
from wherry.render.encode import NULL_BITS
from wherry.render.keys import key_parts, store_words, table_words
from wherry.render.loop import (
    BITS,
    F64,
    I1,
    I64,
    Loop,
    Slot,
    Variant,
    constant,
    declare,
    element_bytes,
    element_of,
    flags,
    load,
    store,
    stored_element,
    vector,
    widen,
)
from wherry.render.lower import lower, to_width
from wherry.render.moments import Rooms, add_block, add_row, keep_values
from wherry.render.probe import Table, candidates
from wherry.render.state import Cell, combined, dense, identity, lanes_of, reduced
from wherry.render.textkeys import Head, TextKey, write_words

_UNROLLED: Final = 4
"""Rows of a loop without branches."""


class Writer(Struct):
    """A module in the making, and the context entries that its functions read."""

    variant: Variant
    module: Any
    slots: dict[Slot, int]

    def begin(self, name: str, arguments: int, *, result: bool = True) -> tuple[Any, Any]:
        """Give a new function of `arguments` int64 and the builder of its entry."""
        kind = ir.FunctionType(I64 if result else ir.VoidType(), [I64] * arguments)
        function = ir.Function(self.module, kind, name)
        return function, ir.IRBuilder(function.append_basic_block("entry"))

    def loop(self, function: Any, head: Any, needed: Any = None) -> Loop:
        """Give a loop over the lanes of a block."""
        return Loop(function, head, self.slots, self.variant, lower, needed=needed)


def writer(variant: Variant) -> Writer:
    """Give an empty module."""
    module = ir.Module("program")
    return Writer(variant, module, {})


def write_mask(w: Writer, predicate: Node) -> None:
    """Write `mask`: conjuncts in their order, and no later one once no row is left.

    Neighbouring conjuncts over the same columns share a loop; another column is not read before the
    rows that need it are known.
    """
    function, head = w.begin("mask", 2)
    running: Any = ir.Constant(I64, -1)
    groups = by_columns(conjuncts(predicate))
    for number, terms in enumerate(groups):
        loop = w.loop(function, head, running)
        bits: Any = ir.Constant(BITS, -1)
        for term in terms:
            value = loop.value(term)
            bits = loop.body.and_(bits, value.data)
            bits = bits if value.valid is None else loop.body.and_(bits, value.valid)
        word = loop.gather_word(bits)
        if number == 0:
            # Every row is read. Later columns may be read here and there only.
            loop.prefetch()
        head = loop.close()
        running = head.and_(running, word())
        if number + 1 < len(groups):
            head = _unless_zero(function, head, running)
    head.ret(running)


def by_columns(terms: Sequence[Node]) -> list[list[Node]]:
    """Give terms in their order, neighbours that read the same columns together."""
    groups: list[list[Node]] = []
    for term in terms:
        if groups and columns_of(term) == columns_of(groups[-1][-1]):
            groups[-1].append(term)
        else:
            groups.append([term])
    return groups


def _unless_zero(function: Any, head: Any, word: Any) -> Any:
    none, following = (function.append_basic_block(n) for n in ("none", "more"))
    empty = head.icmp_unsigned("==", word, ir.Constant(I64, 0))
    head.cbranch(empty, none, following)
    ir.IRBuilder(none).ret(ir.Constant(I64, 0))
    return ir.IRBuilder(following)


def write_values(w: Writer, name: str, node: Node) -> None:
    """Write `values` for one output, in the layout of its Arrow type; truth as a word of bits."""
    function, head = w.begin(name, 3)
    loop = w.loop(function, head)
    value, boolean = loop.value(node), pa.types.is_boolean(type_of(node))
    known = None if value.valid is None else loop.gather_word(value.valid)
    if boolean:
        truth = loop.gather_word(value.data)
    else:
        element = stored_element(type_of(node))
        data = value.data if element is F64 else _as_stored(loop, value.data, element)
        size = ir.Constant(I64, element_bytes(element))
        at = loop.body.add(function.args[2], loop.body.mul(loop.lane, size))
        store(loop.body, data, at)
    after = loop.close()
    if boolean:
        store(after, truth(), function.args[2])
    after.ret(ir.Constant(I64, -1) if known is None else known())


def _as_stored(loop: Loop, data: Any, element: Any) -> Any:
    integer = isinstance(element, ir.IntType)
    return to_width(loop.body, data, element, signed=True) if integer else data


def write_accumulate(w: Writer, cells: Sequence[Cell]) -> None:
    """Write `accumulate`: all aggregates of a block in one loop, then one update of the state."""
    function, head = w.begin("accumulate", 4, result=False)
    loop, mask = w.loop(function, head), function.args[2]
    bits = loop.slice(mask)
    parts: list[tuple[Cell, Any, list[Any]]] = []
    kept = [(cell, *_rooms(loop, head, cell)) for cell in cells if cell.spread]
    for cell in cells:
        if cell.spread:
            continue
        if cell.argument is None:
            parts.append((cell, None, []))
            continue
        value = loop.value(cell.argument)
        part = bits if value.valid is None else loop.body.and_(bits, value.valid)
        known = None if value.valid is None else loop.gather_word(part)
        sums = []
        for lanes in lanes_of(cell, loop.body, value.data):
            carried = loop.carry(constant(lanes.type.element, identity(cell, lanes.type.element)))
            chosen = loop.body.select(
                flags(loop.body, part), combined(cell, loop.body, carried, lanes), carried
            )
            loop.keep(carried, chosen)
            sums.append(chosen)
        parts.append((cell, known, sums))
    after = loop.close()
    for cell, known, sums in parts:
        at = after.add(function.args[3], ir.Constant(I64, cell.offset))
        add_count(after, at, popcount(after, mask if known is None else known()))
        for number, lanes in enumerate(sums):
            update(cell, after, at, number, reduced(cell, after, lanes))
    for cell, rooms, known in kept:
        at = after.add(function.args[3], ir.Constant(I64, cell.offset))
        word = mask if known is None else after.and_(mask, known())
        add_block(after, at, word, rooms)
    after.ret_void()


def _rooms(loop: Loop, head: Any, cell: Cell) -> tuple[Rooms, Any]:
    """Keep the values of a block for moments; give where, and the word of those there are."""
    assert cell.argument is not None
    rooms = keep_values(loop, head, cell.argument)
    return rooms, None if rooms.valid is None else loop.gather_word(rooms.valid)


def popcount(b: Any, word: Any) -> Any:
    """Give the number of set bits."""
    return b.call(declare(b.module, "llvm.ctpop.i64", ir.FunctionType(I64, [I64])), [word])


def add_count(b: Any, at: Any, count: Any) -> None:
    """Add to the count in memory."""
    store(b, b.add(load(b, at, I64), count), at)


def update(cell: Cell, b: Any, at: Any, number: int, value: Any) -> None:
    """Combine part `number` of the cell at `at` with a value."""
    place = b.add(at, ir.Constant(I64, 8 + cell.element_bytes * number))
    store(b, combined(cell, b, load(b, place, cell.element), value), place)


def write_scatter(w: Writer, cells: Sequence[Cell], stride: int) -> None:
    """Write `scatter`: arguments of a block are computed in lanes, then added row by row."""
    function, head = w.begin("scatter", 5, result=False)
    after, found = _kept(w, function, head, cells)
    _each_row(function, after, stride, found)


def write_add(w: Writer, cells: Sequence[Cell]) -> tuple[tuple[Cell, ...], bytes, tuple[bool, ...]]:
    """Write `add`: what `scatter` does, into states without counts that equal the group's rows.

    Returns
    -------
    tuple
        The cells of such states, a state before any row, and which cells count their values.
    """
    function, head = w.begin("add", 5, result=False)
    after, found = _kept(w, function, head, cells)
    counted = tuple(kept.word is not None for kept in found)
    made, state = dense(cells, counted)
    # A state has room even if nothing is kept in it.
    state = state or bytes(8)
    found = [
        kept._replace(cell=cell, counts=cell.kind == "count" or kept.word is not None)
        for cell, kept in zip(made, found, strict=True)
    ]
    rest = _every_row(function, after, len(state), found)
    _each_row(function, rest, len(state), found)
    return made, state, counted


class _Kept(NamedTuple):
    """The argument of a cell, kept for the rows of a block.

    `word` has the bits of the valid ones, None if all are, and `counts` tells whether they count.
    """

    cell: Cell
    word: Any
    rooms: Any
    counts: bool


def _kept(w: Writer, function: Any, head: Any, cells: Sequence[Cell]) -> tuple[Any, list[_Kept]]:
    """Keep the arguments of a block; give the builder for what comes after."""
    loop = w.loop(function, head)
    found: list[tuple[Cell, Any, Any]] = []
    for cell in cells:
        if cell.spread:
            moments, known = _rooms(loop, head, cell)
            found.append((cell, known, moments))
            continue
        if cell.argument is None:
            found.append((cell, None, []))
            continue
        value = loop.value(cell.argument)
        known = None if value.valid is None else loop.gather_word(value.valid)
        rooms = []
        for lanes in lanes_of(cell, loop.body, value.data):
            room = head.alloca(vector(lanes.type.element, 64))
            room.align = 64
            address = head.ptrtoint(room, I64)
            size = ir.Constant(I64, element_bytes(lanes.type.element))
            store(loop.body, lanes, loop.body.add(address, loop.body.mul(loop.lane, size)))
            rooms.append((address, lanes.type.element))
        found.append((cell, known, rooms))
    after = loop.close()
    return after, [
        _Kept(cell, None if known is None else known(), at, counts=True)
        for cell, known, at in found
    ]


def _each_row(function: Any, head: Any, stride: int, found: Sequence[_Kept]) -> None:
    """Write the loop over the set bits of the mask; it has at least one."""
    block, done = function.append_basic_block("row"), function.append_basic_block("done")
    b = ir.IRBuilder(block)
    rest = b.phi(I64, "rest")
    rest.add_incoming(function.args[2], head.block)
    head.branch(block)
    kind = ir.FunctionType(I64, [I64, I1])
    lane = b.call(declare(b.module, "llvm.cttz.i64", kind), [rest, ir.Constant(I1, 1)])
    _add_lane(function, b, lane, stride, found)
    less = b.and_(rest, b.sub(rest, ir.Constant(I64, 1)))
    rest.add_incoming(less, b.block)
    b.cbranch(b.icmp_unsigned("!=", less, ir.Constant(I64, 0)), block, done)
    ir.IRBuilder(done).ret_void()


def _every_row(function: Any, head: Any, stride: int, found: Sequence[_Kept]) -> Any:
    """Write a loop over all rows for a mask without gaps; give the builder for other masks."""
    block, some, done = (function.append_basic_block(name) for name in ("all", "some", "end"))
    head.cbranch(head.icmp_signed("==", function.args[2], ir.Constant(I64, -1)), block, some)
    b = ir.IRBuilder(block)
    first = b.phi(I64, "first")
    first.add_incoming(ir.Constant(I64, 0), head.block)
    for step in range(_UNROLLED):
        lane = b.add(first, ir.Constant(I64, step))
        _add_lane(function, b, lane, stride, found)
    following = b.add(first, ir.Constant(I64, _UNROLLED))
    first.add_incoming(following, b.block)
    b.cbranch(b.icmp_unsigned("<", following, ir.Constant(I64, 64)), block, done)
    ir.IRBuilder(done).ret_void()
    return ir.IRBuilder(some)


def _add_lane(function: Any, b: Any, lane: Any, stride: int, found: Sequence[_Kept]) -> None:
    """Add one row to the state of its group."""
    group = load(b, b.add(function.args[3], b.mul(lane, ir.Constant(I64, 8))), I64)
    state = b.add(function.args[4], b.mul(group, ir.Constant(I64, stride)))
    for cell, word, rooms, count in found:
        at = b.add(state, ir.Constant(I64, cell.offset))
        one = ir.Constant(I64, 1)
        bit = one if word is None else b.and_(b.lshr(word, lane), one)
        if cell.spread:
            add_row(b, at, lane, bit, rooms)
            continue
        if count:
            add_count(b, at, bit)
        for number, (address, element) in enumerate(rooms):
            size = ir.Constant(I64, element_bytes(element))
            value = load(b, b.add(address, b.mul(lane, size)), element)
            if word is not None:
                nothing = ir.Constant(element, identity(cell, element))
                value = b.select(b.trunc(bit, I1), value, nothing)
            update(cell, b, at, number, widened(cell, b, value))


def write_join(w: Writer, cells: Sequence[Cell], stride: int, counted: Sequence[bool]) -> None:
    """Write `join(states, others, count)`: as many states into states, one after the other."""
    function, head = w.begin("join", 3, result=False)
    block, done = function.append_basic_block("state"), function.append_basic_block("done")
    states, others, count = function.args
    b = ir.IRBuilder(block)
    number = b.phi(I64, "number")
    number.add_incoming(ir.Constant(I64, 0), head.block)
    head.branch(block)
    place = b.mul(number, ir.Constant(I64, stride))
    to, source = b.add(states, place), b.add(others, place)
    for cell, counts in zip(cells, counted, strict=True):
        at, other = (b.add(start, ir.Constant(I64, cell.offset)) for start in (to, source))
        if cell.kind == "count" or counts:
            add_count(b, at, load(b, other, I64))
        for part in range(cell.parts):
            offset = ir.Constant(I64, 8 + cell.element_bytes * part)
            update(cell, b, at, part, load(b, b.add(other, offset), cell.element))
    following = b.add(number, ir.Constant(I64, 1))
    number.add_incoming(following, block)
    b.cbranch(b.icmp_unsigned("<", following, count), block, done)
    ir.IRBuilder(done).ret_void()


def widened(cell: Cell, b: Any, value: Any) -> Any:
    """Give a lane's value in the type of the state."""
    return value if value.type == cell.element else b.sext(value, cell.element)


def write_slots(w: Writer, keys: Sequence[Node], name: str = "keys") -> None:
    """Write `keys`, or what `name` says, for a small domain: the one word is the slot."""
    function, head = w.begin(name, 3)
    loop = w.loop(function, head)
    store(loop.body, slots_of(loop, keys), word_at(loop, function.args[2], 0))
    loop.close().ret(ir.Constant(I64, 0))


def slots_of(loop: Loop, keys: Sequence[Node]) -> Any:
    """Give the slots of keys in small domains: the sum of value minus low times stride."""
    total = constant(I64, 0)
    for number, node in enumerate(keys):
        value, b = loop.value(node), loop.body
        if pa.types.is_boolean(type_of(node)):
            codes = b.zext(flags(b, value.data), vector(I64))
        else:
            unsigned = pa.types.is_unsigned_integer(type_of(node))
            codes = (_extended if unsigned else widen)(b, value.data, I64)
            codes = b.sub(codes, _splat(loop, "low", number))
        if value.valid is not None:
            null = _splat(loop, "size", number)
            codes = b.select(flags(b, value.valid), codes, null)
        stride = _splat(loop, "stride", number)
        total = b.add(total, b.mul(codes, stride))
    return total


def _extended(b: Any, data: Any, element: Any) -> Any:
    return data if data.type.element == element else b.zext(data, vector(element))


def _splat(loop: Loop, kind: str, number: int) -> Any:
    return loop.splat(loop.slot(kind, str(number)))


def word_at(loop: Loop, target: Any, number: int) -> Any:
    """Give where this iteration's part of word `number` of a block of keys goes."""
    place = loop.body.mul(loop.lane, ir.Constant(I64, 8))
    return loop.body.add(loop.body.add(target, place), ir.Constant(I64, 512 * number))


def key_words(node: Node | TextKey, variant: Variant) -> int:
    """Give how many int64 words a key takes."""
    if isinstance(node, TextKey):
        return node.words
    return 2 if element_of_key(node, variant) == 128 else 1


def element_of_key(node: Node, variant: Variant) -> int:
    """Give the bits of the values of a key."""
    if pa.types.is_boolean(type_of(node)):
        return 1
    element = element_of(node, variant)
    return element_bytes(element) * 8


def write_keys(w: Writer, keys: Sequence[Node | TextKey]) -> int:
    """Write `keys` for hashing; give how many words a key has: values, then those of null bits."""
    function, head = w.begin("keys", 3)
    texts = {
        number: _text_words(w, function, head, key)
        for number, key in enumerate(keys)
        if isinstance(key, TextKey)
    }
    loop = w.loop(function, head)
    words: list[Any] = []
    nulls = [constant(I64, 0) for _ in range(0, len(keys), NULL_BITS)]
    nullable = False
    for number, node in enumerate(keys):
        b = loop.body
        if isinstance(node, TextKey):
            valid, parts = loop.valid(node.column), _loaded(loop, texts[number], node.words)
        else:
            value = loop.value(node)
            valid, parts = value.valid, key_parts(loop, value.data, type_of(node))
        if valid is not None:
            nullable, known = True, flags(b, valid)
            parts = [b.select(known, part, constant(I64, 0)) for part in parts]
            place, shift = divmod(number, NULL_BITS)
            bit = b.select(known, constant(I64, 0), constant(I64, 1 << shift))
            nulls[place] = b.or_(nulls[place], bit)
        words += parts
    if nullable:
        words += nulls
    for number, word in enumerate(words):
        store(loop.body, word, word_at(loop, function.args[2], number))
    loop.prefetch()
    loop.close().ret(ir.Constant(I64, 0))
    return len(words)


def write_probe(w: Writer, keys: tuple[Node, ...]) -> None:
    """Write `probe`: keys as the table of a build has them, and which may have a match."""
    function, head = w.begin("probe", 4)
    loop = w.loop(function, head)
    words, valid = table_words(loop, keys)
    store_words(loop.body, words, function.args[3], 64, loop.lane)
    every = ir.Constant(BITS, -1) if valid is None else valid
    found = loop.gather_word(candidates(loop, Table(loop, function.args[2]), words, every))
    loop.close().ret(found())


def _text_words(w: Writer, function: Any, b: Any, key: TextKey) -> Any:
    """Write the words of a block's texts, all of them short enough; give where."""
    room = b.alloca(vector(I64, 64 * key.words))
    room.align = 64
    head, address = Head(w.slots, w.variant, function, b), b.ptrtoint(room, I64)
    valid = head.valid(key.column)
    write_words(head, key, ir.Constant(I64, -1) if valid is None else valid, address)
    return address


def _loaded(loop: Loop, room: Any, words: int) -> list[Any]:
    return [load(loop.body, word_at(loop, room, n), vector(I64)) for n in range(words)]
