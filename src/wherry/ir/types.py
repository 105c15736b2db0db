"""The rules of types: what may meet what, and what comes out.

The rules are Arrow's where Arrow has one. Integers wrap on overflow, as `pyarrow.compute.add` does;
`/` always gives float64; a decimal result keeps every digit after the point and at most 38 in all.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Final

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.data.types import type_class

DECIMAL_DIGITS: Final = 38
_DIGITS_OF_BITS: Final = {8: 3, 16: 5, 32: 10, 64: 20}
_SIGNED: Final = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


def is_numeric(t: pa.DataType) -> bool:
    """Tell whether arithmetic applies to `t`."""
    return type_class(t) in {"integer", "float", "decimal"}


def is_textual(t: pa.DataType) -> bool:
    """Tell whether `t` holds text, plainly or through a dictionary."""
    return type_class(value_type(t)) == "string"


def value_type(t: pa.DataType) -> pa.DataType:
    """Give the type of the values of `t`: a dictionary's value type, otherwise `t` itself."""
    return t.value_type if pa.types.is_dictionary(t) else t


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
        case Decimal():
            return decimal_literal_type(value)
        case datetime():
            return pa.scalar(value).type
        case date():
            return pa.date32()
    seen = type(value).__name__
    msg = (
        f"a literal of Python type {seen} has no Wherry type; "
        "possible: bool, int, float, str, Decimal, date, datetime, or lit(None).cast(type)"
    )
    raise InputError(msg)


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
        return t
    return pa.decimal128(_DIGITS_OF_BITS[t.bit_width], 0)


def common_type(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Give the type both sides are cast to before they meet, or None if they may not meet."""
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
    if classes == {"temporal"}:
        return _common_time(left, right)
    return None


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


def _common_time(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    times = [t for t in (left, right) if pa.types.is_timestamp(t)]
    if len(times) == 1:
        return times[0] if times[0].tz is None else None
    if times[0].tz != times[1].tz:
        return None
    units = ["s", "ms", "us", "ns"]
    return max(times, key=lambda t: units.index(t.unit))


def arithmetic_type(op: str, left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Give the result type of `left op right` for op in + - * /, or None if it has none.

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

    sum widens to int64, uint64, float64 or decimal128(38, scale); mean is float64; min and max keep
    the value type; count is int64.
    """
    if kind == "count":
        return pa.int64()
    if argument is None:
        return None
    t = value_type(argument)
    if kind in {"min", "max"}:
        return None if pa.types.is_boolean(t) else t
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
        *(pa.bool_(), pa.date32(), pa.float32(), pa.float64()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.utf8(), pa.large_utf8(), pa.string_view()),
    )
}


def type_to_text(t: pa.DataType) -> str:
    """Give the stable spelling of a type, the one that plans and messages carry."""
    if pa.types.is_dictionary(t):
        return f"dictionary<{t.index_type}, {t.value_type}>"
    if pa.types.is_decimal(t):
        return f"decimal128({t.precision}, {t.scale})"
    return str(t)


def type_from_text(text: str) -> pa.DataType:
    """Read what `type_to_text` wrote.

    Raises
    ------
    InputError
        If the text names no type of Wherry.
    """
    if text in _NAMED:
        return _NAMED[text]
    head, _, rest = text.partition("<" if text.startswith("dictionary") else "(")
    try:
        if head == "decimal128":
            precision, scale = rest.removesuffix(")").split(", ")
            return pa.decimal128(int(precision), int(scale))
        if head == "dictionary":
            index, value = rest.removesuffix(">").split(", ")
            return pa.dictionary(_NAMED[index], _NAMED[value])
        if text.startswith("timestamp["):
            unit, _, zone = text.removeprefix("timestamp[").removesuffix("]").partition(", tz=")
            return pa.timestamp(unit, tz=zone or None)
    except (KeyError, ValueError, pa.ArrowException):
        pass
    raise InputError(f"no type {text!r}; types: {', '.join(_NAMED)}, decimal128(p, s), ...")
