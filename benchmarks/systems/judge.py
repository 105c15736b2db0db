"""One query on one system: what the planner and each rule chose, and the best there is.

Every time here is that of a simulated run from counts, so that who chooses by a wrong prediction is
charged for it. The oracle is the least of all possible placements: they are simulated in the order
of a bound that none of them can beat, until the next bound is no better than what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wherry.base.events import Span
from wherry.benchmarks.systems.informed import Informed
from wherry.devices.system import System
from wherry.plan.place import host_only, place
from wherry.plan.placement import Placement, placements, possible_sites, refusals
from wherry.plan.rules import RULES
from wherry.plan.search import cheapest
from wherry.plan.split import split
from wherry.sim.recorded import Counts
from wherry.sim.replay import replay

PLANNER, HOST, ORACLE = "planner", "host-only", "oracle"
LAST: list[Placement] = []


@dataclass(frozen=True, slots=True)
class Chosen:
    """A placement of a query, as text, and its simulated time."""

    placement: str
    ns: int
    spans: tuple[Span, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Judged:
    """A query on a system.

    Attributes
    ----------
    choices : mapping of str to Chosen
        By who chose: the planner, the host alone, the oracle, each rule.
    simulated, possible : int
        How many placements were simulated to find the best, and how many nothing refuses.
    bound_ns : int
        The busiest resource of any split of the ways of the cheapest placement (by linear program).
    predicted_ns : int
        What the planner expected of its choice.
    """

    choices: Mapping[str, Chosen]
    simulated: int
    possible: int
    bound_ns: int
    predicted_ns: int


def judge(system: System, counts: Counts) -> Judged:
    """Give the choices for one query; what runs before its joins is not in it."""
    query, known = counts.query, _Replays(system, counts)
    choice = place(query, system)
    by_name: dict[str, Placement] = {PLANNER: choice.chosen.placement}
    alone = place(query, system, pins=host_only(query, system)).chosen.placement
    by_name[HOST] = alone
    by_name |= {name: rule(query, system) for name, rule in RULES.items()}
    costs = Informed(query, system, counts=counts)
    refused = refusals(query, system)
    every = list(placements(query, system, refused))
    allowed = [
        [site for site in sites if site not in no]
        for sites, no in zip(possible_sites(query, system), refused, strict=True)
    ]
    shares = split(query, costs, allowed, cheapest(costs, allowed, 1)[0][0].placement)
    for placement in by_name.values():
        known.ns(placement)
    if shares is not None:
        known.ns(shares.placement)
    best = _best(costs, every, known)
    by_name[ORACLE] = best
    LAST[:] = [by_name[PLANNER], best]
    return Judged(
        {name: known.chosen(placement) for name, placement in by_name.items()},
        len(known.found),
        len(every),
        0 if shares is None else shares.bound_ns,
        choice.chosen.cost.time.ns,
    )


def _best(costs: Informed, every: list[Placement], known: _Replays) -> Placement:
    bounds = sorted((costs.bound_ns(one), number) for number, one in enumerate(every))
    best = min(known.found, key=lambda one: known.found[one][0])
    for bound, number in bounds:
        if bound >= known.ns(best):
            break
        if known.ns(every[number]) < known.ns(best):
            best = every[number]
    return best


class _Replays:
    """Simulated runs of a query on a system, each once."""

    def __init__(self, system: System, counts: Counts) -> None:
        self.system, self.counts = system, counts
        self.found: dict[Placement, tuple[int, tuple[Span, ...]]] = {}

    def ns(self, placement: Placement) -> int:
        if placement not in self.found:
            run = replay(self.system, placement, self.counts)
            self.found[placement] = (run.time.ns, run.spans)
        return self.found[placement][0]

    def chosen(self, placement: Placement) -> Chosen:
        text = placement.describe(self.counts.query.segments)
        return Chosen(text, *self.found[placement])
