"""Flatbuffers, field by field: what Arrow IPC says of itself is written in them.

A table begins with the distance to its vtable, which holds for every field the distance to its
value, or 0. Everything raises `struct.error` where it would leave the bytes it was given.
"""

from __future__ import annotations

import struct


def number(data: bytes, at: int, form: str) -> int:
    """Give the number at `at`, written in the `form` of the module `struct`."""
    return int(struct.unpack_from(form, data, at)[0])


def slot(data: bytes, table: int, which: int) -> int:
    """Give where field `which` of a table lies; 0 when the table lacks it."""
    vtable = table - number(data, table, "<i")
    if vtable < 0:
        raise struct.error(f"a table at offset {table} lies before its beginning")
    entry = 4 + 2 * which
    if entry >= number(data, vtable, "<H"):
        return 0
    distance = number(data, vtable + entry, "<H")
    return table + distance if distance else 0


def scalar(data: bytes, table: int, which: int, form: str) -> int:
    """Give the number in field `which` of a table; 0, the default of all we read, when absent."""
    at = slot(data, table, which)
    return number(data, at, form) if at else 0


def target(data: bytes, at: int) -> int:
    """Give where what the field at `at` refers to lies."""
    return at + number(data, at, "<I")


def vector(data: bytes, table: int, which: int, width: int) -> tuple[int, int]:
    """Give where the elements of a vector begin, of `width` bytes each, and how many there are."""
    at = slot(data, table, which)
    if not at:
        return 0, 0
    start = target(data, at)
    count = number(data, start, "<I")
    if start + 4 + count * width > len(data):
        raise struct.error(f"{count} elements at offset {start} do not fit")
    return start + 4, count
