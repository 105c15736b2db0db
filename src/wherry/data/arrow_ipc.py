"""Arrow IPC files and streams, read where they lie: every buffer is a piece of the file's mapping.

Compressed files are read too; pyarrow decompresses the columns that are asked for, batch by batch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pyarrow as pa
from msgspec import Struct
from pyarrow import ipc

from wherry.data import statistics_file
from wherry.data.decoding import Decoding
from wherry.data.fragments import Fragment
from wherry.data.ipc_message import batch_layout, column_sizes
from wherry.data.ipc_stream import DECOMPRESSED, STREAM_START, open_stream
from wherry.data.mapping import MappedFile, decoded, reading
from wherry.data.statistics import ChunkStatistics, chunk_statistics
from wherry.data.types import check_schema
from wherry.data.validate import check_batch

_FILE_MAGIC = b"ARROW1\0\0"


def open_ipc(mapping: MappedFile) -> Fragment | None:
    """Open an Arrow IPC file, or map an IPC stream and give its batches; None: it is neither.

    Raises
    ------
    InputError
        When it has a type Wherry does not read.
    CorruptError
        When it is truncated or its metadata cannot be decoded.
    """
    start = mapping.buffer[: len(_FILE_MAGIC)].to_pybytes()
    if start == _FILE_MAGIC:
        return IpcFile(mapping)
    return open_stream(mapping) if start.startswith(STREAM_START) else None


class Stored(Struct, frozen=True):
    """How the buffers of a batch are compressed, and the bytes of every column so."""

    codec: str
    sizes: dict[str, int]


class IpcFile:
    """One fragment of a source: an Arrow IPC file.

    The first read or question for statistics validates every batch and measures it, in one pass
    over the file; the result is kept beside the file, so that only the first process pays.
    """

    def __init__(self, mapping: MappedFile) -> None:
        self.mapping = mapping
        self.label = mapping.label
        self.identity = mapping.identity
        size = mapping.stat.st_size
        with reading(f"{self.label} ({size} bytes): the footer at its end"):
            self._reader = ipc.open_file(mapping.buffer)
            self.schema = decoded(self._reader.schema)
            first_column = ipc.IpcReadOptions(included_fields=[0])
            narrow = ipc.open_file(mapping.buffer, options=first_column)
        check_schema(self.schema, self.label)
        self.rows = tuple(self._rows(narrow, i) for i in range(narrow.num_record_batches))
        self._sizes = _compressed_sizes(mapping, self.schema, len(self.rows))
        self.decodes = self._sizes is not None
        self._narrow: dict[tuple[str, ...], ipc.RecordBatchFileReader] = {}
        self._batches: dict[int, pa.RecordBatch] = {}
        self._chunks: tuple[ChunkStatistics, ...] | None = None
        self._lock = threading.RLock()

    def _rows(self, narrow: ipc.RecordBatchFileReader, batch: int) -> int:
        with reading(self._name(batch)):
            column = narrow.get_batch(batch)
            column.validate()
        return int(column.num_rows)

    def read(self, batch: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Give `columns` of stored batch `batch`: pieces of the mapping, unless compressed.

        Raises
        ------
        CorruptError
            When any batch of the file does not hold what its metadata promises.
        InputError
            When the file was changed in place.
        """
        self.mapping.check_unchanged()
        self._validated()
        whole = self._decompressed(batch, tuple(columns)) if self.decodes else self._batch(batch)
        return whole.select(list(columns))

    def _decompressed(self, batch: int, columns: tuple[str, ...]) -> pa.RecordBatch:
        with self._lock, reading(self._name(batch)):
            reader = self._narrow.get(columns)
            if reader is None:  # Opening one reads the dictionaries: once for these columns.
                numbers = [self.schema.get_field_index(name) for name in columns]
                options = ipc.IpcReadOptions(included_fields=numbers or [0])
                reader = ipc.open_file(self.mapping.buffer, options=options)
                self._narrow[columns] = reader
            return reader.get_batch(batch)

    def decoding(self, batch: int, columns: Sequence[str]) -> Decoding | None:
        """Give the compressed bytes of columns, dictionaries not counted; None: references."""
        if self._sizes is None:
            return None
        codec, sizes = self._sizes[batch].codec, self._sizes[batch].sizes
        stored = sum(sizes[name] for name in columns)
        return Decoding(tuple(columns), stored, DECOMPRESSED, codec)

    def statistics(self, batch: int) -> ChunkStatistics:
        """Give the statistics of stored batch `batch`; the first call may read the whole file."""
        return self._validated()[batch]

    def late(self, batch: int, offset: int, rows: int, columns: Sequence[str]) -> None:
        """Give nothing: a record batch is read as a whole."""

    def check_unchanged(self) -> None:
        """Refuse a file that was changed in place after it was opened."""
        self.mapping.check_unchanged()

    def _validated(self) -> tuple[ChunkStatistics, ...]:
        with self._lock:
            if self._chunks is None:
                self._chunks = self._load_or_measure()
            return self._chunks

    def _load_or_measure(self) -> tuple[ChunkStatistics, ...]:
        path, stat = self.mapping.path, self.mapping.stat
        chunks = statistics_file.load(path, stat, self.schema, self.rows)
        if chunks is None:
            chunks = tuple(self._measure(batch) for batch in range(len(self.rows)))
            statistics_file.save(path, stat, self.schema, chunks)
        return chunks

    def _measure(self, batch: int) -> ChunkStatistics:
        whole = self._batch(batch)
        check_batch(whole, self._name(batch))
        return chunk_statistics(whole)

    def _batch(self, batch: int) -> pa.RecordBatch:
        kept = self._batches.get(batch)
        if kept is not None:
            return kept
        with self._lock, reading(self._name(batch)):
            whole = self._reader.get_batch(batch)
            if not self.decodes:
                self._batches[batch] = whole
        return whole

    def _name(self, batch: int) -> str:
        return f"{self.label}, record batch {batch}"


def _compressed_sizes(mapping: MappedFile, schema: pa.Schema, count: int) -> list[Stored] | None:
    """Give how every batch is compressed; None if they are not."""
    found: list[Stored] = []
    with reading(f"{mapping.label}: the messages from offset {len(_FILE_MAGIC)}"):
        messages = ipc.MessageReader.open_stream(mapping.buffer[len(_FILE_MAGIC) :])
        for message in messages:
            if len(found) == count:
                break
            if message.type == "record batch":
                layout = batch_layout(message.metadata.to_pybytes())
                if not layout.codec:
                    return None
                found.append(Stored(layout.codec, column_sizes(layout, schema)))
    return found or None
