"""scan: where a pipeline begins; the columns it reads of a dataset, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.data.chunk import ChunkRef
from wherry.data.decoding import Packed, Reading
from wherry.data.source import Source, column_bounds
from wherry.data.statistics import ColumnStatistics
from wherry.data.types import stored_of, value_type
from wherry.ir.types import is_moment
from wherry.ops.estimate import Estimate
from wherry.ops.select import type_bytes


class Scan(Struct, frozen=True):
    """Read `columns` of `source`, chunk by chunk and without copying."""

    source: Source
    columns: tuple[str, ...]

    def schema(self) -> pa.Schema:
        """Give the fields of the columns read."""
        return pa.schema([self.source.schema.field(name) for name in self.columns])

    def describe(self) -> str:
        """Give dataset and columns as text."""
        return f"scan {self.source.name} [{', '.join(self.columns)}]"


def scan_estimate(scan: Scan, rows: int) -> Estimate:
    """Give the size of `rows` rows of a scan: exact rows, and what statistics say of columns."""
    known = column_bounds(scan.source, scan.columns)
    width = sum(type_bytes(field.type) for field in scan.schema())
    return Estimate(rows, rows, rows, width, known, _distinct(scan))


def mean_reading(scan: Scan, chunks: Sequence[ChunkRef], row_bytes: float) -> Reading:
    """Give what reading one of `chunks` comes to on the average.

    Parameters
    ----------
    row_bytes : float
        Mean bytes of a row of the scan's columns in memory.
    """
    count, rows = max(1, len(chunks)), sum(ref.rows for ref in chunks)
    widths = {field.name: type_bytes(field.type) for field in scan.schema()}
    media, decoded, repeated = rows * row_bytes, 0.0, 0.0
    packed: dict[str, tuple[float, float]] = {}
    for ref in chunks if scan.source.decodes else ():
        for decoding in scan.source.decoding(ref, scan.columns):
            written = ref.rows * sum(widths[name] for name in decoding.columns)
            media += decoding.stored_bytes - written
            decoded += written if decoding.stored_bytes else 0
            repeated += 0 if decoding.stored_bytes else written
            if decoding.codec:
                stored, made = packed.get(decoding.codec, (0.0, 0.0))
                packed[decoding.codec] = (stored + decoding.stored_bytes, made + written)
    parts = tuple(Packed(c, int(s / count), int(w / count)) for c, (s, w) in packed.items())
    return Reading(int(media / count), int(decoded / count), int(repeated / count), (), parts)


def _distinct(scan: Scan) -> dict[str, int]:
    """Give the size of the dictionary of each dictionary column, as its first chunk holds it."""
    names = [f.name for f in scan.schema() if pa.types.is_dictionary(f.type)]
    chunks = scan.source.chunks()
    if not names or not chunks:
        return {}
    (first,) = scan.source.few([replace(chunks[0], rows=min(1, chunks[0].rows))], names)
    return {name: len(first.column(name).dictionary) for name in names}


def integer_bounds(scan: Scan, known: Mapping[str, ColumnStatistics]) -> dict[str, tuple[int, int]]:
    """Give the smallest and largest integer stored in each column of a scan that has such."""
    found = {}
    for field in scan.schema():
        column = known.get(field.name)
        bounds = None if column is None else unscaled_bounds(column, field.type)
        if bounds is not None:
            found[field.name] = bounds
    return found


def unscaled_bounds(known: ColumnStatistics, t: pa.DataType) -> tuple[int, int] | None:
    """Give the smallest and largest integer that stand for a column's values; None if unknown."""
    # Python has no date for every moment that 64 bits hold: either end may be unknown.
    if known.min is None or known.max is None:
        return None
    t = value_type(t)
    if pa.types.is_integer(t):
        return int(str(known.min)), int(str(known.max))
    if pa.types.is_decimal(t):
        return _scaled(known.min, t.scale), _scaled(known.max, t.scale)
    if is_moment(t):
        return stored_of(known.min, t), stored_of(known.max, t)
    return None


def _scaled(value: object, scale: int) -> int:
    return int(Decimal(str(value)).scaleb(scale))
