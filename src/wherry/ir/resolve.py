"""Check an expression against a schema and write every type and conversion into it.

After `resolve`, both sides of a comparison have one type, literals have the type of what they meet,
and no pass or renderer has to guess. What cannot be typed is refused here, by name.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Final

import pyarrow as pa
from msgspec.structs import replace

from wherry.base.errors import InputError, unknown_name
from wherry.data.types import type_class, value_type
from wherry.ir import types
from wherry.ir.constants import adapted, to_integer
from wherry.ir.expr import (
    Apply,
    Arithmetic,
    Call,
    Cast,
    Code,
    Column,
    Compare,
    DatePart,
    Field,
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


def type_of(node: Node) -> pa.DataType:
    """Give the type of a resolved expression."""
    match node:
        case Column() | Literal() | Parameter() | Cast() | Arithmetic() | Field() | Apply():
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
    if argument is not None and call.kind not in {"first", "last", "count_distinct"}:
        argument = _valued(argument)
    t = None if argument is None else type_of(argument)
    # Moments come of partial rows only, whatever a column of the user's looks like.
    moments = call.kind in types.SPREADS and t is not None and pa.types.is_struct(t)
    if moments or types.aggregate_type(call.kind, t) is None:
        seen = "nothing" if argument is None else types.type_to_text(type_of(argument))
        raise InputError(f"{call.kind}({_quoted(argument)}) does not apply to {seen}")
    return Call(call.kind, argument)


def _valued(node: Node) -> Node:
    """Give a dictionary of anything but text or bytes as its values."""
    values = value_type(type_of(node))
    return node if type_class(values) in {"string", "binary"} else cast_to(node, values)


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
    if pa.types.is_boolean(value_type(type_of(node))):
        return cast_to(node, pa.bool_())
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
        if node.value is not None and type_class(node.type) == "struct":
            raise InputError("a constant cannot be a struct; compare its fields one by one")
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
    source, target = value_type(source), value_type(target)
    one, other = type_class(source), type_class(target)
    if "struct" in {one, other}:
        return False
    if one == other == "temporal":
        zoned = pa.types.is_timestamp(target) and target.tz is not None
        return not (zoned and pa.types.is_date(source))
    if one == other or {one, other} == {"string", "binary"}:
        return True
    numbers = {"integer", "float", "decimal", "boolean"}
    if {one, other} <= numbers:
        return {one, other} != {"boolean", "decimal"}
    if (one, other) == ("temporal", "time"):
        return bool(pa.types.is_timestamp(source))
    return (one == "integer" or other == "integer") and _counts(source, target)


def _counts(source: pa.DataType, target: pa.DataType) -> bool:
    """Tell whether a cast tells an integer from what it counts: both are stored alike.

    An integer is no time of a day and no date64 before somebody has looked at it.
    """
    count, counted = (source, target) if pa.types.is_integer(source) else (target, source)
    if not types.is_moment(counted) or count.bit_width != counted.bit_width:
        return False
    if pa.types.is_unsigned_integer(count):
        return False
    return counted is source or not (pa.types.is_time(counted) or pa.types.is_date64(counted))


def castable_always(source: pa.DataType, target: pa.DataType) -> bool:
    """Tell whether every value of `source` has one in `target`: such a cast never fails."""
    source, target = value_type(source), value_type(target)
    one, other = type_class(source), type_class(target)
    if source.equals(target):
        return True
    if one in {"string", "binary"}:
        narrow = pa.types.is_fixed_size_binary(target) or (one, other) == ("binary", "string")
        return other in {"string", "binary"} and not narrow
    if pa.types.is_date(source) and pa.types.is_date64(target):
        return True
    if one == other == "time":
        return types.finer(source.unit, target.unit) == target.unit
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
    moments = types.moment_arithmetic(node.op, value_type(one), value_type(other))
    if moments is not None:
        sides = cast_to(left, moments[0]), cast_to(right, moments[1])
        return _moment_arithmetic(node.op, *sides, moments[2])
    result = types.arithmetic_type(node.op, value_type(one), value_type(other))
    if result is None:
        raise _no_meeting(node.op, left, right)
    if not pa.types.is_decimal(result):
        return Arithmetic(node.op, cast_to(left, result), cast_to(right, result), result)
    if node.op == "*":
        left, right = (cast_to(n, types.as_decimal(value_type(type_of(n)))) for n in (left, right))
        return Arithmetic("*", left, right, result)
    return Arithmetic(node.op, cast_to(left, result), cast_to(right, result), result)


def _moment_arithmetic(op: str, left: Node, right: Node, result: pa.DataType) -> Node:
    if op == "/":
        left, right = (Cast(cast_to(n, pa.int64()), pa.float64()) for n in (left, right))
    return Arithmetic(op, left, right, result)


@_resolve.register
def _(node: Negate, schema: pa.Schema) -> Node:
    operand = _valued(resolve(node.operand, schema))
    t = type_of(operand)
    signed = types.is_numeric(t) and not pa.types.is_unsigned_integer(t)
    if not (signed or pa.types.is_duration(t)):
        raise InputError(f"-{to_text(operand)} does not apply to {types.type_to_text(t)}")
    if isinstance(operand, Literal) and operand.value is not None:
        negated = Literal(-operand.value, t)  # type: ignore[operator]
        if not pa.types.is_integer(t) or to_integer(negated, t) is not negated:
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
        common = value_type(common)
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
    if pa.types.is_struct(type_of(operand)):
        raise InputError(f"is_in does not apply to the struct {to_text(operand)}; ask its fields")
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
    if any(pa.types.is_struct(type_of(value)) for value in values):
        raise InputError("when() does not choose between structs; choose between their fields")
    common = _common_of(values)
    last = Literal(None, common) if null else cast_to(values[-1], common)
    return When(tuple((c, cast_to(v, common)) for c, v in cases), last)


def _common_of(values: list[Node]) -> pa.DataType:
    first, *rest = sorted(values, key=lambda v: isinstance(v, Literal))
    common = value_type(type_of(first))
    for value in rest:
        met = adapted(value, common) if isinstance(value, Literal) else value
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
    operand = _valued(resolve(node.operand, schema))
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
def _(node: Field, schema: pa.Schema) -> Node:
    operand = resolve(node.operand, schema)
    t = type_of(operand)
    if not pa.types.is_struct(t):
        raise InputError(f"{to_text(operand)} has type {types.type_to_text(t)}; it has no fields")
    index = t.get_field_index(node.name)
    if index < 0:
        raise unknown_name("field", node.name, [field.name for field in t])
    return Field(operand, node.name, t.field(index).type)


@_resolve.register
def _(node: Shard, schema: pa.Schema) -> Node:
    operand = _valued(resolve(node.operand, schema))
    family = type_class(value_type(type_of(operand)))
    if family in {"float", "struct"}:
        raise InputError(f"{to_text(operand)} is a {family}; rows are not routed by {family}s")
    return replace(node, operand=operand)


def cast_to(node: Node, target: pa.DataType) -> Node:
    """Give `node` in `target`, a literal by rewriting its value, anything else by a Cast."""
    if type_of(node).equals(target):
        return node
    if isinstance(node, Literal):
        found = adapted(node, target)
        if type_of(found).equals(target):
            return found
    return Cast(node, target)


def _meet_literals(left: Node, right: Node) -> tuple[Node, Node]:
    if isinstance(left, Literal) and not isinstance(right, Literal):
        return adapted(left, type_of(right)), right
    if isinstance(right, Literal) and not isinstance(left, Literal):
        return left, adapted(right, type_of(left))
    return left, right


def _no_meeting(op: str, left: Node, right: Node) -> InputError:
    one, other = (types.type_to_text(type_of(n)) for n in (left, right))
    hint = ""
    if {type_class(type_of(left)), type_class(type_of(right))} == {"temporal", "string"}:
        hint = "; write a date as date(1994, 1, 1)"
    return InputError(
        f"'{op}' does not apply to {one} and {other} in {to_text(left)} {op} {to_text(right)}{hint}"
    )
