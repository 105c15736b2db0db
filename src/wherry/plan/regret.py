"""Choose under doubt: the placement that may be least wrong, whatever share of the rows passes.

The rows that pass are an interval. Its ends and the best guess are three worlds; the regret of a
placement in a world is by how much it takes longer than the best placement there. The choice is the
placement whose largest regret is least (Savage's rule): of all placements that are not split, which
are searched exactly, and of the splits that are given. A split that is given is among the best that
others are compared with, too; splits that nobody found are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from operator import truediv

from msgspec import Struct
from msgspec.structs import replace

from wherry.plan.cost import Costs
from wherry.plan.objective import BY_TIME, Score
from wherry.plan.placement import Placement
from wherry.plan.query import near_flow, with_near
from wherry.plan.search import Search


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
        The cheapest ones at the best guess, cheapest first, and splits.
    score : Score
        What a placement comes to: its time, or what else is made small.
    """
    near = near_flow(costs.query)
    if near.exact or len(ranked) == 1:
        return Steadiest(ranked[0], 0.0)
    worlds = [costs]
    # A join may make any number of rows; no world has infinitely many.
    for rows in filter(isfinite, dict.fromkeys((near.rows_low, near.rows_high))):
        flow = replace(near, rows_low=rows, rows=rows, rows_high=rows)
        worlds.append(costs.with_query(with_near(costs.query, flow)))

    def comes_to(placement: Placement) -> list[int]:
        return [score.of(world.of(placement)) for world in worlds]

    splits = {one: comes_to(one) for one in ranked if one.split}
    whole = next(one for one in ranked if not one.split)
    first = comes_to(whole)
    least = [first[0], *(_least(world, allowed, score) for world in worlds[1:])]
    best = [min(every) for every in zip(least, *splits.values(), strict=True)]

    # What costs nothing in the best case is no worse than itself, and endlessly dear beside it.
    beside = [max(1, every) for every in best]

    def rank(values: Sequence[int]) -> tuple[float, int]:
        return max(map(truediv, values, beside)), values[0]

    found = (rank(first), whole)
    if first != best:
        one = next(iter(Search(worlds, allowed, score, rank)))
        found = (one.value, one.placement)
    for placement, values in splits.items():
        found = min(found, (rank(values), placement), key=lambda pair: pair[0])
    (ratio, _), placement = found
    return Steadiest(placement, ratio - 1)


def _least(world: Costs, allowed: Sequence[Sequence[str]], score: Score) -> int:
    value: int = next(iter(Search((world,), allowed, score))).value
    return value
