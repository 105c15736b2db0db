"""Columns in a device's memory: where their buffers lie, and who keeps them there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.data.types import layout_of
from wherry.devices.accelerator import Accelerator, Block

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

USES: Final = {
    "values": "values",
    "begin": "begin",
    "valid": "valid",
    "from": "valid_from",
    "data": "data",
    "buffers": "buffers",
}
"""What entries of a context say of a column: by their kind, the field that has it."""
_EVERY: Final = frozenset(USES)


class ColumnFacts(Struct, frozen=True):
    """What programs take for granted of a column in all pieces of a share.

    Attributes
    ----------
    nulls : bool
        Whether any value may be null.
    dictionary : pyarrow.Array or None
        Of a dictionary column its texts, on the host: those of every piece begin as this does.
    """

    nulls: bool
    dictionary: pa.Array | None = None


class DeviceColumn(Struct, frozen=True):
    """Rows of a column on a device. Addresses are 0 where there is nothing, or nothing was put.

    Attributes
    ----------
    nulls : bool
        Whether any value may be null.
    values : int
        Where the first row's value lies: a number, offset, view or code; or the byte of its bit.
    begin : int
        Bits before the first row's in that byte, or in those behind it.
    valid, valid_from : int
        The same of the bits that say what is valid.
    data : int
        Where offset 0 of texts would lie.
    buffers : int
        Where the addresses of the buffers lie that views point to, 8 bytes each.
    dictionary : pyarrow.Array or None
        The texts that codes stand for, on the host.
    blocks : tuple of Block
        What keeps all that; a column that was sliced keeps the whole.
    """

    type: pa.DataType
    rows: int
    nulls: bool = False
    values: int = 0
    begin: int = 0
    valid: int = 0
    valid_from: int = 0
    data: int = 0
    buffers: int = 0
    dictionary: pa.Array | None = None
    blocks: tuple[Block, ...] = ()

    @property
    def facts(self) -> ColumnFacts:
        """Give what programs may take for granted of it."""
        return ColumnFacts(self.nulls, self.dictionary)

    def slice(self, start: int, rows: int) -> DeviceColumn:
        """Give `rows` rows from `start` on, in the same memory."""
        if not 0 <= start <= start + rows <= self.rows:
            text = f"rows {start} to {start + rows} of a column that has {self.rows}"
            raise IndexError(text)
        bits = layout_of(self.type) == "bits"
        return replace(
            self,
            rows=rows,
            values=self.values if bits or not self.values else self.values + start * self.width,
            begin=self.begin + start if bits else 0,
            valid_from=self.valid_from + start if self.valid else 0,
        )

    @property
    def width(self) -> int:
        """Give the bytes from one row's value, offset, view or code to the next; bits have none."""
        return width_of(self.type)


def width_of(t: pa.DataType) -> int:
    """Give the bytes from one row's value, offset, view or code to the next; 0 for bits."""
    layout = layout_of(t)
    if layout == "dictionary":
        return int(t.index_type.bit_width) // 8
    known = {"bits": 0, "narrow": 4, "wide": 8, "views": 16}
    return known[layout] if layout in known else int(t.bit_width) // 8


def facts_of(columns: Mapping[str, pa.Array]) -> dict[str, ColumnFacts]:
    """Give what is so of columns on the host."""
    return {name: ColumnFacts(bool(a.null_count), _texts(a)) for name, a in columns.items()}


def put_column(device: Accelerator, array: pa.Array, uses: Iterable[str] = _EVERY) -> DeviceColumn:
    """Give a copy of a column on a device: of each buffer the bytes of the array's own rows.

    Parameters
    ----------
    array : pyarrow.Array
        Values start at multiples of their size, as Arrow's format has it; 128 bits and views at 8.
    uses : iterable of str
        What of it a program reads, of `USES`.
    """
    blocks, wanted = list[Block](), frozenset(uses)

    def put(data: Bytes) -> int:
        # Nothing is read of what is empty, but 0 would say that it is not there.
        blocks.append(device.put(data if data.size else np.zeros(1, np.uint8)))
        return blocks[-1].address

    found: dict[str, int] = {}
    stored = array.indices if pa.types.is_dictionary(array.type) else array
    layout = layout_of(stored.type)
    if "valid" in wanted and array.null_count:
        found |= {"valid": put(_bits(stored, 0)), "valid_from": stored.offset % 8}
    if "values" in wanted and layout == "bits":
        found |= {"values": put(_bits(stored, 1)), "begin": stored.offset % 8}
    elif "values" in wanted and layout != "struct":
        found["values"] = put(_values(stored, layout))
    if "data" in wanted and layout in {"narrow", "wide"}:
        data, begin = _text_bytes(stored, layout)
        found["data"] = (put(data) - begin) & (1 << 64) - 1
    if "buffers" in wanted and layout == "views":
        addresses = [put(_bytes(buffer)) for buffer in stored.buffers()[2:]]
        found["buffers"] = put(np.array([*addresses, 0], np.uint64).view(np.uint8))
    nulls, texts, kept = bool(array.null_count), _texts(array), tuple(blocks)
    return DeviceColumn(array.type, len(array), nulls, **found, dictionary=texts, blocks=kept)


def _texts(array: pa.Array) -> pa.Array | None:
    return array.dictionary if pa.types.is_dictionary(array.type) else None


def _bits(column: pa.Array, number: int) -> Bytes:
    begin, end = column.offset // 8, (column.offset + len(column) + 7) // 8
    return _bytes(column.buffers()[number])[begin:end]


def _values(column: pa.Array, layout: str) -> Bytes:
    width, more = width_of(column.type), layout in {"narrow", "wide"}
    begin, end = column.offset * width, (column.offset + len(column) + more) * width
    return _bytes(column.buffers()[1])[begin:end]


def _text_bytes(column: pa.Array, layout: str) -> tuple[Bytes, int]:
    """Give the bytes that the rows refer to, and the offset of the first."""
    offsets = _values(column, layout).view(np.int64 if layout == "wide" else np.int32)
    begin, end = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
    return _bytes(column.buffers()[2])[begin:end], begin


def _bytes(buffer: pa.Buffer | None) -> Bytes:
    return np.empty(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)
