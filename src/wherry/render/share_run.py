"""A pass and what follows it, over chunks that are bound together."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from wherry.data.segment import SegmentPool
from wherry.ir.expr import Literal
from wherry.ir.stage import Totals
from wherry.render.buckets import into_buckets
from wherry.render.ledger import written
from wherry.render.part import Part
from wherry.render.share import Array, Bound, bind_together, totals_of
from wherry.render.share_buckets import all_dealt, deals_together, dealt_rows
from wherry.render.share_rows import Written, rows_of
from wherry.render.state import Matrix, read
from wherry.render.team import Team


def binds_after(part: Part) -> bool:
    """Tell whether what follows a pass that binds is done to chunks bound together too."""
    return not part.after or (part.plan is not None and deals_together(part.plan, part.after))


def bound_of(
    part: Part, batches: Sequence[pa.RecordBatch], literals: tuple[Literal, ...]
) -> Bound | None:
    """Give chunks bound together; None if each must run alone, for what it holds.

    Raises
    ------
    InputError
        If a value to look up cannot be computed.
    """
    assert part.plan is not None
    assert part.preparer is not None
    assert part.costs is not None
    bound = bind_together(part.plan, part.preparer, part.costs, batches, literals)
    if bound is None or not part.after:
        return bound
    return bound if all_dealt(part.plan, bound) else None


def share_of(
    part: Part, bound: Bound, literals: Array, pool: SegmentPool, team: Team
) -> tuple[Written, int]:
    """Give what a part makes of chunks, and how many rows passed."""
    plan, step = part.plan, into_buckets(part.after)
    assert plan is not None
    if isinstance(plan.step.sink, Totals):
        states, selected = totals_of(bound, literals, team)
        fields = Matrix(states)
        made = plan.batch_of([read(cell, fields) for cell in bound.code.cells])
        return Written(made, 0, written(made)), selected
    if step is not None:
        kept = dealt_rows(plan, step, bound, literals, pool=pool, team=team)
    else:
        kept = rows_of(plan, bound, literals, pool, team)
    return kept, kept.rows.num_rows
