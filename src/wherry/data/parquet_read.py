"""A Parquet column read and looked at: natively where that is possible, else through pyarrow."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa

from wherry.data.parquet_columns import ParquetBytes, decode_column
from wherry.data.parquet_native import (
    Allocate,
    NativeChunk,
    decode,
    decode_with_range,
    dictionary,
    open_chunk,
    why_not,
)
from wherry.data.parquet_statistics import check_bounds
from wherry.data.statistics import ColumnStatistics
from wherry.data.types import date_of
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
    label, field = file.name(row_group, column), file.schema.field(column)
    if why_not(file, row_group, column) is not None:
        array = decode_column(file, row_group, column)
        check_column(field, array, label)
        check_bounds(array, known, label)
        return array
    chunk, seen = open_chunk(file, row_group, column), None
    if chunk.form.index_type is not None:
        array = decode(chunk, allocate=allocate)
        check_column(field.with_type(chunk.form.type), array.dictionary, label)
    else:
        array, seen = decode_with_range(chunk, allocate)
        if not _is_sound(chunk, seen):
            check_column(field, array, label)
    if seen is None or not _within(seen, known, field.type):
        check_bounds(array, known, label)
    return array


def _is_sound(chunk: NativeChunk, seen: tuple[int, int] | None) -> bool:
    """Say whether the values are what their type promises, as far as that is known without them."""
    t, pages = chunk.form.type, chunk.pages
    if pa.types.is_decimal(t):
        most = 10**t.precision
        return seen is not None and -most < seen[0] and seen[1] < most
    if not chunk.form.is_text:
        return not pa.types.is_time(t)
    if not pages.codes_only or pages.known[PAGES.TABLE_SIZE] > _SMALL_TABLE:
        return False
    try:
        dictionary(chunk).validate(full=True)
    except pa.ArrowException:
        return False  # It may be a value that no row has: look at the rows.
    return True


def _within(seen: tuple[int, int], known: ColumnStatistics, t: pa.DataType) -> bool:
    if pa.types.is_date32(t):
        first, last = map(date_of, seen)
        if not isinstance(known.min, date) or not isinstance(known.max, date):
            return known.min is None or known.max is None
        return first is not None and last is not None and known.min <= first and last <= known.max
    scale = t.scale if pa.types.is_decimal(t) else 0
    low, high = (Decimal(f"{value}e{-scale}") for value in seen)
    if not isinstance(known.min, int | Decimal) or not isinstance(known.max, int | Decimal):
        return known.min is None or known.max is None
    return known.min <= low and high <= known.max
