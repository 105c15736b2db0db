"""Values of rows that were found by number: first and last values, of any type."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from wherry.data.arrays import plain, restored
from wherry.data.segment import SegmentPool
from wherry.ir.expr import Column, Node, columns_of
from wherry.ir.reference import evaluate
from wherry.render.bind import Chunk
from wherry.render.output import Selection, keep_rows


def picked(node: Node, t: pa.DataType, rows: pa.Array, chunk: Chunk, pool: SegmentPool) -> pa.Array:
    """Give the value of `node` in each of the rows of a chunk, as type `t`.

    Parameters
    ----------
    node : Node
        Without parameters. What is not a column is computed by the reference, of these rows only.
    rows : pyarrow.Array
        int64; null, in totals alone, if there is no such row.

    Raises
    ------
    InputError
        If the expression has no value in one of the rows.
    """
    if rows.null_count:
        return pa.nulls(len(rows), t)
    numbers = np.asarray(rows)
    kept = Selection(chunk.rows, len(numbers), order=numbers)
    if isinstance(node, Column):
        found = keep_rows(chunk.columns[node.name], kept, pool)
    else:
        columns = {n: keep_rows(chunk.columns[n], kept, pool) for n in sorted(columns_of(node))}
        # An expression without columns still needs as many rows.
        batch = pa.RecordBatch.from_pydict(columns or {"row": rows})
        found = evaluate(node, batch)
    return found if found.type.equals(t) else restored(plain(found), t)
