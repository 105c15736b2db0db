"""Expressions over `pyarrow.compute`, column by column: what runs where no program is native.

`meaning.py` is the definition, and this file is compared with it. Where pyarrow differs, the
difference is made up for here: `null in (...)` is null, decimals become the nearest float, and a
product of decimals that needs more than 38 digits is an error only if a value does.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context
from functools import singledispatch
from typing import Any, Final, TypeAlias

import pyarrow as pa

from wherry.base.compute import pc
from wherry.base.errors import InputError
from wherry.data.arrays import plain, plain_type, restored
from wherry.data.sharding import ShardScheme, shard_of
from wherry.data.types import NANOSECONDS, type_class, value_type
from wherry.ir.build import key_values, rows_held
from wherry.ir.expr import (
    Apply,
    Arithmetic,
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
    Node,
    Not,
    Shard,
    When,
)
from wherry.ir.resolve import type_of
from wherry.ir.text import to_text
from wherry.ir.types import DECIMAL_DIGITS, EXACT_FLOAT, EXACT_POWER, is_moment
from wherry.ir.user import known_kernel
from wherry.ir.user_reference import apply_reference

Operand: TypeAlias = Any  # an Array or a Scalar; pyarrow has no types

_COMPARE: Final[dict[str, str]] = {
    "==": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}
_ARITHMETIC: Final[dict[str, str]] = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
}
_MATCH: Final[dict[str, str]] = {
    "starts_with": "starts_with",
    "ends_with": "ends_with",
    "contains": "match_substring",
    "like": "match_like",
}
_WIDEST: Final = 76
"""Most digits of a decimal256."""
_EXACT: Final = Context(prec=80)


def evaluate(node: Node, batch: pa.RecordBatch) -> pa.Array:
    """Give the value of a resolved expression for every row of `batch`.

    Parameters
    ----------
    node : Node
        Resolved, and without parameters (`bind` replaces those).
    batch : pyarrow.RecordBatch
        The rows.

    Returns
    -------
    pyarrow.Array
        Of the expression's type, `batch.num_rows` long.

    Raises
    ------
    InputError
        If a value cannot be computed: a cast that loses it, a decimal of more than 38 digits.
    """
    try:
        found = _value(node, batch)
    except pa.ArrowInvalid as problem:
        raise InputError(f"{to_text(node)}: {problem}") from None
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    if isinstance(found, pa.Scalar):
        found = pa.repeat(found, batch.num_rows)
    wanted = type_of(node)
    return restored(found, wanted)


def literal_scalar(node: Literal) -> pa.Scalar:
    """Give a literal as an Arrow scalar of its (value) type."""
    assert node.type is not None
    return pa.scalar(node.value, value_type(node.type))


@singledispatch
def _value(node: Node, batch: pa.RecordBatch) -> Operand:
    raise TypeError(f"no reference for {type(node).__name__}")


@_value.register
def _(node: Column, batch: pa.RecordBatch) -> Operand:
    return batch.column(node.name)


@_value.register
def _(node: Literal, batch: pa.RecordBatch) -> Operand:
    return literal_scalar(node)


@_value.register
def _(node: Cast, batch: pa.RecordBatch) -> Operand:
    operand = plain(_value(node.operand, batch))
    source, target = operand.type, plain_type(node.type)
    if pa.types.is_integer(source) and pa.types.is_decimal(target):
        # pyarrow asks for room for every int64, whatever the values are.
        operand = pc.cast(operand, pa.decimal256(_WIDEST, target.scale))
    if pa.types.is_decimal(source) and pa.types.is_floating(target):
        return _nearest_floats(operand, target)
    if pa.types.is_integer(target) and is_moment(source) and not source.equals(target):
        return pc.cast(operand, target)
    made = pc.cast(operand, target, safe=not _lossy_by_design(source, target))
    return restored(made, node.type) if isinstance(made, pa.Array) else made


def _nearest_floats(values: Operand, target: pa.DataType) -> Operand:
    """Give the floats nearest to decimals; pyarrow multiplies by a power of ten that is rounded."""
    scale = values.type.scale
    if isinstance(values, pa.Array) and pa.types.is_float64(target) and scale <= EXACT_POWER:
        whole = values.view(pa.decimal128(DECIMAL_DIGITS, 0))
        ends = pc.min_max(whole).as_py()
        if all(abs(end or 0) <= EXACT_FLOAT for end in ends.values()):
            return pc.divide(pc.cast(whole, target), 10.0**scale)
    # Text is read as the nearest float, but at 0.7 us a value instead of 15 ns.
    return pc.cast(pc.cast(values, pa.utf8()), target)


def _lossy_by_design(source: pa.DataType, target: pa.DataType) -> bool:
    """Tell whether a cast rounds (integer to float) or drops what is finer (time to coarser)."""
    if not (is_moment(source) and is_moment(target)):
        return (type_class(source), type_class(target)) == ("integer", "float")
    if pa.types.is_date(target) or pa.types.is_date(source):
        return bool(pa.types.is_date(target))
    return NANOSECONDS[target.unit] > NANOSECONDS[source.unit]


@_value.register
def _(node: Arithmetic, batch: pa.RecordBatch) -> Operand:
    left, right = plain(_value(node.left, batch)), plain(_value(node.right, batch))
    if pa.types.is_decimal(type_of(node)):
        return _decimal_arithmetic(node, left, right)
    return getattr(pc, _ARITHMETIC[node.op])(left, right)


def _decimal_arithmetic(node: Arithmetic, left: Operand, right: Operand) -> Operand:
    if node.op == "*" and left.type.precision + right.type.precision + 1 > _WIDEST:
        return _long_product(left, right, node.type)
    wide = [pa.decimal256(v.type.precision, v.type.scale) for v in (left, right)]
    exact = getattr(pc, _ARITHMETIC[node.op])(left.cast(wide[0]), right.cast(wide[1]))
    return pc.cast(exact, node.type)


def _long_product(left: Operand, right: Operand, t: pa.DataType) -> Operand:
    """Multiply one by one, because pyarrow would name a type wider than any it has."""
    rows = [len(v) for v in (left, right) if not isinstance(v, pa.Scalar)]
    sides = [
        v.to_pylist() if not isinstance(v, pa.Scalar) else [v.as_py()] * max(rows, default=1)
        for v in (left, right)
    ]
    pairs = zip(*sides, strict=True)
    made = pa.array([None if None in pair else _EXACT.multiply(*pair) for pair in pairs], t)
    return made if rows else made[0]


@_value.register
def _(node: Negate, batch: pa.RecordBatch) -> Operand:
    return pc.negate(plain(_value(node.operand, batch)))


@_value.register
def _(node: Compare, batch: pa.RecordBatch) -> Operand:
    left, right = (plain(_value(n, batch)) for n in (node.left, node.right))
    return getattr(pc, _COMPARE[node.op])(left, right)


@_value.register
def _(node: Logic, batch: pa.RecordBatch) -> Operand:
    combine = pc.and_kleene if node.op == "and" else pc.or_kleene
    first, *rest = (_value(n, batch) for n in node.operands)
    for other in rest:
        first = combine(first, other)
    return first


@_value.register
def _(node: Not, batch: pa.RecordBatch) -> Operand:
    return pc.invert(_value(node.operand, batch))


@_value.register
def _(node: IsNull, batch: pa.RecordBatch) -> Operand:
    return pc.is_null(_value(node.operand, batch))


@_value.register
def _(node: IsIn, batch: pa.RecordBatch) -> Operand:
    operand = plain(_value(node.operand, batch))
    values = _scalars(node.values, operand.type)
    if pa.types.is_floating(operand.type):
        # pyarrow's is_in compares bits: NaN would be in [NaN], and 0.0 not in [-0.0].
        values = pc.add(values.filter(pc.invert(pc.is_nan(values))), pa.scalar(0.0, values.type))
        operand = pc.add(operand, pa.scalar(0.0, operand.type))
    return pc.if_else(pc.is_valid(operand), pc.is_in(operand, values), pa.scalar(None, pa.bool_()))


def _scalars(values: Sequence[Node], t: pa.DataType) -> pa.Array:
    return pa.array([v.value for v in values if isinstance(v, Literal)], t)


@_value.register
def _(node: When, batch: pa.RecordBatch) -> Operand:
    t = type_of(node)
    whole = [evaluate(c, batch) for c, _ in node.cases]
    conditions = pa.StructArray.from_arrays(
        [pc.fill_null(c, False) for c in whole], [str(i) for i in range(len(whole))]
    )
    values = [plain(_value(v, batch)) for v in (*(v for _, v in node.cases), node.otherwise)]
    return restored(pc.case_when(conditions, *values), t)


@_value.register
def _(node: Match, batch: pa.RecordBatch) -> Operand:
    assert isinstance(node.pattern, Literal)
    operand = plain(_value(node.operand, batch))
    return getattr(pc, _MATCH[node.kind])(operand, pattern=node.pattern.value)


@_value.register
def _(node: DatePart, batch: pa.RecordBatch) -> Operand:
    return pc.cast(getattr(pc, node.part)(_value(node.operand, batch)), pa.int64())


@_value.register
def _(node: Member, batch: pa.RecordBatch) -> Operand:
    found = matching_rows(node.keys, node.build, batch)
    return pa.array([bool(rows) for rows in found], pa.bool_())


def matching_rows(
    keys: Sequence[Node], build: Node, batch: pa.RecordBatch
) -> list[tuple[int, ...]]:
    """Give, for each row of `batch`, the rows of a build that have its keys, in their order."""
    rows_of = rows_held(build).rows_of
    columns = [key_values(evaluate(key, batch)) for key in keys]
    return [tuple(rows_of.get(key, ())) for key in zip(*columns, strict=True)]


@_value.register
def _(node: Code, batch: pa.RecordBatch) -> Operand:
    texts = rows_held(node.build).texts(node.key)
    operand = plain(evaluate(node.operand, batch)).cast(texts.type)
    return pc.index_in(operand, value_set=texts)


@_value.register
def _(node: Field, batch: pa.RecordBatch) -> Operand:
    operand = _value(node.operand, batch)
    return pc.struct_field(operand, [operand.type.get_field_index(node.name)])


@_value.register
def _(node: Apply, batch: pa.RecordBatch) -> Operand:
    kernel = known_kernel(node.digest, node.name)
    return apply_reference(kernel, [evaluate(n, batch) for n in node.arguments])


@_value.register
def _(node: Shard, batch: pa.RecordBatch) -> Operand:
    scheme = ShardScheme(by=node.by, key="key", count=node.count, bounds=node.bounds)
    return pa.array(shard_of(evaluate(node.operand, batch), scheme))
