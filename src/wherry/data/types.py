"""Which Arrow types Wherry reads, what class each belongs to, and plain images of their values."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

import pyarrow as pa

from wherry.base.errors import InputError

Plain = bool | int | float | str | None
"""What a value becomes in JSON or msgpack; `to_plain` and `from_plain` convert without loss."""

READABLE = (
    "bool, int8 to int64, uint8 to uint64, float32, float64, decimal32 to decimal128 of scale 0 to "
    "38, date32, date64, timestamp, time32, time64, duration, utf8, large_utf8, string_view, "
    "binary, large_binary, binary_view, fixed_size_binary, dictionary of these but views, struct "
    "of all these"
)

MAX_SCALE = 38
"""Most digits behind the point; Arrow's format allows more, and fewer than none."""

MOST_LEVELS = 16
"""Deepest nesting of structs; everything that looks at a type recurses once a level."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)
_DAY_MS = 86_400_000
_DAY_US = 86_400_000_000
NANOSECONDS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Nanoseconds of each of Arrow's units of time."""

_CLASSES: Final = {
    t.id: family
    for family, types in {
        "boolean": (pa.bool_(),),
        "integer": (
            *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
            *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        ),
        "float": (pa.float32(), pa.float64()),
        "temporal": (pa.date32(), pa.date64(), pa.timestamp("s")),
        "time": (pa.time32("s"), pa.time64("us")),
        "duration": (pa.duration("s"),),
        "string": (pa.utf8(), pa.large_utf8(), pa.string_view()),
        "binary": (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(1)),
    }.items()
    for t in types
}

_LAYOUTS: Final = {
    pa.bool_().id: "bits",
    **{t.id: "narrow" for t in (pa.utf8(), pa.binary())},
    **{t.id: "wide" for t in (pa.large_utf8(), pa.large_binary())},
    **{t.id: "views" for t in (pa.string_view(), pa.binary_view())},
    pa.struct([]).id: "struct",
    pa.dictionary(pa.int8(), pa.utf8()).id: "dictionary",
}


def layout_of(t: pa.DataType) -> str:
    """Give how the values of a type that Wherry reads lie in memory.

    `bits`; `fixed` (one width for all); `narrow` and `wide` (int32 and int64 offsets into bytes);
    `views` (16 bytes each); `dictionary`; `struct`.
    """
    return _LAYOUTS.get(t.id, "fixed")


def _class_of(t: pa.DataType, levels: int = MOST_LEVELS) -> str | None:
    found = _CLASSES.get(t.id)
    if found is not None:
        return found
    if pa.types.is_decimal(t):
        return "decimal" if t.bit_width <= 128 and 0 <= t.scale <= MAX_SCALE else None
    if pa.types.is_dictionary(t):
        flat = t.value_type.id in _CLASSES or pa.types.is_decimal(t.value_type)
        whole = flat and _class_of(t.value_type) is not None
        return "dictionary" if whole and layout_of(t.value_type) != "views" else None
    if pa.types.is_struct(t) and levels:
        names = [field.name for field in t]
        inner = [_class_of(field.type, levels - 1) for field in t]
        return "struct" if len(set(names)) == len(names) and None not in inner else None
    return None


def is_text(t: pa.DataType) -> bool:
    """Say whether `t` is utf8, large_utf8 or string_view."""
    return _CLASSES.get(t.id) == "string"


def supported_type(t: pa.DataType) -> bool:
    """Say whether Wherry reads columns of Arrow type `t`."""
    return _class_of(t) is not None


def type_class(t: pa.DataType) -> str:
    """Give the family of a type: what profiles list and rules ask about.

    boolean, integer, float, decimal, temporal (dates and timestamps), time (of a day), duration,
    string, binary, dictionary or struct.

    Raises
    ------
    InputError
        When `t` is none of them.
    """
    found = _class_of(t)
    if found is None:
        raise InputError(f"Wherry does not read type {t} yet; types: {READABLE}")
    return found


def value_type(t: pa.DataType) -> pa.DataType:
    """Give the type of the values of `t`: a dictionary's value type, otherwise `t` itself."""
    return t.value_type if pa.types.is_dictionary(t) else t


def has_dictionary(t: pa.DataType) -> bool:
    """Say whether `t` is a dictionary, or a struct with one in it."""
    if pa.types.is_struct(t):
        return any(has_dictionary(field.type) for field in t)
    return bool(pa.types.is_dictionary(t))


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
        if "\0" in field.name:
            raise InputError(f"{label} has a column {field.name!r}; a name holds no NUL")
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


def time_of(microseconds: int) -> time | None:
    """Give the time `microseconds` after midnight, or None if that is another day."""
    if not 0 <= microseconds < _DAY_US:
        return None
    return (_EPOCH + timedelta(microseconds=microseconds)).time()


def duration_of(microseconds: int) -> timedelta | None:
    """Give a duration, or None where Python has none that long."""
    try:
        return timedelta(microseconds=microseconds)
    except OverflowError:
        return None


def value_of(stored: int, t: pa.DataType, *, up: bool = False) -> object | None:
    """Give the Python value of the integer that a date, timestamp, time or duration is stored as.

    Parameters
    ----------
    up : bool
        How nanoseconds become the microseconds of Python: rounded up, or down.

    Returns
    -------
    date, datetime, time or timedelta, or None where Python has no such value
    """
    if pa.types.is_date32(t):
        return date_of(stored)
    if pa.types.is_date64(t):
        return date_of(stored // _DAY_MS)
    ns = stored * NANOSECONDS[t.unit]
    us = -(-ns // 1000) if up else ns // 1000
    if pa.types.is_timestamp(t):
        return datetime_of(us, aware=bool(t.tz))
    return duration_of(us) if pa.types.is_duration(t) else time_of(us)


def stored_of(value: object, t: pa.DataType) -> int:
    """Give the integer that a value of a date, timestamp, time or duration type is stored as."""
    plain = to_plain(value)
    assert isinstance(plain, int)
    if pa.types.is_date(t):
        return plain if pa.types.is_date32(t) else plain * _DAY_MS
    return plain * 1000 // NANOSECONDS[t.unit]


def to_plain(value: object) -> Plain:
    """Give a value's plain image.

    Decimals become text, dates days, datetimes, times and durations microseconds, and bytes text
    of one character a byte, because neither JSON nor msgspec keeps text and bytes apart.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MICROSECOND
    if isinstance(value, date):
        return value.toordinal() - _EPOCH_DAY
    if isinstance(value, time):
        return (datetime.combine(_EPOCH, value, UTC) - _EPOCH) // _MICROSECOND
    if isinstance(value, timedelta):
        return value // _MICROSECOND
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
    t = value_type(t)
    kind = type_class(t)
    if kind in _PLAIN and isinstance(plain, _PLAIN[kind]) and not _truth_as_number(plain, kind):
        if kind == "decimal":
            return _decimal_of(str(plain), t)
        if kind == "binary":
            return _bytes_of(str(plain), t)
        return _moment(int(plain), t) if kind in _TIMES else plain
    raise InputError(f"{plain!r} is not the image of a {t}")


_TIMES: Final = ("temporal", "time", "duration")
_PLAIN: Final[dict[str, type]] = {
    "boolean": bool,
    "integer": int,
    "float": float,
    "decimal": str,
    **dict.fromkeys(_TIMES, int),
    "string": str,
    "binary": str,
}


def _truth_as_number(plain: Plain, kind: str) -> bool:
    return isinstance(plain, bool) and kind != "boolean"


def _decimal_of(plain: str, t: pa.DataType) -> Decimal:
    try:
        return Decimal(plain)
    except ArithmeticError:
        raise InputError(f"{plain!r:.60} is not the image of a {t}") from None


def _bytes_of(plain: str, t: pa.DataType) -> bytes:
    try:
        return plain.encode("latin-1")
    except UnicodeEncodeError:
        raise InputError(f"{plain!r} is not the image of a {t}") from None


def _moment(plain: int, t: pa.DataType) -> object | None:
    if pa.types.is_date(t):
        return date_of(plain)
    if pa.types.is_timestamp(t):
        return datetime_of(plain, aware=bool(t.tz))
    return duration_of(plain) if pa.types.is_duration(t) else time_of(plain)
