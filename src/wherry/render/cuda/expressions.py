"""Nodes as CUDA C++, one row at a time; what each means is in `ir/meaning.py`.

Signed integers wrap by way of unsigned ones. Nothing is fused or reassociated: programs are
compiled without contraction, so that floats are those of every other device.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Final

import pyarrow as pa

from wherry.data.types import type_class
from wherry.ir.expr import (
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
    Negate,
    Node,
    Not,
    Parameter,
    When,
)
from wherry.ir.resolve import type_of
from wherry.ir.types import DAY_NS
from wherry.render.cuda.casts import cast_text
from wherry.render.cuda.values import ROW, Body, Value, both, ctype_of, stored_ctype, text_of
from wherry.render.intervals import nanoseconds
from wherry.render.loop import codes_name
from wherry.render.lower import like_pattern
from wherry.render.split import Lookup, tests_text

_LOADED: Final = "load({} + row)"
_FOUND: Final = "__ldg({} + {})"
"""In a table, through the read-only cache."""


def value(node: Node, body: Body) -> Value:
    """Give the value of a node whose subnodes `split.refusal` has all let pass.

    Parameters
    ----------
    body : Body
        Of a function that has `const Context& c` and `const i64 row`; statements are added.
    """
    if node not in body.values:
        found = _value(node, body)
        valid = found.valid if found.valid is None else body.name("bool", found.valid)
        body.values[node] = Value(body.name(ctype_of(node, body.variant), found.data), valid)
    return body.values[node]


@singledispatch
def _value(node: Node, body: Body) -> Value:  # noqa: ARG001
    raise TypeError(f"no CUDA for {type(node).__name__}")


@_value.register
def _(node: Column, body: Body) -> Value:
    t, entry = type_of(node), body.frame.entry
    if node == ROW:
        return Value("(u32)row")
    if pa.types.is_boolean(t):
        bits, place = entry("values", node.name, "const u8*"), entry("begin", node.name, "i64")
        data = f"bit_at({bits}, {place} + row)"
    elif t.bit_width == 128:
        words = entry("values", node.name, "const i64*")
        narrow = ctype_of(node, body.variant) == "i64"
        data = f"load({words} + 2 * row)" if narrow else f"wide_at({words}, row)"
    else:
        data = _LOADED.format(entry("values", node.name, f"const {stored_ctype(t)}*"))
    return Value(body.read(ctype_of(node, body.variant), data), body.valid(node.name))


@_value.register
def _(node: Lookup, body: Body) -> Value:
    return _looked_up(node, body, code(node.column, node.codes, body))


def code(column: str, codes: pa.DataType, body: Body) -> str:
    """Give the code of a dictionary column as i64; that of a null is one behind the last."""
    entry = body.frame.entry
    found = stored_code(column, codes, body)
    if found.valid is None:
        return body.name("i64", found.data)
    # A null's own code may be anything.
    return body.name("i64", f"{found.valid} ? (i64){found.data} : {entry('last', column, 'i64')}")


def stored_code(column: str, codes: pa.DataType, body: Body) -> Value:
    """Give the code of a dictionary column as it is stored."""
    address = body.frame.entry("values", codes_name(column), f"const {stored_ctype(codes)}*")
    ctype = stored_ctype(codes)
    return Value(body.read(ctype, _LOADED.format(address)), body.valid(column))


def _looked_up(node: Lookup, body: Body, at: str) -> Value:
    entry, number = body.frame.entry, str(node.number)
    known = f"__ldg({entry('known', number, 'const i32*')} + {at}) != 0"
    if pa.types.is_boolean(node.type):
        table = entry("table", number, "const i32*")
        return Value(f"__ldg({table} + {at}) != 0", known)
    if node.type.bit_width == 128:
        table = entry("table", number, "const i64*")
        narrow = ctype_of(node, body.variant) == "i64"
        return Value(f"__ldg({table} + 2 * {at})" if narrow else f"wide_at({table}, {at})", known)
    table = entry("table", number, f"const {stored_ctype(node.type)}*")
    return Value(_FOUND.format(table, at), known)


@_value.register
def _(node: Parameter, body: Body) -> Value:
    ctype, name = ctype_of(node, body.variant), str(node.index)
    if ctype == "i128":
        low = body.frame.entry("low", name, "u64")
        return Value(f"wide({low}, {body.frame.entry('high', name, 'i64')})")
    floating = ctype in {"float", "double"}
    held = body.frame.entry("constant", name, "double" if floating else "i64")
    return Value(f"({ctype}){held}")


@_value.register
def _(node: Literal, body: Body) -> Value:
    assert node.value is None, "a constant that was not lifted"
    return Value(f"({ctype_of(node, body.variant)})0", "false")


@_value.register
def _(node: Cast, body: Body) -> Value:
    operand = value(node.operand, body)
    return Value(cast_text(operand.data, node, ctype_of(node, body.variant)), operand.valid)


@_value.register
def _(node: Arithmetic, body: Body) -> Value:
    left, right = value(node.left, body), value(node.right, body)
    ctype = ctype_of(node, body.variant)
    valid = both(left.valid, right.valid)
    if ctype in {"float", "double"}:
        return Value(f"{left.data} {node.op} {right.data}", valid)
    return Value(_whole(node.op, left.data, right.data, ctype), valid)


def _whole(op: str, left: str, right: str, ctype: str) -> str:
    """Give arithmetic of integers that wraps; decimals were proven to fit."""
    # Below 32 bits C computes in int, whose products of 16 bits may overflow.
    unsigned = {"i64": "u64", "u64": "u64", "i128": "u128"}.get(ctype, "u32")
    return f"({ctype})(({unsigned}){left} {op} ({unsigned}){right})"


@_value.register
def _(node: Negate, body: Body) -> Value:
    operand, ctype = value(node.operand, body), ctype_of(node, body.variant)
    if ctype in {"float", "double"}:
        return Value(f"-{operand.data}", operand.valid)
    # Widened first: what is negated may need more bits than it did.
    return Value(_whole("-", "0", f"({ctype}){operand.data}", ctype), operand.valid)


@_value.register
def _(node: Compare, body: Body) -> Value:
    if tests_text(node):
        text, other = text_of(node.left, body), _constant_text(node.right, body)
        equality = {"==": "equal", "!=": "!equal"}.get(node.op)
        call = f"{equality or 'compare'}({text}, {other})"
        return Value(call if equality else f"{call} {node.op} 0", _column_valid(node.left, body))
    left, right = value(node.left, body), value(node.right, body)
    return Value(f"{left.data} {node.op} {right.data}", both(left.valid, right.valid))


def _column_valid(node: Node, body: Body) -> str | None:
    assert isinstance(node, Column)
    return body.valid(node.name)


def _constant_text(node: Node, body: Body) -> str:
    assert isinstance(node, Parameter)
    at = body.frame.entry("bytes", str(node.index), "const u8*")
    size = body.frame.entry("size", str(node.index), "i64")
    return f"Text{{{at}, {size}}}"


@_value.register
def _(node: Match, body: Body) -> Value:
    assert isinstance(node.pattern, Literal)
    pattern = like_pattern(node.kind, str(node.pattern.value))
    parts = body.frame.entry("parts", pattern, "const i64*")
    valid = _column_valid(node.operand, body)
    return Value(f"matches({text_of(node.operand, body)}, {parts})", valid)


@_value.register
def _(node: IsIn, body: Body) -> Value:
    if tests_text(node):
        text, valid = text_of(node.operand, body), _column_valid(node.operand, body)
        tests = [f"equal({text}, {_constant_text(v, body)})" for v in node.values]
    else:
        operand = value(node.operand, body)
        valid = operand.valid
        tests = [f"{operand.data} == {value(v, body).data}" for v in node.values]
    return Value(" || ".join(tests) or "false", valid)


@_value.register
def _(node: IsNull, body: Body) -> Value:
    # A text, and a dictionary's code, are no values.
    column = isinstance(node.operand, Column)
    valid = _column_valid(node.operand, body) if column else value(node.operand, body).valid
    return Value("false" if valid is None else f"!{valid}")


@_value.register
def _(node: Not, body: Body) -> Value:
    operand = value(node.operand, body)
    return Value(f"!{operand.data}", operand.valid)


@_value.register
def _(node: Logic, body: Body) -> Value:
    first, *rest = (value(n, body) for n in node.operands)
    for other in rest:
        first = _kleene(node.op, first, other, body)
    return first


def _kleene(op: str, left: Value, right: Value, body: Body) -> Value:
    """Join two truths: a false makes `and` false, a true makes `or` true, whatever the other is."""
    sign, opposite = ("&", "|") if op == "and" else ("|", "&")
    if left.valid is None and right.valid is None:
        return Value(body.name("bool", f"{left.data} {sign} {right.data}"))
    true = [v.data if v.valid is None else f"({v.data} & {v.valid})" for v in (left, right)]
    false = [f"!{v.data}" if v.valid is None else f"(!{v.data} & {v.valid})" for v in (left, right)]
    yes = body.name("bool", f" {sign} ".join(true))
    no = body.name("bool", f" {opposite} ".join(false))
    return Value(yes, body.name("bool", f"{yes} | {no}"))


@_value.register
def _(node: When, body: Body) -> Value:
    ctype = ctype_of(node, body.variant)
    found = value(node.otherwise, body)
    data, valid = f"({ctype}){found.data}", found.valid
    for condition, result in reversed(node.cases):
        test, chosen = value(condition, body), value(result, body)
        take = body.name("bool", both(test.data, test.valid) or test.data)
        if valid is not None or chosen.valid is not None:
            known = (chosen.valid or "true", valid or "true")
            valid = body.name("bool", f"{take} ? {known[0]} : {known[1]}")
        data = body.name(ctype, f"{take} ? ({ctype}){chosen.data} : {data}")
    return Value(data, valid)


@_value.register
def _(node: DatePart, body: Body) -> Value:
    operand, t = value(node.operand, body), type_of(node.operand)
    days = f"(i64){operand.data}"
    if not pa.types.is_date32(t):
        days = f"floor_divide({days}, {DAY_NS // nanoseconds(t)}ll)"
    return Value(f"civil({days}, {node.part.upper()})", operand.valid)


def is_computed(t: pa.DataType) -> bool:
    """Tell whether kernels compute with values of a type."""
    return type_class(t) not in {"string", "binary", "dictionary", "struct"}
