"""Choose a placement: predict all that are possible, take the cheapest, keep why not others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from wherry.base.errors import InputError, Refused, unknown_name
from wherry.devices.system import System
from wherry.plan.cost import Cost, predict
from wherry.plan.placement import GATE, HOME, Placement, homes_of, placements, refusals
from wherry.plan.query import Query
from wherry.plan.segments import Kind


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
        Least predicted time; of equals, the first in the order of the system's devices.
    others : tuple of Alternative
        All other possible placements, cheapest first.
    refused : tuple of dict
        For each segment, the sites that cannot run it, with every reason.
    """

    chosen: Alternative
    others: tuple[Alternative, ...]
    refused: tuple[dict[str, tuple[str, ...]], ...]


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
    also = frozenset((pins or {}).values())
    refused = refusals(query, system, also)
    found = [
        Alternative(placement, predict(query, system, placement, cold=cold))
        for placement in placements(query, system, refused, also)
        if _pinned(query, placement, pins or {})
    ]
    if not found:
        raise Refused(
            f"no device of {system.name} can run the query", _all_reasons(query, refused, pins)
        )
    ranked = sorted(found, key=lambda alternative: alternative.cost.time)
    return Choice(ranked[0], tuple(ranked[1:]), refused)


def _check_pins(pins: object, system: System) -> None:
    if not isinstance(pins, Mapping):
        raise InputError(f"placement {pins!r}; possible: a mapping of segment to site, 'host-only'")
    for kind, site in pins.items():
        if kind not in get_args(Kind):
            raise unknown_name("segment", kind, get_args(Kind))
        if site not in (HOME, GATE) and site not in system.devices:
            raise unknown_name("site", site, (HOME, GATE, *system.devices))


def _pinned(query: Query, placement: Placement, pins: Mapping[str, str]) -> bool:
    kinds = [segment.kind for segment in query.segments]
    return all(
        site == pins.get(kind, site) for kind, site in zip(kinds, placement.sites, strict=True)
    )


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
