"""Aggregation of all rows into one state."""

from wherry.kernels.layout import BLOCK
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import call_accumulate, call_mask, popcount


@kernel(7)
def totals(mask, accumulate, context, blocks, tail, tail_rows, state):
    """Give how many rows pass, having added them to the state.

    Parameters
    ----------
    mask, accumulate : int
        Addresses of block functions; mask 0 lets every row pass.
    context, tail : int
        Addresses of the contexts of the whole blocks and of the padded rest.
    """
    selected = 0
    for block in range(blocks):
        word = -1 if mask == 0 else call_mask(mask, context, block * BLOCK)
        if word != 0:
            selected += popcount(word)
            call_accumulate(accumulate, context, block * BLOCK, word, state)
    if tail_rows > 0:
        word = (1 << tail_rows) - 1
        if mask != 0:
            word &= call_mask(mask, tail, 0)
        selected += popcount(word)
        call_accumulate(accumulate, tail, 0, word, state)
    return selected
