"""A pass over a chunk on a CUDA device: the program for it, launched, and what came of it."""

from __future__ import annotations

import pyarrow as pa

from wherry.ir.expr import Literal
from wherry.ir.stage import Rows
from wherry.render.cuda.bind import bound, nulls_of
from wherry.render.cuda.device import CudaDevice
from wherry.render.cuda.filter import FilterProgram, render_filter, run_filter
from wherry.render.cuda.program import CudaPass, CudaProgram
from wherry.render.loop import Variant


def run_pass(
    plan: CudaPass, batch: pa.RecordBatch, literals: tuple[Literal, ...], device: CudaDevice
) -> pa.RecordBatch:
    """Give what a pass makes of a chunk, as `wherry.render.reference.run_step` has it.

    Parameters
    ----------
    plan : CudaPass
        Of `batch`'s schema.
    batch : pyarrow.RecordBatch
        On the host: the buffers that the pass reads are copied to the device. Buffers of columns
        start at multiples of their elements' size, as Arrow's format has it; 128 bits at 8.
    literals : tuple of Literal
        The values of the pass's parameters.

    Raises
    ------
    Refused
        If the program would need more arguments or memory on chip than there is.
    """
    chunk = bound(plan, batch, literals, device)
    made = _rendered(plan, plan.variant(nulls_of(chunk.columns)))
    return run_filter(made, plan, chunk)


def render_pass(plan: CudaPass, nullable: frozenset[str]) -> CudaProgram:
    """Give the program of a pass over chunks that have nulls in the columns `nullable`."""
    return _rendered(plan, plan.variant(nullable)).program


def _rendered(plan: CudaPass, variant: Variant) -> FilterProgram:
    assert isinstance(plan.step.sink, Rows)
    return render_filter(plan, variant)
