"""Check an expression against a schema and write every type and conversion into it.

After `resolve`, both sides of a comparison have one type, literals have the type of what they meet,
and no pass or renderer has to guess. What cannot be typed is refused here, by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from functools import singledispatch
from struct import Struct
from typing import Final

import pyarrow as pa

from wherry.base.errors import InputError, unknown_name
from wherry.data.types import type_class
from wherry.ir import types
from wherry.ir.expr import (
    Apply,
    Arithmetic,
    Call,
    Cast,
    Code,
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
    Shard,
    When,
    children,
)
from wherry.ir.text import to_text

DEPTH_MAX: Final = 100
"""Deeper expressions are refused: passes recurse, and Python's own limit is no error message."""

_FLOAT32: Final = Struct("<f")
_MICROSECONDS: Final = {"s": 1_000_000, "ms": 1_000}
_NS_FIRST: Final = datetime(1677, 9, 22)  # noqa: DTZ001
_NS_LAST: Final = datetime(2262, 4, 10)  # noqa: DTZ001
"""A little inside what 64 bits of nanoseconds hold, so that no time zone leads outside."""


def type_of(node: Node) -> pa.DataType:
    """Give the type of a resolved expression."""
    match node:
        case Column() | Literal() | Parameter() | Cast() | Arithmetic() | Apply():
            assert node.type is not None, f"unresolved: {node}"
            return node.type
        case Negate(operand):
            return type_of(operand)
        case DatePart():
            return pa.int64()
        case When(_, otherwise):
            return type_of(otherwise)
        case Shard() | Code():
            return pa.int32()
    # A node of a renderer's own names its type; every other is a test.
    return getattr(node, "type", pa.bool_())


def resolve(node: Node, schema: pa.Schema) -> Node:
    """Give `node` with every type known, or refuse it.

    Parameters
    ----------
    node : Node
        As the user wrote it: columns without types, literals as Python values.
    schema : pyarrow.Schema
        The columns in reach.

    Raises
    ------
    InputError
        If a column does not exist or types do not fit; the message quotes the expression.
    """
    _check_depth(node)
    return _resolve(node, schema)


def _check_depth(node: Node) -> None:
    level = [node]
    for _ in range(DEPTH_MAX):
        level = [child for parent in level for child in children(parent)]
        if not level:
            return
    raise InputError(
        f"an expression is nested more than {DEPTH_MAX} levels deep; "
        "compute parts of it in a with_columns() before"
    )


def resolve_call(call: Call, schema: pa.Schema) -> Call:
    """Give an aggregate with its argument resolved, or refuse it."""
    argument = None if call.argument is None else resolve(call.argument, schema)
    if types.aggregate_type(call.kind, argument and type_of(argument)) is None:
        seen = "nothing" if argument is None else types.type_to_text(type_of(argument))
        raise InputError(f"{call.kind}({_quoted(argument)}) does not apply to {seen}")
    return Call(call.kind, argument)


def call_type(call: Call) -> pa.DataType:
    """Give the type of a resolved aggregate."""
    found = types.aggregate_type(call.kind, call.argument and type_of(call.argument))
    assert found is not None
    return found


def resolve_condition(node: Node, schema: pa.Schema) -> Node:
    """Give `node` resolved, refusing what is not a truth value."""
    return _condition(resolve(node, schema), "a filter")


def _quoted(node: Node | None) -> str:
    return "" if node is None else to_text(node)


def _condition(node: Node, where: str) -> Node:
    if pa.types.is_boolean(type_of(node)):
        return node
    seen = types.type_to_text(type_of(node))
    raise InputError(f"{where} needs a truth value; {to_text(node)} has type {seen}")


@singledispatch
def _resolve(node: Node, schema: pa.Schema) -> Node:
    raise TypeError(f"not an expression: {type(node).__name__}")


@_resolve.register
def _(node: Column, schema: pa.Schema) -> Node:
    index = schema.get_field_index(node.name)
    if index >= 0:
        return Column(node.name, schema.field(index).type)
    if schema.names.count(node.name) > 1:
        raise InputError(f"column {node.name!r} stands {schema.names.count(node.name)} times")
    raise unknown_name("column", node.name, schema.names)


@_resolve.register
def _(node: Literal, schema: pa.Schema) -> Node:
    if node.type is not None:
        return node
    if node.value is None:
        return Literal(None, pa.bool_())
    return Literal(node.value, types.literal_type(node.value))


@_resolve.register
def _(node: Parameter, schema: pa.Schema) -> Node:
    return node


@_resolve.register
def _(node: Cast, schema: pa.Schema) -> Node:
    if isinstance(node.operand, Literal) and node.operand.value is None:
        return Literal(None, node.type)
    operand = resolve(node.operand, schema)
    source, target = type_of(operand), node.type
    if source.equals(target):
        return operand
    if not castable(source, target):
        raise InputError(
            f"cannot cast {to_text(operand)} from {types.type_to_text(source)} "
            f"to {types.type_to_text(target)}"
        )
    return Cast(operand, target)


def castable(source: pa.DataType, target: pa.DataType) -> bool:
    """Tell whether a cast has a meaning: numbers to numbers, times to times, text to text, ..."""
    source, target = types.value_type(source), types.value_type(target)
    one, other = type_class(source), type_class(target)
    if one == other:
        return not (one == "temporal" and pa.types.is_date(source) and target.tz is not None)
    numbers = {"integer", "float", "decimal", "boolean"}
    if {one, other} <= numbers:
        return {one, other} != {"boolean", "decimal"}
    return one == "dictionary" or other == "dictionary"


def castable_always(source: pa.DataType, target: pa.DataType) -> bool:
    """Tell whether every value of `source` has one in `target`: such a cast never fails."""
    source, target = types.value_type(source), types.value_type(target)
    one, other = type_class(source), type_class(target)
    if source.equals(target) or one == other == "string" or other == "string":
        return True
    if one == "boolean" or (one in {"integer", "decimal"} and other == "float"):
        return True
    if one == other == "float":
        return True
    if one == other == "integer":
        uint64_to_signed = pa.types.is_uint64(source) and pa.types.is_signed_integer(target)
        return types.common_type(source, target) == target and not uint64_to_signed
    if other == "decimal" and one in {"integer", "decimal"}:
        exact = types.as_decimal(source)
        return (
            exact.scale <= target.scale
            and exact.precision - exact.scale <= target.precision - target.scale
        )
    return False


@_resolve.register
def _(node: Arithmetic, schema: pa.Schema) -> Node:
    left, right = resolve(node.left, schema), resolve(node.right, schema)
    left, right = _meet_literals(left, right)
    one, other = type_of(left), type_of(right)
    result = types.arithmetic_type(node.op, types.value_type(one), types.value_type(other))
    if result is None:
        raise _no_meeting(node.op, left, right)
    if not pa.types.is_decimal(result):
        return Arithmetic(node.op, cast_to(left, result), cast_to(right, result), result)
    if node.op == "*":
        left, right = (cast_to(n, types.as_decimal(type_of(n))) for n in (left, right))
        return Arithmetic("*", left, right, result)
    return Arithmetic(node.op, cast_to(left, result), cast_to(right, result), result)


@_resolve.register
def _(node: Negate, schema: pa.Schema) -> Node:
    operand = resolve(node.operand, schema)
    t = type_of(operand)
    if not types.is_numeric(t) or pa.types.is_unsigned_integer(t):
        raise InputError(f"-{to_text(operand)} does not apply to {types.type_to_text(t)}")
    if isinstance(operand, Literal) and operand.value is not None:
        negated = Literal(-operand.value, t)  # type: ignore[operator]
        if not pa.types.is_integer(t) or _to_integer(negated, t) is not negated:
            return negated
    return Negate(operand)


@_resolve.register
def _(node: Compare, schema: pa.Schema) -> Node:
    left, right = resolve(node.left, schema), resolve(node.right, schema)
    return _compare(node.op, left, right)


def _compare(op: str, left: Node, right: Node) -> Compare:
    left, right = _meet_literals(left, right)
    common = types.common_type(type_of(left), type_of(right))
    if common is None:
        raise _no_meeting(op, left, right)
    if pa.types.is_dictionary(common) and not isinstance(right, Literal):
        common = types.value_type(common)
    if pa.types.is_integer(common) and pa.uint64() in {type_of(left), type_of(right)} - {common}:
        # No integer type holds all of uint64 and a negative number; twenty digits do.
        common = types.as_decimal(pa.uint64())
    return Compare(op, cast_to(left, common), cast_to(right, common))


@_resolve.register
def _(node: Logic, schema: pa.Schema) -> Node:
    word = f"'{'&' if node.op == 'and' else '|'}'"
    return Logic(node.op, tuple(_condition(resolve(n, schema), word) for n in node.operands))


@_resolve.register
def _(node: Not, schema: pa.Schema) -> Node:
    return Not(_condition(resolve(node.operand, schema), "'~'"))


@_resolve.register
def _(node: IsNull, schema: pa.Schema) -> Node:
    return IsNull(resolve(node.operand, schema))


@_resolve.register
def _(node: IsIn, schema: pa.Schema) -> Node:
    operand = resolve(node.operand, schema)
    values = []
    for value in node.values:
        assert isinstance(value, Literal)
        if value.value is None:
            raise InputError("is_in of a null matches nothing; use is_null()")
        values.append(_compare("==", operand, resolve(value, schema)).right)
    kinds = {type_of(v) for v in values}
    if len(kinds) > 1 or (kinds and not kinds.copy().pop().equals(type_of(operand))):
        common = kinds.pop()
        for other in kinds:
            common = types.common_type(common, other) or common
        return IsIn(cast_to(operand, common), tuple(cast_to(v, common) for v in values))
    return IsIn(operand, tuple(values))


@_resolve.register
def _(node: When, schema: pa.Schema) -> Node:
    cases = [(_condition(resolve(c, schema), "when()"), resolve(v, schema)) for c, v in node.cases]
    values = [value for _, value in cases]
    otherwise = node.otherwise
    null = isinstance(otherwise, Literal) and otherwise.value is None and otherwise.type is None
    if not null:
        values.append(resolve(otherwise, schema))
    common = _common_of(values)
    last = Literal(None, common) if null else cast_to(values[-1], common)
    return When(tuple((c, cast_to(v, common)) for c, v in cases), last)


def _common_of(values: list[Node]) -> pa.DataType:
    first, *rest = sorted(values, key=lambda v: isinstance(v, Literal))
    common = types.value_type(type_of(first))
    for value in rest:
        met = _adapted(value, common) if isinstance(value, Literal) else value
        found = types.common_type(common, type_of(met))
        if found is None:
            raise _no_meeting("when", first, value)
        common = found
    return common


@_resolve.register
def _(node: Match, schema: pa.Schema) -> Node:
    operand = resolve(node.operand, schema)
    if not types.is_textual(type_of(operand)):
        seen = types.type_to_text(type_of(operand))
        raise InputError(f"{node.kind} needs text; {to_text(operand)} has type {seen}")
    pattern = node.pattern
    if not (isinstance(pattern, Literal) and isinstance(pattern.value, str)):
        raise InputError(f"{node.kind} needs a constant text as its pattern")
    return Match(node.kind, operand, Literal(pattern.value, pa.utf8()))


@_resolve.register
def _(node: DatePart, schema: pa.Schema) -> Node:
    operand = resolve(node.operand, schema)
    if type_class(type_of(operand)) != "temporal":
        seen = types.type_to_text(type_of(operand))
        raise InputError(f"{node.part} needs a date; {to_text(operand)} has type {seen}")
    return DatePart(node.part, operand)


@_resolve.register
def _(node: Apply, schema: pa.Schema) -> Node:
    arguments = []
    for number, (argument, t) in enumerate(zip(node.arguments, node.types, strict=True), 1):
        found = resolve(argument, schema)
        if not castable_always(type_of(found), t):
            seen, wanted = (types.type_to_text(x) for x in (type_of(found), t))
            raise InputError(
                f"{node.name} takes {wanted} as value {number}; {to_text(found)} is {seen}: "
                "cast it, saying so"
            )
        arguments.append(cast_to(found, t))
    return replace(node, arguments=tuple(arguments))


@_resolve.register
def _(node: Shard, schema: pa.Schema) -> Node:
    operand = resolve(node.operand, schema)
    if type_class(types.value_type(type_of(operand))) == "float":
        raise InputError(f"{to_text(operand)} is a float; rows are not routed by floats")
    return replace(node, operand=operand)


def cast_to(node: Node, target: pa.DataType) -> Node:
    """Give `node` in `target`, a literal by rewriting its value, anything else by a Cast."""
    if type_of(node).equals(target):
        return node
    if isinstance(node, Literal):
        adapted = _adapted(node, target)
        if type_of(adapted).equals(target):
            return adapted
    return Cast(node, target)


def _meet_literals(left: Node, right: Node) -> tuple[Node, Node]:
    if isinstance(left, Literal) and not isinstance(right, Literal):
        return _adapted(left, type_of(right)), right
    if isinstance(right, Literal) and not isinstance(left, Literal):
        return left, _adapted(right, type_of(left))
    return left, right


def _adapted(node: Literal, target: pa.DataType) -> Literal:
    """Give the literal in the type of what it meets, if it has exactly that value there."""
    convert = _CONVERSIONS.get(type_class(target))
    if node.value is None:
        return Literal(None, target)
    return node if convert is None else convert(node, target)


def _to_integer(node: Literal, target: pa.DataType) -> Literal:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int):
        return node
    bits = target.bit_width
    low, high = (-(1 << bits - 1), 1 << bits - 1)
    if pa.types.is_unsigned_integer(target):
        low, high = 0, 1 << bits
    return Literal(value, target) if low <= value < high else node


def _to_float(node: Literal, target: pa.DataType) -> Literal:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float | Decimal):
        return node
    value = float(node.value)
    if not pa.types.is_float32(target):
        return Literal(value, target)
    try:
        # Statistics are asked about the literal, so it holds the very value rows are compared with.
        (nearest,) = _FLOAT32.unpack(_FLOAT32.pack(value))
    except OverflowError:
        return Literal(value, pa.float64())
    return Literal(nearest, target)


def _to_decimal(node: Literal, target: pa.DataType) -> Literal:
    """Read a float beside a decimal as it is written: 0.05 is exactly five hundredths."""
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return node
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        return node
    own = types.decimal_literal_type(exact)
    whole = target.precision - target.scale
    fits = own.scale <= target.scale and own.precision - own.scale <= whole
    return Literal(exact, target if fits else own)


def _to_text_type(node: Literal, target: pa.DataType) -> Literal:
    return Literal(node.value, target) if isinstance(node.value, str) else node


def _to_dictionary(node: Literal, target: pa.DataType) -> Literal:
    return Literal(node.value, target) if isinstance(node.value, str) else node


def _to_time(node: Literal, target: pa.DataType) -> Literal:
    value = node.value
    if not isinstance(value, date):
        return node
    if pa.types.is_date(target):
        return node if isinstance(value, datetime) else Literal(value, target)
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001
    if (value.tzinfo is None) != (target.tz is None):
        return node
    if target.unit == "ns" and not _NS_FIRST <= value.replace(tzinfo=None) <= _NS_LAST:
        raise InputError(
            f"{value} lies outside what {types.type_to_text(target)} holds, "
            f"{_NS_FIRST.date()} to {_NS_LAST.date()}; cast the column to timestamp in us"
        )
    finer = value.microsecond % _MICROSECONDS.get(target.unit, 1) != 0
    return Literal(value, pa.timestamp("us", target.tz) if finer else target)


_CONVERSIONS: dict[str, Callable[[Literal, pa.DataType], Literal]] = {
    "integer": _to_integer,
    "float": _to_float,
    "decimal": _to_decimal,
    "string": _to_text_type,
    "dictionary": _to_dictionary,
    "temporal": _to_time,
}


def _no_meeting(op: str, left: Node, right: Node) -> InputError:
    one, other = (types.type_to_text(type_of(n)) for n in (left, right))
    hint = ""
    if {type_class(type_of(left)), type_class(type_of(right))} == {"temporal", "string"}:
        hint = "; write a date as date(1994, 1, 1)"
    return InputError(
        f"'{op}' does not apply to {one} and {other} in {to_text(left)} {op} {to_text(right)}{hint}"
    )
