"""Find the cheapest placements exactly, without pricing all: best first, bound by parts.

Sites are settled in three steps: the way of chunks, where they meet and the answer leaves, and who
routes. What the settled parts come to by themselves is at most what any placement with them comes
to, so that the search ends once everything left begins with more than what was found.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import product
from operator import attrgetter, itemgetter

from msgspec import Struct, field

from wherry.plan.account import Account, Cost
from wherry.plan.cost import Costs
from wherry.plan.objective import BY_TIME, Score
from wherry.plan.placement import GATE, HOME, Placement, Way


class Found(Struct, frozen=True):
    """A placement, its cost, and what it comes to; `places` are its sites' among those allowed."""

    value: int
    places: tuple[int, ...]
    placement: Placement
    cost: Cost


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
    ways = list(_ways(allowed, apart, merges=merges))
    tails = list(product(*allowed[len(allowed) - rest :]))
    search = _Search(costs, allowed, score)
    for sites in ways:
        search.add_way(sites, tails)
    return search.best(keep), len(ways) * len(allowed[0]) * len(tails)


class _Search(Struct):
    """What is left to look at, what comes to least at the front of a heap.

    A node is a number of sites that are settled, and what every placement with them comes to at
    least; the sooner a look is enough, the fewer placements are priced.
    """

    costs: Costs
    allowed: Sequence[Sequence[str]]
    score: Score
    nodes: list[tuple[int, int, Callable[[], Found | None]]] = field(default_factory=list)
    tails: dict[str, list[tuple[int, int, tuple[Account, ...], tuple[str, ...]]]] = field(
        default_factory=dict
    )
    routers: dict[object, list[tuple[int, int, str]]] = field(default_factory=dict)
    pushed: int = 0

    def push(self, least: int, look: Callable[[], Found | None]) -> None:
        # Numbers keep the heap from comparing functions, and equal nodes in their order.
        self.pushed += 1
        heappush(self.nodes, (least, self.pushed, look))

    def best(self, keep: int) -> list[Found]:
        """Look on until nothing that is left can come to less than what was found."""
        found: list[Found] = []
        while self.nodes and (len(found) < keep or self.nodes[0][0] <= found[-1].value):
            _, _, look = heappop(self.nodes)
            one = look()
            if one is not None:
                insort(found, one, key=attrgetter("value", "places"))
                del found[keep:]
        # What is left points back here: without it, the query goes with its last name.
        self.nodes.clear()
        return found

    def add_way(self, sites: tuple[str, ...], tails: Sequence[tuple[str, ...]]) -> None:
        """Add all placements with a way of chunks."""
        router = self.allowed[0][0]
        chunks = self.costs.chunks((Way((router, *sites, *tails[0]), 1),))
        least = self.score.of(self.costs.together(chunks))
        self.push(least, partial(self._add_tails, least, chunks, (router, *sites), tails))

    def _add_tails(
        self,
        least: int,
        chunks: Account,
        sites: tuple[str, ...],
        tails: Sequence[tuple[str, ...]],
    ) -> None:
        # What follows the chunks hangs on where they were last, not on their way there.
        ends = sites[-1]
        if ends not in self.tails:
            known = ((Placement((*sites, *tail)), tail) for tail in tails)
            parts = ((self.costs.gather(placement), tail) for placement, tail in known)
            self.tails[ends] = sorted(
                (
                    (sum(map(self.score.more, part)), n, part, tail)
                    for n, (part, tail) in enumerate(parts)
                ),
                key=itemgetter(0, 1),
            )
        self._next_tail(least, chunks, sites, 0)

    def _next_tail(self, least: int, chunks: Account, sites: tuple[str, ...], number: int) -> None:
        """Add the tail that adds least of those not yet added, and then what is left."""
        every = self.tails[sites[-1]]
        if number < len(every):
            more, _, gather, tail = every[number]
            placement, parts = Placement((*sites, *tail)), (chunks, *gather)
            self.push(least + more, partial(self._add_tail, placement, parts))
            self.push(least + more, partial(self._next_tail, least, chunks, sites, number + 1))

    def _add_tail(self, known: Placement, parts: tuple[Account, ...]) -> None:
        key = self.costs.before(known)
        if key not in self.routers:
            every = ((router, Placement((router, *known.sites[1:]))) for router in self.allowed[0])
            more = [
                (self.score.more(self.costs.route(placement)), n, router)
                for n, (router, placement) in enumerate(every)
            ]
            self.routers[key] = sorted(more)
        least = self.score.of(self.costs.together(*parts))
        self._next_router(least, known, self.routers[key], 0)

    def _next_router(
        self, least: int, known: Placement, routers: list[tuple[int, int, str]], number: int
    ) -> None:
        if number < len(routers):
            more, _, router = routers[number]
            self.push(least + more, partial(self._price, Placement((router, *known.sites[1:]))))
            later = partial(self._next_router, least, known, routers, number + 1)
            self.push(least + more, later)

    def _price(self, placement: Placement) -> Found:
        cost = self.costs.of(placement)
        pairs = zip(self.allowed, placement.sites, strict=True)
        places = tuple(list(every).index(site) for every, site in pairs)
        return Found(self.score.of(cost), places, placement, cost)


def _ways(
    allowed: Sequence[Sequence[str]], apart: range, *, merges: bool
) -> Iterator[tuple[str, ...]]:
    """Give the ways that chunks may go.

    An answer assembled at `home` or `gate` leaves from the devices that made its parts, so it
    needs the last program there too.
    """
    for sites in product(*(allowed[number] for number in apart)):
        if merges or sites[-1] not in (HOME, GATE) or sites[-2:-1] == sites[-1:]:
            yield sites
