"""What an expression means: its value for one row, in plain Python. The definition.

`reference.py` and every program are compared with this file. A value is a bool, int, float,
Decimal, str or bytes, a mapping of a struct's fields, or None; dates, timestamps, times and
durations are the integers they are stored as, because Python's own have no nanoseconds.

Every operand is computed, whether or not its value is needed: an error in an arm that `when` does
not take, or beside a false in an `and`, is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from functools import singledispatch
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.data.types import stored_of, value_type
from wherry.ir.build import rows_held
from wherry.ir.conversion import EXACT, NoValue, converted, decimal, local_ns
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
from wherry.ir.types import DAY_NS, is_moment
from wherry.ir.user import known_kernel
from wherry.ir.user_reference import apply_row

Value: TypeAlias = Any
Row: TypeAlias = Mapping[str, Value]

_DAYS_OF_400_YEARS: Final = 146_097
_YEAR_1: Final = -719_162
"""The first day of year 1, in days after 1970."""
_WORD: Final = (1 << 64) - 1

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def meaning(node: Node, row: Row) -> Value:
    """Give the value of a resolved expression, without parameters, for one row.

    Parameters
    ----------
    row : mapping of str to value
        Of every column the expression reads.

    Raises
    ------
    InputError
        If a value cannot be computed: a cast that loses it, a decimal of more than 38 digits.
    """
    try:
        return _value(node, row)
    except NoValue as problem:
        raise InputError(f"{to_text(node)}: {problem}") from None


@singledispatch
def _value(node: Node, row: Row) -> Value:
    raise TypeError(f"no meaning for {type(node).__name__}")


@_value.register
def _(node: Column, row: Row) -> Value:
    return row[node.name]


@_value.register
def _(node: Literal, row: Row) -> Value:
    assert node.type is not None
    return _constant(node.value, value_type(node.type))


def _constant(value: Value, t: pa.DataType) -> Value:
    return stored_of(value, t) if value is not None and is_moment(t) else value


@_value.register
def _(node: Not, row: Row) -> Value:
    operand = _value(node.operand, row)
    return None if operand is None else not operand


@_value.register
def _(node: Logic, row: Row) -> Value:
    """`and` is false if one is false, else null if one is null; `or` likewise with true."""
    operands = [_value(n, row) for n in node.operands]
    decides = node.op == "or"
    if any(o is decides for o in operands):
        return decides
    return None if None in operands else not decides


@_value.register
def _(node: IsNull, row: Row) -> Value:
    return _value(node.operand, row) is None


@_value.register
def _(node: Compare, row: Row) -> Value:
    left, right = _value(node.left, row), _value(node.right, row)
    return None if left is None or right is None else _COMPARE[node.op](left, right)


@_value.register
def _(node: IsIn, row: Row) -> Value:
    operand = _value(node.operand, row)
    # Python's own `in` asks for identity first, and would find a NaN.
    found = any(operand == _value(value, row) for value in node.values)
    return None if operand is None else found


@_value.register
def _(node: When, row: Row) -> Value:
    cases = [(_value(condition, row), _value(value, row)) for condition, value in node.cases]
    otherwise = _value(node.otherwise, row)
    return next((value for condition, value in cases if condition is True), otherwise)


@_value.register
def _(node: Field, row: Row) -> Value:
    struct = _value(node.operand, row)
    return None if struct is None else struct[node.name]


@_value.register
def _(node: Apply, row: Row) -> Value:
    arguments = [_value(n, row) for n in node.arguments]
    kernel = known_kernel(node.digest, node.name)
    return None if None in arguments else apply_row(kernel, arguments)


@_value.register
def _(node: Negate, row: Row) -> Value:
    operand, t = _value(node.operand, row), type_of(node)
    if operand is None:
        return None
    if isinstance(operand, Decimal):
        return EXACT.minus(operand)
    return -operand if isinstance(operand, float) else _wrapped(-operand, t)


@_value.register
def _(node: Arithmetic, row: Row) -> Value:
    left, right, t = _value(node.left, row), _value(node.right, row), type_of(node)
    if left is None or right is None:
        return None
    if pa.types.is_decimal(t):
        return decimal(_EXACT_OPERATIONS[node.op](left, right), t)
    if node.op == "/":
        return _quotient(left, right)
    made = _OPERATIONS[node.op](left, right)
    return made if pa.types.is_floating(t) else _wrapped(made, t)


_EXACT_OPERATIONS: Final = {"+": EXACT.add, "-": EXACT.subtract, "*": EXACT.multiply}
_OPERATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


def _wrapped(value: int, t: pa.DataType) -> int:
    """Give the integer that is left of `value` in the bits of its type."""
    bits = t.bit_width
    value &= (1 << bits) - 1
    signed = not pa.types.is_unsigned_integer(t)
    return value - (1 << bits) if signed and value >> bits - 1 else value


def _quotient(left: float, right: float) -> float:
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


@_value.register
def _(node: Match, row: Row) -> Value:
    text, pattern = _value(node.operand, row), _value(node.pattern, row)
    if text is None:
        return None
    match node.kind:
        case "starts_with":
            return text.startswith(pattern)
        case "ends_with":
            return text.endswith(pattern)
        case "contains":
            return pattern in text
    return re.fullmatch(_regular(pattern), text, re.DOTALL) is not None


def _regular(pattern: str) -> str:
    """Give a pattern of `like` as a regular expression; a backslash takes the next as it is."""
    found, escaped = "", False
    for character in pattern:
        if character == "\\" and not escaped:
            escaped = True
            continue
        wild = None if escaped else {"%": ".*", "_": "."}.get(character)
        found, escaped = found + (wild or re.escape(character)), False
    return found


@_value.register
def _(node: Member, row: Row) -> Value:
    keys = tuple(_value(n, row) for n in node.keys)
    # Where equal values meet, NaN meets NaN; a null meets nothing.
    return tuple("NaN" if key != key else key for key in keys) in rows_held(node.build).rows_of  # noqa: PLR0124


@_value.register
def _(node: Code, row: Row) -> Value:
    operand, texts = _value(node.operand, row), rows_held(node.build).texts(node.key).to_pylist()
    return texts.index(operand) if operand in texts else None


@_value.register
def _(node: DatePart, row: Row) -> Value:
    stored, t = _value(node.operand, row), value_type(type_of(node.operand))
    if stored is None:
        return None
    # The calendar repeats every 400 years, and Python's knows the years 1 to 9999.
    cycles, day = divmod(local_ns(stored, t) // DAY_NS - _YEAR_1, _DAYS_OF_400_YEARS)
    found = date.fromordinal(day + 1)
    return found.year + 400 * cycles if node.part == "year" else getattr(found, node.part)


@_value.register
def _(node: Cast, row: Row) -> Value:
    operand, source = _value(node.operand, row), type_of(node.operand)
    return None if operand is None else converted(operand, source, node.type)


@_value.register
def _(node: Shard, row: Row) -> Value:
    """Give the shard of a key: null is in shard 0."""
    key, t = _value(node.operand, row), value_type(type_of(node.operand))
    if key is None:
        return 0
    if node.by == "range":
        return sum(_constant(bound, t) <= key for bound in node.bounds)
    return _mixed(_image(key, t)) % node.count


def _image(key: Value, t: pa.DataType) -> int:
    if isinstance(key, str | bytes):
        encoded = key.encode() if isinstance(key, str) else key
        return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "little")
    if not isinstance(key, Decimal):
        return int(key) & _WORD
    unscaled = int(key.scaleb(t.scale, EXACT))
    return (unscaled & _WORD) ^ (unscaled >> 64 & _WORD)


def _mixed(word: int) -> int:
    """Give splitmix64's finaliser of 64 bits."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31
