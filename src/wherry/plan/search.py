"""Find the cheapest placements exactly, without pricing all: branch and bound over three parts.

Chunks' ways come first, those that come to least by themselves before others: no way on to an
answer makes that less. Once the ways left cannot beat what was found, the search ends.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

from wherry.plan.account import Cost
from wherry.plan.cost import Costs
from wherry.plan.objective import BY_TIME, Score
from wherry.plan.placement import GATE, HOME, Placement, Way


@dataclass(order=True, frozen=True, slots=True)
class Found:
    """A placement and its cost; ordered by what it comes to, and by the order of sites."""

    value: int
    places: tuple[int, ...]
    placement: Placement = field(compare=False)
    cost: Cost = field(compare=False)


def cheapest(
    costs: Costs, allowed: Sequence[Sequence[str]], keep: int, score: Score = BY_TIME
) -> tuple[list[Found], int]:
    """Give the `keep` cheapest placements, and how many are possible.

    Parameters
    ----------
    costs : Costs
        Prices placements of the query on the system.
    allowed : sequence of sequence of str
        For each segment, the sites that may run it.
    score : Score
        What is made small; what parts come to bounds every placement that has them.
    """
    if not all(allowed):
        return [], 0
    merges = any(segment.kind == "merge" for segment in costs.query.segments)
    # The first segment routes; after those that chunks go through come the merge and the answer.
    rest = 2 if merges else 0
    apart = range(1, len(allowed) - rest)
    ways = sorted(_ways(costs, allowed, apart, score, merges=merges), key=lambda pair: pair[0])
    tails = allowed[len(allowed) - rest :]
    found: list[Found] = []
    for least, sites in ways:
        if len(found) == keep and least > found[-1].value:
            break
        for tail in product(*tails):
            known = Placement((allowed[0][0], *sites, *tail))
            parts = costs.chunks(known.ways), costs.gather(known)
            # Two quick looks before the routers are tried: parts alone, and both together.
            if len(found) == keep and (
                score.least(*parts) > found[-1].value
                or score.of(costs.together(*parts)) > found[-1].value
            ):
                continue
            for router in allowed[0]:
                placement = Placement((router, *sites, *tail))
                cost = costs.of(placement)
                pairs = zip(allowed, placement.sites, strict=True)
                places = tuple(list(every).index(site) for every, site in pairs)
                insort(found, Found(score.of(cost), places, placement, cost))
                del found[keep:]
    return found, len(ways) * len(allowed[0]) * prod(map(len, tails))


def _ways(
    costs: Costs, allowed: Sequence[Sequence[str]], apart: range, score: Score, *, merges: bool
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Give the ways that chunks may go, each with the least that placements with it come to.

    An answer assembled at `home` or `gate` leaves from the devices that made its parts, so it
    needs the last program there too.
    """
    others = [every[0] for every in allowed]
    for sites in product(*(allowed[number] for number in apart)):
        if not merges and sites[-1] in (HOME, GATE) and sites[-2:-1] != sites[-1:]:
            continue
        whole = (*others[: apart.start], *sites, *others[apart.stop :])
        yield score.of(costs.together(costs.chunks((Way(whole, 1),)))), sites
