"""What a placement is chosen by: time, energy, money, or a weighting of them.

Joules and dollars follow from a predicted cost as `wherry.devices.expense` has them: a device draws
its busy watts while its cores (its media, if it runs no programs) are busy, its idle watts, where
they are known, for the rest of the run, and costs its price by the hour for all of it. That makes
every objective a sum of what the run takes and of what devices are busy for, each times a figure
that is not below zero, so what a part of a placement comes to bounds the whole from below.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import isfinite, lcm
from typing import Any, Final, Literal, get_args

from msgspec import Struct

from wherry.base.errors import InputError, Refused, unknown_name
from wherry.devices.system import System
from wherry.plan.account import Account, Cost

Quantity = Literal["time", "money", "energy"]
Objective = Quantity | Mapping[Quantity, float]
QUANTITIES: Final[tuple[Quantity, ...]] = get_args(Quantity)

Weights = tuple[tuple[Quantity, float], ...]
TIME: Final[Weights] = (("time", 1.0),)


class Score(Struct, frozen=True):
    """A sum to be made small: `whole` times the run, and for each device its busy time.

    All factors are integers of one unit, so that sums are exact and equal on every machine.

    Attributes
    ----------
    whole : int
        For each nanosecond of the run.
    busy : tuple of (str, int)
        Resources, and what is added for each nanosecond they are busy.
    unit : Fraction
        What one of `whole` and `busy` is: of the placement on the host alone for a weighting of
        several quantities, else nanoseconds, joules or dollars.
    """

    whole: int
    busy: tuple[tuple[str, int], ...] = ()
    unit: Fraction = Fraction(1)

    def of(self, cost: Cost) -> int:
        """Give what a cost comes to."""
        return self._sum(cost.time.ns, cost)

    def more(self, part: Account) -> int:
        """Give what a part adds at least to what others come to.

        Setup and barrier add up, and so do busy times; the busiest resource may be another one.
        """
        return self._sum(part.setup + part.barrier, part)

    def _sum(self, ns: int, of: Cost | Account) -> int:
        whole = self.whole * ns
        for name, each in self.busy:
            whole += each * of.used(name)
        return whole


BY_TIME: Final = Score(1)


def weights_of(objective: Any) -> Weights:
    """Give an objective as weights above zero, checked.

    Raises
    ------
    InputError
        No such quantity, or a weight that is no number, below zero or endless, or none above zero.
    """
    given = {objective: 1.0} if isinstance(objective, str) else objective
    if not isinstance(given, Mapping):
        raise InputError(
            f"objective {objective!r}; possible: {', '.join(QUANTITIES)}, or a mapping of them to "
            "weights"
        )
    found: dict[Quantity, float] = {}
    for name, weight in given.items():
        if name not in QUANTITIES:
            raise unknown_name("objective", str(name), QUANTITIES)
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not isfinite(weight) or weight < 0:
            raise InputError(f"weight of {name} is {weight!r}; possible: a number from 0 on")
        if weight:
            found[name] = float(weight)
    if not found:
        raise InputError("no weight of the objective is above 0, so any placement would do")
    return tuple(sorted(found.items()))


def score_of(weights: Weights, system: System, host: Cost) -> Score:
    """Give what is made small for an objective on a system.

    Parameters
    ----------
    host : Cost
        Of the placement on the host alone: of several quantities, each counts as a share of its.

    Raises
    ------
    Refused
        Devices of the system lack the figure that the objective is made of.
    """
    if [name for name, _ in weights] == ["time"]:
        return BY_TIME
    whole, busy = Fraction(0), dict[str, Fraction]()
    for name, weight in weights:
        each, uses = _rates(name, system)
        used = sum((each_ns * host.used(r) for r, each_ns in uses.items()), Fraction(0))
        alone = each * host.time.ns + used
        factor = Fraction(repr(weight)) / alone if len(weights) > 1 and alone else Fraction(1)
        whole += factor * each
        for resource, figure in uses.items():
            busy[resource] = busy.get(resource, Fraction(0)) + factor * figure
    return _whole_numbers(whole, {name: figure for name, figure in busy.items() if figure})


def _whole_numbers(whole: Fraction, busy: Mapping[str, Fraction]) -> Score:
    per = lcm(whole.denominator, *(figure.denominator for figure in busy.values()))
    uses = tuple((name, int(figure * per)) for name, figure in busy.items())
    return Score(int(whole * per), uses, Fraction(1, per))


def _rates(name: Quantity, system: System) -> tuple[Fraction, dict[str, Fraction]]:
    """Give what a quantity grows by in a nanosecond of the run, and of each busy resource."""
    if name == "time":
        return Fraction(1), {}
    if name == "money":
        return _dollars(system), {}
    return _joules(system)


def _dollars(system: System) -> Fraction:
    lacking, hours = [], Fraction(0)
    for name, profile in system.devices.items():
        price = profile.price
        if price is None or price.hour_usd is None:
            lacking.append(name)
        else:
            hours += Fraction(repr(price.hour_usd.value))
    _refuse("money", "hour_usd in [price]", lacking, system)
    return hours / (3600 * 10**9)


def _joules(system: System) -> tuple[Fraction, dict[str, Fraction]]:
    lacking, idle, busy = [], Fraction(0), {}
    for name, profile in system.devices.items():
        if profile.power is None:
            lacking.append(name)
            continue
        rest = profile.power.idle_watts
        resting = Fraction(0) if rest is None else Fraction(repr(rest.value))
        working = "cores" if profile.runs_programs else "media"
        more = Fraction(repr(profile.power.busy_watts.value)) - resting
        if more < 0:
            raise InputError(
                f"{name} ({profile.device.name}) draws less while busy than idle: energy cannot be "
                "an objective; check its [power]"
            )
        idle += resting
        busy[f"{working} {name}"] = more / 10**9
    _refuse("energy", "busy_watts in [power]", lacking, system)
    return idle / 10**9, busy


def _refuse(quantity: str, figure: str, lacking: list[str], system: System) -> None:
    if not lacking:
        return
    reasons: dict[str, list[str]] = {}
    for device in lacking:
        reasons.setdefault(system.devices[device].device.name, []).append(device)
    raise Refused(
        f"{quantity} cannot be the objective on {system.name}",
        [
            f"{profile} has no {figure} in its profile: {_shown(names)}"
            for profile, names in reasons.items()
        ],
    )


def _shown(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{names[0]} .. {names[-1]} ({len(names)})"
