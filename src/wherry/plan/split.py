"""Split the chunks of a query over several ways: the shares that finish first, by linear program.

With x the share of the chunks that goes each way, and b the busy time of a resource if all chunks
went that way, the shares that minimise the largest sum of x b are a linear program, and its value
is a bound: no split of these ways keeps the busiest resource busy for less. By another objective
than time, what devices are busy for is part of what is made small.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, pairwise, product

import numpy as np
from msgspec import Struct

from wherry.plan.cost import Cost, Costs
from wherry.plan.linear import least_busy
from wherry.plan.objective import BY_TIME, Score
from wherry.plan.placement import GATE, HOME, Placement, Way
from wherry.plan.query import Query
from wherry.plan.search import Search
from wherry.plan.segments import chunkwise

_WAYS = 16
"""Ways that are tried together, cheapest first; more make the program longer and hardly better."""
_PARTS = 1000
"""What shares are rounded to."""
_LEAST = 0.01
"""A smaller share is not worth a way of its own."""


class Shares(Struct, frozen=True):
    """A split of ways that belong together, and the bound that the linear program gives.

    Attributes
    ----------
    placement : Placement
        With at least two ways.
    bound_ns : int or None
        Modelled: the busiest resource of any split of these ways is busy for at least this long.
        None if shares were chosen by something else than time.
    """

    placement: Placement
    bound_ns: int | None


def split(
    query: Query,
    costs: Costs,
    allowed: Sequence[Sequence[str]],
    first: Placement,
    score: Score = BY_TIME,
) -> Shares | None:
    """Give the best split of the ways that agree with the first placement where chunks meet.

    Parameters
    ----------
    allowed : sequence of sequence of str
        For each segment, the sites that may run it.
    first : Placement
        The cheapest that is not split.
    score : Score
        What is made small.

    Returns
    -------
    Shares or None
        None if no second way helps, or none was found to.
    """
    if len(query.chunks) < 2:
        return None
    places = costs.places
    every = [sites if n in places else (first.sites[n],) for n, sites in enumerate(allowed)]
    running = [query.segments[number].runs for number in places]
    cut = _stays([first.sites[number] for number in places], running)
    near = Search((costs,), every, score, only=lambda way: _stays(way, running) == cut)
    # Two sites may be one device: then there is nothing to split.
    unlike = dict[frozenset[tuple[str, int]], tuple[Placement, Cost]]()
    for one in near:
        unlike.setdefault(frozenset(one.cost.busy.items()), (one.placement, one.cost))
        if len(unlike) == _WAYS:
            break
    together = list(unlike.values())
    if len(together) < 2:
        return None
    solved = _solve([cost for _, cost in together], score)
    if solved is None:
        return None
    shares, bound = solved
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


def alike(query: Query, allowed: Sequence[Sequence[str]], first: Placement) -> list[Placement]:
    """Give the ways that agree with `first` where chunks meet, itself among them if allowed."""
    apart = _apart(query)
    every = [sites if apart[n] else (first.sites[n],) for n, sites in enumerate(allowed)]
    ways = map(Placement, product(*every))
    return [one for one in ways if agree(query, first, one)]


def _apart(query: Query) -> list[bool]:
    """Tell of each segment whether chunks go through it by themselves."""
    segments = query.segments
    return [number > 0 and chunkwise(segments, number) for number in range(len(segments))]


def agree(query: Query, one: Placement, other: Placement) -> bool:
    """Tell whether two placements differ only in where chunks go, and cut the same stages."""
    segments, apart = query.segments, _apart(query)
    pairs = zip(one.sites, other.sites, apart, strict=True)
    if any(a != b and not free for a, b, free in pairs):
        return False
    if any(p.sites[-1] in (HOME, GATE) and p.sites[-2] != p.sites[-1] for p in (one, other)):
        return False
    running = [free and segment.runs for free, segment in zip(apart, segments, strict=True)]
    return _stays(one.sites, running) == _stays(other.sites, running)


def _stays(sites: Sequence[str], running: Sequence[bool]) -> list[bool]:
    """Tell of each site where a program runs whether the next program runs there too."""
    return [a == b for a, b in pairwise(compress(sites, running))]


def _solve(costs: Sequence[Cost], score: Score) -> tuple[list[float], int | None] | None:
    """Give the shares, and the least time that the busiest resource can be busy."""
    resources = sorted({name for cost in costs for name in cost.busy})
    busy = np.array([[cost.busy.get(name, 0) for cost in costs] for name in resources], float)
    goal = [sum(each * cost.busy.get(name, 0) for name, each in score.busy) for cost in costs]
    # Integers of a weighting may be longer than a float: only their ratio counts.
    largest = max(score.whole, *(each for _, each in score.busy), 1)
    weights = np.array([value / largest for value in goal], float)
    found = least_busy(busy, weights, score.whole / largest)
    if found is None:
        return None
    shares, value = found
    return list(shares), int(value) if score == BY_TIME else None
