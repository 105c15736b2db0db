"""The first rows in key order, without sorting the others."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.data.arrays import plain
from wherry.data.types import type_class
from wherry.ir.stage import Order, SortKey, Stage, output_schema
from wherry.kernels.layout import BLOCK, WORD_KINDS
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import bitmap_address, values_address
from wherry.render.reference import order_of

_top_k = skeletons("top_k")
_LEAST_SHARE: Final = 8
"""Below so many rows for each that is wanted, sorting them all is as fast."""
_TIES: Final = 4096


def kind_of(t: pa.DataType) -> str | None:
    """Give what WORD_KINDS calls the values of a type, or None if it orders none such."""
    name = type_class(t)
    if name in {"temporal", "time", "duration"}:
        return f"int{t.bit_width}"
    if name == "decimal":
        return "decimal128" if t.bit_width == 128 else f"int{t.bit_width}"
    if name == "float":
        return f"float{t.bit_width}"
    return str(t) if name == "integer" else None


def is_sorted_by_pyarrow(stage: Stage, schema: pa.Schema) -> bool:
    """Tell whether some order of a stage sorts all its rows, be it for the type of its key."""
    for step in stage.steps:
        if isinstance(step, Order) and step.buckets is None:
            kind = kind_of(schema.field(step.by[0].column).type)
            if step.count is None or kind not in WORD_KINDS:
                return True
        schema = output_schema(step, schema)
    return False


def first_places(
    by: tuple[SortKey, ...], batch: pa.RecordBatch, count: int | None
) -> np.ndarray[Any, Any]:
    """Give the int64 positions of the first `count` rows of a batch in key order, or of all."""
    places = None
    if count is not None:
        places = _candidates(batch.column(by[0].column), by[0], count, ties=len(by) > 1)
    if places is None:
        return _sorted(by, batch)[:count]
    names = dict.fromkeys(key.column for key in by)
    few = [plain(batch.column(name)).take(pa.array(places)) for name in names]
    return places[_sorted(by, pa.RecordBatch.from_arrays(few, names=list(names)))[:count]]


def _sorted(by: tuple[SortKey, ...], batch: pa.RecordBatch) -> np.ndarray[Any, Any]:
    return order_of(by, batch).to_numpy().astype(np.int64)


def _candidates(
    array: pa.Array, key: SortKey, count: int, *, ties: bool
) -> np.ndarray[Any, Any] | None:
    """Give the numbers of rows that can be among the first `count`, in stored order.

    Parameters
    ----------
    array : pyarrow.Array
        The column that is ordered by first.
    ties : bool
        Further columns decide among rows that are equal in this one.

    Returns
    -------
    numpy.ndarray or None
        int64; None if sorting is the better or the only way.
    """
    rows, kind = len(array), kind_of(array.type)
    if kind not in WORD_KINDS or count == 0 or rows < _LEAST_SHARE * count:
        return None
    if rows - array.null_count < count:
        return None
    keep: list[Any] = []
    capacity = 4 * count + 4 * BLOCK + (_TIES if ties else 0)
    found = np.empty((3, capacity), np.int64)
    held = _top_k.candidates(
        WORD_KINDS.index(kind),
        array.type.bit_width // 8,
        -1 if key.descending else 0,
        values_address(array),
        bitmap_address(array, 0, keep) if array.null_count else 0,
        rows,
        count,
        int(ties),
        found.ctypes.data,
        capacity,
    )
    return None if held < 0 else found[0, :held]
