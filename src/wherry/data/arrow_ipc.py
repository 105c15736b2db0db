"""Arrow IPC files and streams, read where they lie: every buffer is a piece of the file's mapping.

A file must not be truncated or rewritten in place while it is open: like every memory mapping, this
one would show the change (replace the file by a rename instead). Compressed files are read too, but
pyarrow decompresses them into memory of its own, batch by batch and all columns at once.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc

from wherry.base.errors import CorruptError, InputError
from wherry.base.ids import digest
from wherry.data import statistics_file
from wherry.data.chunk import shares_memory
from wherry.data.memory import Batches
from wherry.data.statistics import ChunkStatistics, chunk_statistics
from wherry.data.types import MOST_LEVELS, check_schema, value_type
from wherry.data.validate import check_batch

_FILE_MAGIC = b"ARROW1\0\0"
_STREAM_START = b"\xff\xff\xff\xff"
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"
_OTHERS = {b"PAR1": "a Parquet file", b"FEA1": "a Feather version 1 file", b"ORC": "an ORC file"}


@dataclass(frozen=True, slots=True)
class _Mapping:
    path: Path
    stat: os.stat_result
    buffer: pa.Buffer

    @property
    def label(self) -> str:
        return str(self.path)

    @property
    def identity(self) -> bytes:
        return digest(self.path.name.encode(), repr(_version(self.stat)).encode())

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was mapped; one renamed over it is no matter.

        Raises
        ------
        InputError
            When the path still leads to the mapped file, and its size or time is another.
        """
        try:
            now = self.path.stat()
        except OSError:
            return  # Removed or out of reach: the mapping holds what was there.
        if os.path.samestat(now, self.stat) and _version(now) != _version(self.stat):
            raise InputError(
                f"{self.path} was changed in place after it was opened; scan it again "
                "(a file that is replaced by a rename stays readable)"
            )


def _version(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns


def open_ipc(path: Path) -> IpcFile | Batches:
    """Open an Arrow IPC file, or map an IPC stream and give its batches.

    Raises
    ------
    InputError
        When the file is missing, unreadable or empty, is not Arrow, or has a type Wherry does not
        read.
    CorruptError
        When it is truncated or its metadata cannot be decoded.
    """
    mapping = _map(path)
    start = mapping.buffer[: len(_FILE_MAGIC)].to_pybytes()
    if start == _FILE_MAGIC:
        return IpcFile(mapping)
    if start.startswith(_STREAM_START):
        return _read_stream(mapping)
    seen = next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None)
    what = f"is {seen}" if seen else f"begins with {start!r}"
    raise InputError(f"{path} {what}, not an Arrow IPC file or stream")


def _map(path: Path) -> _Mapping:
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if stat.st_size == 0:
                raise InputError(f"{path} is empty, not an Arrow IPC file or stream")
            mapped = mmap.mmap(file.fileno(), stat.st_size, prot=mmap.PROT_READ)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    with suppress(OSError):  # Advice: faults then fill the page cache with large folios.
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return _Mapping(path, stat, pa.py_buffer(mapped))


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorruptError(f"{what} cannot be read: {error}") from error


def _decoded(schema: pa.Schema) -> pa.Schema:
    """Give `schema` once its names and time zones have proved to be UTF-8."""
    _look_at(schema, MOST_LEVELS)
    return schema


def _look_at(fields: Iterable[pa.Field], levels: int) -> None:
    for field in fields:
        t = value_type(field.type)
        _ = field.name, getattr(t, "tz", None)  # pyarrow decodes them when asked.
        if levels and pa.types.is_struct(t):
            _look_at(t, levels - 1)


class IpcFile:
    """One fragment of a source: an Arrow IPC file.

    The first read or question for statistics validates every batch and measures it, in one pass
    over the file; the result is kept beside the file, so that only the first process pays.
    """

    def __init__(self, mapping: _Mapping) -> None:
        self._mapping = mapping
        self.label = mapping.label
        self.identity = mapping.identity
        size = mapping.stat.st_size
        with _reading(f"{self.label} ({size} bytes): the footer at its end"):
            self._reader = ipc.open_file(mapping.buffer)
            self.schema = _decoded(self._reader.schema)
            first_column = ipc.IpcReadOptions(included_fields=[0])
            narrow = ipc.open_file(mapping.buffer, options=first_column)
        check_schema(self.schema, self.label)
        self.rows = tuple(self._rows(narrow, i) for i in range(narrow.num_record_batches))
        self._batches: dict[int, pa.RecordBatch] = {}
        self._chunks: tuple[ChunkStatistics, ...] | None = None
        self._lock = threading.RLock()

    def _rows(self, narrow: ipc.RecordBatchFileReader, batch: int) -> int:
        with _reading(self._name(batch)):
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
        self._mapping.check_unchanged()
        self._validated()
        return self._batch(batch).select(list(columns))

    def statistics(self, batch: int) -> ChunkStatistics:
        """Give the statistics of stored batch `batch`; the first call may read the whole file."""
        return self._validated()[batch]

    def check_unchanged(self) -> None:
        """Refuse a file that was changed in place after it was opened."""
        self._mapping.check_unchanged()

    def _validated(self) -> tuple[ChunkStatistics, ...]:
        with self._lock:
            if self._chunks is None:
                self._chunks = self._load_or_measure()
            return self._chunks

    def _load_or_measure(self) -> tuple[ChunkStatistics, ...]:
        path, stat = self._mapping.path, self._mapping.stat
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
        with self._lock, _reading(self._name(batch)):
            whole = self._reader.get_batch(batch)
            if not shares_memory(whole, [self._mapping.buffer]):
                self._batches.clear()  # Keep one decompressed batch, not the decompressed file.
            self._batches[batch] = whole
        return whole

    def _name(self, batch: int) -> str:
        return f"{self.label}, record batch {batch}"


def _read_stream(mapping: _Mapping) -> Batches:
    label, batches = mapping.label, list[pa.RecordBatch]()
    stream = pa.BufferReader(mapping.buffer)
    with _reading(f"{label}: the schema at offset 0"):
        reader = ipc.open_stream(stream)
        _decoded(reader.schema)
    check_schema(reader.schema, label)
    while True:
        with _reading(f"{label}, record batch {len(batches)} at offset {stream.tell()}"):
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            batch.validate()
        batches.append(batch)
    _check_end(mapping, stream.tell())
    return Batches(label, reader.schema, batches, mapping.identity)


def _check_end(mapping: _Mapping, end: int) -> None:
    """Refuse a stream cut between two batches, and one with more behind its end."""
    if mapping.buffer[max(end - len(_STREAM_END), 0) : end].to_pybytes() != _STREAM_END:
        raise CorruptError(f"{mapping.label} stops at offset {end} without an end-of-stream mark")
    if end != mapping.stat.st_size:
        left = mapping.stat.st_size - end
        raise CorruptError(f"{mapping.label} has {left} bytes behind its end at offset {end}")


def write_ipc(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write `batches` as an uncompressed Arrow IPC file that appears whole or not at all.

    Parameters
    ----------
    batches : iterable of pa.RecordBatch
        Stored as they are; a dictionary column must have one dictionary throughout.

    Raises
    ------
    InputError
        When `path` exists already.
    """
    if path.exists():
        raise InputError(f"{path} exists already")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with ipc.new_file(part, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
