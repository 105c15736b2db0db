"""Choose a placement: the cheapest of all that are possible, and why not others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from wherry.base.errors import InputError, Refused, unknown_name
from wherry.devices.system import System
from wherry.plan.cost import Cost, Costs
from wherry.plan.placement import (
    GATE,
    HOME,
    Placement,
    homes_of,
    possible_sites,
    refusals,
)
from wherry.plan.query import Query
from wherry.plan.regret import least_regret
from wherry.plan.search import cheapest
from wherry.plan.segments import Kind
from wherry.plan.split import split

KEPT = 16
"""Placements that a choice keeps, the chosen one among them."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A placement and its predicted cost."""

    placement: Placement
    cost: Cost


@dataclass(frozen=True, slots=True)
class Choice:
    """The cheapest placement, every other one, and what was refused.

    Attributes
    ----------
    chosen : Alternative
        Least regret (see `wherry.plan.regret`) over the rows that may pass; of equals, least time,
        then the first in the order of the system's devices.
    regret : float
        By how much it may take longer than the best placement, as a share of that one's time, at
        the ends of the interval of rows.
    others : tuple of Alternative
        The cheapest of the others, cheapest first; of splits, one at most.
    possible : int
        How many placements nothing refuses.
    bound_ns : int or None
        Modelled: how long the busiest resource is busy at least, however the chunks are split over
        the ways of the cheapest placement; None if no split helps.
    refused : tuple of dict
        For each segment, the sites that cannot run it, with every reason.
    """

    chosen: Alternative
    others: tuple[Alternative, ...]
    possible: int
    refused: tuple[dict[str, tuple[str, ...]], ...]
    bound_ns: int | None = None
    regret: float = 0.0


def place(
    query: Query, system: System, *, pins: Mapping[str, str] | None = None, cold: bool = False
) -> Choice:
    """Give the best placement of a query on a system.

    Parameters
    ----------
    pins : mapping, optional
        Segment kind to site (a device, or "home") for segments that must run there.
    cold : bool
        Whether devices lack the plan, so that installing it counts.

    Raises
    ------
    InputError
        If a pin names no segment or no site of the system.
    Refused
        If no placement is possible, with the reasons of every segment and site.
    """
    _check_pins(pins or {}, system)
    key = ("place", id(system), tuple(sorted((pins or {}).items())), cold)
    if key not in query.known:
        # The system is kept with the choice, so that its id does not come again.
        query.known[key] = (system, _choose(query, system, pins, cold=cold))
    choice: Choice = query.known[key][1]
    return choice


def _choose(query: Query, system: System, pins: Mapping[str, str] | None, *, cold: bool) -> Choice:
    pinned, costs = pins or {}, Costs(query, system, cold=cold)
    also = frozenset(pinned.values())
    refused = refusals(query, system, also)
    allowed = [
        [site for site in sites if site not in no and site == pinned.get(segment.kind, site)]
        for segment, sites, no in zip(
            query.segments, possible_sites(query, system, also), refused, strict=True
        )
    ]
    found, possible = cheapest(costs, allowed, KEPT)
    if not found:
        raise Refused(
            f"no device of {system.name} can run the query", _all_reasons(query, refused, pins)
        )
    ranked = [Alternative(one.placement, one.cost) for one in found]
    shares = split(query, costs, allowed, ranked[0].placement)
    if shares is not None:
        ranked.append(Alternative(shares.placement, costs.of(shares.placement)))
        ranked.sort(key=lambda alternative: alternative.cost.time)
        possible += 1
    bound = None if shares is None else shares.bound_ns
    steadiest = least_regret(costs, allowed, [one.placement for one in ranked])
    chosen = Alternative(steadiest.placement, costs.of(steadiest.placement))
    others = [one for one in ranked if one.placement != chosen.placement][: KEPT - 1]
    return Choice(chosen, tuple(others), possible, refused, bound, steadiest.regret)


def _check_pins(pins: object, system: System) -> None:
    if not isinstance(pins, Mapping):
        raise InputError(f"placement {pins!r}; possible: a mapping of segment to site, 'host-only'")
    for kind, site in pins.items():
        if kind not in get_args(Kind):
            raise unknown_name("segment", kind, get_args(Kind))
        if site not in (HOME, GATE) and site not in system.devices:
            raise unknown_name("site", site, (HOME, GATE, *system.devices))


def _all_reasons(
    query: Query,
    refused: tuple[dict[str, tuple[str, ...]], ...],
    pins: Mapping[str, str] | None,
) -> list[str]:
    reasons = [
        f"{segment.kind} at {site}: {reason}"
        for segment, sites in zip(query.segments, refused, strict=True)
        for site, every in sites.items()
        for reason in every
    ]
    return reasons + [f"{kind} is pinned to {site}" for kind, site in (pins or {}).items()]


def host_only(query: Query, system: System) -> dict[str, str]:
    """Give the pins that run everything on the host: the baseline that offload is compared with."""
    host = system.host
    homes = homes_of(query, system)
    site = HOME if homes.devices == (host,) else host
    chunkwise = {"near", "partial"}
    return {s.kind: site if s.kind in chunkwise else host for s in query.segments}
