"""The context of a launch: addresses of a chunk's buffers on the device, and constants."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.types import layout_of, value_type
from wherry.ir.expr import Literal
from wherry.ir.literals import bind, unscaled
from wherry.ir.reference import literal_scalar
from wherry.ir.resolve import type_of
from wherry.render.bind import Table
from wherry.render.cuda.device import CudaDevice
from wherry.render.cuda.program import CudaPass, CudaProgram
from wherry.render.cuda.values import WORD
from wherry.render.loop import OWN, Slot, codes_name
from wherry.render.prepare import tabulate


class Bound(Struct):
    """A chunk on a device: the words found so far, by slot.

    Only what is read is copied: of each buffer the bytes of the chunk's own rows.
    """

    device: CudaDevice
    rows: int
    columns: Mapping[str, pa.Array]
    tables: Mapping[str, Table]
    literals: tuple[Literal, ...]
    words: dict[Slot, int]

    def context(self, program: CudaProgram) -> bytes:
        """Give the context of a program: 8 bytes for each of its slots, in their order."""
        for slot, _ in program.slots:
            if slot not in self.words:
                self.words[slot] = self._word(*slot)
        words = (self.words[slot] & (1 << 64) - 1 for slot, _ in program.slots)
        return b"".join(word.to_bytes(WORD, "little") for word in words)

    def _word(self, kind: str, name: str) -> int:
        match kind:
            case "rows":
                return self.rows
            case "values" | "data" | "buffers" | "begin" | "valid" | "from" | "last":
                return self._of_column(kind, name)
            case "table" | "known":
                values = self.tables[name].values if kind == "table" else self.tables[name].known
                return self.device.put(values.view(np.uint8), 16)
            case "parts":
                return self.device.put(_parts(name), 8)
        return self._of_literal(kind, self.literals[int(name)])

    def _of_column(self, kind: str, name: str) -> int:
        column = self.columns[name]
        if kind == "last":
            return len(column.dictionary)
        if kind in {"begin", "from"}:
            return column.offset % 8
        if kind == "valid":
            return self._bits(column, 0)
        if kind == "values":
            return (
                self._bits(column, 1) if layout_of(column.type) == "bits" else self._values(column)
            )
        if kind == "data":
            return self._text_bytes(column)
        addresses = [self.device.put(_bytes(buffer), 1) for buffer in column.buffers()[2:]]
        return self.device.put(np.array([*addresses, 0], np.uint64).view(np.uint8), 8)

    def _bits(self, column: pa.Array, number: int) -> int:
        begin, end = column.offset // 8, (column.offset + len(column) + 7) // 8
        return self.device.put(_bytes(column.buffers()[number])[begin:end], 1)

    def _values(self, column: pa.Array) -> int:
        layout, t = layout_of(column.type), column.type
        width = {"narrow": 4, "wide": 8, "views": 16}.get(layout) or t.bit_width // 8
        more = layout in {"narrow", "wide"}
        begin, end = column.offset * width, (column.offset + len(column) + more) * width
        # Arrow promises 8 bytes, and kernels read no more at once; views by 4.
        return self.device.put(_bytes(column.buffers()[1])[begin:end], min(width, 8))

    def _text_bytes(self, column: pa.Array) -> int:
        """Give where offset 0 would lie: only the bytes that the rows refer to are copied."""
        kind = np.int64 if layout_of(column.type) == "wide" else np.int32
        offsets = _bytes(column.buffers()[1]).view(kind)
        begin, end = (int(offsets[column.offset + at]) for at in (0, len(column)))
        return self.device.put(_bytes(column.buffers()[2])[begin:end], 1) - begin

    def _of_literal(self, kind: str, literal: Literal) -> int:
        if kind in {"bytes", "size"}:
            assert isinstance(literal.value, str | bytes)
            text = literal.value
            data = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)
            return len(data) if kind == "size" else self.device.put(data, 1)
        number = stored_number(literal)
        if isinstance(number, float):
            return int.from_bytes(struct.pack("<d", number), "little")
        return number >> 64 if kind == "high" else number & (1 << 64) - 1


def bound(
    plan: CudaPass, batch: pa.RecordBatch, literals: tuple[Literal, ...], device: CudaDevice
) -> Bound:
    """Give a chunk whose buffers go to `device` when a program first asks for them."""
    columns = {name: batch.column(name) for name in plan.columns}
    for name in plan.columns:
        if pa.types.is_dictionary(columns[name].type):
            columns[codes_name(name)] = columns[name].indices
    tables = {}
    for node, lookup in plan.lookups.items():
        array = columns[lookup.column]
        known, texts = bind(node, literals), array.dictionary
        tables[str(lookup.number)] = tabulate(known, lookup.column, texts, array.type)
    return Bound(device, batch.num_rows, columns, tables, literals, {})


def nulls_of(columns: Mapping[str, pa.Array]) -> frozenset[str]:
    """Give the columns that have nulls; codes have those of their dictionary's column."""
    return frozenset(n for n, c in columns.items() if c.null_count and not n.startswith(OWN))


def stored_number(literal: Literal) -> int | float:
    """Give what stands for a constant: its integer, unscaled or as stored, or its float."""
    t = value_type(type_of(literal))
    if isinstance(literal.value, bool | float):
        return literal.value
    if pa.types.is_floating(t):
        return float(literal.value)  # type: ignore[arg-type]
    if isinstance(literal.value, int | Decimal):
        return unscaled(literal)
    buffer = pa.array([literal_scalar(literal)], t).buffers()[1]
    return int.from_bytes(bytes(buffer)[: t.bit_width // 8], "little", signed=True)


def _bytes(buffer: pa.Buffer | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.empty(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)


def _parts(pattern: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Give the parts of a pattern as texts.cu reads them."""
    parts = [part.encode() for part in pattern.split("\0")]
    head = np.array([len(parts), *map(len, parts)], np.int64).tobytes()
    return np.frombuffer(head + b"".join(parts), np.uint8)
