"""Expressions that strangers may have written: every type told anew, and held against what is said.

`resolve` writes types and conversions into a tree, `lift` takes its constants out, and everything
after that believes what stands there: machine code reads memory by it. What came over a wire is
checked here instead: it passes only if those two could have made it. Nothing is computed, and no
tree is walked further than its bounds allow.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.data.sharding import ShardScheme, key_values
from wherry.data.types import type_class, value_type
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
    Field,
    IsIn,
    IsNull,
    Literal,
    Logic,
    Match,
    Member,
    Negate,
    Not,
    Parameter,
    Shard,
    When,
)
from wherry.ir.resolve import castable
from wherry.ir.scope import (
    COMPUTED_MOST,
    Scope,
    Unfit,
    Within,
    check_name,
    check_size,
    check_value_type,
    shown,
)
from wherry.ir.user import known_kernel

PARAMETERS_MOST: Final = 1 << 17
SHARDS_MOST: Final = 1 << 16
"""Each has a counter, and a list of rows where they meet."""
_RANGES_MOST: Final = 4096
"""Bounds of shards: each costs a comparison a row."""
_PATTERN_MOST: Final = 1 << 16
_DIGITS_MOST: Final = 39
_DECIMAL_MOST: Final = 80
"""Digits and exponent of a decimal; more can take any time to compute with."""
_COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">="})
_MATCHES: Final = frozenset({"starts_with", "ends_with", "contains", "like"})
_PARTS: Final = frozenset({"year", "month", "day"})
_KINDS: Final = frozenset({"sum", "min", "max", "count", "first", "last"}) | types.SPREADS
"""Aggregates that programs compute; the planner takes all others apart."""


def root_type(node: object, scope: Scope) -> pa.DataType:
    """Give the type of an expression that a step computes; see `type_in`."""
    before, scope.deepest = scope.nodes, 0
    found = type_in(node, scope)
    if type(node) is not Column:
        scope.computed += scope.nodes - before
    if scope.computed > COMPUTED_MOST:
        raise Unfit(f"over {COMPUTED_MOST} nodes to compute, fused")
    return found


def type_in(node: object, scope: Scope) -> pa.DataType:
    """Give the type of an expression, every type in which was found to be right.

    Raises
    ------
    Unfit
        If `resolve` and `lift` could not have made it, or it is too large.
    """
    rule = _RULES.get(type(node))
    if rule is None:
        raise Unfit(f"{type(node).__name__} is no expression")
    scope.nodes += 1
    scope.depth += 1
    check_size(scope.nodes, scope.depth)
    scope.deepest = max(scope.deepest, scope.depth)
    found = rule(node, scope)
    scope.depth -= 1
    return found


def call_in(call: object, scope: Scope) -> pa.DataType:
    """Give the type of an aggregate that a program computes.

    Raises
    ------
    Unfit
        If it is none.
    """
    if type(call) is not Call or call.kind not in _KINDS:
        raise Unfit(f"{shown(call)} is no aggregate of programs")
    if call.argument is None:
        if call.kind != "count":
            raise Unfit(f"{call.kind} of nothing")
        return pa.int64()
    with Within(".argument"):
        t = root_type(call.argument, scope)
    found = types.aggregate_type(call.kind, t)
    values = type_class(value_type(t))
    loose = pa.types.is_dictionary(t) and values not in {"string", "binary"}
    if loose and call.kind not in {"first", "last", "count"}:
        found = None
    # The planner casts what moments are made of; programs know those of float64 alone.
    if call.kind in types.SPREADS and not (pa.types.is_float64(t) or t.equals(types.MOMENTS)):
        found = None
    # Truths are compared as integers.
    if found is None or (call.kind in {"min", "max"} and values == "boolean"):
        raise Unfit(f"{call.kind} does not apply to {types.type_to_text(t)}")
    return found


def _of(node: Any, name: str, scope: Scope) -> pa.DataType:
    """Give the type of an operand."""
    with Within(f".{name}"):
        return type_in(getattr(node, name), scope)


def _each(nodes: object, name: str, scope: Scope) -> list[pa.DataType]:
    found = []
    for number, node in enumerate(_tuple(nodes, name)):
        with Within(f".{name}[{number}]"):
            found.append(type_in(node, scope))
    return found


def _tuple(value: object, name: str, least: int = 0) -> tuple[Any, ...]:
    if type(value) is not tuple or len(value) < least:
        raise Unfit(f"{shown(value)} as {name}")
    return value


def _same(said: object, found: pa.DataType, what: str) -> pa.DataType:
    if not isinstance(said, pa.DataType) or not found.equals(said):
        raise Unfit(f"{what} is said to be {said!s:.80}; it is {found!s:.80}")
    return found


def _no(what: str, *seen: pa.DataType) -> Unfit:
    return Unfit(f"{what} does not apply to {' and '.join(map(types.type_to_text, seen))}")


def _column(node: Column, scope: Scope) -> pa.DataType:
    found = scope.columns.get(node.name) if type(node.name) is str else None
    if found is None:
        raise Unfit(f"no column {node.name!r:.80}")
    scope.nodes += found.nodes - 1
    scope.deepest = max(scope.deepest, scope.depth + found.depth - 1)
    check_size(scope.nodes, scope.deepest)
    return _same(node.type, found.type, f"column {node.name!r:.80}")


def _null(node: Literal, scope: Scope) -> pa.DataType:
    if node.value is not None:
        raise Unfit("a constant that was not lifted")
    return check_value_type(node.type)


def _parameter(node: Parameter, scope: Scope) -> pa.DataType:
    _seen_parameter(node, scope)
    if types.is_build(node.type):
        raise Unfit("the rows of a join as a value")
    t = check_value_type(node.type, stored=True)
    if type_class(t) == "struct":
        raise Unfit("a constant cannot be a struct")
    if types.is_textual(t) or type_class(value_type(t)) == "binary":
        scope.written.add(node.index)
    exact = pa.types.is_integer(t) or pa.types.is_decimal(t)
    most = t.precision if pa.types.is_decimal(t) else 20
    if not (1 <= node.digits <= most if exact else node.digits == 0):
        raise Unfit(f"{node.digits} digits of a constant {types.type_to_text(t)}")
    return t


def _seen_parameter(node: Parameter, scope: Scope) -> None:
    """Note a constant; whoever checks its value does so by what was noted."""
    index, digits = node.index, node.digits
    if type(index) is not int or type(digits) is not int or not 0 <= digits <= _DIGITS_MOST:
        raise Unfit(f"constant {index!r:.40} of {digits!r:.40} digits")
    if not 0 <= index < PARAMETERS_MOST or not isinstance(node.type, pa.DataType):
        raise Unfit(f"constant {index} of type {node.type!s:.60}")
    if not _alike(scope.parameters.setdefault(index, node), node):
        raise Unfit(f"constant {index} is mentioned with different types")


def _alike(one: Parameter, other: Parameter) -> bool:
    return one is other or (one.digits == other.digits and bool(one.type.equals(other.type)))


def _cast(node: Cast, scope: Scope) -> pa.DataType:
    source, target = _of(node, "operand", scope), check_value_type(node.type)
    if source.equals(target) or not castable(source, target):
        said = types.type_to_text(source), types.type_to_text(target)
        raise Unfit(f"no cast from {said[0]} to {said[1]}")
    return target


def _arithmetic(node: Arithmetic, scope: Scope) -> pa.DataType:
    left, right = _of(node, "left", scope), _of(node, "right", scope)
    if node.op not in {"+", "-", "*", "/"}:
        raise Unfit(f"the operator {node.op!r:.20}")
    return _same(node.type, _result(node, left, right), f"the result of {node.op}")


def _result(node: Arithmetic, left: pa.DataType, right: pa.DataType) -> pa.DataType:
    moments = types.moment_arithmetic(node.op, left, right)
    if moments is not None and node.op != "/":
        if not (left.equals(moments[0]) and right.equals(moments[1])):
            raise _no(node.op, left, right)
        return moments[2]
    both = pa.types.is_decimal128(left) and pa.types.is_decimal128(right)
    found = types.arithmetic_type(node.op, left, right) if types.is_numeric(left) else None
    if found is None:
        raise _no(node.op, left, right)
    if both and node.op == "*":
        return found
    # Sides were cast to the result, which for decimals has a digit more than what they were.
    if both and node.op in {"+", "-"} and left.equals(right):
        return left
    if pa.types.is_decimal(found) or not (left.equals(found) and right.equals(found)):
        raise _no(node.op, left, right)
    return found


def _negate(node: Negate, scope: Scope) -> pa.DataType:
    t = _of(node, "operand", scope)
    if not pa.types.is_duration(t) and (not types.is_numeric(t) or pa.types.is_unsigned_integer(t)):
        raise _no("-", t)
    return t


def _compare(node: Compare, scope: Scope) -> pa.DataType:
    left = _of(node, "left", scope)
    right = _constant(node.right, left, scope) or _of(node, "right", scope)
    if node.op not in _COMPARISONS:
        raise Unfit(f"the operator {node.op!r:.20}")
    constant = type(node.right) in {Parameter, Literal}
    if not left.equals(right) or pa.types.is_struct(left):
        raise _no(node.op, left, right)
    if pa.types.is_dictionary(left) and not constant:
        raise _no(node.op, left, right)
    return pa.bool_()


def _constant(node: object, beside: pa.DataType, scope: Scope) -> pa.DataType | None:
    """Give the type of a constant that is only compared with, not written anywhere."""
    if type(node) is not Parameter:
        return None
    written = node.index in scope.written
    found = type_in(node, scope)
    if not written:
        scope.written.discard(node.index)
    return found


def _logic(node: Logic, scope: Scope) -> pa.DataType:
    if node.op not in {"and", "or"}:
        raise Unfit(f"the operator {node.op!r:.20}")
    _tuple(node.operands, "operands", 1)
    for t in _each(node.operands, "operands", scope):
        _truth(t, node.op)
    return pa.bool_()


def _truth(t: pa.DataType, what: str) -> None:
    if not pa.types.is_boolean(t):
        raise _no(what, t)


def _not(node: Not, scope: Scope) -> pa.DataType:
    _truth(_of(node, "operand", scope), "not")
    return pa.bool_()


def _is_null(node: IsNull, scope: Scope) -> pa.DataType:
    _of(node, "operand", scope)
    return pa.bool_()


def _is_in(node: IsIn, scope: Scope) -> pa.DataType:
    t = _of(node, "operand", scope)
    if pa.types.is_struct(t):
        raise _no("is_in", t)
    for value in _tuple(node.values, "values"):
        found = _constant(value, t, scope)
        if found is None or not found.equals(t):
            raise Unfit(f"is_in among {types.type_to_text(t)} of {shown(value)}")
        scope.computed -= 1
    return pa.bool_()


def _when(node: When, scope: Scope) -> pa.DataType:
    for number, case in enumerate(_tuple(node.cases, "cases", 1)):
        if len(_tuple(case, "a case")) != 2:
            raise Unfit(f"{shown(case)} as a case")
        with Within(f".cases[{number}]"):
            _truth(type_in(case[0], scope), "when")
    t = _of(node, "otherwise", scope)
    if pa.types.is_struct(t) or pa.types.is_dictionary(t):
        raise _no("when", t)
    for number, (_, value) in enumerate(node.cases):
        with Within(f".cases[{number}]"):
            found = type_in(value, scope)
        if not found.equals(t):
            raise _no("when", t, found)
    return t


def _match(node: Match, scope: Scope) -> pa.DataType:
    t, pattern = _of(node, "operand", scope), node.pattern
    if node.kind not in _MATCHES or not types.is_textual(t):
        raise _no(f"{node.kind!r:.20}", t)
    text = pattern.value if type(pattern) is Literal else None
    if type(text) is not str or len(text) > _PATTERN_MOST:
        raise Unfit(f"{shown(pattern)} as a pattern")
    _same(pattern.type, pa.utf8(), "a pattern")  # type: ignore[attr-defined]
    return pa.bool_()


def _date_part(node: DatePart, scope: Scope) -> pa.DataType:
    t = _of(node, "operand", scope)
    if node.part not in _PARTS or type_class(t) != "temporal":
        raise _no(f"{node.part!r:.20}", t)
    return pa.int64()


def _field(node: Field, scope: Scope) -> pa.DataType:
    t = _of(node, "operand", scope)
    index = t.get_field_index(node.name) if pa.types.is_struct(t) and _is_text(node.name) else -1
    if index < 0:
        raise Unfit(f"no field {node.name!r:.60} in {t!s:.80}")
    return _same(node.type, t.field(index).type, f"field {node.name!r:.60}")


def _is_text(value: object) -> bool:
    return type(value) is str


def _apply(node: Apply, scope: Scope) -> pa.DataType:
    """Pass a function that this process has declared itself; no code ever comes with a plan."""
    if type(node.digest) is not bytes or not _is_text(node.name):
        raise Unfit(f"the function {node.name!r:.60}")
    try:
        kernel = known_kernel(node.digest, node.name)
    except InputError as problem:
        raise Unfit(str(problem), refused=True) from None
    said = _tuple(node.types, "types")
    if kernel.name != node.name or kernel.operations != node.operations:
        raise Unfit(f"the function {node.name!r:.60} is not declared so here")
    if len(said) != len(kernel.types):
        raise Unfit(f"{node.name} takes {len(kernel.types)} values, not {len(said)}")
    for t, declared in zip((*said, node.type), (*kernel.types, kernel.result), strict=True):
        _same(t, declared, f"a value of {node.name}")
    if tuple(_each(node.arguments, "arguments", scope)) != kernel.types:
        raise Unfit(f"the arguments of {node.name}")
    return kernel.result


def _shard(node: Shard, scope: Scope) -> pa.DataType:
    t = _of(node, "operand", scope)
    family = type_class(value_type(t))
    texts = family in {"string", "binary"}
    if family in {"float", "struct"} or (pa.types.is_dictionary(t) and not texts):
        raise _no("shard", t)
    bounds = _tuple(node.bounds, "bounds")
    if type(node.count) is not int or node.count > SHARDS_MOST or len(bounds) > _RANGES_MOST:
        raise Unfit(f"{node.count!r:.40} shards; possible: {SHARDS_MOST}, {_RANGES_MOST} by range")
    if any(not _is_bound(bound) for bound in bounds):
        raise Unfit("a bound of shards that is no value")
    try:
        ShardScheme(node.by, "key", node.count, bounds)
        if key_values(bounds, t).null_count:
            raise Unfit("a bound of shards that is null")
    except (InputError, TypeError) as problem:
        raise Unfit(str(problem)) from None
    return pa.int32()


def _is_bound(value: object) -> bool:
    """Tell whether a bound is a value: of decimals one that is written in a few digits."""
    if isinstance(value, Decimal):
        small = value.is_finite() and abs(value.adjusted()) < _DECIMAL_MOST
        return small and len(value.as_tuple().digits) < _DECIMAL_MOST
    return value is not None and not isinstance(value, tuple | pa.DataType | Struct)


def keys_in(keys: object, build: object, scope: Scope) -> pa.StructType:
    """Check the keys of a join and the constant that its rows are; give the rows' columns.

    Programs compare keys word by word: they must be of the very types of the build's.

    Raises
    ------
    Unfit
        If they do not fit.
    """
    if type(build) is not Parameter:
        raise Unfit(f"{shown(build)} as the rows of a join")
    _seen_parameter(build, scope)
    if not types.is_build(build.type) or build.digits:
        raise Unfit(f"{shown(build)} as the rows of a join")
    columns: pa.StructType = build.type.value_type
    found = _tuple(keys, "keys", 1)
    if not len(found) <= columns.num_fields:
        raise Unfit(f"{len(found)} keys of {columns.num_fields} columns")
    if scope.keys.setdefault(build.index, len(found)) != len(found):
        raise Unfit(f"the rows of a join with {len(found)} and {scope.keys[build.index]} keys")
    for number, key in enumerate(found):
        with Within(f".keys[{number}]"):
            _key(key, number, build, scope)
    for column in columns:
        check_name(column.name)
        check_value_type(column.type, stored=True)
    if len({column.name for column in columns}) != columns.num_fields:
        raise Unfit("the rows of a join have two columns of one name")
    return columns


def _key(key: object, number: int, build: Parameter, scope: Scope) -> None:
    wanted = build.type.value_type[number].type
    if types.is_coded(wanted):
        if type(key) is not Code or key.key != number or type(key.key) is not int:
            raise Unfit("a text that is not compared by its number")
        if type(key.build) is not Parameter or key.build != build:
            raise Unfit("a text numbered by the rows of another join")
        scope.nodes += 1
        t = _of(key, "operand", scope)
        common = types.common_type(value_type(t), value_type(wanted))
        if common is None or not types.is_coded(t):
            raise _no("join", t, wanted)
        return
    t = type_in(key, scope)
    if not t.equals(wanted) or type_class(t) in {"dictionary", "struct"}:
        raise _no("join", t, wanted)


def _member(node: Member, scope: Scope) -> pa.DataType:
    keys_in(node.keys, node.build, scope)
    return pa.bool_()


_RULES: Final[dict[type[object], Callable[[Any, Scope], pa.DataType]]] = {
    Column: _column,
    Literal: _null,
    Parameter: _parameter,
    Cast: _cast,
    Arithmetic: _arithmetic,
    Negate: _negate,
    Compare: _compare,
    Logic: _logic,
    Not: _not,
    IsNull: _is_null,
    IsIn: _is_in,
    When: _when,
    Match: _match,
    DatePart: _date_part,
    Field: _field,
    Apply: _apply,
    Shard: _shard,
    Member: _member,
}
"""A Code stands nowhere but among the keys of a join."""
