"""Split the chunks of a query over several ways: the shares that finish first, by linear program.

With x the share of the chunks that goes each way, and b the busy time of a resource if all chunks
went that way, the shares that minimise the largest sum of x b are a linear program, and its value
is a bound: no split of these ways keeps the busiest resource busy for less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry.plan.cost import Cost
from wherry.plan.placement import Placement, Way, stages_on
from wherry.plan.query import Query
from wherry.plan.segments import chunkwise

_WAYS = 16
"""Ways that are tried together, cheapest first; more make the program longer and hardly better."""
_PARTS = 1000
"""What shares are rounded to."""
_LEAST = 0.01
"""A smaller share is not worth a way of its own."""


@dataclass(frozen=True, slots=True)
class Shares:
    """A split of ways that belong together, and the bound that the linear program gives.

    Attributes
    ----------
    placement : Placement
        With at least two ways.
    bound_ns : int
        Modelled: the busiest resource of any split of these ways is busy for at least this long.
    """

    placement: Placement
    bound_ns: int


def split(query: Query, ranked: Sequence[tuple[Placement, Cost]]) -> Shares | None:
    """Give the best split of the ways that agree with the first placement where chunks meet.

    Parameters
    ----------
    ranked : sequence of (Placement, Cost)
        Pure placements and what they are predicted to cost, cheapest first.

    Returns
    -------
    Shares or None
        None if no second way helps.
    """
    first = ranked[0][0]
    together = [pair for pair in ranked if agree(query, first, pair[0])][:_WAYS]
    if len(together) < 2 or len(query.chunks) < 2:
        return None
    shares, bound = _solve([cost for _, cost in together])
    weights = [round(share * _PARTS) if share >= _LEAST else 0 for share in shares]
    ways = [
        Way(placement.sites, weight)
        for weight, (placement, _) in zip(weights, together, strict=True)
        if weight
    ]
    if len(ways) < 2:
        return None
    ways.sort(key=lambda way: -way.weight)
    return Shares(Placement(ways[0].sites, tuple(ways)), bound)


def agree(query: Query, one: Placement, other: Placement) -> bool:
    """Tell whether two placements differ only in where chunks go, and cut the same stages."""
    segments = query.segments
    merges = any(segment.kind == "merge" for segment in segments)
    for number, sites in enumerate(zip(one.sites, other.sites, strict=True)):
        apart = number > 0 and chunkwise(segments, number)
        free = apart and (segments[number].kind != "respond" or not merges)
        if not free and sites[0] != sites[1]:
            return False
    cuts = [
        [(stage.first, stage.last) for stage in stages_on(segments, placement.sites)]
        for placement in (one, other)
    ]
    return cuts[0] == cuts[1]


def _solve(costs: Sequence[Cost]) -> tuple[list[float], int]:
    """Give the shares, and the least time that the busiest resource can be busy."""
    # scipy takes longer to import than a plan without a split to make.
    import numpy as np  # noqa: PLC0415
    from scipy.optimize import linprog  # noqa: PLC0415

    resources = sorted({name for cost in costs for name in cost.busy})
    busy = np.array([[cost.busy.get(name, 0) for cost in costs] for name in resources], float)
    scale = busy.max() or 1.0
    above = np.hstack([busy / scale, -np.ones((len(resources), 1))])
    goal = np.zeros(len(costs) + 1)
    goal[-1] = 1.0
    whole = np.append(np.ones(len(costs)), 0.0)[np.newaxis]
    found = linprog(goal, A_ub=above, b_ub=np.zeros(len(resources)), A_eq=whole, b_eq=[1.0])
    assert found.success  # any shares that add up to one satisfy it
    return list(found.x[:-1]), int(found.fun * scale)
