"""Texts as keys: single bytes, or words that hold a short text and its length.

A text of at most 8 * words - 1 bytes is `words` int64: its bytes, zeros, and its length in the last
byte. Texts that are all of one byte are that byte, read side by side from where Arrow keeps them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from llvmlite import ir
from msgspec import Struct

from wherry.data.types import layout_of
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import (
    bitmap_address,
    data_address,
    offset_width,
    values_address,
)
from wherry.render.loop import I1, I8, I64, Slot, Variant, declare, load, store, vector

_textkeys = skeletons("textkeys")

_FIRST_TEXTS: Final = 1024
_GROWTH: Final = 4

MOST_WORDS: Final = 4
"""Longer texts are numbered before they are grouped: comparing them as words would cost more."""


class TextKey(Struct, frozen=True):
    """A column of short texts as a key; `words` 0 says that each text is one byte."""

    column: str
    type: pa.DataType
    words: int


def words_for(longest: int) -> int | None:
    """Give how many words hold a text of `longest` bytes; None if it is too long for any."""
    for words in (1, 2, MOST_WORDS):
        if longest < 8 * words:
            return words
    return None


def longest_text(column: pa.Array, rows: int | None = None) -> int:
    """Give the bytes of the longest of the first `rows` texts, or of all; nulls may count."""
    count = len(column) if rows is None else min(rows, len(column))
    layout = {"narrow": 4, "wide": 8, "views": 16}[layout_of(column.type)]
    return int(_textkeys.longest(values_address(column), layout, count))


class Head(Struct):
    """The beginning of a function whose first two arguments are context and row."""

    slots: dict[Slot, int]
    variant: Variant
    function: Any
    b: Any

    def slot(self, kind: str, name: str) -> Any:
        """Give the int64 in a context entry."""
        number = self.slots.setdefault((kind, name), len(self.slots))
        at = self.b.add(self.function.args[0], ir.Constant(I64, 8 * number))
        return load(self.b, at, I64)

    def valid(self, name: str) -> Any:
        """Give the block's validity bits of a column; None if it has no nulls in this variant."""
        if name not in self.variant.nullable:
            return None
        byte = self.b.lshr(self.function.args[1], ir.Constant(I64, 3))
        return load(self.b, self.b.add(self.slot("valid", name), byte), I64)


def write_words(head: Head, key: TextKey, asked: Any, target: Any) -> Any:
    """Write the words of a block's texts to `target`, 64 first words, then 64 second ones.

    Gives the bits of the asked rows whose text fits; the words of other rows are zero.
    """
    kinds, b = ("text", "data", "end"), head.b
    places = [head.slot(kind, key.column) for kind in kinds]
    shape = ir.PointerType(ir.FunctionType(I64, [I64] * 7))
    pack = b.inttoptr(head.slot("pack", layout_of(key.type)), shape)
    return b.call(
        pack, [*places, head.function.args[1], asked, target, ir.Constant(I64, key.words)]
    )


def write_bytes(head: Head, key: TextKey, asked: Any, target: Any) -> Any:
    """Write the bytes of a block of one-byte texts to `target`; those not asked for may be empty.

    Gives the bits of the asked rows whose text fits: none if a longer text stands in the block.
    The builder goes on in a new basic block.
    """
    b, width = head.b, offset_width(key.type)
    kind, nothing = vector(ir.IntType(8 * width), BLOCK), ir.Constant(I64, 0)
    row = b.mul(head.function.args[1], ir.Constant(I64, width))
    at = b.add(head.slot("text", key.column), row)
    length = b.sub(load(b, b.add(at, ir.Constant(I64, width)), kind), load(b, at, kind))
    ones = ir.Constant(kind, [1] * BLOCK)
    one = b.bitcast(b.icmp_signed("==", length, ones), I64)
    more = b.bitcast(b.icmp_signed(">", length, ones), I64)
    start = load(b, at, kind.element)
    text = b.add(head.slot("data", key.column), start if width == 8 else b.sext(start, I64))
    sure = b.select(b.icmp_signed("==", more, nothing), one, nothing)
    names = ("side_by_side", "with_gaps", "written")
    every, some, after = (head.function.append_basic_block(n) for n in names)
    whole = b.icmp_signed("==", b.and_(one, asked), ir.Constant(I64, -1))
    b.cbranch(whole, every, some)
    image, flag = vector(I8, BLOCK), vector(I1, BLOCK)
    zero, pointer = ir.Constant(image, [0] * BLOCK), ir.PointerType(I8)
    b.position_at_end(every)
    store(b, load(b, text, image), target)
    b.branch(after)
    b.position_at_end(some)
    shape = ir.FunctionType(image, [pointer, flag, image])
    expand = declare(b.module, "llvm.masked.expandload.v64i8", shape)
    picked = b.call(expand, [b.inttoptr(text, pointer), b.bitcast(sure, flag), zero])
    store(b, b.select(b.bitcast(asked, flag), picked, zero), target)
    b.branch(after)
    b.position_at_end(after)
    return b.and_(sure, asked)


def text_array(words: np.ndarray[Any, Any], none: Any, t: pa.DataType, *, single: bool) -> pa.Array:
    """Give the texts that key words stand for.

    Parameters
    ----------
    words : numpy.ndarray
        int64, a row a text.
    none : numpy.ndarray, optional
        bool, which texts are null.
    single : bool
        A word is a text of one byte.
    """
    data = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), 8 * words.shape[1])
    sizes = np.ones(len(words), np.int64) if single else data[:, -1].astype(np.int64)
    if none is not None:
        sizes[none] = 0
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    nulls = 0 if none is None else int(np.count_nonzero(none))
    valid = pa.py_buffer(np.packbits(~none, bitorder="little")) if nulls else None
    return _texts(offsets, data[np.arange(data.shape[1]) < sizes[:, None]], valid, t)


def _texts(offsets: np.ndarray[Any, Any], data: Any, valid: Any, t: pa.DataType) -> pa.Array:
    """Give texts out of int64 offsets and their bytes."""
    plain = _without_views(t)
    stored = offsets if layout_of(t) == "wide" else offsets.astype(np.int32)
    buffers = [valid, pa.py_buffer(stored), pa.py_buffer(np.ascontiguousarray(data))]
    made = pa.Array.from_buffers(plain, len(offsets) - 1, buffers)
    return made if plain is t else made.cast(t)


def _without_views(t: pa.DataType) -> pa.DataType:
    """Give the type with offsets for one with views, which pyarrow cannot take from."""
    if layout_of(t) != "views":
        return t
    return pa.binary() if pa.types.is_binary_view(t) else pa.utf8()


def number_texts(
    column: pa.Array, begins: int = 0, rows: np.ndarray[Any, Any] | None = None
) -> tuple[pa.Array, pa.Array]:
    """Give an int32 code for each row, and the texts by code; equal texts have equal codes.

    Texts of views come back behind offsets.

    Parameters
    ----------
    begins : int
        The codes of earlier rows may be anything ...
    rows : numpy.ndarray, optional
        ... but of these, int64 numbers that come first.
    """
    keep: list[Any] = []
    width = {"narrow": 4, "wide": 8, "views": 16}[layout_of(column.type)]
    texts, data = values_address(column), data_address(column, keep)
    valid = bitmap_address(column, 0, keep) if column.null_count else 0
    codes, progress = np.zeros(len(column), np.int32), np.zeros(1, np.int64)
    capacity = _FIRST_TEXTS
    seen, table = np.empty((capacity, 3), np.int64), np.full(2 * capacity, -1, np.int32)
    spans = [(int(r), int(r) + 1) for r in (() if rows is None else rows)]
    for span in [*spans, (begins, len(column))]:
        row, ends = span
        while row < ends:
            row = _textkeys.number(
                texts, width, data, valid, row, ends, codes.ctypes.data, table.ctypes.data,
                len(table), seen.ctypes.data, capacity, progress.ctypes.data,
            )  # fmt: skip
            if row < ends:
                capacity *= _GROWTH
                seen = np.concatenate([seen, np.empty((capacity - len(seen), 3), np.int64)])
                table = np.full(2 * capacity, -1, np.int32)
                count = int(progress[0])
                _textkeys.renumber(table.ctypes.data, len(table), seen.ctypes.data, count)
    nbytes = (len(column) + 7) // 8
    bits = pa.foreign_buffer(valid, nbytes, base=(column, keep)) if valid else None
    coded = pa.Array.from_buffers(pa.int32(), len(column), [bits, pa.py_buffer(codes)])
    return coded, _spelled(seen[: int(progress[0])], _without_views(column.type))


def _spelled(seen: np.ndarray[Any, Any], t: pa.DataType) -> pa.Array:
    sizes = seen[:, 1]
    offsets, data = np.empty(len(seen) + 1, np.int64), np.empty(int(sizes.sum()) + 8, np.uint8)
    total = _textkeys.spell(
        np.ascontiguousarray(seen).ctypes.data, len(seen), offsets.ctypes.data, data.ctypes.data
    )
    return _texts(offsets, data[:total], None, t)
