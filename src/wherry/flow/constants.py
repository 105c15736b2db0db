"""Constants of programs: which values may be baked in, and their types."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal

from wherry.flow.types import (
    BOOL,
    BYTES_BOUND,
    DATE,
    DATETIME,
    DECIMAL,
    DECIMAL_BYTES,
    FLOAT,
    INT,
    ITEMS_BOUND,
    LEVELS,
    MOST_BYTES,
    NONE,
    TIME,
    TIMEDELTA,
    Fixed,
    Sized,
    WireType,
    levels,
)
from wherry.flow.wire import INT_LEAST, INT_MOST

_TYPES: dict[type, WireType] = {
    type(None): NONE,
    bool: BOOL,
    float: FLOAT,
    date: DATE,
    timedelta: TIMEDELTA,
}


def constant_type(value: object) -> WireType | None:
    """Give the type of a constant; None if a program cannot hold it."""
    kind = type(value)
    if kind in _TYPES:
        return _TYPES[kind]
    match value:
        case int() if kind is int:
            return INT if INT_LEAST <= value <= INT_MOST else None
        case str() if kind is str:
            return _text(value)
        case bytes() if kind is bytes:
            return _sized("bytes", len(value))
        case Decimal() if kind is Decimal:
            return DECIMAL if len(str(value)) <= DECIMAL_BYTES else None
        case datetime() if kind is datetime:
            aware = value.tzinfo is not None
            return None if aware and value.utcoffset() != timedelta(0) else DATETIME
        case time() if kind is time:
            return TIME if value.tzinfo is None else None
        case tuple() if kind is tuple:
            return _tuple(value)
    return None


def _text(value: str) -> WireType | None:
    try:
        return _sized("str", len(value.encode()))
    except UnicodeEncodeError:
        return None


def _sized(kind: str, length: int) -> WireType | None:
    return Sized(kind, max(length, MOST_BYTES)) if length <= BYTES_BOUND else None


def _tuple(value: tuple[object, ...]) -> WireType | None:
    if len(value) > ITEMS_BOUND:
        return None
    items = []
    for item in value:
        t = constant_type(item)
        if t is None:
            return None
        items.append(t)
    found = Fixed(tuple(items))
    return found if levels(found) <= LEVELS else None
