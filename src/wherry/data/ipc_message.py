"""What an Arrow IPC message says of its record batch: rows, compression, and each buffer's size.

pyarrow does not say it. A message is a flatbuffer (Arrow format, Message.fbs): a table begins with
the distance to its vtable, which holds for every field the distance to its value, or 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError

_HEADER = 2
"""Field of a Message: its header, a RecordBatch here."""
_LENGTH, _BUFFERS, _COMPRESSION, _VARIADIC = 0, 2, 3, 4
"""Fields of a RecordBatch."""

_DATA = 1
"""Field of a DictionaryBatch: the RecordBatch that holds its values."""
_CODEC = 0
"""Field of a BodyCompression."""
_CODECS = ("lz4", "zstd")


class BatchLayout(Struct, frozen=True):
    """How a record batch is stored.

    Attributes
    ----------
    rows : int
        Its rows.
    codec : "", "lz4" or "zstd"
        How its buffers are compressed, each by itself; "" if they are not.
    sizes : tuple of int
        Bytes of each buffer as stored, in the order of the format.
    variadic : tuple of int
        For each view column, how many buffers of data it has.
    """

    rows: int
    codec: str
    sizes: tuple[int, ...]
    variadic: tuple[int, ...]


def batch_layout(metadata: bytes) -> BatchLayout:
    """Give the layout that the metadata of a record batch message tell.

    Raises
    ------
    CorruptError
        When they are cut short.
    """
    try:
        message = _int(metadata, 0, "<I")
        batch = _target(metadata, _field(metadata, message, _HEADER))
        length = _field(metadata, batch, _LENGTH)
        return BatchLayout(
            rows=_int(metadata, length, "<q") if length else 0,
            codec=_codec(metadata, batch),
            sizes=tuple(max(0, size) for _, size in _vector(metadata, batch, _BUFFERS, "<qq")),
            variadic=tuple(n for (n,) in _vector(metadata, batch, _VARIADIC, "<q")),
        )
    except struct.error as error:
        raise CorruptError(f"the metadata of a record batch are cut short: {error}") from error


def dictionary_codec(metadata: bytes) -> str:
    """Give how the buffers of a dictionary message are compressed; "" if they are not.

    Raises
    ------
    CorruptError
        When the metadata are cut short.
    """
    try:
        message = _int(metadata, 0, "<I")
        header = _target(metadata, _field(metadata, message, _HEADER))
        return _codec(metadata, _target(metadata, _field(metadata, header, _DATA)))
    except struct.error as error:
        raise CorruptError(f"the metadata of a dictionary are cut short: {error}") from error


def _codec(data: bytes, batch: int) -> str:
    at = _field(data, batch, _COMPRESSION)
    if not at:
        return ""
    compression = _target(data, at)
    number = _field(data, compression, _CODEC)
    # The format's default, which writers leave out, is the first.
    kind = _int(data, number, "<b") if number else 0
    return _CODECS[kind] if 0 <= kind < len(_CODECS) else "unknown"


def column_sizes(layout: BatchLayout, schema: pa.Schema) -> dict[str, int]:
    """Give the bytes of every column as stored; 0 for those that the layout does not tell of."""
    sizes, variadic = iter(layout.sizes), iter(layout.variadic)
    found = {}
    for field in schema:
        count = _buffers_of(field.type, variadic)
        found[field.name] = sum(next(sizes, 0) for _ in range(count))
    return found


def _buffers_of(t: pa.DataType, variadic: Iterator[int]) -> int:
    if pa.types.is_struct(t):
        return 1 + sum(_buffers_of(t.field(i).type, variadic) for i in range(t.num_fields))
    if pa.types.is_string_view(t) or pa.types.is_binary_view(t):
        return 2 + next(variadic, 0)
    return len(pa.nulls(0, t).buffers())


def _int(data: bytes, at: int, form: str) -> int:
    return int(struct.unpack_from(form, data, at)[0])


def _field(data: bytes, table: int, field: int) -> int:
    """Give where a field of a table lies; 0 when the table lacks it."""
    vtable = table - _int(data, table, "<i")
    if vtable < 0:
        raise struct.error(f"a table at offset {table} lies before its beginning")
    entry = 4 + 2 * field
    if entry >= _int(data, vtable, "<H"):
        return 0
    distance = _int(data, vtable + entry, "<H")
    return table + distance if distance else 0


def _target(data: bytes, at: int) -> int:
    return at + _int(data, at, "<I")


def _vector(data: bytes, table: int, field: int, form: str) -> Iterator[tuple[int, ...]]:
    at = _field(data, table, field)
    if not at:
        return
    start = _target(data, at)
    count, width = _int(data, start, "<I"), struct.calcsize(form)
    if start + 4 + count * width > len(data):
        raise struct.error(f"{count} elements at offset {start} do not fit")
    yield from struct.iter_unpack(form, data[start + 4 : start + 4 + count * width])
