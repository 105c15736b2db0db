"""Rows as an Arrow IPC stream: what an answer travels as if it is encoded where it is made.

A part of an answer is a whole stream of its own, so that whoever has it can read it. Parts are
joined by leaving out the schema and the end of all but one: a stream may give a dictionary anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, get_args

import pyarrow as pa
from msgspec import Struct
from pyarrow import ipc

from wherry.base.errors import unknown_name
from wherry.data.chunk import column_bytes
from wherry.data.segment import SegmentPool
from wherry.data.types import layout_of

Compression = Literal["lz4", "zstd"]

ENCODED: Final = "encoded as an Arrow IPC stream"
JOINED: Final = "parts of the stream are joined"
_END: Final = b"\xff\xff\xff\xff\0\0\0\0"
_PREFIX_BYTES: Final = 8
"""Of a message: a marker and the length of its metadata."""


class Encoding(Struct, frozen=True):
    """How rows are written as bytes: an Arrow IPC stream, its buffers compressed or not."""

    compression: Compression | None

    def __post_init__(self) -> None:
        check_compression(self.compression)

    def describe(self) -> str:
        """Give it as text."""
        return f"Arrow IPC stream, {self.compression or 'not compressed'}"

    @property
    def options(self) -> ipc.IpcWriteOptions:
        """What pyarrow is told."""
        return ipc.IpcWriteOptions(compression=self.compression)


class Encoded(Struct, frozen=True):
    """Rows as a stream: what travels instead of them.

    Attributes
    ----------
    stream : pyarrow.Buffer
        An Arrow IPC stream with its schema and its end.
    num_rows : int
        How many rows it holds.
    """

    stream: pa.Buffer
    num_rows: int

    @property
    def nbytes(self) -> int:
        """The bytes of the stream."""
        return int(self.stream.size)


def check_compression(compression: str | None) -> Compression | None:
    """Give the compression, or refuse a word that names none."""
    for known in get_args(Compression):
        if compression == known:
            return known
    if compression is None:
        return None
    raise unknown_name("compression", compression, get_args(Compression))


def encode(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, encoding: Encoding, pool: SegmentPool
) -> Encoded:
    """Give batches of `schema` as a stream; one that is not compressed is written into the pool."""
    found = [trimmed(batch) for batch in batches]
    rows = sum(batch.num_rows for batch in found)
    if encoding.compression is not None:
        sink = pa.BufferOutputStream()
        _write(sink, found, schema, encoding)
        return Encoded(sink.getvalue(), rows)
    # Only what is not compressed has a size that is known before it is written.
    size = pa.MockOutputStream()
    _write(size, found, schema, encoding)
    buffer = pool.allocate(size.size())
    with pa.FixedSizeBufferWriter(buffer) as out:
        _write(out, found, schema, encoding)
    return Encoded(buffer, rows)


def _write(
    sink: pa.NativeFile, batches: Sequence[pa.RecordBatch], schema: pa.Schema, encoding: Encoding
) -> None:
    with ipc.new_stream(sink, schema, options=encoding.options) as writer:
        for batch in batches:
            writer.write_batch(batch)


def decode(stream: pa.Buffer) -> pa.Table:
    """Give the rows of a stream; of one that is not compressed, by reference to it."""
    return ipc.open_stream(stream).read_all()


def joined(parts: Sequence[pa.Buffer], schema: pa.Schema) -> pa.Buffer:
    """Give the streams of one schema as one stream; a single one as it is.

    Parameters
    ----------
    parts : sequence of pyarrow.Buffer
        As `encode` gives them, in order; none make a stream without rows.
    """
    if len(parts) == 1:
        return parts[0]
    sink = pa.BufferOutputStream()
    sink.write(_schema_message(schema))
    for part in parts:
        sink.write(part[_schema_end(part) : part.size - len(_END)])
    sink.write(_END)
    return sink.getvalue()


def _schema_message(schema: pa.Schema) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, schema):
        pass
    whole = sink.getvalue()
    return whole[: _schema_end(whole)]


def _schema_end(stream: pa.Buffer) -> int:
    """Give the offset of what follows the schema: its message has no body."""
    length = int.from_bytes(stream[4:_PREFIX_BYTES].to_pybytes(), "little")
    return _PREFIX_BYTES + length


def trimmed(batch: pa.RecordBatch, share: float = 1.0) -> pa.RecordBatch:
    """Give a batch whose views hold no more text than their rows have, the same one if they do.

    The format stores all that lies behind an array of views, also for rows that were filtered out.

    Parameters
    ----------
    share : float
        How many times the bytes of its rows a column may hold as it is.
    """
    given = batch.columns
    columns = [_trimmed(column, share) for column in given]
    if all(new is old for new, old in zip(columns, given, strict=True)):
        return batch
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _trimmed(array: pa.Array, share: float) -> pa.Array:
    if layout_of(array.type) != "views":
        return array
    held = sum(buffer.size for buffer in array.buffers()[2:])
    if held <= share * column_bytes(array):
        return array
    wide = pa.large_utf8() if pa.types.is_string_view(array.type) else pa.large_binary()
    return array.cast(wide).cast(array.type)
