"""The link bandwidth and the number of cores at which another placement of the chunks is chosen.

A figure is multiplied, and the query placed anew, exactly as it was: what is found is where the
planner decides otherwise, not where two costs cross. Links and devices that are alike change
together: one drive of many with a faster link would decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from wherry.base.errors import Refused
from wherry.devices.altered import cores_times, with_cores, with_links
from wherry.devices.routes import Link
from wherry.devices.system import System
from wherry.plan.cost import Costs
from wherry.plan.place import Choice, Wish, choose
from wherry.plan.placement import Placement, homes_of, possible_sites
from wherry.plan.query import Query

_DECADES = 3
"""Factors from a thousandth to a thousand."""
_APART = ("near", "partial")
"""Segments that work on chunks by themselves, the answer's way aside."""
_STEPS = 9
"""Halvings of a decade: the factor is good to half a percent."""


class Flip(Struct, frozen=True):
    """A figure at which the decision becomes another one; modelled.

    Attributes
    ----------
    figure : str
        `bandwidth_gb_per_s` of links, or `cores` of devices.
    of : tuple of str
        The links (`csd0-pcie0`) or devices whose figure it is; all change together.
    now, at : float
        The figure as it is, and the nearest one found at which the decision is another.
    still : float
        The one nearest to it at which the decision is as it is now.
    decision, beyond : str
        Where chunks are worked on, now and then: `near@home partial@home`.
    """

    figure: Literal["bandwidth_gb_per_s", "cores"]
    of: tuple[str, ...]
    now: float
    at: float
    still: float
    decision: str
    beyond: str

    def line(self) -> str:
        """Give it as a sentence."""
        more = f" and {len(self.of) - 1} alike" if len(self.of) > 1 else ""
        side = "above" if self.at > self.now else "below"
        if self.figure == "cores":
            what = f"{self.of[0]}{more}: {self.at:g} cores instead of {self.now:g}"
        else:
            what = f"{self.of[0]}{more}: {side} {self.at:.3g} GB/s instead of {self.now:g} GB/s"
        return f"flips to {self.beyond} with {what} (modelled)"


def decision(query: Query, placement: Placement) -> str:
    """Give where chunks are worked on; of a split placement, where most of them are."""
    return " ".join(
        f"{segment.kind}@{site}"
        for segment, site in zip(query.segments, placement.sites, strict=True)
        if segment.runs and segment.kind in _APART
    )


def flips(query: Query, system: System, choice: Choice, wish: Wish) -> tuple[Flip, ...]:
    """Give where the decision flips: the nearest figure below and above, of a link and of cores.

    The link is what holds the chosen placement, or else the best one that decides otherwise; if
    no link holds either, the busiest link of both. The cores are those of the devices beside the
    host that work on chunks in either. A figure that flips nothing from a thousandth to a thousand
    times itself is left out.

    Parameters
    ----------
    system : System
        As the choice was made for it, load included.
    wish : Wish
        How the choice was made.
    """
    rival = _rival(query, system, choice, wish)
    if rival is None:
        return ()
    both = (choice.chosen.placement, rival)
    here = decision(query, both[0])
    found: list[Flip] = []
    links = _links(query, system, both, wish)
    if links:
        now = system.links[min(links)].bandwidth_gb_per_s.value
        names = tuple("-".join(system.links[n].ends) for n in sorted(links))
        decide = _decider(query, wish, lambda factor: with_links(system, links, factor))
        found += (
            Flip("bandwidth_gb_per_s", names, now, now * at, now * still, here, beyond)
            for at, still, beyond in _nearest(decide, here)
        )
    devices = _near_devices(query, system, both)
    if devices:
        profile = system.devices[min(devices)]
        of, now = tuple(sorted(devices)), cores_times(profile, 1.0)
        decide = _decider(query, wish, lambda factor: with_cores(system, devices, factor))
        found += (
            Flip("cores", of, now, cores_times(profile, at), cores_times(profile, still), here, to)
            for at, still, to in _nearest(decide, here)
        )
    return tuple(found)


def _decider(
    query: Query, wish: Wish, changed: Callable[[float], System]
) -> Callable[[float], str]:
    """Give what tells the decision where a figure is so many times itself."""

    def decide(factor: float) -> str:
        return decision(query, choose(query, changed(factor), wish).chosen.placement)

    return decide


def _nearest(decide: Callable[[float], str], here: str) -> Iterator[tuple[float, float, str]]:
    """Give the nearest factors below and above one that flip the decision.

    Each with the nearest one that does not, and what is decided beyond.
    """
    for step in (0.1, 10.0):
        still, at, beyond = 1.0, 1.0, here
        for _ in range(_DECADES):
            still, at = at, at * step
            beyond = decide(at)
            if beyond != here:
                break
        if beyond == here:
            continue
        for _ in range(_STEPS):
            middle = sqrt(still * at)
            found = decide(middle)
            if found == here:
                still = middle
            else:
                at, beyond = middle, found
        yield at, still, beyond


def _rival(query: Query, system: System, choice: Choice, wish: Wish) -> Placement | None:
    """Give the best placement that decides otherwise, if there is any."""
    chosen = choice.chosen.placement
    here = decision(query, chosen)
    others = (one.placement for one in choice.others if decision(query, one.placement) != here)
    kept = next(others, None)
    if kept is not None or any(kind in _APART for kind, _ in wish.pins):
        return kept
    # All that were kept decide alike: ask for each other site in turn.
    kinds = [segment.kind for segment in query.segments]
    near, apart = kinds.index("near"), [kind for kind in kinds if kind in _APART]
    found = []
    for site in possible_sites(query, system)[near]:
        pins = (*wish.pins, *((kind, site) for kind in apart))
        try:
            other = choose(query, system, replace(wish, pins=pins)).chosen
        except Refused:
            continue
        if decision(query, other.placement) != here:
            found.append((choice.score.of(other.cost), other.placement))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _links(
    query: Query, system: System, both: tuple[Placement, Placement], wish: Wish
) -> frozenset[int]:
    """Give the links that are alike to the one whose bandwidth matters, by index."""
    costs = Costs(query, system, cold=wish.cold)
    found = [costs.of(placement) for placement in both]
    held = [c.bottleneck for c in found if c.bottleneck.startswith("link ")]
    busiest = sorted(
        (-ns, name) for c in found for name, ns in c.busy.items() if name.startswith("link ")
    )
    names = held or [name for _, name in busiest]
    if not names:
        return frozenset()
    ends = frozenset(names[0].removeprefix("link ").replace("<->", "->").split("->"))
    number = next(n for n, link in enumerate(system.links) if frozenset(link.ends) == ends)
    kind = _kind(system, system.links[number])
    return frozenset(n for n, link in enumerate(system.links) if _kind(system, link) == kind)


def _kind(system: System, link: Link) -> tuple[object, ...]:
    ends = (system.devices.get(end, end == system.client) for end in link.ends)
    figures = link.bandwidth_gb_per_s, link.latency_us, link.duplex, link.both_ways_share
    return *figures, frozenset(ends)


def _near_devices(
    query: Query, system: System, both: tuple[Placement, Placement]
) -> frozenset[str]:
    """Give the devices beside the host that work on chunks, and all that are alike."""
    homes, found = homes_of(query, system), set[str]()
    for placement in both:
        for segment, site in zip(query.segments, placement.sites, strict=True):
            if segment.runs and segment.kind in _APART:
                found.update(homes.at(site))
    profiles = {system.devices[name] for name in found if name != system.host}
    if len(profiles) > 1:
        # Cores of one kind are changed: those where chunks lie, or else the first by name.
        first = min(found - {system.host}, key=lambda name: (name not in homes.devices, name))
        profiles = {system.devices[first]}
    return frozenset(n for n, p in system.devices.items() if p in profiles and p.runs_programs)
