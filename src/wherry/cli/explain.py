"""`wherry explain`: where a query would run, why, and why not elsewhere; nothing runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final

import typer

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
from wherry.plan.explain import Explanation

_OTHERS: Final = 10
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
    every: Annotated[
        bool, typer.Option("--all", help="Print every dearer placement in JSON, not only ten.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show stages, devices, predicted costs, dearer placements, and what is refused and why."""
    pins = pins_of(placement)
    found = load_system(system)
    explanation = load_target(target, sf, data).explain(found, placement=pins, cold=cold)
    if as_json:
        shown = explanation if every else _shortened(explanation)
        left_out = len(explanation.others) - len(shown.others)
        body = plain(shown)
        show_json({"target": target, "origin": "modelled", **body, "others_left_out": left_out})
    else:
        say(str(explanation))


def _shortened(explanation: Explanation) -> Explanation:
    """Give an explanation with ten dearer placements, and so those of joins' other sides."""
    builds = tuple(
        replace(build, explanation=_shortened(build.explanation)) for build in explanation.builds
    )
    return replace(explanation, others=explanation.others[:_OTHERS], builds=builds)
