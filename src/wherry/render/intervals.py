"""Between which integers the values of an expression lie: what proves that 64 bits are enough."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Final

import pyarrow as pa

from wherry.data.types import NANOSECONDS
from wherry.ir.expr import Arithmetic, Cast, DatePart, Negate, Node, Parameter, When
from wherry.ir.expr import Column as ColumnNode
from wherry.ir.resolve import type_of
from wherry.ir.types import DAY_NS, EXACT_FLOAT, EXACT_POWER, Interval, is_moment, type_range

Bounds = Mapping[str, Interval]

INT64: Final[Interval] = (-(1 << 63), (1 << 63) - 1)
_YEARS: Final[Interval] = (-(1 << 31), 1 << 31)


def within(inner: Interval, outer: Interval) -> bool:
    """Tell whether every integer of `inner` is one of `outer`."""
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def interval(node: Node, bounds: Bounds) -> Interval:
    """Give integers between which every valid value of `node` lies.

    Integer arithmetic wraps, so it has the range of its type as soon as it might leave it. Decimal
    arithmetic does not wrap: its interval may exceed its type's, and then nothing proves it fits.

    Parameters
    ----------
    node : Node
        Of integer, decimal or temporal type, resolved.
    bounds : mapping
        What statistics say of columns.
    """
    found = _interval(node, bounds)
    t = type_of(node)
    if found is None or not (pa.types.is_decimal(t) or within(found, type_range(t))):
        return type_range(t)
    return found


@singledispatch
def _interval(node: Node, bounds: Bounds) -> Interval | None:  # noqa: ARG001
    return None


@_interval.register
def _(node: ColumnNode, bounds: Bounds) -> Interval | None:
    return bounds.get(node.name)


@_interval.register
def _(node: Parameter, bounds: Bounds) -> Interval | None:  # noqa: ARG001
    most = 10**node.digits - 1
    return (-most, most) if node.digits else None


@_interval.register
def _(node: Negate, bounds: Bounds) -> Interval | None:
    low, high = interval(node.operand, bounds)
    return -high, -low


@_interval.register
def _(node: DatePart, bounds: Bounds) -> Interval | None:  # noqa: ARG001
    return _YEARS


@_interval.register
def _(node: When, bounds: Bounds) -> Interval | None:
    values = [interval(v, bounds) for v in (*(v for _, v in node.cases), node.otherwise)]
    return min(low for low, _ in values), max(high for _, high in values)


@_interval.register
def _(node: Arithmetic, bounds: Bounds) -> Interval | None:
    one, other = interval(node.left, bounds), interval(node.right, bounds)
    if node.op == "+":
        return one[0] + other[0], one[1] + other[1]
    if node.op == "-":
        return one[0] - other[1], one[1] - other[0]
    if node.op == "*":
        products = [a * b for a in one for b in other]
        return min(products), max(products)
    return None


@_interval.register
def _(node: Cast, bounds: Bounds) -> Interval | None:
    source = type_of(node.operand)
    if pa.types.is_boolean(source):
        return 0, 1
    if is_moment(source) or is_moment(node.type):
        return moment_cast(interval(node.operand, bounds), source, node.type)
    step = rescale(source, node.type)
    if step is None or step < 0:
        return None
    low, high = interval(node.operand, bounds)
    return low * 10**step, high * 10**step


def exact_as_float(unscaled: Interval, scale: int) -> bool:
    """Tell whether a decimal is surely the quotient of two exact float64, or one converted int64.

    Where both are exact, IEEE's division rounds once.
    """
    if not scale:
        return within(unscaled, INT64)
    return scale <= EXACT_POWER and within(unscaled, (-EXACT_FLOAT, EXACT_FLOAT))


def nanoseconds(t: pa.DataType) -> int:
    """Give what one count of a moment type, or of the integer it is cast to, stands for."""
    if pa.types.is_date(t):
        return DAY_NS if pa.types.is_date32(t) else NANOSECONDS["ms"]
    return 1 if pa.types.is_integer(t) else NANOSECONDS[t.unit]


def moment_cast(given: Interval, source: pa.DataType, target: pa.DataType) -> Interval:
    """Give between which integers a cast of moments, or from or to the integer stored, leads."""
    if pa.types.is_integer(source) or pa.types.is_integer(target):
        return given
    if pa.types.is_time(target):
        return type_range(target)
    one, other = nanoseconds(source), nanoseconds(target)
    low, high = (bound * one // other for bound in given)
    # A cast to a coarser unit rounds down or to zero; the interval has room for both.
    return low, high + (1 if one < other else 0)


def rescale(source: pa.DataType, target: pa.DataType) -> int | None:
    """Give the power of ten between two exact number types, or None if one is not exact."""
    scales = [
        t.scale if pa.types.is_decimal(t) else 0 if pa.types.is_integer(t) else None
        for t in (source, target)
    ]
    if scales[0] is None or scales[1] is None:
        return None
    return int(scales[1] - scales[0])
