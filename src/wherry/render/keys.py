"""Keys as int64 words, in lanes of programs and in the rows of a build: equal keys, equal words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from llvmlite import ir

from wherry.ir.expr import Node
from wherry.ir.resolve import type_of
from wherry.render.loop import F64, I64, Loop, Value, both, constant, flags, vector

_NARROW_DIGITS = 18
_NAN = 0x7FF8 << 48


def key_parts(loop: Loop, data: Any, t: pa.DataType) -> list[Any]:
    """Give a key as int64 words: equal keys have equal words."""
    b = loop.body
    if pa.types.is_boolean(t):
        return [b.zext(flags(b, data), vector(I64))]
    if pa.types.is_floating(t):
        return [float_image(b, data)]
    if data.type.element.width == 128:
        high = b.ashr(data, constant(data.type.element, 64))
        return [b.trunc(data, vector(I64)), b.trunc(high, vector(I64))]
    if data.type.element.width == 64:
        return [data]
    widen_by = b.zext if pa.types.is_unsigned_integer(t) else b.sext
    return [widen_by(data, vector(I64))]


def float_image(b: Any, data: Any) -> Any:
    """Give floats as bits: -0.0 becomes 0.0 and every NaN the same one."""
    if data.type.element is not F64:
        data = b.fpext(data, vector(F64))
    data = b.fadd(data, constant(F64, 0.0))
    nan = b.fcmp_unordered("uno", data, data)
    return b.select(nan, constant(I64, _NAN), b.bitcast(data, vector(I64)))


def words_of_type(t: pa.DataType) -> int:
    """Give how many words a key takes in the table of a build, whatever bounds say of a chunk."""
    return 2 if pa.types.is_decimal(t) and t.precision > _NARROW_DIGITS else 1


def table_words(loop: Loop, keys: tuple[Node, ...]) -> tuple[list[Any], Any]:
    """Give the words of keys as the table of a build has them, and which lanes have no null."""
    words: list[Any] = []
    valid: Any = None
    for key in keys:
        value: Value = loop.value(key)
        parts = key_parts(loop, value.data, type_of(key))
        wanted = words_of_type(type_of(key))
        if len(parts) < wanted:
            parts.append(loop.body.ashr(parts[0], constant(I64, 63)))
        words += parts[:wanted]
        valid = both(loop.body, valid, value.valid)
    return words, valid


def store_words(b: Any, words: list[Any], target: Any, lanes: int, first: Any) -> None:
    """Store words one behind another, `lanes` of each, those at hand from lane `first` on."""
    for number, word in enumerate(words):
        place = b.add(b.mul(first, ir.Constant(I64, 8)), ir.Constant(I64, 8 * lanes * number))
        at = b.inttoptr(b.add(target, place), ir.PointerType(word.type))
        b.store(word, at).align = 8


def build_words(arrays: list[pa.Array]) -> np.ndarray[Any, Any]:
    """Give the keys of a build, none of them null, as int64 words: one row a key.

    Parameters
    ----------
    arrays : list of pyarrow.Array
        Of fixed width, one a key, of one length.
    """
    columns = [column for array in arrays for column in _array_words(array)]
    return np.ascontiguousarray(np.stack(columns, axis=1)) if columns else np.empty((0, 0))


def _array_words(array: pa.Array) -> list[np.ndarray[Any, Any]]:
    t = array.type
    if not len(array):
        # Arrow may leave the buffers of an empty array out.
        return [np.empty(0, np.int64)] * words_of_type(t)
    if pa.types.is_boolean(t):
        return [array.cast(pa.int64()).to_numpy()]
    if pa.types.is_decimal(t):
        if t.bit_width <= 64:
            # An array of another type over the same bytes: pyarrow views no narrow decimals.
            buffers, kind = array.buffers(), pa.int32() if t.bit_width == 32 else pa.int64()
            array = pa.Array.from_buffers(kind, len(array), [None, buffers[1]], offset=array.offset)
            return [array.to_numpy().astype(np.int64)]
        start = 2 * array.offset
        halves = np.frombuffer(array.buffers()[1], np.int64)[start : start + 2 * len(array)]
        return list(halves.reshape(-1, 2).T[: words_of_type(t)])
    if pa.types.is_floating(t):
        values = array.to_numpy(zero_copy_only=False).astype(np.float64) + 0.0
        return [np.where(np.isnan(values), np.int64(_NAN), values.view(np.int64))]
    if pa.types.is_unsigned_integer(t):
        return [array.to_numpy(zero_copy_only=False).astype(np.uint64).view(np.int64)]
    if not pa.types.is_integer(t):
        array = array.view(pa.int32() if t.bit_width == 32 else pa.int64())
    return [array.to_numpy(zero_copy_only=False).astype(np.int64)]
