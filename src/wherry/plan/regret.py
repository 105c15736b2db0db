"""Choose under doubt: the placement that may be least wrong, whatever share of the rows passes.

The rows that pass are an interval. Its ends and the best guess are three worlds; the regret of a
placement in a world is by how much it takes longer than the best placement there. The choice is the
placement whose largest regret is least (Savage's rule).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from msgspec import Struct
from msgspec.structs import replace

from wherry.plan.cost import Costs
from wherry.plan.objective import BY_TIME, Score
from wherry.plan.placement import Placement
from wherry.plan.query import near_flow, with_near
from wherry.plan.search import cheapest

_TRIED = 6
"""Of each world, as many of its cheapest placements are tried in the others."""


class Steadiest(Struct, frozen=True):
    """A placement, and its largest regret as a share of the best placement's time."""

    placement: Placement
    regret: float


def least_regret(
    costs: Costs,
    allowed: Sequence[Sequence[str]],
    ranked: Sequence[Placement],
    score: Score = BY_TIME,
) -> Steadiest:
    """Give the placement whose largest regret is least.

    Parameters
    ----------
    costs : Costs
        Of the query with its best guess.
    allowed : sequence of sequence of str
        For each segment, the sites that may run it.
    ranked : sequence of Placement
        The cheapest ones at the best guess, cheapest first.
    score : Score
        What a placement comes to: its time, or what else is made small.
    """
    near = near_flow(costs.query)
    if near.exact or len(ranked) == 1:
        return Steadiest(ranked[0], 0.0)
    worlds = [costs]
    tried = list(ranked[:_TRIED])
    # A join may make any number of rows; no world has infinitely many.
    for rows in filter(isfinite, dict.fromkeys((near.rows_low, near.rows_high))):
        flow = replace(near, rows_low=rows, rows=rows, rows_high=rows)
        world = costs.with_query(with_near(costs.query, flow))
        worlds.append(world)
        tried += [one.placement for one in cheapest(world, allowed, _TRIED, score)[0]]
    tried = list(dict.fromkeys(tried))
    times = [[score.of(world.of(placement)) for world in worlds] for placement in tried]
    # What costs nothing in the best case is no worse than itself, and endlessly dear beside it.
    best = [max(1, min(column)) for column in zip(*times, strict=True)]
    regrets = [max(ns / least for ns, least in zip(row, best, strict=True)) - 1 for row in times]
    least = min(range(len(tried)), key=lambda number: (regrets[number], times[number][0]))
    return Steadiest(tried[least], regrets[least])
