"""The rows of a share in the order of their buckets: counted first, then dealt, each written once.

Buckets are counted over all chunks, so every chunk's rows of a bucket have their own place in the
answer, whatever thread writes them, and every bucket lies whole.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from wherry.data.segment import SegmentPool
from wherry.ir.expr import Column
from wherry.ir.stage import Order, Rows
from wherry.render.buckets import Numbered, bucket_column, deal_into, into_buckets, number_rows
from wherry.render.gather import Arrangement
from wherry.render.ledger import written
from wherry.render.passes import PassPlan
from wherry.render.share import Array, Bound, width_of
from wherry.render.share_rows import Written
from wherry.render.team import Team, each


def deals_together(plan: PassPlan, after: Arrangement) -> bool:
    """Tell whether chunks of a pass, and the order behind it, may be dealt together.

    All rows go into buckets, and besides their number only columns of a fixed width do.
    """
    step = into_buckets(after)
    if step is None or plan.predicate is not None or not isinstance(plan.step.sink, Rows):
        return False
    key = _key(plan, step)
    others = [node for number, node in enumerate(plan.outputs) if number != key]
    widths = map(width_of, plan.out_schema.types)
    return (
        all(widths)
        and not isinstance(plan.outputs[key], Column)
        and all(isinstance(node, Column) for node in others)
    )


def all_dealt(plan: PassPlan, bound: Bound) -> bool:
    """Tell whether no chunk that was bound has a null, so that `dealt_rows` may be asked."""
    return len(bound.plain) == len(plan.outputs) - 1


def dealt_rows(
    plan: PassPlan, step: Order, bound: Bound, literals: Array, *, pool: SegmentPool, team: Team
) -> Written:
    """Give the rows of all chunks as one batch, bucket after bucket, in stored order within."""
    assert step.buckets is not None
    buckets, key = step.buckets, _key(plan, step)
    table, _kept = bound.table(literals, np.zeros(len(bound.rows), np.int64))
    function = bound.code.addresses[f"values{key}"]

    def count(number: int) -> Numbered:
        contexts = int(table[number, 0]), int(table[number, 2])
        chunk = bound.ready[number].chunk
        return number_rows(function, contexts, chunk, None, buckets, pool=pool)

    numbered = each(team, len(table), count)
    counts = np.array([one.counts[:-1] for one in numbered])
    # Of one bucket the first chunk's rows come first; of one chunk the first bucket's do.
    ends = np.cumsum(counts.T).reshape(buckets, len(table)).T
    types = [plan.out_schema.types[number] for number in bound.plain]
    rows, widths = int(bound.rows.sum()), [width_of(t) for t in types]
    buffers = [pool.allocate(rows * width) for width in widths]
    targets = np.array([buffer.address for buffer in buffers], np.int64)

    def write(number: int) -> None:
        columns = np.column_stack(
            [np.array(widths, np.int64), bound.layout.sources[number], targets]
        )
        deal_into(columns, numbered[number], (ends - counts)[number])

    each(team, len(table), write)
    columns = {
        number: pa.Array.from_buffers(t, rows, [None, buffer], 0)
        for number, t, buffer in zip(bound.plain, types, buffers, strict=True)
    }
    columns[key] = bucket_column(counts.sum(axis=0), pool)
    arrays = [columns[number] for number in range(len(plan.outputs))]
    made = pa.RecordBatch.from_arrays(arrays, names=plan.out_schema.names)
    return Written(made, 0, written(made))


def _key(plan: PassPlan, step: Order) -> int:
    return plan.out_schema.names.index(step.by[0].column)
