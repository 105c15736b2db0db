"""Protobuf messages, as far as a few fields of Flight SQL need: numbers, bytes, and no classes."""

from __future__ import annotations

from collections.abc import Iterator

from wherry.base.errors import CorruptError


def field(number: int, value: bytes) -> bytes:
    """Give a field that holds bytes; its number is below 16."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def first(data: bytes, number: int) -> bytes | None:
    """Give the first field of this number that holds bytes, if there is one."""
    return next(iter(every(data, number)), None)


def every(data: bytes, number: int) -> list[bytes]:
    """Give all fields of this number that hold bytes."""
    return [v for n, v in fields(data) if n == number and isinstance(v, bytes)]


def flag(data: bytes, number: int) -> bool:
    """Tell whether a truth value is there and true."""
    return any(n == number and v == 1 for n, v in fields(data))


def numbers(data: bytes, number: int) -> Iterator[int]:
    """Give numbers, packed or one by one."""
    for n, v in fields(data):
        if n == number and isinstance(v, int):
            yield v
        elif n == number and isinstance(v, bytes):
            at = 0
            while at < len(v):
                found, at = _read_varint(v, at)
                yield found


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give the fields of a message: numbers as int, everything else as its bytes.

    Raises
    ------
    CorruptError
        If the bytes are no message.
    """
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _read_varint(data, at)
            yield key >> 3, number
            continue
        size = 8 if kind == 1 else 4
        if kind == 2:
            size, at = _read_varint(data, at)
        if kind not in {1, 2, 5} or at + size > len(data):
            raise CorruptError(f"no protobuf message: it ends, or is none, at byte {at}")
        yield key >> 3, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise CorruptError(f"no protobuf message: it ends, or is none, at byte {at}")
