"""A source made of files or tables of one schema, cut into chunks: references, or decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import pyarrow as pa

from wherry.base.errors import InputError, unknown_name
from wherry.base.ids import digest
from wherry.data.chunk import ChunkRef
from wherry.data.decoded import Decoded
from wherry.data.sharding import ShardScheme
from wherry.data.statistics import ChunkStatistics

MAX_CHUNK_ROWS = 1 << 18
"""Longest chunk, in rows; a multiple of 64, so that cuts fall on whole words of a bitmap."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """What it takes to have rows in memory that are not stored as they are used.

    Attributes
    ----------
    stored_bytes : int
        Bytes as stored of the columns that are read: what comes from the media.
    why : str
        Why bytes are written, as the ledger says it.
    """

    stored_bytes: int
    why: str


class Fragment(Protocol):
    """One file or table of a `FragmentSource`; `rows` are those of each stored batch.

    `decodes` says that reading makes the columns, in memory of their own, instead of referring to
    where they are stored. Any thread may call the methods at any time.
    """

    label: str
    schema: pa.Schema
    rows: tuple[int, ...]
    identity: bytes
    decodes: bool

    def read(self, batch: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Give `columns` of stored batch `batch`, by reference unless the fragment decodes."""
        ...

    def decoding(self, batch: int, columns: Sequence[str]) -> Decoding | None:
        """Give what reading `columns` of stored batch `batch` takes; None for references."""
        ...

    def check_unchanged(self) -> None:
        """Refuse what was changed after it was opened."""
        ...

    def statistics(self, batch: int) -> ChunkStatistics:
        """Give the statistics of stored batch `batch`."""
        ...


@dataclass(frozen=True)
class FragmentSource:
    """A `Source` made of fragments with one schema."""

    name: str
    schema: pa.Schema
    parts: tuple[Fragment, ...]
    shards: ShardScheme | None = None

    @property
    def fragments(self) -> int:
        """How many files or tables it has."""
        return len(self.parts)

    @cached_property
    def fingerprint(self) -> bytes:
        """Digest of the schema and, per file, name, size and modification time."""
        schema = self.schema.serialize().to_pybytes()
        return digest(schema, *(part.identity for part in self.parts))

    @cached_property
    def _chunks(self) -> tuple[ChunkRef, ...]:
        return tuple(
            ChunkRef(fragment, batch, offset, min(MAX_CHUNK_ROWS, rows - offset))
            for fragment, part in enumerate(self.parts)
            for batch, rows in enumerate(part.rows)
            for offset in range(0, rows, MAX_CHUNK_ROWS)
        )

    def chunks(self) -> tuple[ChunkRef, ...]:
        """Give every row once, in stored order, at most `MAX_CHUNK_ROWS` to a reference.

        Raises
        ------
        InputError
            When a file was changed in place: its statistics would speak of other rows.
        """
        for part in self.parts:
            part.check_unchanged()
        return self._chunks

    def read(self, ref: ChunkRef, columns: Sequence[str]) -> pa.RecordBatch:
        """Give `columns` of the rows of `ref` in the order asked, as slices of what is stored.

        A dictionary column's dictionary may differ between batches of a table or stream. No columns
        gives a batch that only has a number of rows.

        Raises
        ------
        InputError
            When there is no such column or no such chunk.
        CorruptError
            When the stored bytes do not hold what their metadata promises.
        """
        schema = self._projected(tuple(columns))
        self._check(ref)
        if not columns:
            whole = self.parts[ref.fragment].read(ref.batch, columns)
            return whole.slice(ref.offset, ref.rows).replace_schema_metadata(self.schema.metadata)
        arrays = self._whole_columns(ref, columns)
        if ref.rows < len(arrays[0]):
            arrays = [array.slice(ref.offset, ref.rows) for array in arrays]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _whole_columns(self, ref: ChunkRef, columns: Sequence[str]) -> list[pa.Array]:
        part, batch = self.parts[ref.fragment], ref.batch
        rows = part.rows[batch]
        if not part.decodes or rows <= MAX_CHUNK_ROWS:
            return part.read(batch, columns).columns
        offsets = range(0, rows, MAX_CHUNK_ROWS)
        decode = lambda name: part.read(batch, [name]).column(0)  # noqa: E731
        return self._decoded.read((ref.fragment, batch), columns, ref.offset, offsets, decode)

    @cached_property
    def _decoded(self) -> Decoded:
        return Decoded()

    def decoding(self, ref: ChunkRef, columns: Sequence[str]) -> Decoding | None:
        """Give what reading a chunk takes that is not a reference; None: it is one.

        A stored batch that is decoded for several chunks is shared among them by their rows.
        """
        self._check(ref)
        part = self.parts[ref.fragment]
        whole, rows = part.decoding(ref.batch, columns), part.rows[ref.batch]
        if whole is None or ref.rows == rows:
            return whole
        before, after = ref.offset, ref.offset + ref.rows
        share = whole.stored_bytes * after // rows - whole.stored_bytes * before // rows
        return Decoding(share, whole.why)

    def _projected(self, columns: tuple[str, ...]) -> pa.Schema:
        """Give the schema of some columns; made once, because chunks are many and alike."""
        if columns not in self._projections:
            for name in columns:
                if name not in self.schema.names:
                    raise unknown_name("column", name, self.schema.names)
            fields = [self.schema.field(name) for name in columns]
            self._projections[columns] = pa.schema(fields, self.schema.metadata)
        return self._projections[columns]

    @cached_property
    def _projections(self) -> dict[tuple[str, ...], pa.Schema]:
        return {}

    def statistics(self, ref: ChunkRef) -> ChunkStatistics:
        """Give the statistics of the whole stored batch that `ref` lies in."""
        self._check(ref)
        return self.parts[ref.fragment].statistics(ref.batch)

    def _check(self, ref: ChunkRef) -> None:
        """Refuse a reference, perhaps off the wire, to rows that are not stored."""
        rows = self.parts[ref.fragment].rows if 0 <= ref.fragment < len(self.parts) else ()
        stored = rows[ref.batch] if 0 <= ref.batch < len(rows) else -1
        if min(ref.offset, ref.rows) < 0 or ref.offset + ref.rows > stored:
            raise InputError(f"{self.name!r} has no rows {ref}")
