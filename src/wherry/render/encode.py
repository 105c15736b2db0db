"""Texts as small integers: codes for keys of groups, ranks for the smallest and largest text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.compute import pc
from wherry.data.arrays import restored
from wherry.data.types import layout_of
from wherry.render.reference import key_image
from wherry.render.textkeys import TextKey, number_texts, text_array

NULL_BITS: Final = 64
"""Keys that share a word of null bits."""


class Domain(Struct, frozen=True):
    """The values that a key can have in a chunk: `size` integers from `low` on, or null."""

    low: int
    size: int
    type: pa.DataType


def codes_of(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Give integer codes and their texts; equal texts have equal codes, nulls are null."""
    if pa.types.is_dictionary(array.type):
        if are_codes(array.dictionary):
            return array.indices, array.dictionary
        coded = key_image(array).dictionary_encode()
        return coded.indices.cast(array.type.index_type), coded.dictionary
    if layout_of(array.type) == "fixed":
        coded = array.dictionary_encode()
        return coded.indices, coded.dictionary
    return number_texts(array)


def are_codes(texts: pa.Array) -> bool:
    """Tell whether the places of texts in a dictionary are codes: none null, none there twice."""
    return not texts.null_count and len(pc.unique(key_image(texts))) == len(texts)


def ranks_of(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Give int32 ranks and the texts in order; a smaller text has a smaller rank."""
    codes, texts = codes_of(array)
    codes = codes.cast(pa.int32())
    order = pc.sort_indices(texts)
    ranks = np.empty(len(texts), np.int32)
    ranks[order.to_numpy()] = np.arange(len(texts), dtype=np.int32)
    return pc.take(pa.array(ranks), codes), texts.take(order)


def decoded(codes: pa.Array, texts: pa.Array, t: pa.DataType) -> pa.Array:
    """Give the texts that codes stand for, as type `t`."""
    if pa.types.is_dictionary(t):
        indices, values = codes.cast(t.index_type), restored(texts, t.value_type)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=t.ordered)
    return restored(texts.take(codes), t)


def key_arrays(
    words: np.ndarray[Any, Any],
    types: tuple[pa.DataType | TextKey, ...],
    widths: tuple[int, ...],
    *,
    nulls: bool,
) -> list[pa.Array]:
    """Give the columns of keys out of their words.

    Parameters
    ----------
    words : numpy.ndarray
        int64, one row a group; with `nulls` there are words behind the keys' own, which hold a bit
        per null key.
    types : tuple of DataType or TextKey
        Of the keys.
    widths : tuple of int
        Words of each key.
    """
    found, at, behind = [], 0, sum(widths)
    for number, (t, width) in enumerate(zip(types, widths, strict=True)):
        place, shift = divmod(number, NULL_BITS)
        none = (words[:, behind + place] >> shift & 1).astype(bool) if nulls else None
        found.append(_key_array(np.ascontiguousarray(words[:, at : at + width]), t, none))
        at += width
    return found


def _key_array(words: np.ndarray[Any, Any], t: pa.DataType | TextKey, none: Any) -> pa.Array:
    mask = none if none is not None and none.any() else None
    if isinstance(t, TextKey):
        return text_array(words, mask, t.type, single=not t.words)
    if pa.types.is_decimal(t):
        if t.bit_width < 128:
            words = words.astype(f"i{t.bit_width // 8}")
        elif words.shape[1] == 1:
            words = np.hstack([words, words >> 63])
        validity = None if mask is None else pa.array(~mask).buffers()[1]
        buffers = [validity, pa.py_buffer(np.ascontiguousarray(words))]
        return pa.Array.from_buffers(t, len(words), buffers)
    flat = words.reshape(-1)
    if pa.types.is_boolean(t):
        return pa.array(flat.astype(bool), mask=mask)
    if pa.types.is_floating(t):
        return pa.array(flat.view(np.float64).astype(t.to_pandas_dtype()), t, mask=mask)
    stored = pa.array(flat.astype(f"{_letter(t)}{t.bit_width // 8}"), mask=mask)
    return stored if stored.type.equals(t) else stored.view(t)


def _letter(t: pa.DataType) -> str:
    return "u" if pa.types.is_unsigned_integer(t) else "i"


def slot_arrays(slots: np.ndarray[Any, Any], domains: Sequence[Domain]) -> list[pa.Array]:
    """Give the keys out of their one word; what lies behind a domain's last value is the null."""
    found = []
    for domain in domains:
        places = slots % (domain.size + 1)
        slots = slots // (domain.size + 1)
        none = places == domain.size
        found.append(_key_array((places + domain.low).reshape(-1, 1), domain.type, none))
    return found
