"""A Parquet file as a fragment of a source: row groups decoded column by column when read."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from wherry.base.ids import digest
from wherry.data.decoding import Decoding
from wherry.data.late import rows_of
from wherry.data.mapping import MappedFile
from wherry.data.parquet_columns import ParquetBytes, read_footer
from wherry.data.parquet_late import LateParquet, OpenedChunks
from wherry.data.parquet_native import why_not
from wherry.data.parquet_read import read_column
from wherry.data.parquet_statistics import ColumnBounds
from wherry.data.statistics import ChunkStatistics
from wherry.data.types import check_schema

_WHY = "decoded from Parquet"


def open_parquet(mapping: MappedFile) -> ParquetFragment:
    """Open a mapped Parquet file.

    Raises
    ------
    InputError
        When it has a type Wherry does not read.
    CorruptError
        When it is truncated or its footer cannot be decoded.
    """
    file = read_footer(mapping.label, mapping.buffer)
    return ParquetFragment(file, digest(mapping.identity, file.footer_digest), mapping)


class ParquetFragment:
    """One fragment of a source: a Parquet file; its stored batches are its row groups.

    Parameters
    ----------
    file : ParquetBytes
        Its footer, and the way to its pages.
    identity : bytes
        Digest of what the file holds.
    mapping : MappedFile, optional
        Tells whether the file was changed in place; without it, nobody can.
    groups : tuple of int, optional
        The row groups that are read, all unless given.
    """

    decodes = True

    def __init__(
        self,
        file: ParquetBytes,
        identity: bytes,
        mapping: MappedFile | None = None,
        groups: tuple[int, ...] | None = None,
    ) -> None:
        self._file, self._mapping = file, mapping
        self.label, self.identity, self.schema = file.label, identity, file.schema
        check_schema(self.schema, self.label)
        rows = file.footer.rows
        self._groups = tuple(range(len(rows))) if groups is None else groups
        self.rows = tuple(rows[group] for group in self._groups)
        self._bounds = ColumnBounds(file)
        self._sizes: dict[tuple[int, str], int] = {}
        self._opened = OpenedChunks(file, self._bounds)
        self._native: dict[tuple[int, tuple[str, ...]], bool] = {}

    def subset(self, groups: tuple[int, ...]) -> ParquetFragment:
        """Give the same file with only some of its row groups."""
        if groups == self._groups:
            return self
        identity = digest(self.identity, repr(groups).encode())
        return ParquetFragment(self._file, identity, self._mapping, groups)

    def read(self, batch: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Decode `columns` of a row group.

        Raises
        ------
        CorruptError
            When a column chunk cannot be decoded, or holds what its statistics exclude.
        InputError
            When the file was changed in place.
        """
        self.check_unchanged()
        return pa.RecordBatch.from_arrays([self._decoded(batch, name) for name in columns], columns)

    def _decoded(self, batch: int, name: str) -> pa.Array:
        group, column = self._groups[batch], self.schema.get_field_index(name)
        return read_column(self._file, group, column, self._bounds.of(group, column))

    def late(
        self, batch: int, offset: int, rows: int, columns: Sequence[str]
    ) -> LateParquet | None:
        """Give rows of a row group whose columns are decoded when they are asked for.

        None if pyarrow has to decode one of the columns, which it does as a whole.

        Raises
        ------
        InputError
            When the file was changed in place.
        """
        group, key = self._groups[batch], (batch, tuple(columns))
        if key not in self._native:
            numbers = map(self.schema.get_field_index, columns)
            self._native[key] = all(why_not(self._file, group, n) is None for n in numbers)
        if not self._native[key]:
            return None
        self.check_unchanged()
        first = rows_of(offset, rows, self.rows[batch])
        return LateParquet(self._file, group, self._opened, first, rows, _WHY)

    def decoding(self, batch: int, columns: Sequence[str]) -> Decoding:
        """Give the compressed bytes of the columns of a row group, and who decodes them."""
        stored = sum(self._size(batch, name) for name in columns)
        return Decoding(tuple(columns), stored, self._why(batch, columns))

    def _why(self, batch: int, columns: Sequence[str]) -> str:
        """Give why columns are written; those that pyarrow decodes are named, with the reason."""
        group = self._groups[batch]
        found = ((n, why_not(self._file, group, self.schema.get_field_index(n))) for n in columns)
        left = [f"{name} ({reason})" for name, reason in found if reason is not None]
        return f"{_WHY}; by pyarrow: {', '.join(left)}" if left else _WHY

    def _size(self, batch: int, name: str) -> int:
        if (batch, name) not in self._sizes:
            chunks = self._file.chunks(self._groups[batch], self.schema.get_field_index(name))
            self._sizes[batch, name] = sum(chunk.total_compressed_size for chunk in chunks)
        return self._sizes[batch, name]

    def check_unchanged(self) -> None:
        """Refuse a file that was changed in place after it was opened."""
        if self._mapping is not None:
            self._mapping.check_unchanged()

    def statistics(self, batch: int) -> ChunkStatistics:
        """Give what the footer says of a row group; a column is looked at when it is asked for."""
        return ChunkStatistics(self.rows[batch], self._bounds.batch(self._groups[batch]))
