"""Thrift's compact protocol, read without its definitions: a struct is a dict by field number.

Every length is checked against the bytes that are left, so that no input makes it allocate more
than a few times its own size, nor recurse deeply.
"""

from __future__ import annotations

from typing import Any

from wherry.base.errors import CorruptError

_DEEPEST = 32
_TRUE, _FALSE, _BYTE, _I16, _I64, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = (
    1, 2, 3, 4, 6, 7, 8, 9, 10, 12,
)  # fmt: skip
_LONGEST = 70
"""Bits of a varint; a number has at most 64."""

Struct = dict[int, Any]


def read_struct(data: bytes) -> Struct:
    """Give the struct that `data` begins with: bool, int, float, bytes, list or dict by field.

    Raises
    ------
    CorruptError
        When it is cut short or no compact Thrift, naming the offset within `data`.
    """
    return read_front(data)[0]


def read_front(data: bytes) -> tuple[Struct, int]:
    """Give the struct that `data` begins with, as `read_struct` does, and where it ends."""
    try:
        return _struct(data, 0, 0)
    except IndexError:
        raise CorruptError(f"it ends within a struct, at offset {len(data)}") from None


def _struct(data: bytes, at: int, depth: int) -> tuple[Struct, int]:
    # Written out for speed: a file of 100 columns has millions of these fields.
    found: Struct = {}
    field = 0
    while True:
        head = data[at]
        at += 1
        if not head:
            return found, at
        kind = head & 15
        if head >> 4:
            field += head >> 4
        else:
            number, at = _varint(data, at)
            field = (number >> 1) ^ -(number & 1)
        if _I16 <= kind <= _I64:
            number = data[at]
            at += 1
            if number > 127:
                number, at = _varint(data, at - 1)
            found[field] = (number >> 1) ^ -(number & 1)
        elif kind == _BINARY:
            found[field], at = _binary(data, at)
        elif kind <= _FALSE:
            found[field] = kind == _TRUE
        else:
            found[field], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise CorruptError(f"it is nested more than {_DEEPEST} deep at offset {at}")
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind in {_LIST, _SET}:
        return _list(data, at, depth + 1)
    if _I16 <= kind <= _I64:
        number, at = _varint(data, at)
        return (number >> 1) ^ -(number & 1), at
    if kind == _BINARY:
        return _binary(data, at)
    if kind in {_TRUE, _FALSE, _BYTE}:
        return data[at], at + 1
    if kind == _DOUBLE:
        return data[at : at + 8], at + 8
    raise CorruptError(f"it has a field of unknown kind {kind} at offset {at}")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    head = data[at]
    at += 1
    count, kind = head >> 4, head & 15
    if count == 15:
        count, at = _varint(data, at)
    if count > len(data) - at:
        raise CorruptError(f"it promises {count} elements in {len(data) - at} bytes at offset {at}")
    found = []
    for _ in range(count):
        value, at = _value(data, at, kind, depth)
        found.append(value)
    return found, at


def _binary(data: bytes, at: int) -> tuple[bytes, int]:
    length = data[at]
    at += 1
    if length > 127:
        length, at = _varint(data, at - 1)
    if length > len(data) - at:
        raise CorruptError(f"it promises {length} bytes where {len(data) - at} are, offset {at}")
    return data[at : at + length], at + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > _LONGEST:
            raise CorruptError(f"it has a number of more than 64 bits at offset {at}")
