"""A stage as a program: what it is, what it will not do natively, and what a run of it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from wherry.data.segment import SegmentPool
from wherry.devices.work import Work
from wherry.ir.expr import Literal
from wherry.ir.literals import bind
from wherry.ir.reference import evaluate
from wherry.ir.stage import Pass, Stage
from wherry.render.counting import count_step
from wherry.render.ledger import account
from wherry.render.reference import check_stage, run_step


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """What a program made of one chunk.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        The result.
    rows_in, rows_selected : int
        Rows of the chunk, and how many of them passed the first predicate.
    referenced_bytes, copied_bytes : int
        Bytes of `batch` that lie in the chunk's own buffers, and bytes newly written.
    why : str
        Why bytes were written, or why none were.
    work : Work
        Counted work, the same on every device.
    """

    batch: pa.RecordBatch
    rows_in: int
    rows_selected: int
    referenced_bytes: int
    copied_bytes: int
    why: str
    work: Work


@dataclass(frozen=True, slots=True)
class Program:
    """A stage made ready for chunks of one schema.

    Parameters
    ----------
    stage : Stage
        Lifted: its literals are parameters.
    schema : pyarrow.Schema
        Of the chunks.
    text : str
        What runs, for a person to read.
    residuals : tuple of str
        Which expression or step runs through pyarrow, and why; empty if none does.
    """

    stage: Stage
    schema: pa.Schema
    text: str
    residuals: tuple[str, ...]

    def run(
        self,
        batch: pa.RecordBatch,
        literals: tuple[Literal, ...],
        pool: SegmentPool,  # noqa: ARG002
    ) -> ChunkOutput:
        """Give what the program makes of one chunk; any thread may call this at any time."""
        found, selected, work = batch, batch.num_rows, Work()
        for number, step in enumerate(bind(self.stage, literals).steps):
            if number == 0 and isinstance(step, Pass) and step.predicate is not None:
                passed = evaluate(step.predicate, batch)
                selected = pc.sum(passed, min_count=0).as_py()
            work += count_step(step, found, selected if number == 0 else found.num_rows)
            found = run_step(step, found)
        referenced, copied = account(found, batch)
        work += Work(write_bytes=copied)
        why = "gathered by pyarrow"
        return ChunkOutput(found, batch.num_rows, selected, referenced, copied, why, work)


def render(stage: Stage, schema: pa.Schema, bounds: Mapping[str, tuple[int, int]]) -> Program:  # noqa: ARG001
    """Give the program of `stage` for chunks of `schema`.

    Parameters
    ----------
    bounds : mapping
        The smallest and largest unscaled integer of columns, over all chunks, where known.
    """
    check_stage(stage)
    reasons = ("every step: runs through the reference interpreter",)
    return Program(stage, schema, "\n".join(str(s) for s in stage.steps), reasons)
