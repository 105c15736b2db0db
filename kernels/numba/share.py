"""Many chunks in one call: every thread of a team makes the same call and takes chunk after chunk.

A share is a table of int64, one row a chunk: context, blocks, tail, tail_rows, target, selected.
`context` and `tail` are the contexts of the whole blocks and of the padded rest; `selected` is
written: how many rows passed. Which thread did a chunk shows nowhere. A call does at most `most`
chunks and gives how many it did, so that Ctrl-C is not kept waiting.
"""

from wherry.kernels.layout import SHARE_ROW
from wherry.kernels.numba.aggregate import totals
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import load_i64, store_64, take_next


@kernel(1)
def take(counter):
    """Give the counter's value and add 1 to it, whichever threads do so at once."""
    return take_next(counter)


@kernel(6)
def totals_each(mask, accumulate, share, chunks, counter, most):
    """Add each chunk's rows to the state at its target."""
    done = 0
    while done < most:
        chunk = take_next(counter)
        if chunk >= chunks:
            break
        at = share + chunk * SHARE_ROW
        context, blocks, tail = load_i64(at), load_i64(at + 8), load_i64(at + 16)
        rows, state = load_i64(at + 24), load_i64(at + 32)
        store_64(at + 40, totals(mask, accumulate, context, blocks, tail, rows, state))
        done += 1
    return done
