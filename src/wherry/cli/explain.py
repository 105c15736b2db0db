"""`wherry explain`: where a query would run, why, and why not elsewhere; nothing runs."""

from __future__ import annotations

from wherry.cli.options import (
    Cold,
    Data,
    Json,
    PlacementText,
    ScaleFactor,
    SystemName,
    Target,
    pins_of,
)
from wherry.cli.output import plain, say, show_json
from wherry.cli.target import load_target
from wherry.devices.system import load_system
from wherry.devices.this_machine import THIS_MACHINE

"""Dearer placements in JSON; all of them, with every term, are hundreds of kilobytes."""

EXAMPLES = """\b
Examples:
  wherry explain q6 --system dpu-csd-host
  wherry explain my_query.py --system rack.toml --json
  wherry explain q1 --system dpu-csd-host --placement near=home
"""


def command(
    target: Target,
    *,
    system: SystemName = THIS_MACHINE,
    data: Data = None,
    sf: ScaleFactor = 0.1,
    placement: PlacementText = None,
    cold: Cold = False,
    as_json: Json = False,
) -> None:
    """Show stages, devices, predicted costs, dearer placements, and what is refused and why."""
    pins = pins_of(placement)
    found = load_system(system)
    explanation = load_target(target, sf, data).explain(found, placement=pins, cold=cold)
    if as_json:
        show_json({"target": target, "origin": "modelled", **plain(explanation)})
    else:
        say(str(explanation))
