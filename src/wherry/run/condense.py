"""What came of many chunks as the fewest rows that serve as well, before it is put away.

Only where the answer stays the same to the bit: rows that cannot be among the first are left out,
and partial values are merged whose merging gives the same in whatever groups it is done. Sums of
floats do not; they stay as they are, a row for each chunk and group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.data.segment import SegmentPool
from wherry.data.types import type_class
from wherry.ir.expr import Call, Column, Literal
from wherry.ir.resolve import type_of
from wherry.ir.stage import Groups, Order, Pass, Stage, Step, Take, Totals, output_schema
from wherry.plan.query import Plan, segment_schemas
from wherry.render.gather import batches_of
from wherry.render.program import render

_MERGED: Final = {"sum", "min", "max"}


def condensed(
    plan: Plan,
    literals: tuple[Literal, ...],
    parts: Sequence[pa.RecordBatch],
    pool: SegmentPool,
) -> tuple[pa.RecordBatch, ...]:
    """Give parts, the rows of chunks in order, as fewer rows if they serve as well.

    Parameters
    ----------
    plan : Plan
        With a merge segment, into which the parts go.
    """
    number = [segment.kind for segment in plan.segments].index("merge")
    step, schema = plan.segments[number].steps[0], segment_schemas(plan)[number]
    if sum(part.num_rows for part in parts) < 2 or not shrinks(step, schema):
        return tuple(parts)
    program = render(Stage((step,)), schema, {})
    try:
        made = program.run_gathered(parts, literals, pool).batch
    except InputError:
        # A sum of some chunks may need more digits than that of all, and dictionaries may not fit
        # together. Then rows stay as they are, until all have met.
        return tuple(parts)
    return tuple(batches_of(made))


def shrinks(step: Step, schema: pa.Schema) -> bool:
    """Tell whether a step may be taken at once over some of its rows, and again over all.

    Parameters
    ----------
    step : Step
        The first one where chunks meet, over rows of `schema`.
    """
    match step:
        case Take():
            return True
        case Order(_, count, buckets):
            return count is not None and buckets is None
        case Pass(None, Totals(calls) | Groups(_, calls)):
            same = output_schema(step, schema).equals(schema)
            return same and all(_merges(name, call) for name, call in calls)
    return False


def _merges(name: str, call: Call) -> bool:
    """Tell whether an aggregate of the column `name` gives a value that it may be taken of."""
    argument = call.argument
    if not isinstance(argument, Column) or argument.name != name or call.kind not in _MERGED:
        return False
    return type_class(type_of(argument)) != "float"
