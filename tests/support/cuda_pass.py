"""A pass over a chunk of the host on a device: all of it put there, in one piece."""

from wherry.render.cuda.columns import facts_of, put_column
from wherry.render.cuda.share import begin


def run_pass(plan, batch, literals, constants):
    """Give what a pass makes of a chunk, as `wherry.render.reference.run_step` has it."""
    arrays = {name: batch.column(name) for name in plan.columns}
    share = begin(plan, facts_of(arrays), literals, constants, [batch.num_rows])
    columns = {n: put_column(constants.device, arrays[n], kinds) for n, kinds in share.uses.items()}
    share.add(columns, batch.num_rows)
    (found,) = share.finish()
    return found
