"""A stage as a CUDA device runs it: one pass over rows that lie there, and what the host adds.

Columns that a device does not write, such as texts, stay on the host: the device gives the numbers
of the rows that pass, and the host picks those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import Refused
from wherry.data.arrays import take
from wherry.ir.expr import Column
from wherry.ir.stage import Order, Pass, Rows, Stage, Step, Take, output_schema
from wherry.ir.work import Costs, costs_of
from wherry.render.cuda.program import CudaPass, can_leave, plan_pass
from wherry.render.cuda.values import ROW
from wherry.render.intervals import Bounds


class CudaStage(Struct, frozen=True):
    """A pass, and what is done on the host with the pieces that leave the device.

    Attributes
    ----------
    after : tuple of Order or Take
        An order is of the first rows only, and the first: the device gives those of each piece.
    kept : dict
        Of outputs that the host adds, by their names: the columns that they are.
    output : pyarrow.Schema
        Of the rows that come out.
    costs : Costs
        What its work is counted by, as anywhere.
    """

    plan: CudaPass
    kept: Mapping[str, str]
    after: tuple[Order | Take, ...]
    output: pa.Schema
    costs: Costs

    @property
    def columns(self) -> tuple[str, ...]:
        """Give the columns that are read of rows on the host."""
        return tuple(sorted({*self.plan.columns, *self.kept.values()}))


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
    reasons = list[str]()
    top, after = None, list[Order | Take]()
    for number, step in enumerate(rest):
        if isinstance(step, Pass):
            reasons.append("a pass over what another made has no CUDA form")
        elif isinstance(step, Order) and number:
            reasons.append("rows in another order have no CUDA form")
        else:
            top = step if isinstance(step, Order) else top
            after.append(step)
    made, kept = _apart(first)
    try:
        plan = plan_pass(made, schema, bounds, top)
    except Refused as refused:
        raise Refused(refused.message, (*refused.reasons, *reasons)) from None
    if reasons:
        raise Refused("the stage cannot run on a CUDA device", tuple(dict.fromkeys(reasons)))
    return CudaStage(plan, kept, tuple(after), output_schema(first, schema), costs_of(first))


def _with_pass(steps: tuple[Step, ...], schema: pa.Schema) -> tuple[Step, ...]:
    """Give steps that begin with a pass: one that keeps all rows, if there is none."""
    if steps and isinstance(steps[0], Pass):
        return steps
    outputs = tuple((field.name, Column(field.name, field.type)) for field in schema)
    return (Pass(None, Rows(outputs)), *steps)


def _apart(step: Pass) -> tuple[Pass, dict[str, str]]:
    """Give a pass without the columns that the host adds, and those."""
    if not isinstance(step.sink, Rows):
        return step, {}
    kept = {
        name: node.name
        for name, node in step.sink.outputs
        if isinstance(node, Column) and not can_leave(node)
    }
    if not kept:
        return step, {}
    outputs = tuple(pair for pair in step.sink.outputs if pair[0] not in kept)
    return Pass(step.predicate, Rows((*outputs, (ROW.name, ROW)))), kept


def added(
    stage: CudaStage, made: pa.RecordBatch, given: Mapping[str, Sequence[pa.Array]]
) -> pa.RecordBatch:
    """Give the rows of a piece that passed, with the columns that the host adds.

    Parameters
    ----------
    given : mapping
        What the host has of the piece's rows, by column.
    """
    if not stage.kept:
        return made
    numbers, columns = made.column(ROW.name), list[pa.Array]()
    for field in stage.output:
        if field.name in stage.kept:
            whole = pa.chunked_array(given[stage.kept[field.name]], field.type)
            columns.append(take(whole, numbers).combine_chunks())
        else:
            columns.append(made.column(field.name))
    return pa.RecordBatch.from_arrays(columns, schema=stage.output)
