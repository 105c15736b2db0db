"""Take some rows through the passes of a segment, by columns: what of them comes out.

The rows of joins are looked at only where their keys are among those of the rows given, so that a
look costs a pass over the keys of a build and no table of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from wherry.base.compute import pc
from wherry.data.arrays import plain
from wherry.ir.build import key_values, rows_held
from wherry.ir.expr import Code, Node
from wherry.ir.reference import evaluate
from wherry.ir.stage import Matches, Pass, Rows, Step

Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Looked(NamedTuple):
    """What came out.

    Attributes
    ----------
    rows : pyarrow.RecordBatch
        The rows made.
    origin : numpy.ndarray
        Which of the rows given each was made of.
    passed : int
        How many rows came to the first join; those that came out if there is none.
    """

    rows: pa.RecordBatch
    origin: Numbers
    passed: int


def simple(steps: Sequence[Step]) -> bool:
    """Tell whether all of them are passes that give rows."""
    return bool(steps) and all(
        isinstance(step, Pass) and isinstance(step.sink, Rows | Matches) for step in steps
    )


def look(steps: Sequence[Step], rows: pa.RecordBatch) -> Looked:
    """Give what comes of `rows`.

    Raises
    ------
    InputError, pyarrow.ArrowException
        A value cannot be computed.
    """
    origin: Numbers = np.arange(rows.num_rows)
    passed: int | None = None
    for step in steps:
        assert isinstance(step, Pass)
        if step.predicate is not None:
            mask = pc.fill_null(evaluate(step.predicate, rows), False)
            rows, origin = rows.filter(mask), origin[np.asarray(mask.to_numpy(False))]
        assert isinstance(step.sink, Rows | Matches)
        outputs = {name: evaluate(node, rows) for name, node in step.sink.outputs}
        if isinstance(step.sink, Matches):
            passed = rows.num_rows if passed is None else passed
            left, right = _pairs(step.sink, rows)
            build = rows_held(step.sink.build).batch
            outputs = {name: array.take(left) for name, array in outputs.items()}
            outputs |= {name: build.column(n).take(right) for name, n, _ in step.sink.added}
            origin = origin[left.to_numpy()]
        rows = _batch(outputs, len(origin))
    return Looked(rows, origin, rows.num_rows if passed is None else passed)


def _batch(columns: dict[str, pa.Array], rows: int) -> pa.RecordBatch:
    if columns:
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    # Who only counts rows reads none of their columns.
    return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=[""])


def _pairs(sink: Matches, rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    """Give the rows, and for each the row of the build that it matches; null for none."""
    build = rows_held(sink.build)
    asked = [plain(evaluate(_compared(key), rows)) for key in sink.keys]
    held = [plain(build.batch.column(number)) for number in range(len(asked))]
    known = pc.is_in(held[0], value_set=asked[0].cast(held[0].type).unique())
    numbers = pc.indices_nonzero(known)
    found: dict[tuple[object, ...], list[int]] = {}
    columns = [key_values(array.take(numbers)) for array in held]
    for number, key in zip(numbers.to_pylist(), zip(*columns, strict=True), strict=True):
        found.setdefault(key, []).append(number)
    left: list[int] = []
    right: list[int | None] = []
    none: list[int | None] = [None] if sink.outer else []
    for row, key in enumerate(zip(*map(key_values, asked), strict=True)):
        matches = found.get(key) or none
        left += [row] * len(matches)
        right += matches
    return pa.array(left, pa.int64()), pa.array(right, pa.int64())


def _compared(key: Node) -> Node:
    """Give what is compared with a build's key: a text itself, where programs take its number."""
    return key.operand if isinstance(key, Code) else key
