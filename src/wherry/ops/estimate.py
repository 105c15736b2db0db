"""How much comes out: intervals of rows, and what statistics say of a predicate.

A selectivity is an interval [low, high] with a best guess inside. Minima and maxima of columns give
the guess (values taken as spread evenly between them) and, where a predicate excludes the whole
range, an exact zero or one. Where nothing is known the interval is [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from wherry.data.statistics import ColumnStatistics
from wherry.ir.build import Known, may_hold
from wherry.ir.build import known as known_build
from wherry.ir.expr import (
    Code,
    Column,
    Compare,
    IsIn,
    IsNull,
    Literal,
    Logic,
    Match,
    Member,
    Node,
    Not,
)

_GUESS_EQUAL = 0.1
"""An equality on a column of unknown range; a wrong guess costs a worse placement, no wrong row."""
_GUESS_OTHER = 1 / 3
"""A predicate that statistics say nothing about."""


class Selectivity(Struct, frozen=True):
    """The share of rows that pass: a best guess within an interval that surely holds it."""

    low: float
    guess: float
    high: float


NOTHING_KNOWN = Selectivity(0.0, _GUESS_OTHER, 1.0)


class Estimate(Struct, frozen=True):
    """The size of a stream of rows.

    Attributes
    ----------
    rows_low, rows, rows_high : float
        An interval that surely holds the number of rows, and the best guess.
    row_bytes : float
        Mean bytes of one row of the columns that are there.
    columns : mapping of str to ColumnStatistics
        What is known of stored columns: minimum, maximum, nulls.
    distinct : mapping of str to int
        Number of values in the dictionary of dictionary columns.
    """

    rows_low: float
    rows: float
    rows_high: float
    row_bytes: float
    columns: Mapping[str, ColumnStatistics] = field(default_factory=dict)
    distinct: Mapping[str, int] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether the number of rows is known, not guessed."""
        return self.rows_low == self.rows_high


def exactly(rows: int, row_bytes: float) -> Estimate:
    """Give the estimate of a known number of rows."""
    return Estimate(rows, rows, rows, row_bytes)


def filtered(given: Estimate, predicate: Node) -> Estimate:
    """Give what remains of `given` after a predicate."""
    share = selectivity(predicate, given)
    return replace(
        given,
        rows_low=given.rows_low * share.low,
        rows=given.rows * share.guess,
        rows_high=given.rows_high * share.high,
    )


def at_most(given: Estimate, count: int) -> Estimate:
    """Give what remains of `given` if only `count` rows are kept."""
    low, rows, high = (min(r, count) for r in (given.rows_low, given.rows, given.rows_high))
    return replace(given, rows_low=low, rows=rows, rows_high=high)


def selectivity(predicate: Node, given: Estimate) -> Selectivity:
    """Give the share of rows of `given` that satisfy `predicate`."""
    match predicate:
        case Logic("and", operands):
            return _all(operands, given)
        case Logic("or", operands):
            return _any([selectivity(n, given) for n in operands])
        case Not(operand):
            inner = selectivity(operand, given)
            return Selectivity(0.0, 1 - inner.guess, 1 - inner.low)
        case Compare(op, Column(name), Literal(value)):
            return _compared(op, given.columns.get(name), value)
        case Compare(op, Literal(value), Column(name)):
            return _compared(MIRRORED[op], given.columns.get(name), value)
        case IsIn(Column(name), values):
            known = given.columns.get(name)
            each = [_compared("==", known, v.value) for v in values if isinstance(v, Literal)]
            return _any(each) if each else Selectivity(0.0, 0.0, 0.0)
        case IsNull(Column(name)):
            return _nulls(given, name)
        case Match():
            return Selectivity(0.0, _GUESS_EQUAL, 1.0)
        case Member(keys, build):
            return _member(keys, known_build(build), given)
    return NOTHING_KNOWN


def _member(keys: tuple[Node, ...], build: Known, given: Estimate) -> Selectivity:
    """Take both sides' keys as drawn evenly from what the rows at hand can hold."""
    names = [column.name if (column := key_column(key)) else "" for key in keys]
    bounds = [given.columns.get(name) for name in names]
    if not all(may_hold(build, number, chunk) for number, chunk in enumerate(bounds)):
        return Selectivity(0.0, 0.0, 0.0)
    domain = 1.0
    for name, chunk in zip(names, bounds, strict=True):
        domain *= _values_within(chunk) or given.distinct.get(name, 0)
    return Selectivity(0.0, min(1.0, build.rows / domain) if domain else _GUESS_OTHER, 1.0)


def key_column(key: Node) -> Column | None:
    """Give the column whose values a join's key has, if it is one."""
    if isinstance(key, Code):
        key = key.operand
    return key if isinstance(key, Column) else None


def _values_within(bounds: ColumnStatistics | None) -> float:
    """Give how many different values lie within bounds; 0 if that cannot be told."""
    if bounds is None:
        return 0
    match bounds.min, bounds.max:
        case int(low), int(high):
            return high - low + 1
        case date() as first, date() as last:
            return 0 if isinstance(first, datetime) else (last - first).days + 1
    return 0


MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _all(operands: tuple[Node, ...], given: Estimate) -> Selectivity:
    """Combine terms as if independent, but two bounds on one column by the range between them."""
    shares = [selectivity(node, given) for node in operands]
    pairs = list(zip(operands, shares, strict=True))
    below = {column: share for node, share in pairs if (column := _bounded(node, "<"))}
    guess = 1.0
    for node, share in pairs:
        other = below.get(_bounded(node, ">") or "")
        if other is not None:
            # P(a <= x) and P(x < b) overlap in all but what each excludes.
            guess *= max(0.0, share.guess + other.guess - 1) / max(other.guess, 1e-9)
        else:
            guess *= share.guess
    high = min(share.high for share in shares)
    low = 1.0 if all(share.low == 1.0 for share in shares) else 0.0
    return Selectivity(low, min(guess, high), high)


def _bounded(node: Node, direction: str) -> str | None:
    """Give the column that a comparison with a constant bounds from that side, if it does."""
    match node:
        case Compare(op, Column(name), Literal()) if op.startswith(direction):
            return name
    return None


def _any(shares: list[Selectivity]) -> Selectivity:
    missed = 1.0
    for share in shares:
        missed *= 1 - share.guess
    low, high = max(s.low for s in shares), min(1.0, sum(s.high for s in shares))
    return Selectivity(low, min(max(low, 1 - missed), high), high)


def _nulls(given: Estimate, name: str) -> Selectivity:
    known = given.columns.get(name)
    if known is None or known.nulls is None or not given.rows_high:
        return Selectivity(0.0, _GUESS_EQUAL, 1.0)
    share = min(1.0, known.nulls / given.rows_high)
    return Selectivity(0.0, share, 1.0 if known.nulls else 0.0)


def _compared(op: str, known: ColumnStatistics | None, value: object) -> Selectivity:
    default = _GUESS_EQUAL if op == "==" else _GUESS_OTHER
    decision = decided(op, known, value)
    if decision is False:
        return Selectivity(0.0, 0.0, 0.0)
    if known is None or known.min is None:
        return Selectivity(0.0, default, 1.0)
    if decision:
        return Selectivity(1.0 if known.nulls == 0 else 0.0, 1.0, 1.0)
    low, high, point = map(_number, (known.min, known.max, value))
    if low is None or high is None or point is None:
        return Selectivity(0.0, default, 1.0)
    span = high - low
    if not isfinite(span):  # An infinity is among the bounds: nothing lies evenly up to it.
        return Selectivity(0.0, default, 1.0)
    if op in {"==", "!="}:
        share = 1 / (span + 1)
        return Selectivity(0.0, share if op == "==" else 1 - share, 1.0)
    below = min(1.0, max(0.0, (point - low) / span)) if span > 0 else default
    return Selectivity(0.0, below if op in {"<", "<="} else 1 - below, 1.0)


def decided(op: str, known: ColumnStatistics | None, value: Any) -> bool | None:
    """Give what is known of a column alone says of `column op value`: true, false, or None.

    The values are compared exactly; True speaks of values that are not null.
    """
    found = _bounded_decision(op, known, value)
    if found is None and op == "==" and known is not None and known.excludes is not None:
        return False if known.excludes(value) else None
    return found


def _bounded_decision(op: str, known: ColumnStatistics | None, value: Any) -> bool | None:
    if known is None or known.min is None or known.max is None:
        return None
    low: Any = known.min
    high: Any = known.max
    try:
        never, always = _extremes(op, low, high, value)
    except TypeError:
        return None
    if known.nans:
        # NaN differs from every number, and no other comparison with it holds.
        never, always = never and op != "!=", always and op == "!="
    return False if never else True if always else None


def _extremes(op: str, low: Any, high: Any, value: Any) -> tuple[bool, bool]:
    """Tell whether `op value` holds for no value, or for every value, from low to high."""
    match op:
        case "==":
            return value < low or value > high, low == high == value
        case "!=":
            return low == high == value, value < low or value > high
        case "<":
            return value <= low, value > high
        case "<=":
            return value < low, value >= high
        case ">":
            return value >= high, value < low
    return value > high, value <= low


def _number(value: object) -> float | None:
    """Give a float near the value, good enough to guess with."""
    if isinstance(value, datetime):
        return (value.replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds()  # noqa: DTZ001
    if isinstance(value, date):
        return float(value.toordinal())
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, time):
        return value.hour * 3600.0 + value.minute * 60 + value.second
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return float(value)
    return None
