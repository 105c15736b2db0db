"""Compare answers of millions of rows: a column at a time, not a row at a time.

Numbers that are not computed with floats are compared exactly, whatever width they are stored in.
Float sums depend on the order of addition, so floats may differ by a relative 1e-9. Engines give
averages of decimals as floats or as decimals with few digits or many: these may differ by the last
digit of the shorter one. Sums have the same digits everywhere and are compared exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wherry.benchmarks.kernels.question import Answer, Differs

FLOAT_TOLERANCE: Final = 1e-9

_MIX = np.uint64(0x9E3779B97F4A7C15)


def in_order(*columns: str) -> Differs:
    """Compare `columns` row by row; all of them if none is named."""

    def differs(seen: Answer, wanted: Answer) -> str | None:
        pair = _whole(seen), _whole(wanted)
        a, b = (found.select(list(columns)) if columns else found for found in pair)
        return _unlike(a, b) or _first_difference(a, b)

    return differs


def by_keys(*keys: str) -> Differs:
    """Compare rows that have the same values in `keys`, which no two rows of an answer have."""

    def differs(seen: Answer, wanted: Answer) -> str | None:
        a, b = _whole(seen), _whole(wanted)
        said = _unlike(a, b)
        if said is not None:
            return said
        return _first_difference(_sorted(a, keys), _sorted(b, keys))

    return differs


def same_rows(seen: Answer, wanted: Answer) -> str | None:
    """Compare stored rows as multisets, by a sum of 64-bit digests of rows."""
    a, b = _whole(seen), _whole(wanted)
    said = _unlike(a, b)
    if said is None and _digest(a) != _digest(b):
        return f"the {a.num_rows:,} rows are not the wanted ones (their digests differ)"
    return said


def same_parts(key: str) -> Differs:
    """Compare partitions: the same rows over all, and no value of `key` in two of them.

    Which partition a key goes to is an engine's own choice.
    """

    def differs(seen: Answer, wanted: Answer) -> str | None:
        if not isinstance(seen, list) or len(seen) != len(wanted):
            return f"there are {len(seen)} partitions, not {len(wanted)}"
        keys = [np.unique(_integers(part[key])) for part in seen]
        if len(np.unique(np.concatenate(keys))) != sum(map(len, keys)):
            return f"a value of {key} is in two partitions"
        return same_rows(seen, wanted)

    return differs


def _whole(answer: Answer) -> pa.Table:
    if not isinstance(answer, list):
        return answer
    return pa.concat_tables(answer, promote_options="permissive")


def _unlike(seen: pa.Table, wanted: pa.Table) -> str | None:
    if seen.schema.names != wanted.schema.names:
        return f"columns are {seen.schema.names}, not {wanted.schema.names}"
    if seen.num_rows != wanted.num_rows:
        return f"{seen.num_rows:,} rows, not {wanted.num_rows:,}"
    return None


def _sorted(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    plain = table.set_column(0, table.schema.names[0], _decoded(table.column(0)))
    for place in range(1, table.num_columns):
        plain = plain.set_column(place, table.schema.names[place], _decoded(table.column(place)))
    return plain.sort_by([(key, "ascending") for key in keys])


def _first_difference(seen: pa.Table, wanted: pa.Table) -> str | None:
    for name in wanted.schema.names:
        equal = _equal(_decoded(seen[name]), _decoded(wanted[name]))
        if not equal.all():
            row = int(np.argmin(equal))
            a, b = (table[name][row].as_py() for table in (seen, wanted))
            return f"{name} is {a!r}, not {b!r}, in row {row:,}"
    return None


def _equal(a: pa.ChunkedArray, b: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    nulls = a.is_null().to_numpy() == b.is_null().to_numpy()
    scales = [column.type.scale for column in (a, b) if pa.types.is_decimal(column.type)]
    floats = any(pa.types.is_floating(column.type) for column in (a, b))
    if floats or len(set(scales)) > 1:
        last = 10.0 ** -min(scales) if scales else 0.0
        close = np.isclose(_floats(a), _floats(b), rtol=FLOAT_TOLERANCE, atol=last, equal_nan=True)
        return close & nulls
    kind = pa.decimal256(76, scales[0]) if scales else a.type
    if pa.types.is_integer(kind):
        kind = pa.int64()
    same = pc.fill_null(pc.equal(a.cast(kind), b.cast(kind)), fill_value=True)
    return np.asarray(same.to_numpy(), np.bool_) & nulls


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give a column without a dictionary, and text in one type."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if any(is_text(kind) for is_text in text):
        kind = pa.large_utf8()
    return column if kind == column.type else column.cast(kind)


def _digest(table: pa.Table) -> int:
    rows = np.zeros(table.num_rows, np.uint64)
    for column in table.columns:
        rows = (rows ^ _bits(column)) * _MIX
        rows ^= rows >> np.uint64(29)
    return int(rows.sum(dtype=np.uint64))


def _bits(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    if pa.types.is_floating(column.type):
        return _floats(column).view(np.uint64)
    if pa.types.is_decimal(column.type):
        return _unscaled(column)
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    return _integers(column).view(np.uint64)


def _integers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.asarray(column.cast(pa.int64()).to_numpy(), np.int64)


def _unscaled(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Give the lower 64 bits of decimals, which are the same for any precision."""
    whole = column.cast(pa.decimal128(38, column.type.scale)).combine_chunks()
    words = np.frombuffer(whole.buffers()[1], np.uint64)
    return words[2 * whole.offset : 2 * (whole.offset + len(whole)) : 2]
