"""Bounds of Parquet columns, as row groups' statistics give them: bounds, never more than that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import isnan
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wherry.base.errors import CorruptError
from wherry.data.parquet_columns import ParquetBytes
from wherry.data.statistics import LONGEST_TEXT, ColumnStatistics
from wherry.data.types import date_of, datetime_of

_NS_PER = {"milliseconds": 1_000_000, "microseconds": 1_000, "nanoseconds": 1}
_NOTHING = ColumnStatistics(None, None, None)


@dataclass(frozen=True)
class ColumnBounds:
    """The statistics of every column chunk of a file, each converted once, when asked for."""

    file: ParquetBytes
    _known: dict[tuple[int, int], ColumnStatistics] = field(default_factory=dict)

    def of(self, row_group: int, column: int) -> ColumnStatistics:
        """Give the statistics of one column of a row group."""
        key = (row_group, column)
        if key not in self._known:
            self._known[key] = _statistics(self.file, row_group, column)
        return self._known[key]

    def batch(self, row_group: int) -> Mapping[str, ColumnStatistics]:
        """Give the statistics of a row group by column name."""
        return _Columns(self, row_group)


@dataclass(frozen=True, slots=True)
class _Columns(Mapping[str, ColumnStatistics]):
    bounds: ColumnBounds
    row_group: int

    def __getitem__(self, name: str) -> ColumnStatistics:
        column = self.bounds.file.schema.get_field_index(name)
        if column < 0:
            raise KeyError(name)
        return self.bounds.of(self.row_group, column)

    def __iter__(self) -> Iterator[str]:
        return iter(self.bounds.file.schema.names)

    def __len__(self) -> int:
        return len(self.bounds.file.schema)


def _statistics(file: ParquetBytes, row_group: int, column: int) -> ColumnStatistics:
    chunks = file.chunks(row_group, column)
    if len(chunks) != 1:  # A nested column's parts say nothing of the whole.
        return _NOTHING
    leaf = file.metadata.schema.column(file.leaves[column].start)
    seen = chunks[0].statistics if chunks[0].is_stats_set else None
    nulls = 0 if leaf.max_definition_level == 0 else None
    if seen is not None and seen.has_null_count:
        nulls = seen.null_count
    t = file.schema.field(column).type
    t = t.value_type if pa.types.is_dictionary(t) else t
    nans = bool(pa.types.is_floating(t))  # Statistics of Parquet do not speak of NaN.
    if seen is None or not seen.has_min_max:
        return ColumnStatistics(None, None, nulls, nans)
    low = _value(seen.min_raw, leaf, t, up=False)
    high = _value(seen.max_raw, leaf, t, up=True)
    if low is None or high is None or low > high:
        return ColumnStatistics(None, None, nulls, nans)
    return ColumnStatistics(low, high, nulls, nans)


def _value(raw: Any, leaf: Any, t: pa.DataType, *, up: bool) -> Any:
    """Give the Python value of a bound as the file stores it; None when it tells nothing."""
    if pa.types.is_boolean(t):
        return bool(raw)
    if pa.types.is_integer(t):
        return _integer(raw, t)
    if pa.types.is_float32(t) or pa.types.is_float64(t):
        return None if isnan(raw) else float(raw)
    if pa.types.is_decimal(t):
        return _decimal(raw, t)
    if pa.types.is_date32(t) and isinstance(raw, int):
        return date_of(raw)
    if pa.types.is_timestamp(t) and isinstance(raw, int):
        return _moment(raw, leaf, aware=t.tz is not None, up=up)
    if pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t):
        return _text(raw, up=up)
    return None


def _integer(raw: Any, t: pa.DataType) -> int | None:
    if not isinstance(raw, int):
        return None
    # The file stores 32 or 64 bits, and pyarrow gives them as signed numbers.
    return raw % (1 << t.bit_width) if pa.types.is_unsigned_integer(t) else raw


def _decimal(raw: Any, t: pa.DataType) -> Decimal | None:
    unscaled = int.from_bytes(raw, "big", signed=True) if isinstance(raw, bytes) else raw
    return Decimal(f"{unscaled}e{-t.scale}") if isinstance(unscaled, int) else None


def _moment(raw: int, leaf: Any, *, aware: bool, up: bool) -> object | None:
    """Give a timestamp's bound, widened to whole microseconds."""
    unit = json.loads(leaf.logical_type.to_json()).get("timeUnit")
    if unit not in _NS_PER:
        return None
    ns = raw * _NS_PER[unit]
    return datetime_of(-(-ns // 1000) if up else ns // 1000, aware=aware)


def _text(raw: Any, *, up: bool) -> str | None:
    """Give a text's bound: a writer may have cut it, a lower one perhaps within a character."""
    if not isinstance(raw, bytes):
        return None
    text = raw.decode(errors="strict" if _is_text(raw) else "ignore")
    if up:
        return text if _is_text(raw) and len(text) <= LONGEST_TEXT else None
    return text[:LONGEST_TEXT] if raw.startswith(text.encode()) else None


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def check_bounds(array: pa.Array, known: ColumnStatistics, label: str) -> None:
    """Refuse exact numbers that lie outside of what the file says of them.

    Programs are chosen by these bounds: sums of 64 bits, tables with a place for every value. A
    file whose statistics lie must not make them write elsewhere.

    Raises
    ------
    CorruptError
        Naming `label`, the value and the bounds.
    """
    exact = pa.types.is_integer(array.type) or pa.types.is_decimal(array.type)
    if not exact or known.min is None or known.max is None:
        return
    seen = pc.min_max(array)
    low, high = seen["min"].as_py(), seen["max"].as_py()
    if low is not None and (low < known.min or high > known.max):
        raise CorruptError(
            f"{label} holds values from {low} to {high}, but its statistics say from "
            f"{known.min} to {known.max}"
        )
