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
from wherry.cli.target import load_target
from wherry.devices.system import load_system
from wherry.devices.this_machine import THIS_MACHINE

EXAMPLES = """\b
Examples:
  wherry explain q6 --system dpu-csd-host
  wherry explain my_query.py --system rack.toml --json
  wherry explain q1 --system dpu-csd-host --placement near=home
  wherry explain q6 --system rack-16 --analyze
  wherry explain q6 --system csd-host --load csd0=0.9 --objective time
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
    """Show stages, devices, predicted costs, dearer placements, and what is refused and why."""
    pins = pins_of(placement)
    found = load_system(system)
    explanation = load_target(target, sf, data).explain(
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
