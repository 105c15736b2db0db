"""Split the chunks of a query over several ways: the shares that finish first, by linear program.

With x the share of the chunks that goes each way, and b the busy time of a resource if all chunks
went that way, the shares that minimise the largest sum of x b are a linear program, and its value
is a bound: no split of these ways keeps the busiest resource busy for less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from wherry.plan.cost import Cost, Costs
from wherry.plan.placement import GATE, HOME, Placement, Way, stages_on
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


def split(
    query: Query, costs: Costs, allowed: Sequence[Sequence[str]], first: Placement
) -> Shares | None:
    """Give the best split of the ways that agree with the first placement where chunks meet.

    Parameters
    ----------
    allowed : sequence of sequence of str
        For each segment, the sites that may run it.
    first : Placement
        The cheapest that is not split.

    Returns
    -------
    Shares or None
        None if no second way helps.
    """
    apart = _apart(query)
    every = [sites if apart[n] else (first.sites[n],) for n, sites in enumerate(allowed)]
    alike = [Placement(sites) for sites in product(*every)]
    pairs = [(one, costs.of(one)) for one in alike if agree(query, first, one)]
    # Two sites may be one device: then there is nothing to split, and scipy is not needed.
    unlike = {frozenset(cost.busy.items()): (one, cost) for one, cost in reversed(pairs)}
    together = sorted(unlike.values(), key=lambda pair: pair[1].time)[:_WAYS]
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


def _apart(query: Query) -> list[bool]:
    """Tell of each segment whether chunks go through it by themselves."""
    segments = query.segments
    return [number > 0 and chunkwise(segments, number) for number in range(len(segments))]


def agree(query: Query, one: Placement, other: Placement) -> bool:
    """Tell whether two placements differ only in where chunks go, and cut the same stages."""
    apart = _apart(query)
    pairs = zip(one.sites, other.sites, apart, strict=True)
    if any(a != b and not free for a, b, free in pairs):
        return False
    if any(p.sites[-1] in (HOME, GATE) and p.sites[-2] != p.sites[-1] for p in (one, other)):
        return False
    cuts = [
        [(stage.first, stage.last) for stage in stages_on(query.segments, placement.sites)]
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
