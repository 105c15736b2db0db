"""Contexts: the addresses that block functions read, for the whole blocks and for the padded rest.

The rows behind the last whole block are copied into zeroed scratch of a block's size, so that the
same functions run over them and nothing is read behind the end of a buffer.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct, field

from wherry.data.types import layout_of, type_class, value_type
from wherry.ir.build import Build, Known
from wherry.ir.expr import Literal
from wherry.ir.literals import unscaled
from wherry.ir.reference import literal_scalar
from wherry.ir.resolve import type_of
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.join_table import table_of
from wherry.render.loop import Slot
from wherry.render.user import address_of

LITERALS: Final[Slot] = ("literals", "")
"""The entry of a context that says where the literals lie."""
_LITERAL: Final = 16
_MOST_CODES: Final = 8
"""Codes of a block that are compared with each of those; of more, values are gathered."""
_strings, _textkeys, _join = (skeletons(m) for m in ("strings", "textkeys", "join"))
_COMMON: Final = b"zqjxkvbpgywfmucldrhsinoate "
"""Letters, the commonest last, as in English; what is not here is rarer still."""
_FIXED: Final = {
    t.id
    for t in (
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.date32()),
        *(pa.timestamp("us"), pa.date64(), pa.time32("s"), pa.time64("us"), pa.duration("us")),
        *(pa.decimal32(9, 0), pa.decimal64(9, 0), pa.decimal128(9, 0)),
    )
}
_EMPTY: Final = np.zeros(BLOCK * 16 + 64, np.uint8)
"""What the address of a buffer that Arrow left out is taken from: never read, but not 0."""


class Table(Struct, frozen=True, dict=True):
    """A lookup's values by code, the null's behind the last; `known` says which are valid."""

    values: np.ndarray[Any, Any]
    known: np.ndarray[Any, Any]

    @cached_property
    def few(self) -> np.ndarray[Any, Any]:
        """Give the codes whose value is not 0, or the others if they are fewer, for `test_codes`.

        None of them if they are more than _MOST_CODES.
        """
        true, false = (np.flatnonzero(found) for found in (self.values[:-1], self.values[:-1] == 0))
        others = len(false) < len(true)
        codes = false if others else true
        if not 0 < len(codes) <= _MOST_CODES:
            codes = codes[:0]
        return np.array([len(codes), -others, -bool(self.values[-1]), *codes], np.int64)


class Chunk(Struct, frozen=True):
    """What a pass reads: columns by name, tables by number, and int64 that are no addresses."""

    rows: int
    columns: Mapping[str, pa.Array]
    tables: Mapping[str, Table] = field(default_factory=dict)
    numbers: Mapping[Slot, int] = field(default_factory=dict)

    @property
    def blocks(self) -> int:
        """Give the number of whole blocks."""
        return self.rows // BLOCK

    @property
    def rest(self) -> int:
        """Give the number of rows behind them."""
        return self.rows % BLOCK


class Context(Struct):
    """Addresses of both contexts; `keep` holds whatever they point to besides the columns."""

    whole: array[int]
    padded: array[int]
    keep: list[Any]

    @property
    def addresses(self) -> tuple[int, int]:
        """Give where the two contexts lie."""
        return self.whole.buffer_info()[0], self.padded.buffer_info()[0]


def bind_slots(slots: Mapping[Slot, int], chunk: Chunk, literals: np.ndarray[Any, Any]) -> Context:
    """Give the contexts for `slots` over a chunk; `literals` is what `pack_literals` gave."""
    # Slots are numbered in the order they stand in. array is a list whose address is at hand: this
    # runs for every chunk, after a kernel has emptied the caches of everything Python needs.
    keep: list[Any] = [literals]
    found = [_addresses(kind, name, chunk, literals, keep) for kind, name in slots]
    return Context(array("q", [w for w, _ in found]), array("q", [p for _, p in found]), keep)


def _addresses(
    kind: str, name: str, chunk: Chunk, literals: Any, keep: list[Any]
) -> tuple[int, int]:
    match kind:
        case "values" | "valid" | "bits" | "text":
            return _column(kind, chunk.columns[name], chunk, keep)
        case "literals":
            return (literals.ctypes.data,) * 2
        case "data":
            return (data_address(chunk.columns[name], keep),) * 2
        case "end":
            return (_data_end(chunk.columns[name]),) * 2
        case "pack" | "test" | "member":
            return (_skeleton(kind, name),) * 2
        case "user":
            return (address_of(name),) * 2
        case "parts":
            parts = _parts(name)
            keep.append(parts)
            return (parts.ctypes.data,) * 2
        case "table" | "known" | "few":
            values = getattr(chunk.tables[name], "values" if kind == "table" else kind)
            keep.append(values)
            return (values.ctypes.data,) * 2
    return _number(kind, name, chunk)


def _number(kind: str, name: str, chunk: Chunk) -> tuple[int, int]:
    # The rows of the padded rest are numbered from 0 in memory of their own.
    return (0, chunk.blocks * BLOCK) if kind == "first" else (chunk.numbers[kind, name],) * 2


def _skeleton(kind: str, name: str) -> int:
    """Give the address of a skeleton that block functions call."""
    if kind == "member":
        return int(_join.member.address)
    return int(getattr(_textkeys if kind == "pack" else _strings, f"{kind}_{name}").address)


def _column(kind: str, column: pa.Array, chunk: Chunk, keep: list[Any]) -> tuple[int, int]:
    rows, rest = chunk.rows, chunk.rest
    if kind == "values" and not rest:
        address = values_address(column)
        return address, address
    if kind in {"valid", "bits"}:
        address = bitmap_address(column, 0 if kind == "valid" else 1, keep)
        return address, _padded(address + (rows - rest) // 8, (rest + 7) // 8, keep)
    address = values_address(column)
    if layout_of(column.type) in {"fixed", "views"}:
        width = value_width(column.type)
        return address, _padded(address + (rows - rest) * width, rest * width, keep)
    width = offset_width(column.type)
    place = _padded(address + (rows - rest) * width, (rest + 1) * width if rest else 0, keep)
    return address, place


def _padded(address: int, nbytes: int, keep: list[Any]) -> int:
    """Copy `nbytes` into fresh zeros with room for a block of any type; give where they lie."""
    if not nbytes:
        return int(_EMPTY.ctypes.data)
    room = np.zeros(max(BLOCK * 16, nbytes) + 64, np.uint8)
    ctypes.memmove(room.ctypes.data, address, nbytes)
    keep.append(room)
    return room.ctypes.data


def offset_width(t: pa.DataType) -> int:
    """Give the bytes of an offset of a type of texts or bytes."""
    return 8 if layout_of(t) == "wide" else 4


def value_width(t: pa.DataType) -> int:
    """Give the bytes from one row to the next: of values, offsets or views."""
    match layout_of(t):
        case "narrow" | "wide":
            return offset_width(t)
        case "views":
            return 16
    return int(t.byte_width)


def values_address(column: pa.Array) -> int:
    """Give the address of the first row's value, offset or view."""
    buffer = column.buffers()[1]
    if buffer is None or not buffer.size:
        return int(_EMPTY.ctypes.data)
    t = column.type
    if t.id in _FIXED:
        return int(buffer.address + column.offset * (t.bit_width >> 3))
    return int(buffer.address + column.offset * value_width(t))


def bitmap_address(column: pa.Array, number: int, keep: list[Any]) -> int:
    """Give the address of a bitmap from its first row's bit on, copied if it must be moved."""
    buffer = column.buffers()[number]
    if buffer is None or not buffer.size:
        # Nulls in another chunk of the share ask for a bitmap that this one does without.
        assert number == 0 or len(column) == 0, "asked for bits that are not there"
        keep.append(np.full(len(column) // 8 + 9, 0xFF, np.uint8))
        return int(keep[-1].ctypes.data)
    if column.offset % 8 == 0:
        return int(buffer.address + column.offset // 8)
    start, end = column.offset // 8, (column.offset + len(column) + 7) // 8
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8)[start:end], bitorder="little")
    moved = np.packbits(bits[column.offset % 8 :], bitorder="little")
    keep.append(moved)
    return int(moved.ctypes.data)


def data_address(column: pa.Array, keep: list[Any]) -> int:
    """Give where the bytes of a text column begin; for views, a table of where their buffers do.

    For bytes of one width, that width.
    """
    data, kind = column.buffers()[2:], layout_of(column.type)
    if kind == "fixed":
        return int(column.type.byte_width)
    if kind != "views":
        return int(_EMPTY.ctypes.data if not data or data[0] is None else data[0].address)
    table = np.array([b.address for b in data] or [0], np.int64)
    keep.append(table)
    return int(table.ctypes.data)


def _data_end(column: pa.Array) -> int:
    """Give where the bytes of a text column end; views know where each of theirs does."""
    data = column.buffers()[2:]
    if layout_of(column.type) == "views" or not data or data[0] is None:
        return int(_EMPTY.ctypes.data)
    return int(data[0].address + data[0].size)


@lru_cache(maxsize=1024)
def _parts(name: str) -> np.ndarray[Any, Any]:
    """Give parts as kernels.numba.strings reads them."""
    parts = [part.encode() for part in name.split("\0")]
    probes = _probes(parts[len(parts) // 2])
    head = np.array([len(parts), *map(len, parts), *probes], np.int64).tobytes()
    return np.frombuffer(head + b"".join(parts) + bytes(8), np.uint8)


def _probes(part: bytes) -> tuple[int, int, int]:
    """Give three places of a part, those of the bytes that are rarest in texts."""
    rarest = sorted(range(len(part)), key=lambda place: _COMMON.find(part[place]))
    first, second, third = (*rarest, *[rarest[-1] if rarest else 0] * 3)[:3]
    return first, second, third


def pack_literals(literals: tuple[Literal, ...]) -> np.ndarray[Any, Any]:
    """Give literals as block functions read them: 16 bytes each.

    A text is its address and length, a build the address of its table, if its rows are here.
    """
    texts = b"".join(_image(v) for v in literals if isinstance(v.value, str | bytes))
    area = np.zeros(_LITERAL * len(literals) + len(texts) + 8, np.uint8)
    at = _LITERAL * len(literals)
    for number, literal in enumerate(literals):
        image = _image(literal)
        if isinstance(literal.value, str | bytes):
            area[at : at + len(image)] = np.frombuffer(image, np.uint8)
            start, at = int(area.ctypes.data) + at, at + len(image)
            image = np.array([start, len(image)], np.int64).tobytes()
        begin = _LITERAL * number
        area[begin : begin + len(image)] = np.frombuffer(image, np.uint8)
    return area


def _image(literal: Literal) -> bytes:
    value, t = literal.value, value_type(type_of(literal))
    if isinstance(value, Build):
        return table_of(value).address.to_bytes(16, "little")
    if isinstance(value, Known):
        return b""
    if isinstance(value, str | bytes):
        return value.encode() if isinstance(value, str) else value
    if isinstance(value, bool):
        return int(value).to_bytes(16, "little")
    if isinstance(value, int | Decimal) and type_class(t) in {"integer", "decimal"}:
        return unscaled(literal).to_bytes(16, "little", signed=True)
    buffer = pa.array([literal_scalar(literal)], t).buffers()[1]
    return bytes(buffer)[: t.bit_width // 8]
