"""Rows that pass, aggregated into one row: a program around `kernels/cuda/totals.cu`."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from msgspec import Struct

from wherry.ir.stage import Totals, output_schema
from wherry.render.cuda.bind import Bound
from wherry.render.cuda.program import CudaPass, CudaProgram, called, program_of, tests_text
from wherry.render.cuda.state import State, read_cell, state_of
from wherry.render.cuda.values import Frame
from wherry.render.loop import Variant

BLOCK: Final = 256
SPAN: Final = 32_768
"""Rows of a partial state; both as in totals.cu and reduce.cu."""
_SMALL: Final = 64
"""Bytes of a state that leaves room on a core for two blocks."""
_GRID: Final = 1024
"""Blocks that run at once; the answer does not depend on it."""


class TotalsProgram(Struct, frozen=True):
    """A program that aggregates, and what its states hold."""

    program: CudaProgram
    state: State


def render_totals(plan: CudaPass, variant: Variant) -> TotalsProgram:
    """Give the program of a pass whose sink is Totals."""
    frame = Frame()
    frame.entry("rows", "", "i64")
    frame.entry("states", "", "State*")
    tests = tests_text(frame, variant, plan.predicate, "test_rows")
    state = state_of(frame, variant, called(plan))
    blocks = f"constexpr int BLOCKS = {2 if state.nbytes <= _SMALL else 1};"
    program = program_of(frame, [tests, state.text, blocks], ["reduce", "totals"])
    return TotalsProgram(program, state)


def run_totals(made: TotalsProgram, plan: CudaPass, chunk: Bound) -> pa.RecordBatch:
    """Give one row of aggregates of the rows of a chunk that pass, in two launches.

    Raises
    ------
    InputError
        If a sum of decimals needs more than 38 digits.
    """
    assert isinstance(plan.step.sink, Totals)
    device, size = chunk.device, made.state.nbytes
    spans = -(-chunk.rows // SPAN)
    states = device.room((spans + 1) * size)
    chunk.words["states", ""] = states
    context = chunk.context(made.program)
    if spans:
        device.launch(made.program, "total_pass", min(spans, _GRID), BLOCK, context)
    device.launch(made.program, "fold_pass", 1, BLOCK, context)
    found = device.get(states + spans * size, size).reshape(1, size)
    columns = [read_cell(cell, made.state, found) for cell in made.state.cells]
    return pa.RecordBatch.from_arrays(columns, schema=output_schema(plan.step, plan.schema))
