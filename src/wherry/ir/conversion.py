"""What a cast means, for one value, in plain Python."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Context, Decimal
from fractions import Fraction
from struct import Struct
from typing import Any, Final
from zoneinfo import ZoneInfo

import pyarrow as pa

from wherry.data.types import NANOSECONDS, type_class, value_type
from wherry.ir.types import DAY_NS, is_moment

EXACT: Final = Context(prec=200)
"""Digits enough that no sum or product of two decimals of 38 digits is rounded."""
_DOUBLE, _SINGLE, _BITS = Struct("<d"), Struct("<f"), Struct("<q")


class NoValue(Exception):
    """What a type cannot hold."""


def converted(value: Any, source: pa.DataType, target: pa.DataType) -> Any:
    """Give a value that is not None in another type; moments are the integers stored.

    Raises
    ------
    NoValue
        If the type does not hold it.
    """
    source, target = value_type(source), value_type(target)
    if is_moment(source) and is_moment(target):
        return _moment(value, source, target)
    match type_class(target):
        case "boolean":
            return value != 0  # NaN is not 0
        case "float":
            return rounded(value) if pa.types.is_float32(target) else float(value)
        case "decimal":
            return decimal(value, target)
        case "string":
            return value if isinstance(value, str) else _text(value)
        case "binary":
            return _bytes(value, target)
    return _integer(value, target)


def _integer(value: Any, target: pa.DataType) -> int:
    """Give a number as an integer, or the integer that a moment is stored as, and back."""
    if not math.isfinite(value) or value != int(value):
        raise NoValue(f"{value} is no whole number")
    bits, signed = target.bit_width, not pa.types.is_unsigned_integer(target)
    return _held(int(value), bits - signed, target, signed=signed)


def _held(value: int, bits: int, target: pa.DataType, *, signed: bool = True) -> int:
    if not (-(1 << bits) if signed else 0) <= value < 1 << bits:
        raise NoValue(f"{target} does not hold {value}")
    return value


def rounded(value: float | Decimal) -> float:
    """Give the float32 that is nearest; of two the even one; infinity beyond the greatest."""
    near = float(value)
    if not math.isfinite(near):
        return near
    exact = Fraction(value)
    if Fraction(near) != exact and not _BITS.unpack(_DOUBLE.pack(near))[0] & 1:
        # Of the two doubles beside the exact value, the odd one is never halfway between two
        # float32: so rounding twice is rounding once.
        near = math.nextafter(near, math.copysign(math.inf, exact - Fraction(near)))
    try:
        found: float = _SINGLE.unpack(_SINGLE.pack(near))[0]
    except OverflowError:
        return math.copysign(math.inf, near)
    return found


def decimal(value: float | Decimal, target: pa.DataType) -> Decimal:
    """Give a number as a decimal; a float rounded at the scale, anything else exactly or not."""
    if not math.isfinite(value):
        raise NoValue(f"{value} is no decimal")
    shifted = Fraction(value) * 10**target.scale
    unscaled = round(shifted)  # halves to even
    if unscaled != shifted and not isinstance(value, float):
        raise NoValue(f"{value} has more than {target.scale} digits after the point")
    if abs(unscaled) >= 10**target.precision:
        raise NoValue(f"{value} has more digits than {target}")
    return Decimal(unscaled).scaleb(-target.scale, EXACT)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NoValue(f"the bytes {value!r} are no UTF-8") from None


def _bytes(value: str | bytes, target: pa.DataType) -> bytes:
    found = value.encode() if isinstance(value, str) else value
    if pa.types.is_fixed_size_binary(target) and len(found) != target.byte_width:
        raise NoValue(f"{found!r} is not {target.byte_width} bytes long")
    return found


def _moment(stored: int, source: pa.DataType, target: pa.DataType) -> int:
    """Give a moment, time or duration in another unit or kind.

    To coarser units it is cut off towards zero. The day and the time of a timestamp are those of
    its zone, and are rounded down.
    """
    if pa.types.is_timestamp(source) and not pa.types.is_timestamp(target):
        day, clock = divmod(local_ns(stored, source), DAY_NS)
        ns = clock if pa.types.is_time(target) else day * DAY_NS
    else:
        ns = stored * _tick(source)
    coarse = abs(ns) // _tick(target)
    return _held(coarse if ns >= 0 else -coarse, target.bit_width - 1, target)


def _tick(t: pa.DataType) -> int:
    """Give the nanoseconds that one step of a stored integer stands for."""
    if pa.types.is_date(t):
        return DAY_NS if pa.types.is_date32(t) else NANOSECONDS["ms"]
    return NANOSECONDS[t.unit]


def local_ns(stored: int, t: pa.DataType) -> int:
    """Give the nanoseconds from 1970-01-01 to a date or timestamp, on the clocks of its zone."""
    ns = stored * _tick(t)
    zone = getattr(t, "tz", None)
    if zone is None:
        return ns
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // NANOSECONDS["s"])
        offset = moment.astimezone(_zone(zone)).utcoffset()
    except OverflowError:
        raise NoValue(f"{stored} of {t} is not within the years 1 to 9999") from None
    assert offset is not None
    return ns + offset // timedelta(microseconds=1) * NANOSECONDS["us"]


def _zone(name: str) -> tzinfo:
    """Give a zone by name, or by its hours and minutes from UTC such as +05:30."""
    if name[0] not in "+-":
        return ZoneInfo(name)
    hours, minutes = int(name[1:3]), int(name[-2:])
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(offset if name[0] == "+" else -offset)
