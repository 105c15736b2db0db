"""`wherry explain`: where a query would run, why, and why not elsewhere; run only to compare."""

from __future__ import annotations

from typing import Annotated

import typer

from wherry.cli.options import (
    Cold,
    Data,
    Json,
    LoadText,
    ObjectiveText,
    PlacementText,
    ScaleFactor,
    SystemName,
    Target,
    load_of,
    objective_of,
    pins_of,
)
from wherry.cli.output import plain, say, show_json
from wherry.cli.run_movable import refuse_options
from wherry.cli.target import load_target
from wherry.devices.system import load_system
from wherry.devices.this_machine import THIS_MACHINE
from wherry.flow.proof import proof, proof_json, proof_text
from wherry.movables.declare import Movable

EXAMPLES = """\b
Examples:
  wherry explain q6 --system dpu-csd-host
  wherry explain my_query.py --system rack.toml --json
  wherry explain q1 --system dpu-csd-host --placement near=home
  wherry explain q6 --system rack-16 --analyze
  wherry explain q6 --system csd-host --load csd0=0.9 --objective time
  wherry explain top_orders.py:top_orders
"""


def command(
    target: Target,
    *,
    system: SystemName = THIS_MACHINE,
    data: Data = None,
    sf: ScaleFactor = 0.1,
    placement: PlacementText = None,
    cold: Cold = False,
    objective: ObjectiveText = "time",
    load: LoadText = None,
    analyze: Annotated[
        bool, typer.Option("--analyze", help="Run it too; show predicted against actual.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show stages, devices, predicted costs, dearer placements, and what is refused and why.

    Of a movable: what was proven of it, await by await: live slots, bytes at most, effects, needs.
    """
    pins = pins_of(placement)
    found = load_system(system)
    wanted = load_target(target, sf, data, found)
    if isinstance(wanted, Movable):
        others = {"--placement": placement, "--cold": cold, "--load": load, "--analyze": analyze}
        refuse_options(others, f"{target} is a movable; its proof is shown, which takes no")
        _show_proof(wanted, as_json=as_json)
        return
    explanation = wanted.explain(
        found,
        placement=pins,
        cold=cold,
        objective=objective_of(objective),
        load=load_of(load),
        analyze=analyze,
    )
    if as_json:
        show_json({"target": target, "origin": "modelled", **plain(explanation)})
    else:
        say(str(explanation))


def _show_proof(movable: Movable, *, as_json: bool) -> None:
    found = proof(movable.program)
    if as_json:
        show_json(proof_json(found))
    else:
        say(proof_text(found))
