"""How to run a pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.devices.system import System
from wherry.devices.this_machine import card_names
from wherry.plan.objective import Objective

SystemLike = str | Path | System
Pins = Mapping[str, str] | Literal["host-only"]
HOST_ONLY: Final = "host-only"
"""Placement that runs every segment on the host: what offload is compared with."""


class Options(Struct, frozen=True):
    """How to run.

    Attributes
    ----------
    pins : mapping of str to str, or "host-only"
        Segment kind to site, for segments that must run there; the rest is the planner's choice.
    strict : bool
        Refuse to run anything through pyarrow that has no native program.
    cold : bool
        Emulated devices lack the plan at first; otherwise an earlier run has installed it. Where
        stages run, and how long it takes, then counts the installation.
    objective : "time", "money", "energy", or mapping of them to weights
        What placements are chosen by. In a weighting each counts as a share of what the query on
        the host alone comes to. Devices without the figures are refused by name.
    load : mapping of str to float
        What other tenants keep busy, as a share of the time: devices (`csd0`) or resources
        (`cores csd0`). The planner counts on what is left; an emulated run has no other tenants.
    deadline_s : float, optional
        Of a run on agents: its answer, or an error, comes within so many seconds. Without one it
        takes as long as agents that give signs of life take.
    reader : "pinned", "kvikio", "gds", or None
        How stored bytes come onto this machine's cards; None: `pinned`. Where another cannot be,
        `pinned` takes its place and the evidence says so; `strict` refuses instead.
    """

    pins: Pins = field(default_factory=dict)
    strict: bool = False
    cold: bool = False
    objective: Objective = "time"
    load: Mapping[str, float] = field(default_factory=dict)
    deadline_s: float | None = None
    reader: str | None = None


def for_builds(options: Options) -> Options:
    """Give how the other side of a join is run: pins name this query's segments, not its own."""
    return options if options.pins == HOST_ONLY else replace(options, pins={})


def check_options(options: Options, system: System) -> None:
    """Refuse what a system has no use for.

    Raises
    ------
    InputError
        If a deadline is not a positive number, or no device of the system is an agent; if there is
        a reader, and the system is no machine with cards.
    """
    if options.reader is not None and not card_names(system):
        raise InputError(
            f"a reader {options.reader!r} on {system.name}, which has no card that is really "
            "there; possible: this-machine, if it has one (wherry doctor), or no reader"
        )
    seconds = options.deadline_s
    if seconds is None:
        return
    if not 0 < seconds < math.inf:
        raise InputError(f"a deadline of {seconds:g} s; possible: more than 0")
    if not system.agents:
        raise InputError(
            f"a deadline of {seconds:g} s on {system.name}, none of whose devices is an agent; "
            "possible: a system with agents, or no deadline"
        )
