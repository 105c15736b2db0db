"""Bounds of Parquet columns, as row groups' statistics give them: bounds, never more than that."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Context, Decimal
from functools import cached_property
from math import isnan
from typing import Any, TypeAlias

import pyarrow as pa
from msgspec import Struct, field

from wherry.base.errors import CorruptError
from wherry.data.bloom import BloomFilter, read_bloom
from wherry.data.parquet_columns import ParquetBytes
from wherry.data.parquet_footer import Leaf
from wherry.data.statistics import LONGEST_TEXT, ColumnStatistics, column_statistics
from wherry.data.types import date_of, datetime_of, is_text, type_class

_NS_PER = {"ms": 1_000_000, "us": 1_000, "ns": 1}
_NOTHING = ColumnStatistics(None, None, None)
_EPOCH = date(1970, 1, 1)

Limits: TypeAlias = tuple[int, int]
"""The least and the largest that integers may be."""


class ColumnBounds(Struct, frozen=True):
    """The statistics of every column chunk of a file, each converted once, when asked for."""

    file: ParquetBytes
    _known: dict[tuple[int, int], ColumnStatistics] = field(default_factory=dict)

    def of(self, row_group: int, column: int) -> ColumnStatistics:
        """Give the statistics of one column of a row group."""
        footer, shared = self.file.known
        kept = shared if footer is self.file.footer else self._known
        key = (row_group, column)
        found = kept.get(key) or self._known.get(key)
        if found is None:
            found = _statistics(self.file, row_group, column)
            # A Bloom filter lies in the file: what refers to it goes with it.
            (kept if found.excludes is None else self._known)[key] = found
        return found

    def batch(self, row_group: int) -> Mapping[str, ColumnStatistics]:
        """Give the statistics of a row group by column name."""
        return _Columns(self, row_group)


class _Columns(Mapping[str, ColumnStatistics]):
    __slots__ = ("bounds", "row_group")

    def __init__(self, bounds: ColumnBounds, row_group: int) -> None:
        self.bounds, self.row_group = bounds, row_group

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
    t = file.schema.field(column).type
    if pa.types.is_nested(t):  # Its parts say nothing of the whole.
        return _NOTHING
    (chunk,), leaf = file.chunks(row_group, column), file.footer.leaves[file.leaves[column].start]
    nulls = 0 if leaf.required else chunk.nulls
    t = t.value_type if pa.types.is_dictionary(t) else t
    nans = bool(pa.types.is_floating(t))  # Statistics of Parquet do not speak of NaN.
    excludes = _Excludes(file, row_group, column) if chunk.bloom_offset is not None else None
    unknown = ColumnStatistics(None, None, nulls, nans, excludes)
    if chunk.low is None or chunk.high is None:
        return unknown
    try:
        low, high = (_value(raw, leaf, t, up=up) for raw, up in ((chunk.low, 0), (chunk.high, 1)))
    except struct.error as error:
        name = file.name(row_group, column)
        raise CorruptError(f"{name}: its statistics are no {leaf.physical}: {error}") from error
    if low is None or high is None or low > high:
        return unknown
    return ColumnStatistics(low, high, nulls, nans, excludes)


class _Excludes(Struct, frozen=True, eq=False, dict=True):
    """Whether the Bloom filter of a column chunk excludes a value; it is read when first asked."""

    file: ParquetBytes
    row_group: int
    column: int

    def __call__(self, value: object) -> bool:
        return self._filter is not None and self._filter.excludes(value)

    @cached_property
    def _filter(self) -> BloomFilter | None:
        file, column = self.file, self.column
        if file.buffer is None:
            return None
        t = file.schema.field(column).type
        t = t.value_type if pa.types.is_dictionary(t) else t
        (chunk,) = file.chunks(self.row_group, column)
        leaf = file.footer.leaves[file.leaves[column].start]
        try:
            return read_bloom(file.buffer, chunk.bloom_offset, leaf, t)
        except CorruptError as error:
            raise CorruptError(f"{file.name(self.row_group, column)}: {error}") from error


def _value(raw: bytes, leaf: Leaf, t: pa.DataType, *, up: int) -> Any:
    """Give the Python value of a bound as the file stores it; None when it tells nothing."""
    number = _number(raw, leaf.physical)
    if pa.types.is_boolean(t):
        return None if number is None else bool(number)
    if pa.types.is_unsigned_integer(t) and isinstance(number, int):
        return number % (1 << (32 if leaf.physical == "INT32" else 64))
    if pa.types.is_integer(t):
        return number
    if pa.types.is_float32(t) or pa.types.is_float64(t):
        return None if not isinstance(number, float) or isnan(number) else number
    if pa.types.is_decimal(t):
        unscaled = int.from_bytes(raw, "big", signed=True) if number is None else number
        return Decimal(f"{unscaled}e{-t.scale}")
    if pa.types.is_date32(t) and isinstance(number, int):
        return date_of(number)
    if pa.types.is_timestamp(t) and isinstance(number, int) and leaf.unit is not None:
        ns = number * _NS_PER[leaf.unit]
        return datetime_of(-(-ns // 1000) if up else ns // 1000, aware=t.tz is not None)
    if is_text(t):
        return _text(raw, up=up)
    return None


_NUMBERS = {"BOOLEAN": "<B", "INT32": "<i", "INT64": "<q", "FLOAT": "<f", "DOUBLE": "<d"}


def _number(raw: bytes, physical: str) -> int | float | None:
    """Give a stored number, None if it is stored as bytes."""
    form = _NUMBERS.get(physical)
    return None if form is None else struct.unpack(form, raw)[0]


def _text(raw: bytes, *, up: int) -> str | None:
    """Give a text's bound: a writer may have cut it, a lower one perhaps within a character."""
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


_ANY_INTEGER: Limits = (-(1 << 200), 1 << 200)
_EXACT = Context(prec=100)


def limits_of(known: ColumnStatistics, t: pa.DataType) -> Limits:
    """Give what integers, decimals (unscaled) or days of type `t` may be by their bounds and type.

    A type's own width is no limit here, its precision is.
    """
    low, high = _ANY_INTEGER
    if pa.types.is_decimal(t):
        low, high = 1 - 10**t.precision, 10**t.precision - 1
    bounds = [_unscaled(bound, t) for bound in (known.min, known.max)]
    if bounds[0] is None or bounds[1] is None:
        return low, high
    return max(low, bounds[0]), min(high, bounds[1])


def _unscaled(bound: Any, t: pa.DataType) -> int | None:
    if pa.types.is_date32(t):
        return (bound - _EPOCH).days if isinstance(bound, date) else None
    if pa.types.is_decimal(t) and isinstance(bound, int | Decimal):
        return int(Decimal(bound).scaleb(t.scale, _EXACT))
    return bound if isinstance(bound, int) else None


def check_bounds(array: pa.Array, known: ColumnStatistics, label: str) -> None:
    """Refuse exact numbers that lie outside of what the file says of them.

    Programs are chosen by these bounds: sums of 64 bits, tables with a place for every value. A
    file whose statistics lie must not make them write elsewhere.

    Raises
    ------
    CorruptError
        Naming `label`, the value and the bounds.
    """
    exact = type_class(array.type) in {"integer", "decimal", "temporal"}
    if not exact or known.min is None or known.max is None or array.null_count == len(array):
        return
    seen = column_statistics(array)
    low: Any = seen.min
    high: Any = seen.max
    if low is None or high is None or low < known.min or high > known.max:
        raise CorruptError(
            f"{label} holds values from {low} to {high}, but its statistics say from "
            f"{known.min} to {known.max}"
        )
