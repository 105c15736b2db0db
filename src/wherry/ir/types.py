"""The rules of types: what may meet what, and what comes out.

The rules are Arrow's where Arrow has one. Integers wrap on overflow, as `pyarrow.compute.add` does;
`/` always gives float64; a decimal result keeps every digit after the point and at most 38 in all.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.data.types import MOST_LEVELS, NANOSECONDS, type_class, value_type

DECIMAL_DIGITS: Final = 38
EXACT_FLOAT: Final = 1 << 53
EXACT_POWER: Final = 22
"""Integers up to 2**53 and powers of ten up to 10**22 are float64: a quotient is rounded once."""
_DIGITS_OF_BITS: Final = {8: 3, 16: 5, 32: 10, 64: 20}
DAY_NS: Final = 86_400 * NANOSECONDS["s"]
_SIGNED: Final = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


Interval = tuple[int, int]
"""The smallest and the largest of some integers."""

MOMENTS: Final = pa.struct(
    [("count", pa.int64()), ("pivot", pa.float64()), ("shift", pa.float64()), ("m2", pa.float64())]
)
"""What is kept of numbers for their variance: how many, their mean as pivot + shift (apart, because
together they are rounded), and the sum of the squares of their distances from it."""

SPREADS: Final = frozenset({"moments", "var", "std", "var_pop", "std_pop"})
"""Aggregates that are made of moments."""


def is_numeric(t: pa.DataType) -> bool:
    """Tell whether arithmetic applies to `t`."""
    return type_class(t) in {"integer", "float", "decimal"}


def is_textual(t: pa.DataType) -> bool:
    """Tell whether `t` holds text, plainly or through a dictionary."""
    return type_class(value_type(t)) == "string"


def is_moment(t: pa.DataType) -> bool:
    """Tell whether `t` is a date, timestamp, time or duration: integers that count a unit."""
    return type_class(t) in {"temporal", "time", "duration"}


def unit_of(t: pa.DataType) -> str:
    """Give the unit in which durations between values of `t` are counted: s, ms, us or ns."""
    if pa.types.is_date(t):
        return "s" if pa.types.is_date32(t) else "ms"
    return str(t.unit)


def finer(one: str, other: str) -> str:
    """Give the finer of two units of time."""
    return min(one, other, key=NANOSECONDS.__getitem__)


def literal_type(value: object) -> pa.DataType:
    """Give the type of a Python value that stands alone.

    Raises
    ------
    InputError
        If Wherry has no type for the value.
    """
    match value:
        case bool():
            return pa.bool_()
        case int():
            return _integer_literal_type(value)
        case float():
            return pa.float64()
        case str():
            _check_text(value)
            return pa.utf8()
        case bytes():
            return pa.binary()
        case Decimal():
            return decimal_literal_type(value)
    return _time_literal_type(value)


def _time_literal_type(value: object) -> pa.DataType:
    match value:
        case datetime():
            return pa.scalar(value).type
        case date():
            return pa.date32()
        case time():
            if value.tzinfo is not None:
                raise InputError(f"the time {value} has a zone; a time of a day has none")
            return pa.time64("us")
        case timedelta():
            return _duration_literal_type(value)
    seen = type(value).__name__
    msg = (
        f"a literal of Python type {seen} has no Wherry type; possible: bool, int, float, str, "
        "bytes, Decimal, date, datetime, time, timedelta, or lit(None).cast(type)"
    )
    raise InputError(msg)


def _duration_literal_type(value: timedelta) -> pa.DataType:
    if holds_duration(value, "us"):
        return pa.duration("us")
    if holds_duration(value, "s"):
        return pa.duration("s")
    raise InputError(f"the duration {value} does not fit in 64 bits of microseconds")


def holds_duration(value: timedelta, unit: str) -> bool:
    """Tell whether 64 bits of `unit` hold exactly `value`."""
    ns = value // timedelta(microseconds=1) * 1000
    return ns % NANOSECONDS[unit] == 0 and abs(ns // NANOSECONDS[unit]) < 1 << 63


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"the text {value!r} holds half a surrogate pair, no character") from None


def _integer_literal_type(value: int) -> pa.DataType:
    if -(1 << 63) <= value < 1 << 63:
        return pa.int64()
    if 0 <= value < 1 << 64:
        return pa.uint64()
    raise InputError(f"the integer {value} does not fit in 64 bits; use Decimal({value})")


def decimal_literal_type(value: Decimal) -> pa.DataType:
    """Give the smallest decimal128 type that holds `value` exactly."""
    if not value.is_finite():
        raise InputError(f"the decimal {value} is not finite")
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scale = max(0, -exponent)
    precision = max(len(digits) + max(0, exponent), scale, 1)
    if precision > DECIMAL_DIGITS:
        raise InputError(f"the decimal {value} has more than {DECIMAL_DIGITS} digits")
    return pa.decimal128(precision, scale)


def as_decimal(t: pa.DataType) -> pa.DataType:
    """Give the decimal128 type that holds every value of an integer or decimal type."""
    if pa.types.is_decimal(t):
        return pa.decimal128(t.precision, t.scale)
    return pa.decimal128(_DIGITS_OF_BITS[t.bit_width], 0)


def common_type(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Give the type both sides are cast to before they meet, or None if they may not meet."""
    if pa.types.is_struct(left):
        return None
    if left.equals(right):
        return left
    left, right = value_type(left), value_type(right)
    if left.equals(right):
        return left
    if is_numeric(left) and is_numeric(right):
        return _common_number(left, right)
    classes = {type_class(left), type_class(right)}
    if classes == {"string"}:
        return pa.large_utf8() if pa.large_utf8() in (left, right) else pa.utf8()
    if classes == {"binary"}:
        return pa.large_binary() if pa.large_binary() in (left, right) else pa.binary()
    if classes == {"temporal"}:
        return _common_moment(left, right)
    if classes == {"time"}:
        return time_type(finer(left.unit, right.unit))
    return pa.duration(finer(left.unit, right.unit)) if classes == {"duration"} else None


def time_type(unit: str) -> pa.DataType:
    """Give the type of times of a day counted in `unit`."""
    return pa.time32(unit) if unit in {"s", "ms"} else pa.time64(unit)


def _common_number(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    classes = {type_class(left), type_class(right)}
    if "float" in classes:
        return pa.float64()
    if "decimal" in classes:
        one, other = as_decimal(left), as_decimal(right)
        scale = max(one.scale, other.scale)
        whole = max(one.precision - one.scale, other.precision - other.scale)
        return pa.decimal128(whole + scale, scale) if whole + scale <= DECIMAL_DIGITS else None
    signed = {pa.types.is_signed_integer(left), pa.types.is_signed_integer(right)}
    if len(signed) == 1:
        return left if left.bit_width >= right.bit_width else right
    unsigned = left if pa.types.is_unsigned_integer(left) else right
    other_bits = (right if unsigned is left else left).bit_width
    return _SIGNED[min(64, max(2 * unsigned.bit_width, other_bits))]


def _common_moment(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Give the type in which dates and timestamps meet: with a zone both, or neither."""
    stamps = [t for t in (left, right) if pa.types.is_timestamp(t)]
    if not stamps:
        return pa.date64()
    zones = [t.tz for t in stamps]
    if len(stamps) == 1:
        return stamps[0] if zones[0] is None else None
    if None in zones and zones != [None, None]:
        return None
    # What a zone says is how a moment is shown, not which it is.
    return pa.timestamp(finer(left.unit, right.unit), tz=zones[0])


def moment_arithmetic(
    op: str, left: pa.DataType, right: pa.DataType
) -> tuple[pa.DataType, pa.DataType, pa.DataType] | None:
    """Give the types of both operands and of the result of arithmetic with time, or None.

    As in Arrow: a difference of dates, timestamps or times is a duration; a duration moves a
    timestamp, and a date becomes one; durations are added, multiplied by integers, and divided by
    durations. What meets is counted in the finer of the units.
    """
    classes = type_class(left), type_class(right)
    match op, *classes:
        case "-", "temporal" | "time", other if other == classes[0]:
            common = _moved(common_type(left, right))
            return None if common is None else (common, common, pa.duration(unit_of(common)))
        case "+" | "-", "temporal", "duration":
            moved, added = _met_units(left, right)
            return moved, added, moved
        case "+", "duration", "temporal":
            moved, added = _met_units(right, left)
            return added, moved, moved
        case "+" | "-", "duration", "duration":
            common = pa.duration(finer(left.unit, right.unit))
            return common, common, common
        case "/", "duration", "duration":
            return *(pa.duration(finer(left.unit, right.unit)),) * 2, pa.float64()
        case "*", "duration", "integer":
            return left, pa.int64(), left
        case "*", "integer", "duration":
            return pa.int64(), right, right
    return None


def _moved(t: pa.DataType | None) -> pa.DataType | None:
    """Give what durations are added to: a timestamp in place of a date."""
    return pa.timestamp(unit_of(t)) if t is not None and pa.types.is_date(t) else t


def _met_units(moment: pa.DataType, duration: pa.DataType) -> tuple[pa.DataType, pa.DataType]:
    unit = finer(unit_of(moment), duration.unit)
    return pa.timestamp(unit, tz=getattr(moment, "tz", None)), pa.duration(unit)


def arithmetic_type(op: str, left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Give the result type of `left op right` for numbers and op in + - * /, or None if none.

    Decimals follow Arrow: addition keeps the larger scale and one more digit, multiplication adds
    precisions and scales. Precision stops at 38; a value that does not fit then is an error.
    """
    if not (is_numeric(left) and is_numeric(right)):
        return None
    classes = {type_class(left), type_class(right)}
    if op == "/" or "decimal" not in classes:
        return pa.float64() if op == "/" else _common_number(left, right)
    if "float" in classes:
        return pa.float64()
    one, other = as_decimal(left), as_decimal(right)
    if op == "*":
        scale, whole = one.scale + other.scale, one.precision + other.precision + 1
        whole -= scale
    else:
        scale = max(one.scale, other.scale)
        whole = max(one.precision - one.scale, other.precision - other.scale) + 1
    if scale > DECIMAL_DIGITS:
        return None
    return pa.decimal128(min(DECIMAL_DIGITS, whole + scale), scale)


def aggregate_type(kind: str, argument: pa.DataType | None) -> pa.DataType | None:
    """Give the result type of an aggregate, or None if it does not apply to `argument`.

    sum widens to int64, uint64, float64 or decimal128(38, scale), and keeps durations; mean,
    variances and deviations are float64; min, max, first and last keep the value type; counts are
    int64. Partial moments merge into moments, and give variances and deviations.
    """
    if kind == "count":
        return pa.int64()
    if argument is None:
        return None
    t = value_type(argument)
    if kind in {"first", "last"}:
        return t
    if kind in {"min", "max", "count_distinct"}:
        result = t if kind != "count_distinct" else pa.int64()
        return None if pa.types.is_struct(t) else result
    if kind in SPREADS and (is_numeric(t) or t.equals(MOMENTS)):
        return MOMENTS if kind == "moments" else pa.float64()
    if kind == "sum" and pa.types.is_duration(t):
        return t
    if not is_numeric(t):
        return None
    if kind == "mean" or pa.types.is_floating(t):
        return pa.float64()
    if pa.types.is_decimal(t):
        return pa.decimal128(DECIMAL_DIGITS, t.scale)
    return pa.int64() if pa.types.is_signed_integer(t) else pa.uint64()


_NAMED: Final = {
    str(t): t
    for t in (
        *(pa.bool_(), pa.date32(), pa.date64(), pa.float32(), pa.float64()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.utf8(), pa.large_utf8(), pa.string_view()),
        *(pa.binary(), pa.large_binary(), pa.binary_view()),
        *map(time_type, NANOSECONDS),
        *map(pa.duration, NANOSECONDS),
    )
}
_DECIMALS: Final = {
    "decimal32": pa.decimal32,
    "decimal64": pa.decimal64,
    "decimal128": pa.decimal128,
}
_MOST_BYTES: Final = 1 << 31
"""A value of fixed_size_binary that is longer has no offset in 32 bits."""

TypeImage = str | list[object]
"""A type in a plan: its spelling, or of a struct a list of [name, image, nullable]."""


def type_to_text(t: pa.DataType) -> str:
    """Give the stable spelling of a type; that of a struct is for people only."""
    if pa.types.is_dictionary(t):
        ordered = ", ordered" if t.ordered else ""
        return f"dictionary<{t.index_type}, {type_to_text(t.value_type)}{ordered}>"
    return str(t)


def type_from_text(text: str) -> pa.DataType:
    """Read what `type_to_text` wrote of any type but a struct.

    Raises
    ------
    InputError
        If the text names no type of Wherry.
    """
    if text in _NAMED:
        return _NAMED[text]
    try:
        found = _parsed(text)
    except (KeyError, ValueError, pa.ArrowException):
        found = None
    if found is None:
        raise InputError(f"no type {text!r}; types: {', '.join(_NAMED)}, decimal128(p, s), ...")
    return found


def _parsed(text: str) -> pa.DataType | None:
    if text.startswith("dictionary<"):
        index, _, value = text.removeprefix("dictionary<").removesuffix(">").partition(", ")
        values = type_from_text(value.removesuffix(", ordered"))
        return pa.dictionary(_NAMED[index], values, ordered=value.endswith(", ordered"))
    if text.startswith("timestamp["):
        unit, _, zone = text.removeprefix("timestamp[").removesuffix("]").partition(", tz=")
        return pa.timestamp(unit, tz=zone or None)
    if text.startswith("fixed_size_binary["):
        width = int(text.removeprefix("fixed_size_binary[").removesuffix("]"))
        return pa.binary(width) if 0 <= width < _MOST_BYTES else None
    head, _, rest = text.partition("(")
    precision, scale = rest.removesuffix(")").split(", ")
    return _DECIMALS[head](int(precision), int(scale))


def type_image(t: pa.DataType) -> TypeImage:
    """Give the image of a type that plans and messages carry."""
    if not pa.types.is_struct(t):
        return type_to_text(t)
    return [[field.name, type_image(field.type), field.nullable] for field in t]


def type_from_image(image: object, levels: int = MOST_LEVELS) -> pa.DataType:
    """Read what `type_image` gave.

    Raises
    ------
    InputError
        If it is the image of no type of Wherry.
    """
    if isinstance(image, str):
        return type_from_text(image)
    if not isinstance(image, list) or not levels:
        raise InputError(f"{image!r} is the image of no type")
    fields = []
    for item in image:
        match item:
            case [str(name), inner, bool(nullable)]:
                field = type_from_image(inner, levels - 1)
                fields.append(pa.field(name, field, nullable=nullable))
            case _:
                raise InputError(f"{item!r} is the image of no field of a struct")
    return pa.struct(fields)


def type_range(t: pa.DataType) -> Interval:
    """Give the smallest and largest unscaled integer of an integer, decimal or temporal type."""
    if pa.types.is_decimal(t):
        most = 10**t.precision - 1
        return -most, most
    if pa.types.is_time(t):
        return 0, DAY_NS // NANOSECONDS[t.unit] - 1
    if pa.types.is_unsigned_integer(t):
        return 0, (1 << t.bit_width) - 1
    half = 1 << (t.bit_width - 1)
    return -half, half - 1


def is_build(t: pa.DataType | None) -> bool:
    """Tell whether constants of this type are builds: rows, not values (`wherry.ir.build`)."""
    return t is not None and pa.types.is_list(t)


def build_type(columns: Iterable[pa.Field]) -> pa.DataType:
    """Give the type of a build with these columns: a list of rows, which no column ever is."""
    return pa.list_(pa.struct(list(columns)))


def is_coded(t: pa.DataType) -> bool:
    """Tell whether programs compare keys of this type by number: texts and bytes."""
    return type_class(value_type(t)) in {"string", "binary"}
