"""Arrow IPC streams in files: mapped batches, or compressed ones that are read one at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from msgspec import Struct
from pyarrow import ipc

from wherry.base.errors import CorruptError
from wherry.data.decoding import Decoding
from wherry.data.ipc_message import BatchLayout, batch_layout, column_sizes
from wherry.data.mapping import MappedFile, decoded, reading
from wherry.data.memory import Batches, LazyColumns
from wherry.data.statistics import ChunkStatistics
from wherry.data.types import check_schema
from wherry.data.validate import check_column

STREAM_START = b"\xff\xff\xff\xff"
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"
DECOMPRESSED = "decompressed from Arrow IPC"


class _Batch(Struct, frozen=True):
    """A record batch as it lies in the file, and the dictionaries that come before it."""

    begin: int
    end: int
    layout: BatchLayout
    dictionaries: int


def open_stream(mapping: MappedFile) -> Batches | CompressedStream:
    """Open a mapped stream: references to its batches, unless they are compressed.

    Raises
    ------
    InputError
        When it has a type Wherry does not read.
    CorruptError
        When it is truncated or a batch's metadata cannot be decoded.
    """
    label, stream = mapping.label, pa.BufferReader(mapping.buffer)
    with reading(f"{label}: the schema at offset 0"):
        schema = decoded(ipc.open_stream(stream).schema)
    check_schema(schema, label)
    start = stream.tell()
    batches, dictionaries, end = _messages(mapping, start)
    _check_end(mapping, end)
    if any(batch.layout.codec for batch in batches):
        return CompressedStream(mapping, schema, start, batches, dictionaries)
    return Batches(label, schema, _mapped(mapping, batches), mapping.identity)


def _messages(mapping: MappedFile, start: int) -> tuple[list[_Batch], list[pa.Buffer], int]:
    """Give the batches behind the schema, the dictionaries between them, and where they end."""
    stream = pa.BufferReader(mapping.buffer)
    stream.seek(start)
    messages = ipc.MessageReader.open_stream(stream)
    batches, dictionaries = list[_Batch](), list[pa.Buffer]()
    while True:
        begin = stream.tell()
        with reading(f"{mapping.label}, record batch {len(batches)} at offset {begin}"):
            try:
                message = messages.read_next_message()
            except StopIteration:
                return batches, dictionaries, stream.tell()
        end = stream.tell()
        if message.type == "dictionary":
            dictionaries.append(mapping.buffer[begin:end])
        elif message.type == "record batch":
            layout = batch_layout(message.metadata.to_pybytes())
            batches.append(_Batch(begin, end, layout, len(dictionaries)))


def _mapped(mapping: MappedFile, batches: Sequence[_Batch]) -> list[pa.RecordBatch]:
    reader, found = ipc.open_stream(mapping.buffer), []
    for number, stored in enumerate(batches):
        with reading(f"{mapping.label}, record batch {number} at offset {stored.begin}"):
            batch = reader.read_next_batch()
            batch.validate()
        found.append(batch)
    return found


def _check_end(mapping: MappedFile, end: int) -> None:
    """Refuse a stream cut between two batches, and one with more behind its end."""
    if mapping.buffer[max(end - len(_STREAM_END), 0) : end].to_pybytes() != _STREAM_END:
        raise CorruptError(f"{mapping.label} stops at offset {end} without an end-of-stream mark")
    if end != mapping.stat.st_size:
        left = mapping.stat.st_size - end
        raise CorruptError(f"{mapping.label} has {left} bytes behind its end at offset {end}")


class CompressedStream:
    """One fragment of a source: a stream whose batches are decompressed when they are read.

    A batch is read as a stream of its own: the schema, the dictionaries before it, and itself.
    """

    decodes = True

    def __init__(
        self,
        mapping: MappedFile,
        schema: pa.Schema,
        start: int,
        batches: Sequence[_Batch],
        dictionaries: Sequence[pa.Buffer],
    ) -> None:
        self._mapping, self._stored, self._dictionaries = mapping, batches, dictionaries
        self._head = mapping.buffer[:start]
        self.label, self.schema, self.identity = mapping.label, schema, mapping.identity
        self.rows = tuple(batch.layout.rows for batch in batches)
        if min(self.rows, default=0) < 0:
            raise CorruptError(f"{self.label} has a record batch of {min(self.rows)} rows")

    def read(self, batch: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Decompress `columns` of stored batch `batch`.

        Raises
        ------
        CorruptError
            When the batch does not hold what its metadata promises.
        InputError
            When the file was changed in place.
        """
        self._mapping.check_unchanged()
        stored, names = self._stored[batch], list(columns)
        name = f"{self.label}, record batch {batch} at offset {stored.begin}"
        body = self._mapping.buffer[stored.begin : stored.end]
        pieces = [self._head, *self._dictionaries[: stored.dictionaries], body]
        numbers = [self.schema.get_field_index(column) for column in names]
        options = ipc.IpcReadOptions(included_fields=numbers or [0])
        with reading(name):
            alone = ipc.open_stream(pa.py_buffer(b"".join(pieces)), options=options)
            found = alone.read_next_batch()
        if found.num_rows != self.rows[batch]:
            raise CorruptError(f"{name} holds {found.num_rows} rows, not {self.rows[batch]}")
        chosen = found.select(names)
        for field, array in zip(chosen.schema, chosen.columns, strict=True):
            check_column(field, array, name)
        return chosen

    def decoding(self, batch: int, columns: Sequence[str]) -> Decoding:
        """Give the compressed bytes of the columns of a batch; dictionaries are not counted."""
        layout = self._stored[batch].layout
        sizes = column_sizes(layout, self.schema)
        stored = sum(sizes[name] for name in columns)
        return Decoding(tuple(columns), stored, DECOMPRESSED, layout.codec)

    def late(self, batch: int, offset: int, rows: int, columns: Sequence[str]) -> None:
        """Give nothing: a record batch is read as a whole."""

    def check_unchanged(self) -> None:
        """Refuse a file that was changed in place after it was opened."""
        self._mapping.check_unchanged()

    def statistics(self, batch: int) -> ChunkStatistics:
        """Give the statistics of stored batch `batch`; a column's are computed when looked at."""
        return ChunkStatistics(self.rows[batch], LazyColumns(self, batch))
