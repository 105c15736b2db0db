"""One query on one system: what the planner and each rule chose, and the best there is.

Every time here is that of a simulated run from counts, so that who chooses by a wrong prediction is
charged for it. The oracle is the least of all possible placements and of the splits that anybody
chose: they are simulated in the order of a bound that none of them can beat, until the next bound
is no better than what was found, and each only for as long as it may be the best. Devices that
differ in their names only are tried once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from wherry.benchmarks.systems.informed import Informed
from wherry.devices.system import System
from wherry.plan.place import Wish, choice_for, host_only, place
from wherry.plan.placement import Placement, placements, possible_sites, refusals
from wherry.plan.replan import replanner
from wherry.plan.rules import RULES
from wherry.plan.search import cheapest
from wherry.plan.split import split
from wherry.sim.recorded import Counts
from wherry.sim.replay import Replayed, replay, replay_within

PLANNER: Final = "planner"
HOST: Final = "host-only"
ORACLE: Final = "oracle"


class Judged(Struct, frozen=True):
    """A query on a system.

    Attributes
    ----------
    placements : mapping of str to Placement
        By who chose: the planner, the host alone, the oracle, each rule.
    runs : mapping of Placement to Replayed
        Of everybody's choice.
    possible : int
        How many placements nothing refuses.
    simulated : int
        How many were simulated, to their end or until another one was better.
    bound_ns : int
        However chunks are split, the busiest resource is busy for so long (by linear program).
    predicted_ns : int
        What the planner expected of its choice.
    planned : Replayed
        The run of the planner's choice, which places anew what is left if something else passes
        than what was planned with. Its run in `runs` stays with the choice.
    """

    placements: Mapping[str, Placement]
    runs: Mapping[Placement, Replayed]
    possible: int
    simulated: int
    bound_ns: int
    predicted_ns: int
    planned: Replayed

    def run(self, who: str) -> Replayed:
        """Give the run of somebody's choice; the oracle may wish for what was planned anew."""
        if who == PLANNER:
            return self.planned
        fixed = self.runs[self.placements[who]]
        anew = who == ORACLE and self.planned.time.ns < fixed.time.ns
        return self.planned if anew else fixed

    @property
    def fixed(self) -> Replayed:
        """The run of the planner's choice if nothing is placed anew."""
        return self.runs[self.placements[PLANNER]]


def judge(system: System, counts: Counts) -> Judged:
    """Give the choices for one query; what runs before its joins is not in it."""
    query = counts.query
    choice = choice_for(query, system, Wish())
    chosen = choice.chosen
    alone = place(query, system, pins=host_only(query, system)).chosen
    found = {PLANNER: chosen.placement, HOST: alone.placement}
    found |= {name: rule(query, system) for name, rule in RULES.items()}
    costs = Informed(query, system, counts=counts)
    refused = refusals(query, system)
    allowed = [
        [site for site in sites if site not in no]
        for sites, no in zip(possible_sites(query, system), refused, strict=True)
    ]
    first = cheapest(costs, allowed, 1)[0][0]
    shares = split(query, costs, allowed, first.placement)
    tried = dict.fromkeys((*found.values(), *(() if shares is None else (shares.placement,))))
    runs = {placement: replay(system, placement, counts) for placement in tried}
    planned, anew = runs[chosen.placement], replanner(query, system, choice, Wish())
    if anew is not None:
        planned = replay(system, chosen.placement, counts, anew=anew)
    every = list(placements(query, system, refused))
    found[ORACLE], more = _best(system, costs, every, runs)
    bound = None if shares is None else shares.bound_ns
    if bound is None:
        bound = max(first.cost.busy.values(), default=0)
    simulated = len(tried) + more
    return Judged(found, runs, len(every), simulated, bound, chosen.cost.time.ns, planned)


def _best(
    system: System, costs: Informed, every: list[Placement], runs: dict[Placement, Replayed]
) -> tuple[Placement, int]:
    """Give the best placement, its run being added to `runs`, and how many were simulated more."""
    bounds = sorted((costs.bound_ns(one), number) for number, one in enumerate(every))
    best, simulated = min(runs, key=lambda one: runs[one].time.ns), 0
    for bound, number in bounds:
        if bound >= runs[best].time.ns:
            break
        one, least = every[number], runs[best].time.ns
        if one in runs:
            continue
        simulated += 1
        run = replay_within(system, one, costs.counts, least)
        if run is not None and run.time.ns < least:
            best, runs[one] = one, run
    return best, simulated
