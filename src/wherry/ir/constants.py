"""Constants in the type of what they meet, where they have exactly that value there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from struct import Struct
from typing import Final

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.data.types import type_class
from wherry.ir import types
from wherry.ir.expr import Literal

_FLOAT32: Final = Struct("<f")
_MICROSECONDS: Final = {"s": 1_000_000, "ms": 1_000}
_NS_FIRST: Final = datetime(1677, 9, 22)  # noqa: DTZ001
_NS_LAST: Final = datetime(2262, 4, 10)  # noqa: DTZ001
"""A little inside what 64 bits of nanoseconds hold, so that no time zone leads outside."""


def adapted(node: Literal, target: pa.DataType) -> Literal:
    """Give the literal in the type of what it meets, if it has exactly that value there."""
    convert = _CONVERSIONS.get(type_class(target))
    if node.value is None:
        return Literal(None, target)
    return node if convert is None else convert(node, target)


def to_integer(node: Literal, target: pa.DataType) -> Literal:
    """Give an integer literal in an integer type, if that holds it."""
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
    digits = own.precision - own.scale if exact else 0  # Zero needs no digit, even beside 0.99.
    fits = own.scale <= target.scale and digits <= whole
    return Literal(exact, target if fits else own)


def _to_text_type(node: Literal, target: pa.DataType) -> Literal:
    return Literal(node.value, target) if isinstance(node.value, str) else node


def _to_binary(node: Literal, target: pa.DataType) -> Literal:
    value = node.value
    if not isinstance(value, bytes):
        return node
    if pa.types.is_fixed_size_binary(target) and len(value) != target.byte_width:
        return node
    return Literal(value, target)


def _to_dictionary(node: Literal, target: pa.DataType) -> Literal:
    found = adapted(node, target.value_type)
    same = target.value_type.equals(found.type)
    return Literal(found.value, target) if same else found


def _to_clock(node: Literal, target: pa.DataType) -> Literal:
    """Give a time in the unit of what it meets, or in microseconds if that is too coarse."""
    if not isinstance(node.value, time):
        return node
    coarse = node.value.microsecond % _MICROSECONDS.get(target.unit, 1) != 0
    return node if coarse else Literal(node.value, target)


def _to_duration(node: Literal, target: pa.DataType) -> Literal:
    value = node.value
    exact = isinstance(value, timedelta) and types.holds_duration(value, target.unit)
    return Literal(value, target) if exact else node


def _to_time(node: Literal, target: pa.DataType) -> Literal:
    value = node.value
    if isinstance(value, timedelta):
        return _to_duration(node, pa.duration(types.unit_of(target)))
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
    "integer": to_integer,
    "float": _to_float,
    "decimal": _to_decimal,
    "string": _to_text_type,
    "binary": _to_binary,
    "time": _to_clock,
    "duration": _to_duration,
    "dictionary": _to_dictionary,
    "temporal": _to_time,
}
