"""Two tenants at once on one system: their queries begin together and queue for its devices.

The planner places the longer one as if it were alone, and the other beside what that one keeps
busy. What is best is the best pair of placements that somebody chose for either: the planner, its
next best, the host alone, each rule.
"""

from __future__ import annotations

from itertools import product
from typing import Final

from msgspec import Struct

from wherry.benchmarks.systems.cell import NS_PER_S
from wherry.benchmarks.systems.judge import HOST, PLANNER
from wherry.devices.system import System
from wherry.plan.place import host_only, place
from wherry.plan.placement import Placement
from wherry.plan.rules import RULES
from wherry.sim.recorded import Counts
from wherry.sim.replay import replay_many
from wherry.trace.usage import usage

_KEPT: Final = 3
"""Of the planner's next best placements so many are tried."""
_LOADED: Final = ("media ", "cores ", "link ", "engine ")
"""Resources whose busy shares the planner can be told."""
_MOST_BUSY: Final = 0.95
"""A resource that is always busy would have no room for anybody; the tenant ends some time."""


class Shared(Struct, frozen=True):
    """Two workloads at once on a system; every time is modelled, in seconds.

    Attributes
    ----------
    placements : tuple of str
        Of the planner.
    alone_s : tuple of float
        What each takes by itself.
    shared_s : tuple of float
        What each takes beside the other.
    modelled_s, host_only_s, best_s : float
        Until both are done: as the planner placed them, on the host alone, the best pair tried.
    regret : float
        modelled_s / best_s - 1.
    rules : dict of str to float
        The same for each rule.
    tried : int
        Pairs simulated.
    """

    workloads: tuple[str, ...]
    system: str
    placements: tuple[str, ...]
    alone_s: tuple[float, ...]
    shared_s: tuple[float, ...]
    modelled_s: float
    host_only_s: float
    best_s: float
    regret: float
    rules: dict[str, float]
    tried: int


def share(names: tuple[str, ...], system: System, both: tuple[Counts, ...]) -> Shared:
    """Give what two workloads take beside each other."""
    known: dict[tuple[Placement, ...], tuple[int, ...]] = {}

    def times(pair: tuple[Placement, ...]) -> tuple[int, ...]:
        if pair not in known:
            flights = list(zip(pair, both, strict=True))
            runs = replay_many(system, flights, in_flight=len(flights))
            known[pair] = tuple(run.time.ns for run in runs)
        return known[pair]

    who = [_choices(counts, system) for counts in both]
    _beside(who, both, system)
    by_name = {name: tuple(choices[name] for choices in who) for name in (PLANNER, HOST, *RULES)}
    every = (dict.fromkeys(choices.values()) for choices in who)
    best = min(max(times(pair)) for pair in product(*every))
    mine = by_name[PLANNER]
    alone = [replay_many(system, [flight])[0].time.ns for flight in zip(mine, both, strict=True)]
    return Shared(
        workloads=names,
        system=system.name,
        placements=tuple(
            placement.describe(counts.query.segments)
            for placement, counts in zip(mine, both, strict=True)
        ),
        alone_s=tuple(ns / NS_PER_S for ns in alone),
        shared_s=tuple(ns / NS_PER_S for ns in times(mine)),
        modelled_s=max(times(mine)) / NS_PER_S,
        host_only_s=max(times(by_name[HOST])) / NS_PER_S,
        best_s=best / NS_PER_S,
        regret=max(times(mine)) / best - 1,
        rules={name: max(times(by_name[name])) / best - 1 for name in RULES},
        tried=len(known),
    )


def _beside(who: list[dict[str, Placement]], both: tuple[Counts, ...], system: System) -> None:
    """Let the planner place the shorter one anew, beside what the longer one keeps busy."""
    placed = [(choices[PLANNER], counts) for choices, counts in zip(who, both, strict=True)]
    alone = [replay_many(system, [flight])[0] for flight in placed]
    longer = max(range(len(alone)), key=lambda number: alone[number].time.ns)
    run = alone[longer]
    busy = usage(run.spans, system, run.time.ns).busy
    load = {
        name: min(share, _MOST_BUSY) for name, share in busy.items() if name.startswith(_LOADED)
    }
    for number, counts in enumerate(both):
        if number != longer:
            found = place(counts.query, system, load=load).chosen.placement
            who[number] |= {"alone": who[number][PLANNER], PLANNER: found}


def _choices(counts: Counts, system: System) -> dict[str, Placement]:
    query = counts.query
    choice = place(query, system)
    found = {PLANNER: choice.chosen.placement}
    found |= {f"next {n}": one.placement for n, one in enumerate(choice.others[:_KEPT])}
    found[HOST] = place(query, system, pins=host_only(query, system)).chosen.placement
    return found | {name: rule(query, system) for name, rule in RULES.items()}
