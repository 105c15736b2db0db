"""What an Arrow IPC message says of its record batch: rows, compression, and each buffer's size.

pyarrow does not say it. A message is a flatbuffer (Arrow format, Message.fbs). `ipc_layout` reads
many messages of a file at once, and where their buffers lie.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError
from wherry.data.flatbuffer import number, scalar, slot, target, vector

HEADER_TYPE, HEADER, BODY_LENGTH = 1, 2, 3
"""Fields of a Message; its header is a RecordBatch or a DictionaryBatch here."""
LENGTH, NODES, BUFFERS, COMPRESSION, VARIADIC = 0, 1, 2, 3, 4
"""Fields of a RecordBatch."""
ID, DATA, DELTA = 0, 1, 2
"""Fields of a DictionaryBatch: which dictionary, the RecordBatch that holds its values, and whether
they come behind those that were there before."""
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
        message = number(metadata, 0, "<I")
        batch = target(metadata, slot(metadata, message, HEADER))
        variadic, count = vector(metadata, batch, VARIADIC, 8)
        return BatchLayout(
            rows=scalar(metadata, batch, LENGTH, "<q"),
            codec=codec_of(metadata, batch),
            sizes=tuple(max(0, size) for _, size in _pairs(metadata, batch, BUFFERS)),
            variadic=struct.unpack_from(f"<{count}q", metadata, variadic),
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
        message = number(metadata, 0, "<I")
        header = target(metadata, slot(metadata, message, HEADER))
        return codec_of(metadata, target(metadata, slot(metadata, header, DATA)))
    except struct.error as error:
        raise CorruptError(f"the metadata of a dictionary are cut short: {error}") from error


def codec_of(data: bytes, batch: int) -> str:
    """Give how the buffers of the record batch at `batch` are compressed; "" if they are not."""
    at = slot(data, batch, COMPRESSION)
    if not at:
        return ""
    # The format's default, which writers leave out, is the first.
    kind = scalar(data, target(data, at), _CODEC, "<b")
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


def _pairs(data: bytes, table: int, which: int) -> Iterator[tuple[int, ...]]:
    start, count = vector(data, table, which, 16)
    yield from struct.iter_unpack("<qq", data[start : start + 16 * count])
