"""Totals of a chunk that nobody has read yet: those of many chunks are read at once.

To read a state takes Python as long as the kernel took for a chunk of a few thousand rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.ir.stage import Totals
from wherry.render.execute import Run
from wherry.render.late import Chosen
from wherry.render.part import Making, Part
from wherry.render.passes import Compiled, PassPlan
from wherry.render.state import Matrix, read


class Sums(Struct, frozen=True, eq=False):
    """The state of totals over one chunk: what `code.cells` lay out; uint8."""

    plan: PassPlan
    code: Compiled
    state: np.ndarray[Any, Any]


def can_sum(part: Part) -> bool:
    """Tell whether the states of a pass hold all that its totals are made of."""
    plan = part.plan
    if plan is None or part.after or not isinstance(plan.step.sink, Totals):
        return False
    return not (plan.picks or plan.encoded)


def sum_up(chosen: Chosen, making: Making) -> tuple[Sums, int] | None:
    """Give the totals of chosen rows, of a pass that `can_sum`, and how many rows passed.

    None if a residual has no value in some row, be it a row that would not pass.
    """
    try:
        prepared = chosen.preparer.prepare(chosen.batch, making.literals)
    except InputError:
        return None
    run = Run(chosen.plan, prepared, making.packed, making.pool)
    code, state = run.summed()
    return Sums(chosen.plan, code, state), run.selected


def read_sums(sums: Sequence[Sums]) -> pa.RecordBatch:
    """Give the totals of chunks, a row each, all states of one variant of a pass.

    Raises
    ------
    InputError
        If a sum needs more digits than there are.
    """
    plan, code = sums[0].plan, sums[0].code
    fields = Matrix(np.stack([one.state for one in sums]))
    return plan.batch_of([read(cell, fields) for cell in code.cells])
