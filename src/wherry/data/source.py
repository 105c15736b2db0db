"""What a query can scan, and how whatever a user gives becomes one: files, folders, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.data.chunk import ChunkRef
from wherry.data.decoding import Decoding
from wherry.data.formats import open_file
from wherry.data.fragments import Constants, FragmentSource
from wherry.data.late import LateRows
from wherry.data.memory import Batches
from wherry.data.one_shot import OneShot
from wherry.data.partitions import partition_columns
from wherry.data.paths import Files, find_files, listed
from wherry.data.shard_files import recover_scheme, without_shard
from wherry.data.sharding import ShardScheme
from wherry.data.statistics import ChunkStatistics, ColumnStatistics, merged
from wherry.data.types import check_schema

ACCEPTED = (
    "a path, a list of paths, a glob, a directory, a pyarrow Table, RecordBatch or "
    "RecordBatchReader, a pyarrow Dataset, or anything with __arrow_c_stream__"
)


@runtime_checkable
class Source(Protocol):
    """What a query can scan. Nothing in it changes; reading twice gives the same bytes."""

    @property
    def name(self) -> str:
        """What systems call the dataset: a file's stem, a directory's name, or "memory"."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Columns and types of every batch that `read` gives."""
        ...

    @property
    def fragments(self) -> int:
        """How many files or tables it has."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that change when the schema or the stored rows may have changed."""
        ...

    @property
    def shards(self) -> ShardScheme | None:
        """How rows are distributed: fragment i holds shard i. None: no promise."""
        ...

    def chunks(self) -> tuple[ChunkRef, ...]:
        """Every row once, in stored order."""
        ...

    def read(self, ref: ChunkRef, columns: Sequence[str]) -> pa.RecordBatch:
        """Give `columns` of the rows of `ref`, by reference if they are stored as they are used."""
        ...

    def few(self, refs: Sequence[ChunkRef], columns: Sequence[str]) -> list[pa.RecordBatch]:
        """Give the rows of several short references, for somebody to look at."""
        ...

    def late(self, refs: Sequence[ChunkRef], columns: Sequence[str]) -> LateRows | None:
        """Give neighbouring chunks of a stored batch as rows whose columns are read when asked for.

        None if they are not stored so that this would save anything.
        """
        ...

    @property
    def decodes(self) -> bool:
        """Whether reading makes columns in memory of their own instead of references."""
        ...

    def decoding(self, ref: ChunkRef, columns: Sequence[str]) -> tuple[Decoding, ...]:
        """Give what reading a chunk takes that is not a reference; empty: all of it is one."""
        ...

    def statistics(self, ref: ChunkRef) -> ChunkStatistics:
        """Give the statistics of the stored batch that `ref` lies in.

        Columns may be validated and measured only when they are looked at.
        """
        ...


def column_bounds(source: Source, names: Sequence[str]) -> dict[str, ColumnStatistics]:
    """Give the statistics of the columns `names` over all stored batches that have rows."""
    batches: Mapping[tuple[int, int], ChunkRef] = {
        (ref.fragment, ref.batch): ref for ref in source.chunks()
    }
    return merged(names, map(source.statistics, batches.values()))


def open_source(data: object) -> Source:
    """Open what a query scans.

    Parameters
    ----------
    data : path(s), glob, directory, pa.Table, pa.RecordBatch, pyarrow Dataset or Arrow stream
        Files are Arrow IPC or Parquet, and mapped; a directory gives those of them that lie in
        it in order of name, or below its folders named `key=value`, which then are columns. A
        table is referenced. A RecordBatchReader, and whatever else has `__arrow_c_stream__`, can
        be read once: it is read into memory when a query needs more of it than a batch at a time.

    Raises
    ------
    InputError
        When there is nothing to read, a type Wherry does not read, or files that differ.
    CorruptError
        When a file is truncated or its metadata cannot be decoded.
    """
    # A protocol's check looks at every attribute, which would read a stream: known classes first.
    if isinstance(data, OneShot) or isinstance(data, Source):  # noqa: SIM101
        return data
    if isinstance(data, pa.RecordBatch):
        return _in_memory(data.schema, [data])
    if type(data).__module__ == "pyarrow._dataset":
        from wherry.data.dataset import open_dataset  # noqa: PLC0415  takes 20 ms to import

        return open_dataset(data)
    if isinstance(data, pa.Table):
        return _in_memory(data.schema, data.to_batches())
    if hasattr(data, "__arrow_c_stream__"):
        return OneShot(data)
    if isinstance(data, str | Path):
        return _open_files(find_files(data))
    if isinstance(data, list | tuple) and data and all(isinstance(x, str | Path) for x in data):
        return _open_files(listed([Path(path) for path in data]))
    raise InputError(f"cannot scan a {type(data).__name__}; what can be scanned: {ACCEPTED}")


def _in_memory(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> Source:
    check_schema(schema, "the table")
    return FragmentSource("memory", schema, (Batches("the table", schema, batches),))


def _open_files(files: Files) -> Source:
    """Open files as one source; the whole of a directory must hold all shards of a set."""
    parts = tuple(open_file(path) for path in files.paths)
    schema = parts[0].schema
    for part in parts[1:]:
        _check_same(schema, part.schema, part.label)
    labelled = [(part.label, part.schema) for part in parts]
    shards = recover_scheme(labelled, complete=files.whole)
    schema = without_shard(schema)
    if files.root is None:
        return FragmentSource(files.name, schema, parts, shards)
    constants = partition_columns(files.root, files.paths)
    return FragmentSource(
        files.name, with_constants(schema, constants, files.root), parts, shards, constants
    )


def with_constants(schema: pa.Schema, constants: Sequence[Constants], where: object) -> pa.Schema:
    """Give `schema` with the partition columns behind its own.

    Raises
    ------
    InputError
        When a file stores a column of the name of a partition column.
    """
    for name, value in constants[0].items():
        if name in schema.names:
            raise InputError(f"{where}: column {name!r} is stored in the files and in their paths")
        schema = schema.append(pa.field(name, value.type))
    return schema


def _check_same(wanted: pa.Schema, seen: pa.Schema, label: str) -> None:
    if seen.equals(wanted, check_metadata=False):
        return
    for want, see in zip(wanted, seen, strict=False):
        if not want.equals(see):
            raise InputError(f"{label} has field {see}, wanted {want} as in the first file")
    raise InputError(f"{label} has {len(seen)} fields, wanted {len(wanted)} as in the first file")
