"""Whether a decoded tree has the shape that its node classes declare, and is not too large."""

from __future__ import annotations

import types
from collections.abc import Hashable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError

NODES_MOST: Final = 50_000
"""Nodes of a program, those of the movables it calls among them."""
DEPTH_MOST: Final = 64
"""Nodes within nodes: making code recurses once a level."""
_LEAVES: Final = (
    *(type(None), bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal),
    pa.DataType,
)


def check_shape(node: object, cls: type[Any]) -> None:
    """Check that `node` is a `cls`, and everything below it what its fields declare.

    Raises
    ------
    CorruptError
        If it is not, or the tree is too large or too deep.
    """
    left = NODES_MOST
    waiting: list[tuple[Any, Any, int]] = [(node, cls, 0)]
    while waiting:
        value, wanted, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > DEPTH_MOST:
            raise CorruptError(f"a program of over {NODES_MOST} nodes or {DEPTH_MOST} levels")
        found = _fitting(value, wanted)
        if found is None:
            raise CorruptError(f"a program holds {type(value).__name__} {value!r:.60} as {wanted}")
        waiting += [(inner, inside, depth + 1) for inner, inside in found]


def _fitting(value: Any, wanted: Any) -> list[tuple[Any, Any]] | None:
    """Give what is to be checked within a value that fits so far; None if it does not."""
    origin = get_origin(wanted)
    if wanted is object:
        return list(_anything(value)) if _is_anything(value) else None
    if origin in {Union, types.UnionType}:
        for option in get_args(wanted):
            if _is_kind(value, option):
                return _fitting(value, option)
        return None
    if not _is_kind(value, wanted):
        return None
    if origin is tuple:
        return _items(value, get_args(wanted))
    if isinstance(value, Struct):
        cls: Any = type(value)
        hints = _hints(cls)
        return [(getattr(value, f), hints[f]) for f in value.__struct_fields__]
    return []


def _is_kind(value: Any, wanted: Any) -> bool:
    origin = get_origin(wanted)
    if origin is tuple:
        return type(value) is tuple
    if origin is Literal:
        return value in get_args(wanted)
    if wanted is None or wanted is type(None):
        return value is None
    if wanted is int:
        return type(value) is int
    if wanted is pa.DataType or (isinstance(wanted, type) and issubclass(wanted, Struct)):
        return isinstance(value, wanted)
    return type(value) is wanted


def _items(value: tuple[Any, ...], arguments: tuple[Any, ...]) -> list[tuple[Any, Any]] | None:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return [(item, arguments[0]) for item in value]
    if len(arguments) != len(value):
        return None
    return list(zip(value, arguments, strict=True))


def _is_anything(value: Any) -> bool:
    return isinstance(value, _LEAVES) or type(value) is tuple or isinstance(value, Struct)


def _anything(value: Any) -> Iterator[tuple[Any, Any]]:
    if type(value) is tuple:
        yield from ((item, object) for item in value)
    elif isinstance(value, Struct):
        yield value, type(value)


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return get_type_hints(cls)
