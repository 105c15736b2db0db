"""A Parquet column read and looked at: natively where that is possible, else through pyarrow."""

from __future__ import annotations

import pyarrow as pa

from wherry.data.parquet_columns import ParquetBytes, decode_column
from wherry.data.parquet_native import (
    Allocate,
    NativeChunk,
    Rows,
    Tally,
    decode,
    decode_with_range,
    dictionary,
    open_chunk,
    why_not,
)
from wherry.data.parquet_statistics import check_bounds
from wherry.data.statistics import ColumnStatistics
from wherry.data.validate import check_column
from wherry.kernels.parquet_layout import PAGES

_SMALL_TABLE = 1 << 16
"""Bytes of a dictionary that are decompressed once more rather than all rows looked at."""


def read_column(
    file: ParquetBytes,
    row_group: int,
    column: int,
    known: ColumnStatistics,
    allocate: Allocate = pa.allocate_buffer,
) -> pa.Array:
    """Read field `column` of `file.schema` in one row group; any thread may call this.

    Every value is looked at that kernels trust, and held against the bounds that the file gives.
    What a dictionary has shown of all its values is not looked at again row by row.

    Parameters
    ----------
    known : ColumnStatistics
        Of the column chunk.

    Raises
    ------
    CorruptError
        When the stored bytes cannot be decoded, naming file, row group, column and offset, or hold
        what the type or the bounds exclude.
    """
    if why_not(file, row_group, column) is None:
        chunk = open_chunk(file, row_group, column)
        return read_rows(chunk, file.schema.field(column), known, allocate=allocate)
    label, array = file.name(row_group, column), decode_column(file, row_group, column)
    check_column(file.schema.field(column), array, label)
    check_bounds(array, known, label)
    return array


def read_rows(
    chunk: NativeChunk,
    field: pa.Field,
    known: ColumnStatistics,
    kept: Rows | None = None,
    *,
    allocate: Allocate = pa.allocate_buffer,
    tally: Tally | None = None,
) -> pa.Array:
    """Read the rows `kept` of a column chunk, all unless given, and look at each value of them.

    Parameters
    ----------
    field : pa.Field
        The chunk's.
    kept, allocate, tally
        As `decode` takes them.

    Raises
    ------
    CorruptError
        As `read_column` does; values of other rows may be anything.
    """
    label, seen = chunk.pages.name, None
    if chunk.form.index_type is not None:
        array = decode(chunk, kept, allocate=allocate, tally=tally)
        check_column(field.with_type(chunk.form.type), array.dictionary, label)
    else:
        array, seen = decode_with_range(chunk, kept, allocate, tally)
        if seen is not None:
            low, high = chunk.limits(known)
            if low <= seen[0] and seen[1] <= high:
                return array
        if not _is_sound(chunk):
            check_column(field, array, label)
    check_bounds(array, known, label)
    return array


def read_dictionary(chunk: NativeChunk, tally: Tally | None = None) -> pa.Array | None:
    """Give the values of the dictionary that all rows refer to.

    None if pages hold values themselves, or if it has a value that its type excludes: perhaps no
    row has that one.
    """
    if not chunk.pages.codes_only:
        return None
    values = dictionary(chunk, tally=tally)
    if chunk.form.is_text or pa.types.is_decimal(values.type) or pa.types.is_time(values.type):
        try:
            values.validate(full=True)
        except pa.ArrowException:
            return None
    return values


def _is_sound(chunk: NativeChunk) -> bool:
    """Say whether the values are what their type promises, as far as that is known without them."""
    t, pages = chunk.form.type, chunk.pages
    if not chunk.form.is_text:
        return not (pa.types.is_time(t) or pa.types.is_decimal(t))
    if not pages.codes_only or pages.known[PAGES.TABLE_SIZE] > _SMALL_TABLE:
        return False
    try:
        dictionary(chunk).validate(full=True)
    except pa.ArrowException:
        return False  # It may be a value that no row has: look at the rows.
    return True
