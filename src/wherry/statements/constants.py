"""Constants of SQL: numbers are added as they are written, dates by the calendar.

`0.06 - 0.01` is five hundredths, exactly, as SQL says, and not what floats make of it.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation, localcontext
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.statements.parse import only, refused, shown, sqlglot

if TYPE_CHECKING:
    from sqlglot import exp


class Interval(Struct, frozen=True):
    """A span of time: months have no length of their own."""

    months: int
    rest: timedelta


NULL: Final = object()
"""The constant without a value."""
NONE: Final = object()
"""What is given for what is no constant."""

_EXACT: Final = Context(prec=80, traps=[Inexact, InvalidOperation])
_STEPS: Final = {
    "MICROSECOND": timedelta(microseconds=1),
    "MILLISECOND": timedelta(milliseconds=1),
    "SECOND": timedelta(seconds=1),
    "MINUTE": timedelta(minutes=1),
    "HOUR": timedelta(hours=1),
    "DAY": timedelta(days=1),
    "WEEK": timedelta(weeks=1),
}
_MOMENTS: Final = {
    "DATE": pa.date32(),
    "TIMESTAMPNTZ": pa.timestamp("us"),
    "TIME": pa.time64("us"),
}
_MONTHS: Final = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}


def constant(node: exp.Expr) -> object:
    """Give the value of a constant tree: a Python value, an Interval, NULL, or NONE: it is none."""
    exp = sqlglot().exp
    match node:
        case exp.Literal():
            return node.this if node.is_string else _number(node)
        case exp.Null():
            return NULL
        case exp.Boolean():
            return bool(node.this)
        case exp.Paren():
            return constant(node.this)
        case exp.Neg():
            value = constant(node.this)
            return -value if isinstance(value, int | Decimal | float) else NONE
        case exp.Interval():
            return _interval(node)
        case exp.Cast():
            return _moment(node)
        case exp.Add() | exp.Sub() | exp.Mul():
            return _folded(node)
    return NONE


def python_value(value: object) -> object:
    """Give a constant as expressions take it: a float where it says the same decimal."""
    if isinstance(value, Decimal):
        near = float(value)
        return near if Decimal(repr(near)) == value else value
    if isinstance(value, Interval):
        if value.months:
            raise InputError("SQL: months are added to constants only, not to columns")
        return value.rest
    return value


def moment_of(text: str, t: pa.DataType) -> object:
    """Give the date, timestamp or time that a text says, where SQL takes it for one.

    Raises
    ------
    InputError
        If it says none.
    """
    try:
        if pa.types.is_date(t):
            return date.fromisoformat(text)
        if pa.types.is_time(t):
            return time.fromisoformat(text)
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{text!r} is no {t}; write it as 1994-01-31 or 1994-01-31 12:30:00"
        ) from None
    if t.tz is None:
        return found.replace(tzinfo=None) if found.tzinfo is None else NONE
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _number(node: exp.Literal) -> object:
    text = node.this
    try:
        if text.isdecimal():
            return int(text)
        return float(text) if "e" in text.lower() else Decimal(text)
    except (ValueError, InvalidOperation):
        raise refused(node, "this number") from None


def _moment(node: exp.Cast) -> object:
    """Read DATE '1994-01-01' and its like, which sqlglot gives as casts."""
    text = constant(node.this)
    exp = sqlglot().exp
    kind = str(getattr(node.to.this, "name", ""))
    if type(node) is not exp.Cast or not isinstance(text, str) or kind not in _MOMENTS:
        return NONE
    return moment_of(text, _MOMENTS[kind])


def _interval(node: exp.Interval) -> object:
    only(node, "this", "unit")
    count = constant(node.this) if node.this else NONE
    unit = str(node.args.get("unit") or "").upper().removesuffix("S")
    if isinstance(count, str) and count.lstrip("-").isdigit():
        count = int(count)
    if not isinstance(count, int) or unit not in {*_STEPS, *_MONTHS}:
        units = ", ".join(u.lower() for u in (*_MONTHS, *reversed(_STEPS)))
        raise InputError(
            f"SQL: an interval is a whole number and a unit, such as INTERVAL 3 DAY; got "
            f"{shown(node)}; units: {units}"
        )
    try:
        if unit in _MONTHS:
            return Interval(_MONTHS[unit] * count, timedelta())
        return Interval(0, _STEPS[unit] * count)
    except OverflowError:
        raise InputError(f"SQL: {shown(node)} is too long") from None


def _folded(node: exp.Binary) -> object:
    exp = sqlglot().exp
    left: Any = constant(node.this)
    right: Any = constant(node.expression)
    sign = -1 if isinstance(node, exp.Sub) else 1
    if _exact(left) and _exact(right):
        with localcontext(_EXACT):
            try:
                return left * right if isinstance(node, exp.Mul) else left + sign * right
            except ArithmeticError:
                raise refused(node, "a number of so many digits") from None
    if isinstance(left, date) and isinstance(right, Interval) and not isinstance(node, exp.Mul):
        return _moved(left, right, sign, node)
    return NONE


def _exact(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _moved(start: date, by: Interval, sign: int, node: exp.Binary) -> date:
    """Add an interval by the calendar: a day that a month lacks becomes its last."""
    months = start.year * 12 + start.month - 1 + sign * by.months
    year, month = divmod(months, 12)
    try:
        day = min(start.day, calendar.monthrange(year, month + 1)[1])
        moved = start.replace(year=year, month=month + 1, day=day)
        if isinstance(moved, datetime) or by.rest % timedelta(days=1) == timedelta():
            return moved + sign * by.rest
        return datetime.combine(moved, time()) + sign * by.rest
    except (ValueError, OverflowError, calendar.IllegalMonthError):
        raise InputError(f"SQL: {shown(node)} is in no year from 1 to 9999") from None
