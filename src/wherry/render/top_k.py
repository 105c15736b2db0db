"""The first rows in key order, without sorting the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.arrays import plain
from wherry.data.types import type_class
from wherry.ir.stage import Order, SortKey, Stage, output_schema
from wherry.kernels.layout import BLOCK, WORD_KINDS
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import bitmap_address, values_address
from wherry.render.reference import order_of
from wherry.render.team import Team, alone

Array: TypeAlias = np.ndarray[Any, Any]

_top_k = skeletons("top_k")
_LEAST_SHARE: Final = 8
"""Below so many rows for each that is wanted, sorting them all is as fast."""
_TIES: Final = 4096
_LARGEST: Final = (1 << 63) - 1


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


def first_places(by: tuple[SortKey, ...], batch: pa.RecordBatch, count: int | None) -> Array:
    """Give the int64 positions of the first `count` rows of a batch in key order, or of all."""
    places = None
    if count is not None:
        column = batch.column(by[0].column)
        if finds([column], count):
            places = candidates(keys_of([column]), by[0], count, alone, ties=len(by) > 1)
    if places is None:
        return _sorted(by, batch)[:count]
    names = dict.fromkeys(key.column for key in by)
    few = [plain(batch.column(name)).take(pa.array(places)) for name in names]
    return places[_sorted(by, pa.RecordBatch.from_arrays(few, names=list(names)))[:count]]


def _sorted(by: tuple[SortKey, ...], batch: pa.RecordBatch) -> Array:
    return order_of(by, batch).to_numpy().astype(np.int64)


class Keys(Struct, frozen=True):
    """The column that is ordered by first, chunk by chunk, as `top_k.candidates_each` reads it.

    Attributes
    ----------
    type : pyarrow.DataType
        Of the column.
    share : numpy.ndarray
        int64 of shape (chunks, 4).
    keep : list
        What `share` points to besides the column.
    """

    type: pa.DataType
    share: Array
    keep: list[Any]


def finds(chunks: Sequence[pa.Array], count: int) -> bool:
    """Tell whether `candidates` knows a column's type, and sorting all rows is not as fast."""
    rows, nulls = sum(map(len, chunks)), sum(array.null_count for array in chunks)
    known = bool(chunks) and kind_of(chunks[0].type) in WORD_KINDS
    return known and 0 < count <= rows - nulls and rows >= _LEAST_SHARE * count


def keys_of(chunks: Sequence[pa.Array]) -> Keys:
    """Give a column as candidates are looked for in it; its chunks must stay where they are."""
    keep: list[Any] = list(chunks)
    share = np.zeros((len(chunks), 4), np.int64)
    for number, array in enumerate(chunks):
        share[number, 0] = values_address(array)
        share[number, 1] = bitmap_address(array, 0, keep) if array.null_count else 0
        share[number, 2] = len(array)
    share[:, 3] = np.cumsum(share[:, 2]) - share[:, 2]
    return Keys(chunks[0].type, share, keep)


def candidates(keys: Keys, key: SortKey, count: int, team: Team, *, ties: bool) -> Array | None:
    """Give the numbers of rows that can be among the first `count`, in stored order.

    Without `ties` they are those rows exactly, whatever threads did.

    Parameters
    ----------
    keys : Keys
        The column that is ordered by first; `finds` has told that it can be looked through.
    ties : bool
        Further columns decide among rows that are equal in this one.

    Returns
    -------
    numpy.ndarray or None
        int64; None if sorting is the only way.
    """
    capacity = 4 * count + 4 * BLOCK + (_TIES if ties else 0)
    kind, width = WORD_KINDS.index(kind_of(keys.type)), keys.type.bit_width // 8
    flip, shared = -1 if key.descending else 0, np.full(1, _LARGEST, np.int64)
    share, told = int(keys.share.ctypes.data), int(shared.ctypes.data)
    found: list[tuple[Array, Array]] = []

    def work(counter: int) -> None:
        state, room = np.array([0, _LARGEST, 0]), np.empty((3, capacity), np.int64)
        found.append((state, room))
        while _top_k.candidates_each(
            kind, width, flip, share, len(keys.share), count, int(ties), state.ctypes.data, told,
            room.ctypes.data, capacity, counter,
        ):  # fmt: skip
            pass

    (team if len(keys.share) > 1 else alone)(work)
    if any(state[2] < 0 for state, _ in found):
        return None
    rows, words = (np.concatenate([r[n, : s[0]] for s, r in found]) for n in (0, 1))
    if len(rows) > count:
        # Threads found `count` rows each; rows before others come first among equal words.
        order = np.lexsort((rows, words))
        last = (
            count if not ties else np.searchsorted(words[order], words[order[count - 1]], "right")
        )
        rows = rows[order[:last]]
    return np.sort(rows)
