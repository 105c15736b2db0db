"""What work a stage is expected to do: the counts that a run of it would have, from estimates."""

from __future__ import annotations

from msgspec.structs import replace

from wherry.devices.work import Work
from wherry.ir.expr import Column
from wherry.ir.stage import Matches, Pass, Rows, Step
from wherry.ir.work import Counter, costs_of, encoding_work
from wherry.ops.select import TEXT_BYTES
from wherry.plan.placement import Stage
from wherry.plan.query import Query, builds_of
from wherry.plan.segments import stage_of


def stage_work(query: Query, stage: Stage, parts: int) -> Work:
    """Give the estimated work of one of `parts` equal runs of a stage."""
    encoding = query.segments[stage.last].encoding
    if encoding is None:
        return _steps_work(query, stage, parts)
    rows_bytes, stream_bytes = (
        int(flow.rows * flow.row_bytes / parts)
        for flow in (query.flows[stage.last - 1], query.flows[stage.last])
    )
    work = encoding_work(encoding, rows_bytes, stream_bytes)
    before = replace(stage, last=stage.last - 1)
    return work if stage.first == stage.last else work + _steps_work(query, before, parts)


def _steps_work(query: Query, stage: Stage, parts: int) -> Work:
    program = stage_of(query.segments[stage.first : stage.last + 1])
    near, made = query.flows[stage.first], query.flows[stage.last]
    apart, rows = int(near.rows / parts), int(query.flows[stage.first - 1].rows / parts)
    groups = int((made.rows if stage.chunkwise else query.within.grouped) / parts)
    counter = Counter()
    for step in program.steps:
        if not isinstance(step, Pass):
            counter.add_after((step,), rows)
            rows = rows if step.count is None else min(rows, step.count)
            continue
        matches = isinstance(step.sink, Matches)
        passed = int(query.within.passed / parts) if matches else apart
        selected = rows if step.predicate is None else min(rows, passed)
        costs = costs_of(step)
        counter.add_pass(costs, rows, selected, int(rows * TEXT_BYTES * len(costs.texts)))
        if matches:
            rows = apart
            counter.hash_rows += rows
            builds = builds_of(query, stage.first, stage.last)
            counter.state_bytes = max(build.state_bytes for build in builds)
        elif isinstance(step.sink, Rows):
            rows = selected
        else:
            rows = groups
            counter.add_groups(costs, groups)
    every = near.rows >= query.flows[stage.first - 1].rows
    return counter.work(
        _written(program.steps, int(made.rows * made.row_bytes / parts), every=every)
    )


def _written(steps: tuple[Step, ...], nbytes: int, *, every: bool) -> int:
    """Give the bytes a stage writes: none if columns only pass through, and so does `every` row."""
    match steps:
        case (Pass(predicate, Rows(outputs)),) if every or predicate is None:
            return 0 if all(isinstance(node, Column) for _, node in outputs) else nbytes
    return nbytes
