"""A Parquet file as a fragment of a source: row groups decoded column by column when read."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from wherry.base.errors import CorruptError
from wherry.base.ids import digest
from wherry.data.fragments import Decoding
from wherry.data.mapping import MappedFile
from wherry.data.parquet_columns import ParquetBytes, decode_column, read_footer
from wherry.data.parquet_statistics import ColumnBounds, check_bounds
from wherry.data.statistics import ChunkStatistics
from wherry.data.types import check_schema
from wherry.data.validate import check_column

_MAGICS = (b"PAR1", b"PARE")
_FOOTER_TAIL = 8
_WHY = "decoded from Parquet"


def open_parquet(mapping: MappedFile) -> ParquetFragment | None:
    """Open a mapped Parquet file; None: it is none.

    Raises
    ------
    InputError
        When it has a type Wherry does not read.
    CorruptError
        When it is truncated or its footer cannot be decoded.
    """
    if mapping.buffer[: len(_MAGICS[0])].to_pybytes() not in _MAGICS:
        return None
    file = read_footer(mapping.label, mapping.buffer)
    return ParquetFragment(file, digest(mapping.identity, _footer(mapping.buffer)), mapping)


def _footer(buffer: pa.Buffer) -> bytes:
    """Give the footer's bytes: they change with the layout even if size and time do not."""
    length = int.from_bytes(buffer[-_FOOTER_TAIL:-4].to_pybytes(), "little")
    return bytes(buffer[max(0, buffer.size - _FOOTER_TAIL - length) :].to_pybytes())


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
    """

    decodes = True

    def __init__(
        self, file: ParquetBytes, identity: bytes, mapping: MappedFile | None = None
    ) -> None:
        self._file, self._mapping = file, mapping
        self.label, self.identity, self.schema = file.label, identity, file.schema
        check_schema(self.schema, self.label)
        metadata = file.metadata
        self.rows = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        if min(self.rows, default=0) < 0 or sum(self.rows) != metadata.num_rows:
            raise CorruptError(
                f"{self.label}: its footer promises {metadata.num_rows} rows in row groups of "
                f"{', '.join(map(str, self.rows)) or 'none'}"
            )
        self._bounds = ColumnBounds(file)

    def read(self, batch: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Decode `columns` of row group `batch`.

        Raises
        ------
        CorruptError
            When a column chunk cannot be decoded, or holds what its statistics exclude.
        InputError
            When the file was changed in place.
        """
        self.check_unchanged()
        if not columns:
            return _no_columns(self.rows[batch])
        return pa.RecordBatch.from_arrays([self._decoded(batch, name) for name in columns], columns)

    def _decoded(self, batch: int, name: str) -> pa.Array:
        column = self.schema.get_field_index(name)
        array = decode_column(self._file, batch, column)
        label = self._file.name(batch, column)
        check_column(self.schema.field(column), array, label)
        check_bounds(array, self._bounds.of(batch, column), label)
        return array

    def decoding(self, batch: int, columns: Sequence[str]) -> Decoding:
        """Give the compressed bytes of the columns of a row group."""
        stored = sum(
            chunk.total_compressed_size
            for name in columns
            for chunk in self._file.chunks(batch, self.schema.get_field_index(name))
        )
        return Decoding(max(0, stored), _WHY)

    def check_unchanged(self) -> None:
        """Refuse a file that was changed in place after it was opened."""
        if self._mapping is not None:
            self._mapping.check_unchanged()

    def statistics(self, batch: int) -> ChunkStatistics:
        """Give what the footer says of a row group; a column is looked at when it is asked for."""
        return ChunkStatistics(self.rows[batch], self._bounds.batch(batch))


def _no_columns(rows: int) -> pa.RecordBatch:
    empty = pa.StructArray.from_buffers(pa.struct([]), rows, [None])
    return pa.RecordBatch.from_struct_array(empty)
