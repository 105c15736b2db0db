"""Load on an agent at several rates, from less than it can do to ten times as much."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

from msgspec import Struct, structs

from wherry.base.errors import WherryError
from wherry.benchmarks.load.callers import User
from wherry.benchmarks.load.figures import Stretch, Verdict, verdict
from wherry.benchmarks.load.generate import capacity, stretch
from wherry.benchmarks.load.work import Script
from wherry.devices.proc import cpu_name, kernel_release, usable_cores

MULTIPLES: Final = (0.5, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0)
AT_ONCE: Final = 4
"""Queries of each user that are under way while it is measured what the agent can do."""
_NUMBERS: Final = ("offered", "done", "refused", "held_back", "failed")


class Report(Struct, frozen=True):
    """A run; everything is measured.

    Attributes
    ----------
    capacity_per_s : float
        Queries a second that the agent answers if a few are always under way: median of rounds.
    requests, rows : int
        Of one query: what it asks, and what it reads.
    connections : int
        Of all users together.
    stretches : tuple of Stretch
        By multiple; of several rounds each figure's median, counts added up.
    """

    machine: dict[str, Any]
    users: tuple[User, ...]
    capacity_per_s: float
    requests: int
    rows: int
    connections: int
    rounds: int
    seed: int
    stretches: tuple[Stretch, ...]
    verdict: Verdict


def run(
    path: str,
    script: Script,
    users: tuple[User, ...],
    *,
    multiples: Sequence[float] = MULTIPLES,
    seconds: float,
    rounds: int,
    connections: int,
    seed: int,
    pid: int | None,
    tell: Callable[[str], None],
) -> Report:
    """Measure what an agent can do, and what it does at multiples of that, round by round.

    A machine's pace changes, so all rates are put on in each round, up and down in turns; what the
    agent can do is measured anew before each round.
    """
    where = machine()
    able: list[float] = []
    found: dict[float, list[Stretch]] = {multiple: [] for multiple in multiples}
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}: what it can do")
        able.append(capacity(path, script, users, seconds=seconds, at_once=AT_ONCE))
        if not able[-1]:
            raise WherryError(f"the agent answered no query in {seconds:g} s")
        for multiple in multiples if number % 2 else reversed(multiples):
            tell(f"round {number + 1} of {rounds}: {multiple:g} times {able[-1]:.0f} a second")
            found[multiple].append(
                stretch(
                    path,
                    script,
                    users,
                    rate=multiple * able[-1],
                    multiple=multiple,
                    seconds=seconds,
                    connections=connections,
                    seed=seed + number,
                    pid=pid,
                )
            )
    stretches = tuple(together(each) for each in found.values())
    return Report(
        where,
        users,
        median(able),
        len(script.steps),
        script.rows,
        connections,
        rounds,
        seed,
        stretches,
        verdict(stretches),
    )


def together(rounds: Sequence[Stretch]) -> Stretch:
    """Give one stretch for those of all rounds at one rate."""
    merged: dict[str, Any] = {}
    for name in Stretch.__struct_fields__:
        values = [getattr(each, name) for each in rounds]
        known = [value for value in values if value is not None]
        if name in _NUMBERS:
            merged[name] = sum(known)
        elif name == "by_user":
            merged[name] = {uid: median(v[uid] for v in known) for uid in known[0]}
        elif name == "why":
            said = {text for each in known for text in each}
            merged[name] = {text: sum(each.get(text, 0) for each in known) for text in sorted(said)}
        else:
            merged[name] = median(known) if known else None
    return structs.replace(rounds[0], **merged)


def machine() -> dict[str, Any]:
    """Give what the figures depend on; a load average above 0 is of others."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "load_average_before": os.getloadavg()[0],
        "kernel": kernel_release(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "origin": "measured",
    }
