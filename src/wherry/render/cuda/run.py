"""A pass over a chunk on a CUDA device: the program for it, launched, and what came of it."""

from __future__ import annotations

import pyarrow as pa

from wherry.ir.expr import Literal
from wherry.ir.stage import Groups, Totals
from wherry.render.cuda.bind import bound, nulls_of
from wherry.render.cuda.device import CudaDevice
from wherry.render.cuda.filter import render_filter, run_filter
from wherry.render.cuda.groups import (
    dictionary_sizes,
    domains_of,
    fits_on_chip,
    render_groups,
    run_groups,
)
from wherry.render.cuda.hashed import render_hashed, run_hashed
from wherry.render.cuda.program import CudaPass, CudaProgram
from wherry.render.cuda.totals import render_totals, run_totals


def run_pass(
    plan: CudaPass, batch: pa.RecordBatch, literals: tuple[Literal, ...], device: CudaDevice
) -> pa.RecordBatch:
    """Give what a pass makes of a chunk, as `wherry.render.reference.run_step` has it.

    Parameters
    ----------
    plan : CudaPass
        Of `batch`'s schema.
    batch : pyarrow.RecordBatch
        On the host: the bytes that the pass reads are copied to the device. Values start at
        multiples of their size, as Arrow's format has it; 128 bits and views at 8.
    literals : tuple of Literal
        The values of the pass's parameters.

    Raises
    ------
    Refused
        If the program needs more arguments than there are, or groups that do not fit on chip cannot
        be hashed.
    InputError
        If a sum of decimals needs more than 38 digits.
    """
    chunk = bound(plan, batch, literals, device)
    variant = plan.variant(nulls_of(chunk.columns))
    match plan.step.sink:
        case Totals():
            return run_totals(render_totals(plan, variant), plan, chunk)
        case Groups():
            sizes = dictionary_sizes(plan, chunk)
            if not fits_on_chip(plan, variant, sizes):
                return run_hashed(render_hashed(plan, variant), plan, chunk)
            domains = domains_of(plan, variant, sizes)
            return run_groups(render_groups(plan, variant, domains), plan, chunk, domains)
    return run_filter(render_filter(plan, variant), plan, chunk)


def render_pass(plan: CudaPass, nullable: frozenset[str], sizes: dict[str, int]) -> CudaProgram:
    """Give the program of a pass over chunks of one kind.

    Parameters
    ----------
    nullable : frozenset of str
        The columns with nulls.
    sizes : dict
        By column: how many entries the dictionary of a key has.

    Raises
    ------
    Refused
        As `run_pass` does.
    """
    variant = plan.variant(nullable)
    match plan.step.sink:
        case Totals():
            return render_totals(plan, variant).program
        case Groups():
            if not fits_on_chip(plan, variant, sizes):
                return render_hashed(plan, variant).filter.program
            return render_groups(plan, variant, domains_of(plan, variant, sizes)).program
    return render_filter(plan, variant).program
