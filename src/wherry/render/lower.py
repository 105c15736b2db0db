"""Expressions become vector code: lanes of values, and bits of truth and validity.

A value is a vector of LANES elements, or for booleans an integer of LANES bits; `valid` is an
integer of LANES bits, None when no row can be null in this variant. Three-valued logic is then
arithmetic of bits.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any, Final

import pyarrow as pa
from llvmlite import ir

from wherry.ir.expr import (
    Apply,
    Arithmetic,
    Cast,
    Column,
    Compare,
    DatePart,
    IsIn,
    IsNull,
    Literal,
    Logic,
    Match,
    Member,
    Negate,
    Node,
    Not,
    Parameter,
    Shard,
    When,
)
from wherry.ir.resolve import type_of
from wherry.ir.types import DAY_NS, is_moment
from wherry.kernels import layout
from wherry.kernels.layout import LANES
from wherry.render.intervals import nanoseconds
from wherry.render.loop import (
    BITS,
    F64,
    I1,
    I32,
    I64,
    I128,
    Loop,
    Value,
    both,
    codes_name,
    constant,
    declare,
    element_bytes,
    element_of,
    flags,
    load,
    splat,
    stored_element,
    vector,
    widen,
)
from wherry.render.probe import member
from wherry.render.shards import shard
from wherry.render.split import Lookup, RowNumber, tests_text
from wherry.render.times import civil, floor_divide
from wherry.render.user import apply

_TESTS: Final = {
    "==": layout.EQUAL,
    "!=": layout.UNEQUAL,
    "<": layout.LESS,
    "<=": layout.LESS_EQUAL,
    ">": layout.GREATER,
    ">=": layout.GREATER_EQUAL,
}


@singledispatch
def lower(node: Node, loop: Loop) -> Value:  # noqa: ARG001
    """Give the values of a node that `split` left to block functions."""
    raise TypeError(f"no native form of {type(node).__name__}; split() should have left it out")


@lower.register
def _(node: Column, loop: Loop) -> Value:
    t = type_of(node)
    if pa.types.is_boolean(t):
        return Value(loop.slice(loop.word("bits", node.name)), loop.valid(node.name))
    element = element_of(node, loop.variant)
    address = loop.slot("values", node.name)
    if pa.types.is_decimal128(t) and element is I64:
        return Value(_low_halves(loop, address), loop.valid(node.name))
    data = loop.lanes_at(address, stored_element(t))
    if pa.types.is_decimal(t):
        data = to_width(loop.body, data, element, signed=True)
    return Value(data, loop.valid(node.name))


def _low_halves(loop: Loop, address: Any) -> Any:
    """Load the low 64 bits of decimals that are known to fit into them."""
    loop.streams_from(address, 16)
    at = loop.body.add(address, loop.body.mul(loop.row(), ir.Constant(I64, 16)))
    pairs = load(loop.body, at, vector(I64, 2 * LANES))
    even = ir.Constant(vector(I32), list(range(0, 2 * LANES, 2)))
    return loop.body.shuffle_vector(pairs, ir.Constant(pairs.type, ir.Undefined), even)


@lower.register
def _(node: Parameter, loop: Loop) -> Value:
    def make() -> Any:
        at = loop.head.add(loop.slot("literals"), ir.Constant(I64, 16 * node.index))
        if pa.types.is_boolean(node.type):
            return loop.head.sext(loop.head.trunc(load(loop.head, at, I64), I1), BITS)
        return splat(loop.head, load(loop.head, at, element_of(node, loop.variant)))

    return Value(loop.once(node, make))


@lower.register
def _(node: Literal, loop: Loop) -> Value:
    none = ir.Constant(BITS, 0)
    if pa.types.is_boolean(type_of(node)):
        return Value(none, none)
    return Value(constant(element_of(node, loop.variant), 0), none)


@lower.register
def _(node: Lookup, loop: Loop) -> Value:
    codes = _narrowed(loop, loop.value(Column(codes_name(node.column), node.codes)).data, node)
    known = loop.valid(node.column)
    # The entry behind the last is the null's; a null's own code may be anything.
    last = splat_once(loop, "last", node.column)
    if known is not None:
        codes = loop.body.select(flags(loop.body, known), codes, last)
    name = str(node.number)
    if pa.types.is_boolean(node.type):
        data = _chosen(loop, codes, node)
    else:
        data = _gather(loop, loop.slot("table", name), codes, stored_element(node.type))
    if pa.types.is_decimal(node.type):
        data = to_width(loop.body, data, element_of(node, loop.variant), signed=True)
    if f"table {name}" not in loop.variant.nullable:
        return Value(data)
    sure = _gather(loop, loop.slot("known", name), codes, I32)
    return Value(data, loop.body.bitcast(_nonzero(loop, sure), BITS))


def _chosen(loop: Loop, codes: Any, node: Lookup) -> Any:
    """Give the bits of the lanes whose entry is true: few codes are compared, or all looked up."""
    name, b = str(node.number), loop.body
    word = loop.test_codes(name, node.column, node.codes)
    count = loop.once(("few", name), lambda: load(loop.head, loop.slot("few", name), I64))
    few, many, following = (loop.block(x) for x in ("few", "many", "chosen"))
    b.cbranch(b.icmp_signed(">", count, ir.Constant(I64, 0)), few, many)
    b.position_at_end(few)
    found = [(loop.slice(word), few)]
    b.branch(following)
    b.position_at_end(many)
    entries = _gather(loop, loop.slot("table", name), codes, I32)
    found.append((b.bitcast(_nonzero(loop, entries), BITS), b.block))
    b.branch(following)
    return loop.meet(following, found)


@lower.register
def _(node: RowNumber, loop: Loop) -> Value:  # noqa: ARG001
    steps = ir.Constant(vector(I64), list(range(LANES)))
    first = loop.body.add(loop.row(), loop.slot("first"))
    return Value(loop.body.add(splat(loop.body, first), steps))


def _narrowed(loop: Loop, codes: Any, node: Lookup) -> Any:
    """Give stored codes as int32: no dictionary is longer, and a null's own code is not used."""
    bits = codes.type.element.width
    if bits == 32:
        return codes
    extend = loop.body.zext if pa.types.is_unsigned_integer(node.codes) else loop.body.sext
    return (extend if bits < 32 else loop.body.trunc)(codes, vector(I32))


def splat_once(loop: Loop, kind: str, name: str) -> Any:
    """Give an int64 of the context as a vector of int32, made before the loop."""
    return loop.once(
        ("splat", kind, name), lambda: splat(loop.head, loop.head.trunc(loop.slot(kind, name), I32))
    )


def _nonzero(loop: Loop, data: Any) -> Any:
    return loop.body.icmp_signed("!=", data, constant(data.type.element, 0))


def _gather(loop: Loop, address: Any, codes: Any, element: Any) -> Any:
    wide = loop.body.sext(codes, vector(I64))
    size = constant(I64, element_bytes(element))
    places = loop.body.add(splat(loop.body, address), loop.body.mul(wide, size))
    unset = ir.Constant(vector(element), ir.Undefined)
    wide_integer = isinstance(element, ir.IntType) and element.width > 64
    if wide_integer or element_bytes(element) < 4:
        return _gather_scalars(loop, places, element, unset)
    pointers = loop.body.inttoptr(places, vector(ir.PointerType(element)))
    suffix = element.intrinsic_name
    name = f"llvm.masked.gather.v{LANES}{suffix}.v{LANES}p0"
    kind = ir.FunctionType(vector(element), [pointers.type, I32, vector(I1), vector(element)])
    function = declare(loop.body.module, name, kind)
    return loop.body.call(function, [pointers, ir.Constant(I32, 4), constant(I1, 1), unset])


def _gather_scalars(loop: Loop, places: Any, element: Any, found: Any) -> Any:
    for i in range(LANES):
        place = loop.body.extract_element(places, ir.Constant(I32, i))
        found = loop.body.insert_element(
            found, load(loop.body, place, element), ir.Constant(I32, i)
        )
    return found


@lower.register
def _(node: Cast, loop: Loop) -> Value:
    operand, b = loop.value(node.operand), loop.body
    source, element = type_of(node.operand), element_of(node, loop.variant)
    if pa.types.is_boolean(source):
        data = b.zext(flags(b, operand.data), vector(I32))
        data = (
            b.uitofp(data, vector(element))
            if element is F64
            else to_width(b, data, element, signed=False)
        )
    elif pa.types.is_floating(source):
        data = (
            operand.data
            if operand.data.type.element is element
            else b.fpext(operand.data, vector(F64))
        )
    elif element is F64:
        convert = b.uitofp if pa.types.is_unsigned_integer(source) else b.sitofp
        data = convert(operand.data, vector(F64))
        if pa.types.is_decimal(source) and source.scale:
            # Both are exact (`split` sees to it), so the quotient is the nearest float64; the
            # product with a power that is rounded would not be.
            data = b.fdiv(data, constant(F64, 10.0**source.scale))
    elif is_moment(source) or is_moment(node.type):
        data = _moved(loop, source, node.type, operand.data)
    else:
        data = _rescaled(loop, node, operand.data, element)
    return Value(data, operand.valid)


def _moved(loop: Loop, source: pa.DataType, target: pa.DataType, data: Any) -> Any:
    """Give moments in another type of moments; what is coarser rounds as pyarrow does."""
    b = loop.body
    data = to_width(b, data, I64, signed=True)
    if not (pa.types.is_integer(source) or pa.types.is_integer(target)):
        one, other = nanoseconds(source), nanoseconds(target)
        if pa.types.is_date(target) and not pa.types.is_date(source):
            days = floor_divide(b, data, DAY_NS // one)
            data = b.mul(days, constant(I64, DAY_NS // other))
        else:
            if pa.types.is_time(target) and pa.types.is_timestamp(source):
                days = floor_divide(b, data, DAY_NS // one)
                data = b.sub(data, b.mul(days, constant(I64, DAY_NS // one)))
            data = _recounted(b, data, one, other)
    return to_width(b, data, stored_element(target), signed=True)


def _recounted(b: Any, data: Any, one: int, other: int) -> Any:
    if one == other:
        return data
    if one > other:
        return b.mul(data, constant(I64, one // other))
    return b.sdiv(data, constant(I64, other // one))


def _rescaled(loop: Loop, node: Cast, data: Any, element: Any) -> Any:
    source, target = type_of(node.operand), node.type
    signed = not pa.types.is_unsigned_integer(source)
    data = to_width(loop.body, data, element, signed=signed)
    scales = [t.scale if pa.types.is_decimal(t) else 0 for t in (source, target)]
    step = 10 ** (scales[1] - scales[0])
    return data if step == 1 else loop.body.mul(data, constant(element, step))


def to_width(builder: Any, data: Any, element: Any, *, signed: bool) -> Any:
    """Give integers in another width; what does not fit there loses its high bits."""
    have, want = data.type.element.width, element.width
    if have == want:
        return data
    if have > want:
        return builder.trunc(data, vector(element))
    return (builder.sext if signed else builder.zext)(data, vector(element))


@lower.register
def _(node: Arithmetic, loop: Loop) -> Value:
    left, right = loop.value(node.left), loop.value(node.right)
    valid, b = both(loop.body, left.valid, right.valid), loop.body
    if pa.types.is_floating(node.type):
        operation = {"+": b.fadd, "-": b.fsub, "*": b.fmul, "/": b.fdiv}[node.op]
        return Value(operation(left.data, right.data), valid)
    element = element_of(node, loop.variant)
    sides = [left.data, right.data]
    if pa.types.is_decimal(node.type) or is_moment(node.type):
        # A wide side of a narrow result has a narrow value: bounds say so of the result.
        sides = [to_width(b, side, element, signed=True) for side in sides]
    return Value({"+": b.add, "-": b.sub, "*": b.mul}[node.op](*sides), valid)


@lower.register
def _(node: Negate, loop: Loop) -> Value:
    operand = loop.value(node.operand)
    element = element_of(node, loop.variant)
    if pa.types.is_floating(type_of(node)):
        return Value(loop.body.fneg(operand.data), operand.valid)
    data = widen(loop.body, operand.data, element)
    return Value(loop.body.sub(constant(element, 0), data), operand.valid)


@lower.register
def _(node: Compare, loop: Loop) -> Value:
    if tests_text(node):
        return _text_value(loop, node.left, [_text_constant(loop, node.right)], _TESTS[node.op])
    left, right = loop.value(node.left), loop.value(node.right)
    bits = compare(loop, node.op, type_of(node.left), left.data, right.data)
    return Value(bits, both(loop.body, left.valid, right.valid))


def compare(loop: Loop, op: str, t: pa.DataType, left: Any, right: Any) -> Any:
    """Give the bits of the lanes where `left op right`."""
    b = loop.body
    if pa.types.is_boolean(t):
        return _compare_bits(b, op, left, right)
    if pa.types.is_floating(t):
        ask = b.fcmp_unordered if op == "!=" else b.fcmp_ordered
        return b.bitcast(ask(op, left, right), BITS)
    if left.type.element.width != right.type.element.width:
        left, right = (widen(b, side, I128) for side in (left, right))
    ask = b.icmp_unsigned if pa.types.is_unsigned_integer(t) else b.icmp_signed
    return b.bitcast(ask(op, left, right), BITS)


def _compare_bits(b: Any, op: str, left: Any, right: Any) -> Any:
    match op:
        case "==":
            return b.not_(b.xor(left, right))
        case "!=":
            return b.xor(left, right)
        case "<":
            return b.and_(b.not_(left), right)
        case ">":
            return b.and_(left, b.not_(right))
        case "<=":
            return b.or_(b.not_(left), right)
    return b.or_(left, b.not_(right))


def _text_constant(loop: Loop, node: Node) -> tuple[Any, Any]:
    assert isinstance(node, Parameter)
    at = loop.head.add(loop.slot("literals"), ir.Constant(I64, 16 * node.index))
    return load(loop.head, at, I64), load(loop.head, loop.head.add(at, ir.Constant(I64, 8)), I64)


def _text_value(loop: Loop, operand: Node, constants: list[tuple[Any, Any]], test: int) -> Value:
    assert isinstance(operand, Column)
    words = [loop.test_text(operand.name, type_of(operand), c, test) for c in constants]
    word = words[0] if words else ir.Constant(I64, 0)
    for other in words[1:]:
        word = loop.head.or_(word, other)
    return Value(loop.slice(word), loop.valid(operand.name))


@lower.register
def _(node: Match, loop: Loop) -> Value:
    assert isinstance(node.pattern, Literal)
    parts = loop.slot("parts", like_pattern(node.kind, str(node.pattern.value)))
    return _text_value(loop, node.operand, [(parts, ir.Constant(I64, 0))], layout.PARTS)


def like_pattern(kind: str, text: str) -> str:
    r"""Give any match as `like` parts divided by NUL, which no pattern may hold.

    >>> like_pattern("starts_with", "ab")
    'ab\x00'
    """
    if kind == "like":
        return "\0".join(text.split("%"))
    return {"starts_with": f"{text}\0", "ends_with": f"\0{text}", "contains": f"\0{text}\0"}[kind]


@lower.register
def _(node: Logic, loop: Loop) -> Value:
    first, *rest = (loop.value(n) for n in node.operands)
    for other in rest:
        first = _kleene(loop.body, node.op, first, other)
    return first


def _kleene(b: Any, op: str, left: Value, right: Value) -> Value:
    """Join two truths: a false makes `and` false, a true makes `or` true, whatever the other is."""
    if left.valid is None and right.valid is None:
        return Value((b.and_ if op == "and" else b.or_)(left.data, right.data))
    known = [ir.Constant(BITS, -1) if v.valid is None else v.valid for v in (left, right)]
    true = [b.and_(v.data, k) for v, k in zip((left, right), known, strict=True)]
    false = [b.and_(b.not_(v.data), k) for v, k in zip((left, right), known, strict=True)]
    yes = (b.and_ if op == "and" else b.or_)(*true)
    no = (b.or_ if op == "and" else b.and_)(*false)
    return Value(yes, b.or_(yes, no))


@lower.register
def _(node: Not, loop: Loop) -> Value:
    operand = loop.value(node.operand)
    return Value(loop.body.not_(operand.data), operand.valid)


@lower.register
def _(node: IsNull, loop: Loop) -> Value:
    if isinstance(node.operand, Column):
        valid = loop.valid(node.operand.name)
    else:
        valid = loop.value(node.operand).valid
    return Value(ir.Constant(BITS, 0) if valid is None else loop.body.not_(valid))


@lower.register
def _(node: IsIn, loop: Loop) -> Value:
    if tests_text(node):
        constants = [_text_constant(loop, v) for v in node.values]
        return _text_value(loop, node.operand, constants, layout.EQUAL)
    operand, bits = loop.value(node.operand), ir.Constant(BITS, 0)
    for value in node.values:
        same = compare(loop, "==", type_of(node.operand), operand.data, loop.value(value).data)
        bits = loop.body.or_(bits, same)
    return Value(bits, operand.valid)


@lower.register
def _(node: Member, loop: Loop) -> Value:
    assert isinstance(node.build, Parameter)
    return Value(member(loop, node.keys, node.build))


@lower.register
def _(node: When, loop: Loop) -> Value:
    boolean = pa.types.is_boolean(type_of(node))
    element = None if boolean else element_of(node, loop.variant)
    found = _adapted(loop, node.otherwise, element)
    for condition, result in reversed(node.cases):
        test, value = loop.value(condition), _adapted(loop, result, element)
        found = _choice(loop.body, both(loop.body, test.data, test.valid), value, found, boolean)
    return found


def _adapted(loop: Loop, node: Node, element: Any) -> Value:
    value = loop.value(node)
    if not pa.types.is_decimal(type_of(node)):
        return value
    return Value(to_width(loop.body, value.data, element, signed=True), value.valid)


def _choice(b: Any, take: Any, value: Value, other: Value, boolean: bool) -> Value:
    def bits(yes: Any, no: Any) -> Any:
        return b.or_(b.and_(take, yes), b.and_(b.not_(take), no))

    data = bits(value.data, other.data) if boolean else None
    if data is None:
        data = b.select(flags(b, take), value.data, other.data)
    if value.valid is None and other.valid is None:
        return Value(data)
    every = ir.Constant(BITS, -1)
    known = [every if v.valid is None else v.valid for v in (value, other)]
    return Value(data, bits(*known))


@lower.register
def _(node: Apply, loop: Loop) -> Value:
    return apply(loop, node)


@lower.register
def _(node: Shard, loop: Loop) -> Value:
    return shard(loop, node, loop.value(node.operand))


@lower.register
def _(node: DatePart, loop: Loop) -> Value:
    operand, b = loop.value(node.operand), loop.body
    t, days = type_of(node.operand), operand.data
    if not pa.types.is_date32(t):
        days = b.trunc(floor_divide(b, days, DAY_NS // nanoseconds(t)), vector(I32))
    return Value(b.sext(civil(b, days)[node.part], vector(I64)), operand.valid)
