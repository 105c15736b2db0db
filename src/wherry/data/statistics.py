"""What is known of a stored batch without reading it again: bounds and nulls of every column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pyarrow as pa
from msgspec import Struct

from wherry.base.compute import pc
from wherry.data.arrays import countable, movable_type
from wherry.data.types import layout_of, type_class, value_of, value_type

LONGEST_TEXT = 256
"""Bounds longer than this many characters or bytes are not kept: a file's statistics stay small."""


class ColumnStatistics(Struct, frozen=True):
    """Bounds of a column's values; `min` <= every value <= `max`, nulls apart.

    `min` and `max` are bool, int, float, Decimal, date, datetime (in UTC when the type has a time
    zone), time, timedelta, str or bytes. None says that no bound is known: there is no value, a
    float is NaN, a text is longer than `LONGEST_TEXT`, Python has no such value, or the column is a
    struct. Bounds in nanoseconds are widened to whole microseconds. `nulls` is None where nobody
    counted. With `nans`, there may be NaN besides, of which the bounds do not speak. `excludes`
    says of a value whether no row surely holds it, where a Bloom filter knows.
    """

    min: object | None
    max: object | None
    nulls: int | None
    nans: bool = False
    excludes: Callable[[object], bool] | None = None


class ChunkStatistics(Struct, frozen=True):
    """Rows and per column statistics of one stored batch."""

    rows: int
    columns: Mapping[str, ColumnStatistics]


def chunk_statistics(batch: pa.RecordBatch) -> ChunkStatistics:
    """Compute the statistics of `batch`; pyarrow trusts it, so `check_batch` must come first."""
    columns = zip(batch.schema.names, batch.columns, strict=True)
    return ChunkStatistics(
        batch.num_rows, {name: column_statistics(array) for name, array in columns}
    )


def column_statistics(array: pa.Array) -> ColumnStatistics:
    """Compute the statistics of one column, which must have passed `check_column`."""
    nulls = int(array.null_count)
    if pa.types.is_struct(array.type):
        return ColumnStatistics(None, None, nulls)
    values = _comparable(array)
    if pa.types.is_floating(values.type) and pc.any(pc.is_nan(values)).as_py():
        return ColumnStatistics(None, None, nulls)
    bounds, t = pc.min_max(countable(values)), value_type(array.type)
    low, high = bounds["min"], bounds["max"]
    return ColumnStatistics(_bound(low, t, up=False), _bound(high, t, up=True), nulls)


def constant_statistics(value: pa.Scalar, rows: int) -> ColumnStatistics:
    """Give the statistics of a column that has one value in each of `rows` rows."""
    known = column_statistics(pa.array([value.as_py()], value.type))
    return ColumnStatistics(known.min, known.max, rows * (known.nulls or 0))


def _comparable(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        # Only values that some row uses: one dictionary serves all batches of a file.
        return array.dictionary.take(pc.unique(array.indices).drop_null())
    return array.cast(movable_type(array.type)) if layout_of(array.type) == "views" else array


def _bound(scalar: pa.Scalar, t: pa.DataType, *, up: bool) -> object | None:
    if not scalar.is_valid:
        return None
    if type_class(t) in {"temporal", "time", "duration"}:
        stored = scalar.as_py() if pa.types.is_integer(scalar.type) else scalar.value
        return value_of(stored, t, up=up)
    value: object = scalar.as_py()
    return None if isinstance(value, str | bytes) and len(value) > LONGEST_TEXT else value


def merged(names: Iterable[str], chunks: Iterable[ChunkStatistics]) -> dict[str, ColumnStatistics]:
    """Give the statistics of the columns `names` over all `chunks` together."""
    known = list(chunks)
    return {name: _merge(name, known) for name in names}


def _merge(name: str, chunks: list[ChunkStatistics]) -> ColumnStatistics:
    columns = [chunk.columns[name] for chunk in chunks]
    nulls = [column.nulls for column in columns]
    with_values = [
        column for column, chunk in zip(columns, chunks, strict=True) if column.nulls != chunk.rows
    ]
    return ColumnStatistics(
        _least([column.min for column in with_values], up=False),
        _least([column.max for column in with_values], up=True),
        None if None in nulls else sum(n for n in nulls if n is not None),
        any(column.nans for column in with_values),
    )


def _least(bounds: list[object | None], *, up: bool) -> object | None:
    """Give the outermost bound, or None when any is unknown: then the whole has none either."""
    outermost: object | None = None
    for bound in bounds:
        if bound is None:
            return None
        if outermost is None or (bound > outermost if up else bound < outermost):  # type: ignore[operator]
            outermost = bound
    return outermost
