"""A row as words side by side: how rows wait to be grouped where all chunks meet.

A record holds the words of the key, words of null bits if a key can be null, the arguments of the
aggregates, and words of their validity bits. Keys have as many words as their type needs, whatever
is proven of a chunk, and arguments are written as partial values are, so that records of rows and
records of rows of partial values can be folded into the same states.

record(context, row, target) -> 0          64 records, column by column
fold(records, count, ids, states)          records into the state of their group
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from llvmlite import ir
from msgspec import Struct

from wherry.ir.expr import Call, Node
from wherry.ir.resolve import type_of
from wherry.render.encode import NULL_BITS
from wherry.render.functions import Writer, slots_of, word_at
from wherry.render.keys import key_parts
from wherry.render.loop import (
    F32,
    F64,
    I1,
    I32,
    I64,
    I128,
    Loop,
    constant,
    flags,
    load,
    store,
    vector,
)
from wherry.render.state import Cell, combined

_DIGITS_64 = 18


class Source(Struct, frozen=True):
    """Where a record holds what an aggregate takes.

    Parameters
    ----------
    kind : str
        count, if the row counts as 1; otherwise value.
    word, words : int
        The first word of the value, and how many.
    bit : int
        Which validity bit says that there is one; -1 if there always is.
    """

    kind: str
    word: int
    words: int
    bit: int


class Layout(Struct, frozen=True):
    """What the words of a record are.

    Parameters
    ----------
    key_widths : tuple of int
        Words of each key.
    null_words : int
        Words of null bits behind them.
    sources : tuple of Source
        Of each aggregate.
    valid : int
        The first word of validity bits.
    words : int
        Of a record.
    """

    key_widths: tuple[int, ...]
    null_words: int
    sources: tuple[Source, ...]
    valid: int
    words: int

    @property
    def key_words(self) -> int:
        """Give the words of key and null bits."""
        return sum(self.key_widths) + self.null_words

    def counts(self, number: int) -> bool:
        """Tell whether an aggregate takes values that not every row has, so that they count."""
        source = self.sources[number]
        return source.kind == "value" and source.bit >= 0


def key_width(t: pa.DataType) -> int:
    """Give the words of a key of type `t`, whatever is known of its values."""
    return 2 if pa.types.is_decimal(t) and t.precision > _DIGITS_64 else 1


def write_record(w: Writer, keys: Sequence[Node], calls: Sequence[Call]) -> Layout:
    """Write `record`; give what it writes."""
    function, head = w.begin("record", 3)
    loop = w.loop(function, head)
    widths = tuple(key_width(type_of(node)) for node in keys)
    words, nulls = _keys(loop, keys, widths)
    return _recorded(loop, function, words + nulls, calls, (widths, len(nulls)))


def write_slot_record(w: Writer, keys: Sequence[Node], calls: Sequence[Call]) -> Layout:
    """Write `slot_record`, a record for keys of small domains, whose one word is their slot."""
    function, head = w.begin("slot_record", 3)
    loop = w.loop(function, head)
    return _recorded(loop, function, [slots_of(loop, keys)], calls, ((1,), 0))


def _recorded(
    loop: Loop,
    function: Any,
    words: list[Any],
    calls: Sequence[Call],
    key: tuple[tuple[int, ...], int],
) -> Layout:
    """Write the words of keys and what aggregates take behind them, column by column."""
    found: dict[tuple[Node, bool], tuple[int, int]] = {}
    bits: list[Node] = []
    known: list[Any] = []
    sources = []
    for call in calls:
        if call.argument is None:
            sources.append(Source("count", 0, 0, -1))
            continue
        value = loop.value(call.argument)
        bit = -1
        if value.valid is not None:
            if call.argument not in bits:
                bits.append(call.argument)
                known.append(value.valid)
            bit = bits.index(call.argument)
        if call.kind == "count":
            sources.append(Source("count", 0, 0, bit))
            continue
        form = (call.argument, call.kind == "sum" and value.data.type.element is F32)
        if form not in found:
            parts = _argument(loop, call, value.data)
            found[form] = (len(words), len(parts))
            words += parts
        sources.append(Source("value", *found[form], bit))
    valid = len(words)
    words += _bit_words(loop, known)
    for number, word in enumerate(words):
        store(loop.body, word, word_at(loop, function.args[2], number))
    loop.close().ret(ir.Constant(I64, 0))
    return Layout(*key, tuple(sources), valid, len(words))


def _keys(loop: Loop, keys: Sequence[Node], widths: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """Give the words of keys, 0 for nulls, and of null bits, if a key has nulls."""
    words: list[Any] = []
    missing = []
    for number, (node, width) in enumerate(zip(keys, widths, strict=True)):
        value, b = loop.value(node), loop.body
        parts = key_parts(loop, value.data, type_of(node))[:width]
        if len(parts) < width:
            parts.append(b.ashr(parts[0], constant(I64, 63)))
        if value.valid is not None:
            parts = [b.select(flags(b, value.valid), part, constant(I64, 0)) for part in parts]
            missing.append((number, b.not_(value.valid)))
        words += parts
    if not missing:
        return words, []
    nulls = [constant(I64, 0) for _ in range(0, len(keys), NULL_BITS)]
    for number, gone in missing:
        place, shift = divmod(number, NULL_BITS)
        nulls[place] = _with_bit(loop, nulls[place], gone, shift)
    return words, nulls


def _bit_words(loop: Loop, known: Sequence[Any]) -> list[Any]:
    words = [constant(I64, 0) for _ in range(0, len(known), 64)]
    for number, valid in enumerate(known):
        place, shift = divmod(number, 64)
        words[place] = _with_bit(loop, words[place], valid, shift)
    return words


def _with_bit(loop: Loop, word: Any, bits: Any, shift: int) -> Any:
    b = loop.body
    bit = constant(I64, 1 << shift if shift < 63 else -(1 << 63))
    return b.or_(word, b.select(flags(b, bits), bit, constant(I64, 0)))


def _argument(loop: Loop, call: Call, data: Any) -> list[Any]:
    """Give an argument as words: of a sum in the type of the sum, otherwise in its own."""
    b, element = loop.body, data.type.element
    if element is F32 and call.kind == "sum":
        data, element = b.fpext(data, vector(F64)), F64
    if element is F64:
        return [b.bitcast(data, vector(I64))]
    if element is F32:
        return [b.zext(b.bitcast(data, vector(I32)), vector(I64))]
    if element.width == 128:
        high = b.ashr(data, constant(I128, 64))
        return [b.trunc(data, vector(I64)), b.trunc(high, vector(I64))]
    if element.width == 64:
        return [data]
    assert call.argument is not None
    unsigned = pa.types.is_unsigned_integer(type_of(call.argument))
    return [(b.zext if unsigned else b.sext)(data, vector(I64))]


def write_fold(
    w: Writer, layout: Layout, cells: Sequence[Cell], counted: Sequence[bool], stride: int
) -> None:
    """Write `fold` from records of `layout` into states of `cells`, `stride` bytes each.

    Parameters
    ----------
    counted : sequence of bool
        Whether a cell counts its values. Others have no count: every group has a row, and every row
        a value.
    """
    function, head = w.begin("fold", 4, result=False)
    block, done = function.append_basic_block("row"), function.append_basic_block("done")
    records, count, ids, states = function.args
    b = ir.IRBuilder(block)
    row = b.phi(I64, "row")
    row.add_incoming(ir.Constant(I64, 0), head.block)
    head.branch(block)
    record = b.add(records, b.mul(row, ir.Constant(I64, 8 * layout.words)))
    group = load(b, b.add(ids, b.mul(row, ir.Constant(I64, 8))), I64)
    state = b.add(states, b.mul(group, ir.Constant(I64, stride)))
    for cell, source, count_it in zip(cells, layout.sources, counted, strict=True):
        at = b.add(state, ir.Constant(I64, cell.offset))
        _fold_cell(b, (record, at), layout.valid, cell, source, counted=count_it)
    following = b.add(row, ir.Constant(I64, 1))
    row.add_incoming(following, b.block)
    b.cbranch(b.icmp_unsigned("<", following, count), block, done)
    ir.IRBuilder(done).ret_void()


def _fold_cell(
    b: Any, places: tuple[Any, Any], valid: int, cell: Cell, source: Source, *, counted: bool
) -> None:
    record, at = places
    one = ir.Constant(I64, 1)
    present: Any = one
    if source.bit >= 0:
        place, shift = divmod(source.bit, 64)
        bits = _word(b, record, valid + place)
        present = b.and_(b.lshr(bits, ir.Constant(I64, shift)), one)
    # A partial count is a value, and 0 where the row has none to count.
    if cell.kind == "count" or counted:
        add = present if cell.kind == "count" or source.kind == "value" else one
        store(b, b.add(load(b, at, I64), add), at)
    if cell.kind == "count":
        return
    value = present if source.kind == "count" else _value(b, record, cell, source)
    for number, part in enumerate(_parts(b, cell, value)):
        place = b.add(at, ir.Constant(I64, 8 + cell.element_bytes * number))
        kept = load(b, place, cell.element)
        made = combined(cell, b, kept, part)
        if source.kind == "value" and source.bit >= 0:
            made = b.select(b.trunc(present, I1), made, kept)
        store(b, made, place)


def _word(b: Any, record: Any, number: int) -> Any:
    return load(b, b.add(record, ir.Constant(I64, 8 * number)), I64)


def _value(b: Any, record: Any, cell: Cell, source: Source) -> Any:
    """Give a value in the type of the state."""
    word = _word(b, record, source.word)
    if cell.element is F64:
        return b.bitcast(word, F64)
    if cell.element is F32:
        return b.bitcast(b.trunc(word, I32), F32)
    if cell.element.width < 64:
        return b.trunc(word, cell.element)
    if source.words == 1:
        return word if cell.element.width == 64 else b.sext(word, I128)
    if cell.element.width == 64:
        return word
    high = b.shl(b.zext(_word(b, record, source.word + 1), I128), ir.Constant(I128, 64))
    return b.or_(b.zext(word, I128), high)


def _parts(b: Any, cell: Cell, value: Any) -> list[Any]:
    if cell.parts == 1:
        return [value]
    low = b.and_(value, ir.Constant(I128, (1 << 64) - 1))
    return [low, b.ashr(value, ir.Constant(I128, 64))]
