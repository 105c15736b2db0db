"""A stage as a CUDA device runs it: one pass over rows that lie there, and what is left to cut."""

from __future__ import annotations

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import Refused
from wherry.ir.expr import Column
from wherry.ir.stage import Order, Pass, Rows, Stage, Step, Take
from wherry.ir.work import Costs, costs_of
from wherry.render.cuda.program import CudaPass, plan_pass
from wherry.render.intervals import Bounds


class CudaStage(Struct, frozen=True):
    """A pass, and the orders and takes behind it, which cut what leaves the device.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the rows that go in.
    costs : Costs
        What its work is counted by, as anywhere.
    """

    plan: CudaPass
    after: tuple[Order | Take, ...]
    schema: pa.Schema
    costs: Costs


def plan_stage(stage: Stage, schema: pa.Schema, bounds: Bounds) -> CudaStage:
    """Give a stage as a CUDA device runs it.

    Parameters
    ----------
    stage : Stage
        Lifted: its literals are parameters.
    bounds : mapping
        What statistics say of columns, as `plan_pass` takes it.

    Raises
    ------
    Refused
        If part of it has no CUDA form; with every reason.
    """
    first, *rest = _with_pass(stage.steps, schema)
    assert isinstance(first, Pass)
    reasons = []
    for step in rest:
        if isinstance(step, Pass):
            reasons.append("a pass over what another made has no CUDA form")
        elif isinstance(step, Order):
            reasons.append("rows in order have no CUDA form")
    try:
        plan = plan_pass(first, schema, bounds)
    except Refused as refused:
        raise Refused(refused.args[0], (*refused.reasons, *reasons)) from None
    if reasons:
        raise Refused("the stage cannot run on a CUDA device", tuple(dict.fromkeys(reasons)))
    after = tuple(step for step in rest if isinstance(step, Take))
    return CudaStage(plan, after, schema, costs_of(first))


def _with_pass(steps: tuple[Step, ...], schema: pa.Schema) -> tuple[Step, ...]:
    """Give steps that begin with a pass: one that keeps all rows, if there is none."""
    if steps and isinstance(steps[0], Pass):
        return steps
    outputs = tuple((field.name, Column(field.name, field.type)) for field in schema)
    return (Pass(None, Rows(outputs)), *steps)
