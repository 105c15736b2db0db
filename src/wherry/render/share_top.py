"""The first rows of all chunks of a share, looked for by all threads at once.

Chunk by chunk every one of them would begin without a bound, and give `count` rows to be ordered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.chunk import column_bytes
from wherry.ir.stage import Order
from wherry.ir.work import Counter
from wherry.kernels.layout import WORD_KINDS
from wherry.render.gather import Deferred, Several
from wherry.render.part import Part
from wherry.render.team import Team
from wherry.render.top_k import Keys, candidates, finds, keys_of, kind_of


class BoundOrder(Struct, frozen=True):
    """Chunks of a share, bound to a step that keeps their first rows.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the rows.
    columns : tuple of tuples of pyarrow.Array
        Those of each chunk, in the order of the schema.
    counter : Counter
        The work of the share, but for what is written.
    sizes : numpy.ndarray
        int64, bytes that the columns of each chunk take.
    """

    schema: pa.Schema
    columns: tuple[tuple[pa.Array, ...], ...]
    order: Order
    keys: Keys
    counter: Counter
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]]

    @property
    def rows(self) -> int:
        """How many rows the share has."""
        return int(self.keys.share[:, 2].sum())


def orders_together(part: Part) -> bool:
    """Tell whether a part only keeps the first rows by one column, whose values become words."""
    plan, after = part.plan, part.after
    if plan is None or not plan.keeps_rows or plan.kept_columns is None:
        return False
    if plan.residuals or plan.fields or len(after) != 1:
        return False
    order = after[0]
    if not isinstance(order, Order) or order.count is None or order.buckets is not None:
        return False
    # Further keys would decide among rows that are equal in this one, of which there may be many.
    by = order.by
    return len(by) == 1 and kind_of(plan.out_schema.field(by[0].column).type) in WORD_KINDS


def bind_order(part: Part, batches: Sequence[pa.RecordBatch]) -> BoundOrder | None:
    """Give the chunks of a part that `orders_together`, bound; None if each is better sorted."""
    assert part.plan is not None
    assert part.costs is not None
    order, schema, names = part.after[0], part.plan.out_schema, part.plan.kept_columns
    assert isinstance(order, Order)
    assert order.count is not None
    assert names is not None
    columns = tuple(tuple(batch.column(name) for name in names) for batch in batches)
    by = schema.names.index(order.by[0].column)
    chunks = [arrays[by] for arrays in columns]
    if not finds(chunks, order.count):
        return None
    counter = Counter()
    for batch in batches:
        texts = sum(column_bytes(batch.column(name)) for name in part.costs.texts)
        counter.add_pass(part.costs, batch.num_rows, batch.num_rows, texts)
        counter.add_after(part.after, batch.num_rows)
    sizes = [sum(column_bytes(a, dictionary=False) for a in arrays) for arrays in columns]
    return BoundOrder(schema, columns, order, keys_of(chunks), counter, np.array(sizes, np.int64))


def first_of(bound: BoundOrder, team: Team) -> Several | None:
    """Give the first rows in stored order, not written yet; None if they must be sorted for it."""
    assert bound.order.count is not None
    found = candidates(bound.keys, bound.order.by[0], bound.order.count, team, ties=False)
    if found is None:
        return None
    firsts, rows = bound.keys.share[:, 3], bound.keys.share[:, 2]
    ends = np.searchsorted(found, firsts + rows)
    parts, nbytes, start = [], 0, 0
    for number, end in enumerate(ends.tolist()):
        if end > start:
            numbers = found[start:end] - firsts[number]
            columns = tuple((array, numbers) for array in bound.columns[number])
            parts.append(Deferred(bound.schema, columns, end - start))
            nbytes += int(bound.sizes[number]) * (end - start) // max(1, int(rows[number]))
        start = end
    return Several(tuple(parts), len(found), nbytes)
