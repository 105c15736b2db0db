"""Plans as bytes: versioned msgpack that can build only registered nodes and plain values.

Layout: one msgpack array `[version, value]`. A node is a map `{"n": class name, "f": [fields]}`;
values that msgpack lacks are maps with one key: `t` type, `b` the columns of a build (names and
types), `d` decimal, `D` date, `T` timestamp (in UTC if it has a zone: a zone's name would make the
decoder look for a file), `c` time of a day, `u` duration in microseconds.
Nothing is imported while decoding, and a name that is not registered is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec
import pyarrow as pa

from wherry.base.errors import CorruptError, InputError
from wherry.data.types import type_class
from wherry.ir import expr
from wherry.ir.types import build_type, type_from_image, type_image

VERSION: Final = 1
_DEPTH_MAX: Final = 200
"""Deeper trees are refused: the decoder recurses once a level."""

_REFUSED: Final = (
    *(msgspec.DecodeError, TypeError, ValueError, AttributeError),
    *(ArithmeticError, RecursionError, InputError),
)
"""What hostile bytes can make msgspec, the constructors of values and types raise."""

_NODES: Final[dict[str, type[Any]]] = {}
T = TypeVar("T")


def register(node: type[T]) -> type[T]:
    """Let `node`, a frozen struct, stand in encoded plans under its class name."""
    assert issubclass(node, msgspec.Struct)
    assert _NODES.setdefault(node.__name__, node) is node, f"two nodes named {node.__name__}"
    return node


for _node in vars(expr).values():
    if isinstance(_node, type) and issubclass(_node, expr.Node | expr.Call):
        register(_node)


def encode(value: object) -> bytes:
    """Give the bytes of a node, or of a tuple of nodes.

    Raises
    ------
    InputError
        If the tree is deeper than a decoder accepts.
    """
    return msgspec.msgpack.encode([VERSION, _plain(value, 0)])


def decode(data: bytes) -> Any:
    """Read what `encode` wrote.

    Raises
    ------
    CorruptError
        If the bytes are not an encoded plan, name an unknown node, or are of another version.
    """
    try:
        version, value = msgspec.msgpack.decode(data)
        _check_version(version)
        return _value(value, 0)
    except CorruptError:
        raise
    except _REFUSED as problem:
        raise CorruptError(f"{len(data)} bytes are not an encoded plan: {problem}") from None


def _check_version(version: object) -> None:
    if type(version) is not int or version != VERSION:
        raise CorruptError(f"plan of version {version!r}; this Wherry reads {VERSION}")


def _plain(value: object, depth: int) -> object:
    if depth > _DEPTH_MAX:
        raise InputError(
            f"the query nests expressions more than {_DEPTH_MAX} levels deep; "
            "let one step compute less of them, or fewer steps follow each other"
        )
    if isinstance(value, msgspec.Struct) and _NODES.get(type(value).__name__) is type(value):
        name = type(value).__name__
        values = (getattr(value, field) for field in value.__struct_fields__)
        return {"n": name, "f": [_plain(item, depth + 1) for item in values]}
    if isinstance(value, tuple):
        return [_plain(item, depth + 1) for item in value]
    return _plain_leaf(value)


def _plain_leaf(value: object) -> object:
    match value:
        case pa.ListType():
            return {"b": [[field.name, type_image(field.type)] for field in value.value_type]}
        case pa.DataType():
            return {"t": type_image(value)}
        case Decimal():
            return {"d": str(value)}
        case datetime():
            aware = value.tzinfo is not None
            naive = value.astimezone(UTC).replace(tzinfo=None) if aware else value
            return {"T": [naive.isoformat(), "UTC" if aware else None]}
        case date():
            return {"D": value.isoformat()}
        case time():
            return {"c": value.isoformat()}
        case timedelta():
            return {"u": value // timedelta(microseconds=1)}
        case None | bool() | int() | float() | str() | bytes():
            return value
    raise TypeError(f"a plan cannot hold a {type(value).__name__}")


def _value(plain: Any, depth: int) -> Any:
    if depth > _DEPTH_MAX:
        raise CorruptError(f"a plan is deeper than {_DEPTH_MAX} levels")
    if isinstance(plain, list):
        return tuple(_value(item, depth + 1) for item in plain)
    if not isinstance(plain, dict):
        return plain
    if "n" in plain:
        return _node_of(plain, depth)
    if len(plain) != 1:
        raise CorruptError(f"a plan holds a map with keys {sorted(map(str, plain))}")
    ((tag, content),) = plain.items()
    if tag not in _TAGS:
        raise CorruptError(f"a plan holds a value tagged {tag!r}; tags: {', '.join(_TAGS)}")
    return _TAGS[tag](content)


def _node_of(plain: dict[Any, Any], depth: int) -> Any:
    node = _NODES.get(plain["n"])
    if node is None:
        raise CorruptError(f"no node {plain['n']!r}; nodes: {', '.join(sorted(_NODES))}")
    values = plain.get("f")
    if not isinstance(values, list) or len(values) != len(node.__struct_fields__):
        raise CorruptError(f"node {plain['n']} needs {len(node.__struct_fields__)} fields")
    return node(*(_value(item, depth + 1) for item in values))


def _timestamp(content: Any) -> datetime:
    text, zone = content
    if zone not in {None, "UTC"}:
        raise CorruptError(
            f"a plan holds a moment in zone {zone!r}; moments are in UTC, or in none"
        )
    moment = datetime.fromisoformat(text)
    return moment if zone is None else moment.replace(tzinfo=UTC)


def _type(content: Any) -> pa.DataType:
    found = type_from_image(content)
    type_class(found)  # refuses a type that no column of Wherry has
    return found


def _columns(content: Any) -> pa.DataType:
    return build_type([pa.field(name, _type(image)) for name, image in content])


_TAGS: Final[dict[str, Callable[[Any], Any]]] = {
    "t": _type,
    "b": _columns,
    "d": Decimal,
    "D": date.fromisoformat,
    "c": time.fromisoformat,
    "u": lambda content: timedelta(microseconds=content),
    "T": _timestamp,
}
