"""Arrays in forms that all of pyarrow knows, and the parts that arrays are made of.

pyarrow takes no rows of views, and neither orders nor encodes decimals of 32 and 64 bits. What asks
for more than a comparison goes through the types of this file, and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from wherry.data.types import layout_of, value_type


def plain_type(t: pa.DataType) -> pa.DataType:
    """Give the type that `plain` gives for arrays of type `t`."""
    t = value_type(t)
    if layout_of(t) == "views":
        return pa.utf8() if pa.types.is_string_view(t) else pa.binary()
    if pa.types.is_decimal(t):
        return pa.decimal128(t.precision, t.scale)
    return t


def plain(value: Any) -> Any:
    """Give an Array, ChunkedArray or Scalar without dictionaries, views and narrow decimals."""
    if isinstance(value, pa.ChunkedArray):
        return pa.chunked_array([plain(c) for c in value.chunks], plain_type(value.type))
    if pa.types.is_dictionary(value.type):
        value = value.dictionary.take(value.indices)
    wanted = plain_type(value.type)
    return value if value.type.equals(wanted) else value.cast(wanted)


def countable(value: Any) -> Any:
    """Give what `plain` gives, durations as int64: pyarrow neither adds nor measures durations."""
    value = plain(value)
    return value.cast(pa.int64()) if pa.types.is_duration(value.type) else value


def restored(array: pa.Array, t: pa.DataType) -> pa.Array:
    """Give an array that is plain in the type `t` that it had, or has the values of."""
    if array.type.equals(t):
        return array
    if not pa.types.is_dictionary(t):
        return array.cast(t)
    coded = plain(array).dictionary_encode()
    values = restored(coded.dictionary, t.value_type)
    codes = coded.indices.cast(t.index_type)
    return pa.DictionaryArray.from_arrays(codes, values, ordered=t.ordered)


def movable_type(t: pa.DataType) -> pa.DataType:
    """Give the type in which pyarrow takes rows of an array, and as many bytes as there are."""
    if pa.types.is_struct(t):
        return pa.struct([field.with_type(movable_type(field.type)) for field in t])
    if layout_of(t) in {"narrow", "views"}:
        text = pa.types.is_string(t) or pa.types.is_string_view(t)
        return pa.large_utf8() if text else pa.large_binary()
    return t


def take(array: Any, rows: pa.Array) -> Any:
    """Give the rows of an Array or ChunkedArray by number, in its own type."""
    return array.cast(movable_type(array.type)).take(rows).cast(array.type)


def leaves(array: pa.Array) -> Iterator[pa.Array]:
    """Give the arrays that hold an array's bytes.

    A struct comes first, for its validity, then what its fields hold; indices come before their
    dictionary.
    """
    if pa.types.is_dictionary(array.type):
        yield array.indices
        yield array.dictionary
        return
    yield array
    for field in fields_of(array):
        yield from leaves(field)


def fields_of(array: pa.Array) -> list[pa.Array]:
    """Give the fields of a struct, row by row with it; other arrays have none."""
    if not pa.types.is_struct(array.type):
        return []
    return [array.field(i) for i in range(array.type.num_fields)]


def dictionaries_of(array: pa.Array) -> Iterator[pa.Array]:
    """Give the dictionaries of an array and of its fields."""
    if pa.types.is_dictionary(array.type):
        yield array.dictionary
    for field in fields_of(array):
        yield from dictionaries_of(field)


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """Give a batch without rows; pyarrow makes none of some dictionaries from Python values."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, t) for t in schema.types], schema=schema)


def put_together(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Give the rows of batches as one; a bitmap is written only for columns that have nulls."""
    for batch in batches:
        for column in batch.columns:
            _ = column.null_count  # Not counted, pyarrow writes one for what may have some.
    return pa.concat_batches(batches)
