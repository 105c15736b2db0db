"""A source made of files or tables of one schema, cut into chunks: references, or decoded."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Protocol

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError, unknown_name
from wherry.base.ids import digest
from wherry.data.chunk import ChunkRef
from wherry.data.decoded import Decoded
from wherry.data.decoding import Decoding, repeated_from_path
from wherry.data.late import LateConstants, LateRows
from wherry.data.sharding import ShardScheme
from wherry.data.statistics import ChunkStatistics, constant_statistics

MAX_CHUNK_ROWS = 1 << 19
"""Longest chunk, in rows; a multiple of 64, so that cuts fall on whole words of a bitmap.

Measured: TPC-H Q1 takes 35 ms of a core in chunks of 2^18 rows, 29 in 2^19 and 24 in 2^20, because
each costs some Python; but a chunk is the least that a core is given, so tables should make
several."""

Constants = Mapping[str, pa.Scalar]
"""Columns of one value, by name."""


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
        """Give what decoding `columns` of stored batch `batch` takes; None: it decodes nothing."""
        ...

    def late(self, batch: int, offset: int, rows: int, columns: Sequence[str]) -> LateRows | None:
        """Give rows of stored batch `batch` whose columns are read when asked for, if it can."""
        ...

    def check_unchanged(self) -> None:
        """Refuse what was changed after it was opened."""
        ...

    def statistics(self, batch: int) -> ChunkStatistics:
        """Give the statistics of stored batch `batch`."""
        ...


class FragmentSource(Struct, frozen=True, dict=True, weakref=True):
    """A `Source` made of fragments with one schema.

    Attributes
    ----------
    constants : tuple of mapping
        Empty, or for each part the columns that have one value throughout and are not stored: the
        partition columns of a folder of files.
    """

    name: str
    schema: pa.Schema
    parts: tuple[Fragment, ...]
    shards: ShardScheme | None = None
    constants: tuple[Constants, ...] = ()

    @property
    def fragments(self) -> int:
        """How many files or tables it has."""
        return len(self.parts)

    @property
    def decodes(self) -> bool:
        """Whether reading makes columns in memory of their own instead of references."""
        return bool(self.constants) or any(part.decodes for part in self.parts)

    @cached_property
    def fingerprint(self) -> bytes:
        """Digest of the schema and, per file, name, size, modification time and constants."""
        schema = self.schema.serialize().to_pybytes()
        constants = repr([sorted(c.items()) for c in self.constants]).encode()
        return digest(schema, *(part.identity for part in self.parts), constants)

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
        """Give `columns` of the rows of `ref` in the order asked; any thread may call this.

        They are slices of what is stored, unless `decoding` says otherwise. A dictionary column's
        dictionary may differ between batches of a table or stream. No columns gives a batch that
        only has a number of rows.

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
            empty = pa.StructArray.from_buffers(pa.struct([]), ref.rows, [None])
            whole = pa.RecordBatch.from_struct_array(empty)
            return whole.replace_schema_metadata(self.schema.metadata)
        constants = self._constants(ref)
        arrays = dict(self._stored(ref, [name for name in columns if name not in constants]))
        for name in constants.keys() & set(columns):
            arrays[name] = pa.repeat(constants[name], ref.rows)
        return pa.RecordBatch.from_arrays([arrays[name] for name in columns], schema=schema)

    def few(self, refs: Sequence[ChunkRef], columns: Sequence[str]) -> list[pa.RecordBatch]:
        """Give the rows of several short references."""
        return [self.read(ref, columns) for ref in refs]

    def _stored(self, ref: ChunkRef, names: Sequence[str]) -> Iterable[tuple[str, pa.Array]]:
        """Give stored columns of a chunk; what is cut is decoded once for all its chunks."""
        part, batch = self.parts[ref.fragment], ref.batch
        rows = part.rows[batch]
        if part.decodes and rows > MAX_CHUNK_ROWS:
            offsets = range(0, rows, MAX_CHUNK_ROWS)
            decode = lambda name: part.read(batch, [name]).column(0)  # noqa: E731
            key = (ref.fragment, batch)
            arrays = self._decoded.read(key, names, ref.offset, offsets, decode)
        else:
            arrays = part.read(batch, names).columns if names else []
        if ref.rows < rows:
            arrays = [array.slice(ref.offset, ref.rows) for array in arrays]
        return zip(names, arrays, strict=True)

    @cached_property
    def _decoded(self) -> Decoded:
        return Decoded()

    def _constants(self, ref: ChunkRef) -> Constants:
        return self.constants[ref.fragment] if self.constants else {}

    def decoding(self, ref: ChunkRef, columns: Sequence[str]) -> tuple[Decoding, ...]:
        """Give what reading a chunk takes that is not a reference; empty: all of it is one.

        What a stored batch takes is shared among its chunks by their rows.
        """
        self._check(ref)
        part, constants = self.parts[ref.fragment], self._constants(ref)
        repeated = tuple(name for name in columns if name in constants)
        stored = [name for name in columns if name not in constants]
        whole = part.decoding(ref.batch, stored) if stored else None
        found = () if whole is None else (whole.share(ref.offset, ref.rows, part.rows[ref.batch]),)
        return found + ((repeated_from_path(repeated),) if repeated else ())

    def late(self, refs: Sequence[ChunkRef], columns: Sequence[str]) -> LateRows | None:
        """Give neighbouring chunks of a stored batch as rows whose columns are read when asked for.

        None if the fragment reads all columns at once.

        Raises
        ------
        InputError
            When there is no such chunk, or the file was changed in place.
        """
        for ref in refs:
            self._check(ref)
        begin, constants = refs[0], self._constants(refs[0])
        part, rows = self.parts[begin.fragment], sum(ref.rows for ref in refs)
        stored = [name for name in columns if name not in constants]
        found = part.late(begin.batch, begin.offset, rows, stored)
        repeated = {name: constants[name] for name in columns if name in constants}
        return LateConstants(found, repeated) if found is not None and repeated else found

    def _projected(self, columns: tuple[str, ...]) -> pa.Schema:
        """Give the schema of some columns; made once, because chunks are many and alike."""
        if columns not in self._projections:
            for name in columns:
                if self.schema.get_field_index(name) < 0:
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
        known = self.parts[ref.fragment].statistics(ref.batch)
        constants = self._constants(ref)
        if not constants:
            return known
        fixed = {name: constant_statistics(c, known.rows) for name, c in constants.items()}
        return ChunkStatistics(known.rows, ChainMap(fixed, known.columns))  # type: ignore[arg-type]

    def _check(self, ref: ChunkRef) -> None:
        """Refuse a reference, perhaps off the wire, to rows that are not stored."""
        rows = self.parts[ref.fragment].rows if 0 <= ref.fragment < len(self.parts) else ()
        stored = rows[ref.batch] if 0 <= ref.batch < len(rows) else -1
        if min(ref.offset, ref.rows) < 0 or ref.offset + ref.rows > stored:
            raise InputError(f"{self.name!r} has no rows {ref}")
