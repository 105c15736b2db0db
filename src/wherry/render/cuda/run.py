"""A pass over a chunk of the host on a CUDA device: all of it put there, in one piece."""

from __future__ import annotations

import pyarrow as pa

from wherry.ir.expr import Literal
from wherry.render.cuda.bind import Constants
from wherry.render.cuda.columns import facts_of, put_column
from wherry.render.cuda.program import CudaPass
from wherry.render.cuda.share import begin


def run_pass(
    plan: CudaPass, batch: pa.RecordBatch, literals: tuple[Literal, ...], constants: Constants
) -> pa.RecordBatch:
    """Give what a pass makes of a chunk, as `wherry.render.reference.run_step` has it.

    Parameters
    ----------
    plan : CudaPass
        Of `batch`'s schema.
    batch : pyarrow.RecordBatch
        On the host: the bytes that the pass reads are copied to the device.
    literals : tuple of Literal
        The values of the pass's parameters.
    constants : Constants
        Of the device.

    Raises
    ------
    Refused
        If the program needs more arguments than there are, or groups that do not fit on chip cannot
        be hashed.
    InputError
        If a sum of decimals needs more than 38 digits.
    """
    arrays = {name: batch.column(name) for name in plan.columns}
    share = begin(plan, facts_of(arrays), literals, constants, [batch.num_rows])
    columns = {n: put_column(constants.device, arrays[n], kinds) for n, kinds in share.uses.items()}
    share.add(columns, batch.num_rows)
    (found,) = share.finish()
    return found
