"""Texts as keys: single bytes, or words that hold a short text and its length.

A text of at most 8 * words - 1 bytes is `words` int64: its bytes, zeros, and its length in the last
byte. Texts that are all of one byte are that byte, read side by side from where Arrow keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from llvmlite import ir

from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import offset_width, text_layout, values_address
from wherry.render.functions import Writer
from wherry.render.loop import I8, I64, constant, declare, flags, load, splat, store, vector

_textkeys = skeletons("textkeys")

MOST_WORDS: Final = 4
"""Longer texts are numbered before they are grouped: comparing them as words would cost more."""


@dataclass(frozen=True, slots=True)
class TextKey:
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
    layout = {"narrow": 4, "wide": 8, "views": 16}[text_layout(column.type)]
    return int(_textkeys.longest(values_address(column), layout, count))


def _slot(w: Writer, function: Any, b: Any, kind: str, name: str) -> Any:
    number = w.slots.setdefault((kind, name), len(w.slots))
    return load(b, b.add(function.args[0], ir.Constant(I64, 8 * number)), I64)


def valid_word(w: Writer, function: Any, b: Any, name: str) -> Any:
    """Give the block's validity bits of a column; None if it has no nulls in this variant."""
    if name not in w.variant.nullable:
        return None
    byte = b.lshr(function.args[1], ir.Constant(I64, 3))
    return load(b, b.add(_slot(w, function, b, "valid", name), byte), I64)


def write_words(w: Writer, function: Any, b: Any, key: TextKey, asked: Any, target: Any) -> Any:
    """Write the words of a block's texts to `target`, 64 first words, then 64 second ones.

    Gives the bits of the asked rows whose text fits; the words of other rows are zero.
    """
    layout = text_layout(key.type)
    places = [
        _slot(w, function, b, kind, name)
        for kind, name in (("text", key.column), ("data", key.column), ("end", key.column))
    ]
    pointer = b.inttoptr(
        _slot(w, function, b, "pack", layout),
        ir.PointerType(ir.FunctionType(I64, [I64] * 7)),
    )
    rest = [function.args[1], asked, target, ir.Constant(I64, key.words)]
    return b.call(pointer, [*places, *rest])


def write_bytes(w: Writer, function: Any, b: Any, key: TextKey, asked: Any, target: Any) -> Any:
    """Write the bytes of a block of one-byte texts to `target`; others between them are empty.

    Gives the bits of the asked rows whose text fits: none if a longer text stands in the block.
    `b` goes on in a new basic block.
    """
    width = offset_width(key.type)
    kind = vector(ir.IntType(8 * width), BLOCK)
    at = b.add(_slot(w, function, b, "text", key.column), _times(b, function.args[1], width))
    first = load(b, at, kind)
    length = b.sub(load(b, b.add(at, ir.Constant(I64, width)), kind), first)
    ones = ir.Constant(kind, [1] * BLOCK)
    one = b.bitcast(b.icmp_signed("==", length, ones), I64)
    more = b.bitcast(b.icmp_signed(">", length, ones), I64)
    start = load(b, at, kind.element)
    start = start if width == 8 else b.sext(start, I64)
    text = b.add(_slot(w, function, b, "data", key.column), start)
    names = ("all", "some", "written")
    every, some, after = (function.append_basic_block(n) for n in names)
    b.cbranch(b.icmp_signed("==", one, ir.Constant(I64, -1)), every, some)
    image = vector(I8, BLOCK)
    b.position_at_end(every)
    store(b, load(b, text, image), target)
    b.branch(after)
    b.position_at_end(some)
    nothing = ir.Constant(I64, 0)
    sure = b.select(b.icmp_signed("==", more, nothing), one, nothing)
    pointer = ir.PointerType(I8)
    zero = ir.Constant(image, [0] * BLOCK)
    shape = ir.FunctionType(image, [pointer, vector_of_flags(), image])
    expand = declare(b.module, "llvm.masked.expandload.v64i8", shape)
    picked = b.call(expand, [b.inttoptr(text, pointer), b.bitcast(sure, vector_of_flags()), zero])
    chosen = b.bitcast(asked, vector_of_flags())
    store(b, b.select(chosen, picked, zero), target)
    b.branch(after)
    b.position_at_end(after)
    fits = b.phi(I64)
    fits.add_incoming(ir.Constant(I64, -1), every)
    fits.add_incoming(sure, some)
    return fits


def vector_of_flags() -> Any:
    """Give the type of a condition for each row of a block."""
    return vector(ir.IntType(1), BLOCK)


def _times(b: Any, value: Any, factor: int) -> Any:
    return b.mul(value, ir.Constant(I64, factor))


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
    data = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
    sizes = np.ones(len(words), np.int64) if single else data[:, -1].astype(np.int64)
    if none is not None:
        sizes[none] = 0
    wide = pa.types.is_large_string(t) or pa.types.is_large_binary(t)
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    kept = data[np.arange(data.shape[1]) < sizes[:, None]]
    views = text_layout(t) == "views"
    binary = pa.types.is_binary_view(t)
    plain = (pa.binary() if binary else pa.utf8()) if views else t
    stored = offsets if wide else offsets.astype(np.int32)
    nulls = 0 if none is None else int(np.count_nonzero(none))
    valid = pa.py_buffer(np.packbits(~none, bitorder="little")) if nulls else None
    buffers = [valid, pa.py_buffer(stored), pa.py_buffer(kept)]
    made = pa.Array.from_buffers(plain, len(words), buffers, nulls)
    return made.cast(t) if views else made
