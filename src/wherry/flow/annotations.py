"""Annotations as wire types: what parameters, results and variables of a movable may be called."""

from __future__ import annotations

import types
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Generic, TypeVar, Union, get_args, get_origin

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.flow.types import (
    BOOL,
    BYTES,
    BYTES_BOUND,
    DATE,
    DATETIME,
    DECIMAL,
    FLOAT,
    INT,
    ITEMS_BOUND,
    LEVELS,
    MOST_ITEMS,
    NONE,
    ROWS,
    SHARD,
    STR,
    TIME,
    TIMEDELTA,
    Fixed,
    Local,
    Many,
    Maybe,
    Sized,
    WireType,
    joined,
    levels,
    type_name,
)
from wherry.flow.wire import Rows, Shard

T = TypeVar("T")


class Most(Struct, frozen=True):
    """A bound in an annotation: `Annotated[str, Most(1000)]` bytes, or items of a tuple."""

    count: int


class Home(Generic[T]):
    """Marks what is bound to the caller's process: `Home[socket]` is never carried."""


_PLAIN: Final[dict[Any, WireType]] = {
    int: INT,
    float: FLOAT,
    bool: BOOL,
    str: STR,
    bytes: BYTES,
    None: NONE,
    type(None): NONE,
    date: DATE,
    datetime: DATETIME,
    time: TIME,
    timedelta: TIMEDELTA,
    Decimal: DECIMAL,
    Rows: ROWS,
    pa.Table: ROWS,
    Shard: SHARD,
}
POSSIBLE: Final = (
    "int, float, bool, str, bytes, None, date, datetime, time, timedelta, Decimal, "
    "tuple[...], T | None, wherry.Rows, wherry.Shard, wherry.Home[...]"
)


def wire_type(annotation: Any) -> WireType:
    """Give the type that an annotation names.

    Raises
    ------
    InputError
        If values of it cannot travel in a frame.
    """
    found = _type(annotation)
    if levels(found) > LEVELS:
        raise InputError(f"{type_name(found)} is nested deeper than {LEVELS} levels")
    return found


def _type(annotation: Any) -> WireType:
    try:
        if annotation in _PLAIN:
            return _PLAIN[annotation]
    except TypeError:
        pass  # what cannot be hashed names no type
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bounded(_type(arguments[0]), arguments[1:])
    if origin is tuple:
        return _tuple(arguments)
    if origin in {Union, types.UnionType}:
        return _union(arguments)
    if annotation is Home or origin is Home:
        return Local("Home")
    raise InputError(f"{_named(annotation)} has no wire type; possible: {POSSIBLE}")


def _tuple(arguments: tuple[Any, ...]) -> WireType:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return Many(_carried(arguments[0]), MOST_ITEMS)
    return Fixed(tuple(map(_carried, arguments)))


def _union(arguments: tuple[Any, ...]) -> WireType:
    found: WireType | None = None
    for t in map(_carried, arguments):
        found = t if found is None else joined(found, t)
        if found is None:
            break
    if found is None or (len(arguments) > 1 and not isinstance(found, Maybe)):
        seen = " | ".join(map(_named, arguments))
        raise InputError(f"{seen} is a choice of types; give a variable one type, or that and None")
    return found


def _carried(annotation: Any) -> WireType:
    found = _type(annotation)
    if isinstance(found, Local):
        raise InputError("Home[...] stands alone, not within tuples or options")
    return found


def _bounded(t: WireType, notes: tuple[Any, ...]) -> WireType:
    bounds = [note.count for note in notes if isinstance(note, Most)]
    if not bounds:
        return t
    match t:
        case Sized("str" | "bytes" as kind):
            return Sized(kind, _bound(bounds[0], BYTES_BOUND))
        case Many(item):
            return Many(item, _bound(bounds[0], ITEMS_BOUND))
        case Maybe(item):
            inner = _bounded(item, notes)
            return Maybe(inner)
    raise InputError(f"Most(...) bounds str, bytes and tuple[T, ...]; not {type_name(t)}")


def _bound(count: object, most: int) -> int:
    if type(count) is not int or not 1 <= count <= most:
        raise InputError(f"Most({count!r}) is no bound; possible are 1 to {most}")
    return count


def _named(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
