"""`wherry warm`: compile what queries share, so that the first one does not wait for it."""

from __future__ import annotations

import time

from wherry.base.units import Measured
from wherry.cli.options import Json
from wherry.cli.output import grid, plain, say, show_json
from wherry.cli.progress import progress
from wherry.kernels.objects import object_folder
from wherry.kernels.skeletons import modules, warm

EXAMPLES = """\b
Examples:
  wherry warm
  wherry warm --json
"""


def command(as_json: Json = False) -> None:
    """Compile the skeletons of all operators for this machine, unless that is done already."""
    made = []
    with progress() as begin:
        for module in modules():
            begin(f"skeletons of {module}")
            start = time.perf_counter_ns()
            cached = warm(module)
            made.append((module, cached, Measured(time.perf_counter_ns() - start)))
    if as_json:
        rows = [{"module": m, "cached": cached, "time": plain(t)} for m, cached, t in made]
        show_json({"folder": str(object_folder()), "skeletons": rows})
        return
    grid(
        ("skeletons", "", "time"),
        [(m, "there already" if cached else "compiled", str(t)) for m, cached, t in made],
        right=[2],
    )
    say(f"kept in {object_folder()}")
