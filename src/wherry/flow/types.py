"""Types of what a frame may hold, and the few that stand for what it may not.

WireType = Scalar(kind)           int float bool none date datetime time timedelta
         | Sized(kind, most)      str bytes decimal; `most` bytes
         | Reference(kind)        rows shard: what lies on a device, by name
         | Maybe(item)            the item, or None
         | Fixed(items)           a tuple of these, in order
         | Many(item, most)       a tuple of at most `most` items of one type
Type     = WireType | Local(name)   bound to a place: never in a frame
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from wherry.ir.codec import register

MOST_BYTES: Final = 256
"""Bytes of a text whose annotation names no other bound."""
MOST_ITEMS: Final = 16
"""Items of a tuple whose annotation names no other bound."""
BYTES_BOUND: Final = 65_535
"""No annotation can name a longer text: a frame is a message, not a place for data."""
ITEMS_BOUND: Final = 1024
DECIMAL_BYTES: Final = 64
LEVELS: Final = 4
"""Deeper tuples than this have no wire type."""


@register
class Scalar(Struct, frozen=True):
    """A value of fixed size."""

    kind: str


@register
class Sized(Struct, frozen=True):
    """Text, bytes or a decimal of at most `most` bytes."""

    kind: str
    most: int


@register
class Reference(Struct, frozen=True):
    """What lies on a device: rows, or a shard of a dataset."""

    kind: str


@register
class Maybe(Struct, frozen=True):
    """The item or None."""

    item: WireType


@register
class Fixed(Struct, frozen=True):
    """A tuple of these types, in order."""

    items: tuple[WireType, ...]


@register
class Many(Struct, frozen=True):
    """A tuple of at most `most` items of one type."""

    item: WireType
    most: int


@register
class Local(Struct, frozen=True):
    """What is bound to its place, such as an open file: usable there, never carried."""

    name: str


WireType = Scalar | Sized | Reference | Maybe | Fixed | Many | Local
"""Written as one union; `is_wire` tells whether a type may stand in a frame."""

INT: Final = Scalar("int")
FLOAT: Final = Scalar("float")
BOOL: Final = Scalar("bool")
NONE: Final = Scalar("none")
DATE: Final = Scalar("date")
DATETIME: Final = Scalar("datetime")
TIME: Final = Scalar("time")
TIMEDELTA: Final = Scalar("timedelta")
STR: Final = Sized("str", MOST_BYTES)
BYTES: Final = Sized("bytes", MOST_BYTES)
DECIMAL: Final = Sized("decimal", DECIMAL_BYTES)
ROWS: Final = Reference("rows")
SHARD: Final = Reference("shard")

_SCALAR_BYTES: Final = {
    "int": 9,
    "float": 9,
    "bool": 1,
    "none": 1,
    "date": 11,
    "datetime": 34,
    "time": 17,
    "timedelta": 32,
}
SCALARS: Final = frozenset(_SCALAR_BYTES)
SIZED: Final = frozenset({"str", "bytes", "decimal"})
REFERENCE_BYTES: Final = {"rows": 170, "shard": 368}


def is_wire(t: WireType) -> bool:
    """Tell whether values of the type may stand in a frame."""
    match t:
        case Local():
            return False
        case Maybe(item) | Many(item):
            return is_wire(item)
        case Fixed(items):
            return all(map(is_wire, items))
    return True


def levels(t: WireType) -> int:
    """Give how deep tuples and options are nested."""
    match t:
        case Maybe(item) | Many(item):
            return 1 + levels(item)
        case Fixed(items):
            return 1 + max(map(levels, items), default=0)
    return 0


def leaves(t: WireType) -> int:
    """Give how many scalars the type names."""
    match t:
        case Maybe(item) | Many(item):
            return 1 + leaves(item)
        case Fixed(items):
            return 1 + sum(map(leaves, items))
    return 1


def most_bytes(t: WireType) -> int:
    """Give the bytes that a value takes in a frame at most."""
    match t:
        case Scalar(kind):
            return _SCALAR_BYTES[kind]
        case Sized(_, most):
            return most + (2 if most < 256 else 3)
        case Reference(kind):
            return REFERENCE_BYTES[kind]
        case Maybe(item):
            return most_bytes(item)
        case Fixed(items):
            return 3 + sum(map(most_bytes, items))
        case Many(item, most):
            return 3 + most * most_bytes(item)
        case Local(name):
            raise TypeError(f"{name} has no wire type")


def type_name(t: WireType) -> str:
    """Give the type as a person would write it.

    >>> type_name(Maybe(Many(INT, 16)))
    'tuple[int, ...] | None'
    """
    match t:
        case Scalar("none"):
            return "None"
        case Scalar(kind):
            return kind
        case Sized("decimal"):
            return "Decimal"
        case Sized(kind, most):
            return kind if most == MOST_BYTES else f"{kind} of {most}"
        case Reference(kind):
            return kind.capitalize()
        case Maybe(item):
            return f"{type_name(item)} | None"
        case Fixed(items):
            return f"tuple[{', '.join(map(type_name, items)) or '()'}]"
        case Many(item, most):
            bound = "" if most == MOST_ITEMS else f" of {most}"
            return f"tuple[{type_name(item)}, ...]{bound}"
        case Local(name):
            return name


def joined(a: WireType, b: WireType) -> WireType | None:
    """Give the smallest type that has the values of both; None if there is no such type."""
    if a == b:
        return a
    match a, b:
        case Scalar("none"), Maybe():
            return b
        case Maybe(), Scalar("none"):
            return a
        case (Scalar("none"), other) | (other, Scalar("none")):
            return None if isinstance(other, Local) else Maybe(other)
        case (Maybe(item), other) | (other, Maybe(item)):
            inner = joined(item, other.item if isinstance(other, Maybe) else other)
            return None if inner is None else Maybe(inner)
        case Sized(one, x), Sized(two, y) if one == two:
            return Sized(one, max(x, y))
        case ((Fixed() | Many()), (Fixed() | Many())):
            return _joined_tuples(a, b)
    return None


def _joined_tuples(a: Fixed | Many, b: Fixed | Many) -> WireType | None:
    if isinstance(a, Fixed) and isinstance(b, Fixed) and len(a.items) == len(b.items):
        items = [joined(x, y) for x, y in zip(a.items, b.items, strict=True)]
        if None not in items:
            return _shallow(Fixed(tuple(i for i in items if i is not None)))
    item: WireType | None = None
    for found in (*_items(a), *_items(b)):
        item = found if item is None else joined(item, found)
        if item is None:
            return None
    if item is None:
        return a
    return _shallow(Many(item, max(_count(a), _count(b), MOST_ITEMS)))


def _shallow(t: WireType) -> WireType | None:
    return t if levels(t) <= LEVELS else None


def _items(t: Fixed | Many) -> tuple[WireType, ...]:
    return t.items if isinstance(t, Fixed) else (t.item,)


def _count(t: Fixed | Many) -> int:
    return len(t.items) if isinstance(t, Fixed) else t.most


def item_type(t: Fixed | Many) -> WireType | None:
    """Give the type of any item of a tuple; None if it is empty, or there is no such type."""
    found: WireType | None = None
    for item in _items(t):
        found = item if found is None else joined(found, item)
        if found is None:
            return None
    return found


def fits(value: WireType, declared: WireType) -> bool:
    """Tell whether a value of the first type is one of the second; bounds are checked at run."""
    match value, declared:
        case Sized(one), Sized(two):
            return one == two
        case (Scalar("none"), Maybe()):
            return True
        case Maybe(item), Maybe(other):
            return fits(item, other)
        case _, Maybe(other):
            return fits(value, other)
        case Fixed(items), Fixed(others):
            return len(items) == len(others) and all(map(fits, items, others))
        case Fixed(items), Many(item, most):
            return len(items) <= most and all(fits(i, item) for i in items)
        case Many(item), Many(other):
            return fits(item, other)
    return value == declared


def narrowed(value: WireType, declared: WireType) -> WireType:
    """Give the declared type, less None where the value is not None, and None where it is."""
    if isinstance(declared, Maybe) and not isinstance(value, Maybe):
        return value if value == NONE else declared.item
    return declared
