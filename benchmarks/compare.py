"""Say whether two answers are equal, and if not, how they first differ.

Integers, decimals, text, dates and truth values are compared exactly, whatever width they are
stored in; floats within a relative 1e-9, because their sums depend on the order of addition.
"""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import zip_longest
from typing import Any, Final

import pyarrow as pa

REL_TOLERANCE: Final = 1e-9
"""Wide enough for any order of adding a million floats; a lost row moves a sum further."""

_Row = tuple[Any, ...]


def difference(seen: pa.Table, wanted: pa.Table, *, ordered: bool) -> str | None:
    """Give one sentence on how `seen` differs from `wanted`, or None when they are equal.

    Parameters
    ----------
    ordered : bool
        Whether rows must stand in the same order; otherwise both are multisets. Rows are then
        paired by their exact columns first, and by their floats where those are equal.
    """
    if seen.schema.names != wanted.schema.names:
        return f"columns are {_listed(seen.schema.names)}, not {_listed(wanted.schema.names)}"
    for field, other in zip(seen.schema, wanted.schema, strict=True):
        if _family(field.type) != _family(other.type):
            return f"column {field.name!r} has type {field.type}, not {other.type}"
    rows, others = _rows(seen, ordered=ordered), _rows(wanted, ordered=ordered)
    for place, (row, other) in enumerate(zip_longest(rows, others)):
        if row is None or other is None or not all(map(_equal, row, other)):
            return _described(place, row, other, len(rows), len(others))
    return None


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _family(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _family(kind.value_type)
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return "exact number"
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return "text" if any(is_text(kind) for is_text in text) else str(kind)


def _rows(table: pa.Table, *, ordered: bool) -> list[_Row]:
    columns = [column.to_pylist() for column in table.columns]
    rows: list[_Row] = list(zip(*columns, strict=True))
    if ordered:
        return rows
    floats = [pa.types.is_floating(field.type) for field in table.schema]
    order = sorted(range(len(floats)), key=lambda place: floats[place])
    return sorted(rows, key=lambda row: [_rank(row[place]) for place in order])


def _rank(value: Any) -> tuple[int, Any]:
    """Give a key under which nulls come last and NaN just before them."""
    if value is None:
        return 2, 0
    return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        both_nan = math.isnan(a) and math.isnan(b)
        return both_nan or math.isclose(a, b, rel_tol=REL_TOLERANCE)
    return bool(a == b)


def _described(place: int, row: _Row | None, other: _Row | None, rows: int, others: int) -> str:
    counts = "" if rows == others else f"{rows:,} rows, not {others:,}; "
    return f"{counts}row {place} is {_shown(row)}, not {_shown(other)}"


def _shown(row: _Row | None) -> str:
    if row is None:
        return "absent"
    return f"({', '.join(str(v) if isinstance(v, Decimal) else repr(v) for v in row)})"
