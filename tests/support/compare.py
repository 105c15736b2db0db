"""Whether two tables say the same: exactly, but floats to a relative 1e-9."""

from math import isclose

import pyarrow as pa
from support.typed import plain_for_duckdb


def rows_of(table: pa.Table) -> list[tuple[object, ...]]:
    """Give rows as Python values; moments as integers, because Python has no nanoseconds."""
    plain = plain_for_duckdb(table)
    columns = [
        c.cast(pa.int64()).to_pylist() if pa.types.is_timestamp(c.type) else c.to_pylist()
        for c in plain.columns
    ]
    return list(zip(*columns, strict=True))


def assert_same(seen: pa.Table, wanted: pa.Table, *, ordered: bool) -> None:
    """Compare names, rows, and (if `ordered`) the order of rows."""
    assert seen.schema.names == wanted.schema.names
    assert seen.num_rows == wanted.num_rows
    left, right = rows_of(seen), rows_of(wanted)
    if not ordered:
        floats = [pa.types.is_floating(t) for t in seen.schema.types]
        left.sort(key=lambda row: _sortable(row, floats))
        right.sort(key=lambda row: _sortable(row, floats))
    for number, (one, other) in enumerate(zip(left, right, strict=True)):
        same = all(map(_equal, one, other))
        assert same, f"row {number}: {one} is not {other}"


def _sortable(row: tuple[object, ...], floats: list[bool]) -> tuple[object, ...]:
    """Order by what is exact first: floats may differ in their last digits."""
    pairs = list(zip(row, floats, strict=True))
    exact = [(v is None, str(v)) for v, inexact in pairs if not inexact]
    return (*exact, *((v is None, v or 0.0) for v, inexact in pairs if inexact))


def _equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other
