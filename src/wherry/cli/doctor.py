"""`wherry doctor`: what this machine has for Wherry's tiers, and why it lacks the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from wherry.base.errors import InputError
from wherry.base.units import format_bytes
from wherry.cli.doctor_system import show_agents
from wherry.cli.options import Json
from wherry.cli.output import grid, heading, plain, say, show_json
from wherry.cli.progress import progress
from wherry.cli.version import wherry_version
from wherry.devices.found import Found
from wherry.devices.gpu_paths import WAYS
from wherry.devices.probe import Machine, probe

EXAMPLES = """\b
Examples:
  wherry doctor
  wherry doctor --json
  wherry doctor --system agents.toml --measure
"""


def command(
    system: Annotated[
        str | None,
        typer.Option("--system", "-s", metavar="SYSTEM", help="Show the agents of this system."),
    ] = None,
    *,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure the ways to agents, and keep that for plans."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show cores, memory bandwidth, CUDA, GDS, XDP, Ray and versions on this machine.

    Of a system: how its agents are. The exit code is 1 if one of them is lost.
    """
    if system is not None:
        if show_agents(system, measure=measure, as_json=as_json):
            raise typer.Exit(1)
        return
    if measure:
        raise InputError("--measure is of the agents of a system: --system is not given")
    with progress() as begin:
        begin("measuring memory bandwidth")
        machine = probe()
    if as_json:
        show_json({"wherry": wherry_version(), **plain(machine)})
    else:
        _show(machine)


def _show(machine: Machine) -> None:
    heading(f"wherry {wherry_version()} on Python {machine.python}, Linux {machine.kernel}")
    grid(
        ("machine", ""),
        [
            ("cores", f"{machine.cores} of {machine.cpu}"),
            ("instructions", ", ".join(machine.features) or "none that programs make use of"),
            ("memory", format_bytes(machine.memory_bytes)),
            ("reading, 1 thread", f"{machine.read_gb_per_s_one_thread} GB/s measured"),
            (
                f"reading, {machine.cores} threads",
                f"{machine.read_gb_per_s_all_threads} GB/s measured",
            ),
        ],
    )
    say()
    tiers = {
        name: getattr(machine, name) for name in ("cuda", "cupy", "kvikio", "gds", "xdp", "ray")
    }
    grid(("tier", "", ""), _found(tiers.items()))
    say()
    ways = ((WAYS[name], found) for name, found in machine.gpu_paths.items())
    grid(("from files to a GPU by", "", ""), _found(ways))
    say()
    grid(("package", "", ""), _found(machine.packages.items()))


def _found(items: Iterable[tuple[str, Found]]) -> list[tuple[str, str, str]]:
    return [(name, "yes" if found.present else "no", found.detail) for name, found in items]
