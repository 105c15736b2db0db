"""Which Arrow types Wherry reads, what class each belongs to, and plain images of their values."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa

from wherry.base.errors import InputError

Plain = bool | int | float | str | None
"""What a value becomes in JSON or msgpack; `to_plain` and `from_plain` convert without loss."""

READABLE = (
    "bool, int8 to int64, uint8 to uint64, float32, float64, date32, timestamp, decimal128 of "
    "scale 0 to 38, utf8, large_utf8, string_view, dictionary of utf8 or large_utf8"
)

MAX_SCALE = 38
"""Most digits behind the point; Arrow's format allows more, and fewer than none."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)


def _class_of(t: pa.DataType) -> str | None:
    if pa.types.is_boolean(t):
        return "boolean"
    if pa.types.is_integer(t):
        return "integer"
    if pa.types.is_float32(t) or pa.types.is_float64(t):
        return "float"
    if pa.types.is_decimal128(t) and 0 <= t.scale <= MAX_SCALE:
        return "decimal"
    if pa.types.is_date32(t) or pa.types.is_timestamp(t):
        return "temporal"
    if is_text(t):
        return "string"
    if pa.types.is_dictionary(t) and _is_utf8(t.value_type):
        return "dictionary"
    return None


def _is_utf8(t: pa.DataType) -> bool:
    return bool(pa.types.is_string(t) or pa.types.is_large_string(t))


def is_text(t: pa.DataType) -> bool:
    """Say whether `t` is utf8, large_utf8 or string_view."""
    return _is_utf8(t) or bool(pa.types.is_string_view(t))


def supported_type(t: pa.DataType) -> bool:
    """Say whether Wherry reads columns of Arrow type `t`."""
    return _class_of(t) is not None


def type_class(t: pa.DataType) -> str:
    """Give boolean, integer, float, decimal, temporal, string or dictionary.

    Raises
    ------
    InputError
        When `t` is none of them.
    """
    found = _class_of(t)
    if found is None:
        raise InputError(f"Wherry does not read type {t} yet; types: {READABLE}")
    return found


def check_schema(schema: pa.Schema, label: str) -> None:
    """Refuse a schema with no columns, two columns of one name, or a type Wherry does not read.

    Raises
    ------
    InputError
        Naming `label` (a file, or "the table") and the column.
    """
    if not schema.names:
        raise InputError(f"{label} has no columns")
    seen: set[str] = set()
    for field in schema:
        if field.name in seen:
            raise InputError(f"{label} has two columns named {field.name!r}")
        seen.add(field.name)
        if not supported_type(field.type):
            raise InputError(
                f"column {field.name!r} of {label} has type {field.type}, "
                f"which Wherry does not read yet; types: {READABLE}"
            )


def date_of(days: int) -> date | None:
    """Give the date `days` after 1970-01-01, or None outside the years 1 to 9999."""
    try:
        return date.fromordinal(_EPOCH_DAY + days)
    except (ValueError, OverflowError):
        return None


def datetime_of(microseconds: int, *, aware: bool) -> datetime | None:
    """Give the moment `microseconds` after 1970 (UTC), or None outside the years 1 to 9999.

    Parameters
    ----------
    aware : bool
        True gives a datetime in UTC, False one without a time zone.
    """
    try:
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return None
    return moment if aware else moment.replace(tzinfo=None)


def to_plain(value: object) -> Plain:
    """Give a value's plain image: decimals as text, dates as days, datetimes as microseconds."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MICROSECOND
    if isinstance(value, date):
        return value.toordinal() - _EPOCH_DAY
    raise InputError(f"a {type(value).__name__} cannot be a value of a column")


def from_plain(plain: Plain, t: pa.DataType) -> object:
    """Give the value of Arrow type `t` whose image is `plain`: the inverse of `to_plain`.

    Raises
    ------
    InputError
        When `plain` is not the image of a value of type `t`.
    """
    if plain is None:
        return None
    number = isinstance(plain, int) and not isinstance(plain, bool)
    kind = type_class(t)
    if kind == "boolean" and isinstance(plain, bool):
        return plain
    if (kind == "integer" and number) or (kind == "float" and isinstance(plain, float)):
        return plain
    if isinstance(plain, str) and kind in {"string", "dictionary"}:
        return plain
    if isinstance(plain, str) and kind == "decimal":
        return Decimal(plain)
    if kind == "temporal" and number:
        whole = int(plain)
        return date_of(whole) if pa.types.is_date32(t) else datetime_of(whole, aware=bool(t.tz))
    raise InputError(f"{plain!r} is not the image of a {t}")
