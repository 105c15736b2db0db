"""Choose a placement: the cheapest of all that are possible, and why not others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args

from msgspec import Struct

from wherry.base.errors import InputError, Refused, unknown_name
from wherry.devices.altered import check_load, loaded
from wherry.devices.system import System
from wherry.plan.cost import Cost, Costs
from wherry.plan.objective import BY_TIME, TIME, Score, Weights, score_of
from wherry.plan.placement import (
    GATE,
    HOME,
    Placement,
    Unable,
    homes_of,
    possible_sites,
    refusals,
    runs_nothing,
)
from wherry.plan.query import Query
from wherry.plan.regret import least_regret
from wherry.plan.search import cheapest
from wherry.plan.segments import Kind, Segment
from wherry.plan.split import split

KEPT = 16
"""Placements that a choice keeps, the chosen one among them."""


class Alternative(Struct, frozen=True):
    """A placement and its predicted cost."""

    placement: Placement
    cost: Cost


class Choice(Struct, frozen=True):
    """The cheapest placement, every other one, and what was refused.

    Attributes
    ----------
    chosen : Alternative
        Least regret (see `wherry.plan.regret`) over the rows that may pass; of equals, the
        cheapest, then the first in the order of the system's devices.
    regret : float
        By how much it may take longer (or more, by another objective) than the best placement, as
        a share of that one's, at the ends of the interval of rows.
    others : tuple of Alternative
        The cheapest of the others, cheapest first; of splits, one at most.
    possible : int
        How many placements nothing refuses.
    bound_ns : int or None
        Modelled: how long the busiest resource is busy at least, however the chunks are split over
        the ways of the cheapest placement; None if no split helps.
    refused : tuple of dict
        For each segment, the sites that cannot run it, with every reason.
    score : Score
        What was made small.
    allowed : tuple of tuple of str
        For each segment, the sites that may run it: neither refused nor pinned elsewhere.
    """

    chosen: Alternative
    others: tuple[Alternative, ...]
    possible: int
    refused: tuple[dict[str, tuple[str, ...]], ...]
    bound_ns: int | None = None
    regret: float = 0.0
    score: Score = BY_TIME
    allowed: tuple[tuple[str, ...], ...] = ()


class Wish(Struct, frozen=True):
    """How a query is to be placed.

    Attributes
    ----------
    pins : tuple of (str, str)
        Segment kind and site (a device, or "home"), for segments that must run there.
    cold : bool
        Whether devices lack the plan, so that installing it counts.
    weights : tuple
        What is made small: time, unless `wherry.plan.objective.weights_of` says otherwise.
    load : tuple of (str, float)
        What other tenants keep busy, as `wherry.devices.altered.loaded` takes it.
    unable : tuple
        What devices have no programs for, as `wherry.plan.placement.refusals` takes it.
    """

    pins: tuple[tuple[str, str], ...] = ()
    cold: bool = False
    weights: Weights = TIME
    load: tuple[tuple[str, float], ...] = ()
    unable: Unable = ()

    @classmethod
    def of(
        cls,
        pins: Mapping[str, str] | None = None,
        *,
        cold: bool = False,
        weights: Weights = TIME,
        load: Mapping[str, float] | None = None,
    ) -> Wish:
        """Give a wish, pins and load being mappings.

        Raises
        ------
        InputError
            If one of them is not, or a busy share is out of range.
        """
        asked: tuple[tuple[str, Any, str], ...] = (
            ("placement", pins, "a mapping of segment to site, 'host-only'"),
            ("load", load, "a mapping of device or resource to its busy share"),
        )
        for name, value, possible in asked:
            if value is not None and not isinstance(value, Mapping):
                raise InputError(f"{name} {value!r}; possible: {possible}")
        check_load(load or {})
        given = tuple(sorted((pins or {}).items())), tuple(sorted((load or {}).items()))
        return cls(given[0], cold, weights, given[1])


def place(
    query: Query,
    system: System,
    *,
    pins: Mapping[str, str] | None = None,
    cold: bool = False,
    weights: Weights = TIME,
    load: Mapping[str, float] | None = None,
) -> Choice:
    """Give the best placement of a query on a system.

    Parameters
    ----------
    pins, cold, weights, load
        As `Wish` has them; pins and load as mappings.

    Raises
    ------
    InputError
        If a pin names no segment or no site of the system, or a load no part of it.
    Refused
        If no placement is possible, with the reasons of every segment and site, or if devices lack
        figures that the objective needs.
    """
    return choice_for(query, system, Wish.of(pins, cold=cold, weights=weights, load=load))


def choice_for(query: Query, system: System, wish: Wish) -> Choice:
    """Give the best placement of a query on a system, as `place` does."""
    _check_pins(wish.pins, system)
    key = ("place", id(system), wish)
    if key not in query.known:
        # The system is kept with the choice, so that its id does not come again.
        query.known[key] = (system, choose(query, loaded(system, dict(wish.load)), wish))
    choice: Choice = query.known[key][1]
    return choice


def choose(query: Query, system: System, wish: Wish) -> Choice:
    """Give the best placement on a system that has its load already, and remember nothing."""
    pinned, costs = dict(wish.pins), Costs(query, system, cold=wish.cold)
    score = BY_TIME
    if wish.weights != TIME:
        alone = Wish(tuple(host_only(query, system).items()), wish.cold, unable=wish.unable)
        score = score_of(wish.weights, system, choose(query, system, alone).chosen.cost)
    also = frozenset(pinned.values())
    refused = refusals(query, system, also, wish.unable)
    homes = homes_of(query, system).devices
    allowed = [
        [site for site in sites if site not in no and site in _meant(pinned, segment, sites, homes)]
        for segment, sites, no in zip(
            query.segments, possible_sites(query, system, also), refused, strict=True
        )
    ]
    found, possible = cheapest(costs, allowed, KEPT, score)
    if not found:
        raise Refused(
            f"no device of {system.name} can run the query",
            _all_reasons(query, system, refused, pinned),
        )
    ranked = [Alternative(one.placement, one.cost) for one in found]
    shares = split(query, costs, allowed, ranked[0].placement, score)
    if shares is not None:
        ranked.append(Alternative(shares.placement, costs.of(shares.placement)))
        ranked.sort(key=lambda alternative: score.of(alternative.cost))
        possible += 1
    bound = None if shares is None else shares.bound_ns
    steadiest = least_regret(costs, allowed, [one.placement for one in ranked], score)
    chosen = Alternative(steadiest.placement, costs.of(steadiest.placement))
    others = [one for one in ranked if one.placement != chosen.placement][: KEPT - 1]
    return Choice(
        chosen=chosen,
        others=tuple(others),
        possible=possible,
        refused=refused,
        bound_ns=bound,
        regret=steadiest.regret,
        score=score,
        allowed=tuple(map(tuple, allowed)),
    )


def _meant(
    pinned: Mapping[str, str], segment: Segment, sites: Collection[str], homes: Sequence[str]
) -> Collection[str]:
    """Give the sites that a segment is pinned to: where all chunks lie that is called home."""
    site = pinned.get(segment.kind)
    if site is None:
        return sites
    return (HOME,) if site not in sites and (site,) == tuple(homes) else (site,)


def _check_pins(pins: tuple[tuple[str, str], ...], system: System) -> None:
    for kind, site in pins:
        if kind not in get_args(Kind):
            raise unknown_name("segment", kind, get_args(Kind))
        if site not in (HOME, GATE) and site not in system.devices:
            raise unknown_name("site", site, (HOME, GATE, *system.devices))


def _all_reasons(
    query: Query,
    system: System,
    refused: tuple[dict[str, tuple[str, ...]], ...],
    pins: Mapping[str, str],
) -> list[str]:
    reasons = [
        f"{segment.kind} at {site}: {reason}"
        for segment, sites in zip(query.segments, refused, strict=True)
        for site, every in sites.items()
        for reason in every
    ]
    for kind, site in pins.items():
        reasons.append(f"{kind} is pinned to {site}")
        profile = system.devices.get(site)
        if profile is not None and not profile.runs_programs:
            reasons.append(runs_nothing(site, profile))
    return reasons


def host_only(query: Query, system: System) -> dict[str, str]:
    """Give the pins that run everything on the host: the baseline that offload is compared with."""
    host = system.host
    homes = homes_of(query, system)
    site = HOME if homes.devices == (host,) else host
    chunkwise = {"near", "partial"}
    return {s.kind: site if s.kind in chunkwise else host for s in query.segments}
