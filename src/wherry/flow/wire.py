"""Values of wire types: what a frame holds of rows and shards, and checks of values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec

from wherry.base.errors import InputError
from wherry.flow.types import (
    DECIMAL_BYTES,
    Fixed,
    Local,
    Many,
    Maybe,
    Reference,
    Scalar,
    Sized,
    WireType,
    type_name,
)

INT_MOST: Final = (1 << 63) - 1
INT_LEAST: Final = -(1 << 63)

_Int64 = Annotated[int, msgspec.Meta(ge=INT_LEAST, le=INT_MOST)]
_Owner = Annotated[str, msgspec.Meta(max_length=24)]
_Key = Annotated[bytes, msgspec.Meta(max_length=32)]
_Dataset = Annotated[str, msgspec.Meta(max_length=64)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=INT_MOST)]


class Rows(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Rows that lie on a device: a reference, never the rows themselves.

    Attributes
    ----------
    owner : str
        The device that holds them; at most 24 characters.
    key : bytes
        What it knows them by; at most 32 bytes.
    num_rows, num_columns, nbytes : int
        Of the table.
    until_ns : int
        When its lease ends, in Unix nanoseconds of the owner's clock.
    """

    owner: _Owner
    key: _Key
    num_rows: _Count
    num_columns: _Count
    nbytes: _Count
    until_ns: _Int64


class Shard(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of a dataset: its number, or -1 for all of it; `owner` is the device that has it."""

    dataset: _Dataset
    owner: _Owner
    number: _Int64


SCALAR_TYPES: Final[dict[str, Any]] = {
    "int": int,
    "float": float,
    "bool": bool,
    "none": type(None),
    "date": date,
    "datetime": datetime,
    "time": time,
    "timedelta": timedelta,
}
_SIZED_TYPES: Final[dict[str, Any]] = {"str": str, "bytes": bytes, "decimal": Decimal}
REFERENCES: Final[dict[str, Any]] = {"rows": Rows, "shard": Shard}


def decoded_type(t: WireType) -> Any:
    """Give the annotation by which msgspec decodes values of a wire type, bounds included.

    The bounds of texts count characters here; their bytes are bounded by those of the frame.
    """
    match t:
        case Scalar("int"):
            return _Int64
        case Scalar(kind):
            return SCALAR_TYPES[kind]
        case Sized("decimal"):
            return Decimal
        case Sized(kind, most):
            return Annotated[_SIZED_TYPES[kind], msgspec.Meta(max_length=most)]
        case Reference(kind):
            return REFERENCES[kind]
        case Maybe(item):
            return decoded_type(item) | None
        case Fixed(items):
            return tuple.__class_getitem__(tuple(map(decoded_type, items)))
        case Many(item, most):
            inner: Any = decoded_type(item)
            return Annotated[tuple[inner, ...], msgspec.Meta(max_length=most)]
        case Local(name):
            raise TypeError(f"{name} has no wire type")


def check_value(t: WireType, value: Any, what: str) -> Any:
    """Give `value` as the wire type has it: an int where a float is wanted becomes one.

    Raises
    ------
    InputError
        If it is of another type or exceeds a bound; `what` says whose value it is.
    """
    match t:
        case Local():
            return value
        case Maybe(item):
            return None if value is None else check_value(item, value, what)
        case Fixed(items):
            if type(value) is tuple and len(value) == len(items):
                return tuple(
                    check_value(i, v, f"{what}[{n}]")
                    for n, (i, v) in enumerate(zip(items, value, strict=True))
                )
        case Many(item, most):
            if type(value) is tuple:
                if len(value) > most:
                    raise InputError(
                        f"{what} has {len(value)} items; at most {most}; "
                        f"annotate it as Annotated[tuple[...], wherry.Most({len(value)})]"
                    )
                return tuple(check_value(item, v, f"{what}[{n}]") for n, v in enumerate(value))
        case Scalar(kind):
            return _checked_scalar(kind, value, t, what)
        case Sized(kind, most):
            if type(value) is _SIZED_TYPES[kind]:
                return _checked_size(kind, most, value, what)
        case Reference(kind):
            if type(value) is REFERENCES[kind]:
                return value
    raise _mismatch(t, value, what)


def _checked_scalar(kind: str, value: Any, t: WireType, what: str) -> Any:
    if kind == "float" and type(value) is int:
        return float(value)
    if type(value) is not SCALAR_TYPES[kind]:
        raise _mismatch(t, value, what)
    if kind == "int" and not INT_LEAST <= value <= INT_MOST:
        raise InputError(f"{what} is {value}; an int of a movable has 64 bits")
    if kind in {"datetime", "time"} and value.tzinfo is not None and _not_utc(value):
        raise InputError(f"{what} is {value!r}; a {kind} has no zone, or is a datetime in UTC")
    return value


def _not_utc(value: datetime | time) -> bool:
    return isinstance(value, time) or value.utcoffset() != timedelta(0)


_LENGTH: Final[dict[str, Callable[[Any], int]]] = {
    "str": lambda v: len(v.encode("utf-8", "surrogatepass")),
    "bytes": len,
    "decimal": lambda v: len(str(v)),
}


def _checked_size(kind: str, most: int, value: Any, what: str) -> Any:
    length = _LENGTH[kind](value)
    if length > most:
        raise InputError(
            f"{what} takes {length} bytes; at most {most}"
            + ("" if kind == "decimal" else f"; annotate it as Annotated[{kind}, wherry.Most(N)]")
        )
    if kind == "str" and any("\ud800" <= c <= "\udfff" for c in value):
        raise InputError(f"{what} holds half a surrogate pair, which is no text")
    return value


def _mismatch(t: WireType, value: object, what: str) -> InputError:
    return InputError(f"{what} needs {type_name(t)}; got {type(value).__name__} {value!r:.60}")


def smallest_bound(t: WireType) -> int:
    """Give the smallest bound of texts and tuples in the type: a shorter frame exceeds none."""
    match t:
        case Sized("decimal"):
            return DECIMAL_BYTES
        case Sized(_, most):
            return most
        case Maybe(item):
            return smallest_bound(item)
        case Many(item, most):
            return min(most, smallest_bound(item))
        case Fixed(items):
            return min(map(smallest_bound, items), default=1 << 30)
    return 1 << 30
