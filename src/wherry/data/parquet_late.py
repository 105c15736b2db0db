"""Rows of a Parquet row group that are decoded column by column, as far as they are wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct, field

from wherry.data.chunk import column_bytes
from wherry.data.decoding import Reading
from wherry.data.late import Rows, ValueTest
from wherry.data.parquet_choose import Asked, choose, is_testable
from wherry.data.parquet_columns import ParquetBytes
from wherry.data.parquet_native import NativeChunk, Tally, matching, open_chunk
from wherry.data.parquet_read import read_dictionary, read_rows
from wherry.data.parquet_statistics import ColumnBounds
from wherry.data.statistics import ColumnStatistics

_MOST_OPENED = 4096
"""Column chunks whose pages are remembered: about 100 bytes a page, 10 to 100 pages each."""
_VALUES_PER_ROW = 0.5
"""A dictionary with more values than that is no shorter than its rows, once it is looked up."""


class Opened(Struct, frozen=True):
    """A column chunk with what its file says of it; `nbytes` as it is stored."""

    chunk: NativeChunk
    field: pa.Field
    known: ColumnStatistics
    nbytes: int
    nullable: bool


class OpenedChunks(Struct, frozen=True):
    """Where the pages of column chunks lie: read once, because it takes as long as few pages do.

    Any thread may ask at any time.
    """

    file: ParquetBytes
    bounds: ColumnBounds
    _known: dict[tuple[int, str], Opened] = field(default_factory=dict)

    def get(self, row_group: int, name: str) -> Opened:
        """Give a column chunk that is decoded natively, opened.

        Raises
        ------
        CorruptError
            When the pages are not what their headers or the footer say.
        """
        found = self._known.get((row_group, name))
        if found is None:
            if len(self._known) >= _MOST_OPENED:
                self._known.clear()
            found = self._known[row_group, name] = self._open(row_group, name)
        return found

    def _open(self, row_group: int, name: str) -> Opened:
        column = int(self.file.schema.get_field_index(name))
        chunk = open_chunk(self.file, row_group, column)
        known = self.bounds.of(row_group, column)
        nbytes = sum(c.total_compressed_size for c in self.file.chunks(row_group, column))
        nullable = chunk.form.nullable and known.nulls != 0
        return Opened(chunk, self.file.schema.field(column), known, nbytes, nullable)


class LateParquet(Struct):
    """Rows of a row group all of whose columns that are asked for are decoded natively.

    Parameters
    ----------
    first : Rows or None
        Which rows of the row group they are, `rows` in number; None: all.
    why : str
        Why bytes are written, as the ledger says it.
    """

    file: ParquetBytes
    row_group: int
    opened: OpenedChunks
    first: Rows | None
    rows: int
    why: str
    _used: dict[str, Opened] = field(default_factory=dict)
    _tally: Tally = field(default_factory=Tally)
    _written: int = 0

    @property
    def stored_rows(self) -> int:
        """How many rows the row group has."""
        return self.file.footer.rows[self.row_group]

    def values(self, name: str) -> pa.Array | None:
        """Give the dictionary of a column, if all its rows refer to it and it is short."""
        chunk = self._opened(name).chunk
        if not chunk.pages.codes_only or chunk.pages.entries > self.rows * _VALUES_PER_ROW:
            return None
        found = read_dictionary(chunk, self._tally)
        self._written += 0 if found is None else column_bytes(found)
        return found

    def testable(self, name: str) -> bool:
        """Tell whether a column's values are few, fixed in size and decoded by skeletons."""
        chunk = self._opened(name).chunk
        return is_testable(chunk) and chunk.pages.entries <= self.rows * _VALUES_PER_ROW

    def choose(
        self, tests: Sequence[ValueTest], kept: Rows | None
    ) -> tuple[Rows | None, int] | None:
        """Give the rows `kept` that pass all tests, and how many they are.

        Raises
        ------
        CorruptError
            When the stored bytes cannot be decoded.
        """
        columns = [(self._opened(test.name), test) for test in tests]
        asked = [Asked(opened.chunk, opened.nullable, test) for opened, test in columns]
        found = choose(asked, kept, self._tally)
        if found is None:
            return None
        rows, passed, written = found
        self._written += written
        return rows, passed

    def has_nulls(self, name: str) -> bool:
        """Tell whether a column may have nulls, as far as the footer says."""
        return self._opened(name).nullable

    def matching(self, name: str, passing: npt.NDArray[np.bool_], kept: Rows | None) -> Rows:
        """Give those of the rows `kept` whose value passes; nulls do not.

        Raises
        ------
        CorruptError
            When the stored bytes cannot be decoded.
        """
        found = matching(self._opened(name).chunk, passing, kept, self._tally)
        self._written += found.nbytes
        return found

    def column(self, name: str, kept: Rows | None) -> pa.Array:
        """Decode a column's values for the rows `kept`.

        Raises
        ------
        CorruptError
            When they cannot be decoded, or are not what type and bounds promise.
        """
        opened = self._opened(name)
        found = read_rows(opened.chunk, opened.field, opened.known, kept, tally=self._tally)
        self._written += column_bytes(found)
        return found

    def reading(self) -> Reading:
        """Give what reading has come to: pages decompressed, and bytes written of them.

        What comes from the media are whole column chunks: where pages begin is only told by the
        pages before them.
        """
        stored = sum(opened.nbytes for opened in self._used.values())
        share = stored * self.rows // max(1, self.stored_rows)
        return Reading(share, self._tally.unpacked, 0, ((self.why, self._written),))

    def _opened(self, name: str) -> Opened:
        found = self._used.get(name)
        if found is None:
            found = self._used[name] = self.opened.get(self.row_group, name)
        return found
