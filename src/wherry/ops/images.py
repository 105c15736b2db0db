"""Values as Python tells them apart, for references that put them into dicts and sets."""

from __future__ import annotations

import pyarrow as pa

from wherry.data.arrays import plain
from wherry.ir.types import is_moment

_NARROW = (pa.date32(), pa.time32("s"), pa.time32("ms"))


def images(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Give values that Python tells apart; what counts a unit of time as integers."""
    column = plain(column)
    stored = pa.int32() if column.type in _NARROW else pa.int64()
    values: list[object] = (column.cast(stored) if is_moment(column.type) else column).to_pylist()
    return values


def keyed(value: object) -> object:
    """Let NaN equal itself and -0.0 equal 0.0, as keys do."""
    return "NaN" if isinstance(value, float) and value != value else value  # noqa: PLR0124
