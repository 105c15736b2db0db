"""Batches that already lie in memory: a table's own buffers, or the mapping of a stream file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from wherry.base.ids import digest
from wherry.data.chunk import buffer_addresses
from wherry.data.statistics import ChunkStatistics, ColumnStatistics, column_statistics
from wherry.data.validate import check_column, check_lengths


class Batches:
    """One fragment of a source whose batches are all at hand.

    A column of a batch is validated in full when it is first read, because kernels trust offsets
    and indices; statistics are computed when first asked for. Neither is kept beyond the object.

    Parameters
    ----------
    label : str
        What errors call it: a file's path, or "the table".
    schema : pa.Schema
        Of every batch.
    batches : sequence of pa.RecordBatch
        Referenced, never copied.
    identity : bytes, optional
        Digest of what the batches hold; by default of schema, row counts and addresses.
    """

    decodes = False

    def __init__(
        self,
        label: str,
        schema: pa.Schema,
        batches: Sequence[pa.RecordBatch],
        identity: bytes | None = None,
    ) -> None:
        self.label = label
        self.schema = schema
        self.rows = tuple(batch.num_rows for batch in batches)
        self.identity = _identity(schema, batches) if identity is None else identity
        self._batches = tuple(batches)
        self._checked: set[tuple[int, str]] = set()
        self._statistics: dict[int, ChunkStatistics] = {}

    def read(self, batch: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Give `columns` of stored batch `batch`, by reference.

        Raises
        ------
        CorruptError
            When a column's buffers do not hold what its type promises.
        """
        chosen = self._batches[batch].select(list(columns))
        for field, array in zip(chosen.schema, chosen.columns, strict=True):
            if (batch, field.name) not in self._checked:
                check_column(field, array, self._name(batch))
                self._checked.add((batch, field.name))
        return chosen

    def decoding(self, batch: int, columns: Sequence[str]) -> None:
        """Give None: what is read is a reference."""

    def late(self, batch: int, offset: int, rows: int, columns: Sequence[str]) -> None:
        """Give nothing: it lies in memory."""

    def check_unchanged(self) -> None:
        """Do nothing: Arrow memory is not written to once it is shared."""

    def statistics(self, batch: int) -> ChunkStatistics:
        """Give the statistics of stored batch `batch`; a column's are computed when looked at."""
        if batch not in self._statistics:
            check_lengths(self._batches[batch], self._name(batch))
            self._statistics[batch] = ChunkStatistics(self.rows[batch], LazyColumns(self, batch))
        return self._statistics[batch]

    def _name(self, batch: int) -> str:
        return f"{self.label}, record batch {batch}"


class Readable(Protocol):
    """Stored batches of one schema."""

    schema: pa.Schema

    def read(self, batch: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Give `columns` of stored batch `batch`, validated."""
        ...


class LazyColumns(Mapping[str, ColumnStatistics]):
    """Statistics of a batch's columns, each computed once, when first looked at.

    A query over a table of many columns then pays for those it reads.
    """

    def __init__(self, batches: Readable, batch: int) -> None:
        self._batches, self._batch = batches, batch
        self._known: dict[str, ColumnStatistics] = {}

    def __getitem__(self, name: str) -> ColumnStatistics:
        if name not in self._known:
            if self._batches.schema.get_field_index(name) < 0:
                raise KeyError(name)
            read = self._batches.read(self._batch, [name])
            self._known[name] = column_statistics(read.column(0))
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._batches.schema.names)

    def __len__(self) -> int:
        return len(self._batches.schema.names)


def _identity(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> bytes:
    places = [(batch.num_rows, sorted(buffer_addresses(batch))) for batch in batches]
    return digest(b"memory", schema.serialize().to_pybytes(), repr(places).encode())
