"""Find the cheapest placements exactly, without pricing all: best first, bound by parts.

Sites are settled in three steps: the way of chunks, where they meet and the answer leaves, and who
routes. What the settled parts come to by themselves is at most what any placement with them comes
to, so that the search ends once everything left begins with more than what was found.

One search may be over several worlds, which differ in how many rows pass: what a placement comes to
in each of them is then ranked by one figure that none of them makes smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import islice, product
from operator import add, itemgetter
from typing import Any

from msgspec import Struct

from wherry.plan.account import Account, Cost
from wherry.plan.bound import Sites, Ways
from wherry.plan.cost import Costs
from wherry.plan.objective import BY_TIME, Score
from wherry.plan.placement import Placement, Way

Rank = Callable[[Sequence[int]], Any]
"""Gives what placements are ordered by, from what they come to in each world; never falls."""
_ONE_WORLD: Rank = itemgetter(0)


class Found(Struct, order=True, frozen=True):
    """A placement and its cost; ordered by what it comes to, and by the order of sites.

    With several worlds the cost is that of the first of them.
    """

    value: Any
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
    search = Search((costs,), allowed, score)
    return list(islice(search, keep)), search.possible


class _Choices(Struct, frozen=True):
    """What one step of a search may settle, in the order of what it adds in the first world.

    Attributes
    ----------
    every : list of (Any, tuple of Account)
        What is chosen, and the account that it adds in each world.
    adds, onward : list of tuple of int
        What each adds in each world at least; what it and those after it do.
    """

    every: list[tuple[Any, tuple[Account, ...]]]
    adds: list[tuple[int, ...]]
    onward: list[tuple[int, ...]]

    @classmethod
    def of(cls, every: list[tuple[Any, tuple[Account, ...]]], score: Score) -> _Choices:
        """Give choices in their order."""
        adds = [tuple([score.more(part) for part in parts]) for _, parts in every]
        order = sorted(range(len(every)), key=lambda number: (adds[number][0], number))
        found, onward = [adds[number] for number in order], list[tuple[int, ...]]()
        for each in reversed(found):
            onward.append(tuple(map(min, each, onward[-1])) if onward else each)
        return cls([every[number] for number in order], found, onward[::-1])


class Search:
    """Placements, cheapest first, found as they are asked for.

    Parameters
    ----------
    worlds : sequence of Costs
        Of one query on one system, with different numbers of rows.
    allowed : sequence of sequence of str
        For each segment, the sites that may run it; none of them empty.
    rank : callable
        What placements are ordered by.
    only : callable, optional
        Tells of a way of chunks whether it is to be tried.
    """

    def __init__(
        self,
        worlds: Sequence[Costs],
        allowed: Sequence[Sequence[str]],
        score: Score = BY_TIME,
        rank: Rank = _ONE_WORLD,
        only: Callable[[Sites], bool] | None = None,
    ) -> None:
        self._worlds, self._allowed, self._score, self._rank = worlds, allowed, score, rank
        self._nodes: list[tuple[Any, int, Callable[[], Found | None]]] = []
        self._routers: dict[object, _Choices] = {}
        self._place = [{site: n for n, site in enumerate(sites)} for sites in allowed]
        self._tails = self._all_tails()
        # Who routes is settled last, and all of them take some time.
        opens = score.whole * min(worlds[0].opens(router) for router in allowed[0])
        self._opens = [opens] * len(worlds)
        self.possible = self._add_ways(only)

    def __iter__(self) -> Iterator[Found]:
        nodes, found = self._nodes, list[Found]()
        try:
            while nodes or found:
                while nodes and (not found or nodes[0][0] <= found[0].value):
                    one = heappop(nodes)[2]()
                    if one is not None:
                        heappush(found, one)
                if found:
                    yield heappop(found)
        finally:
            # What is left points back here: without it, the query goes with its last name.
            nodes.clear()

    def _push(self, least: Sequence[int], look: Callable[[], Found | None]) -> None:
        # Numbers keep the heap from comparing functions, and equal nodes in their order.
        self._pushed += 1
        heappush(self._nodes, (self._rank(least), self._pushed, look))

    def _add_ways(self, only: Callable[[Sites], bool] | None) -> int:
        """Add every way of chunks; give how many placements there are."""
        worlds, allowed, whole = self._worlds, self._allowed, self._score.whole
        later = _sum(self._opens, self._tails.onward[0])
        key = tuple(map(tuple, allowed))
        ways = worlds[0].kept.get(key)
        if ways is None:
            # Of costs of their own: what is kept must not point back at who keeps it.
            first = worlds[0]
            apart = Costs(first.query, first.system, first.cold)
            ways = first.kept[key] = Ways(apart, allowed)
        bounds = zip(*(ways.least_ns(world) for world in worlds), strict=True)
        for number, (way, every) in enumerate(zip(ways.every, bounds, strict=True)):
            if only is not None and not only(way):
                continue
            least = [whole * ns + more for ns, more in zip(every, later, strict=True)]
            self._nodes.append((self._rank(least), number, partial(self._open, way)))
        heapify(self._nodes)
        self._pushed = len(ways.every)
        return len(self._nodes) * len(allowed[0]) * len(self._tails.every)

    def _all_tails(self) -> _Choices:
        """Give the sites that follow where chunks meet, whatever way they come."""
        worlds = self._worlds
        if not worlds[0].merges:
            return _Choices.of([((), (Account(worlds[0].system),) * len(worlds))], self._score)
        every = [
            (tail, tuple([world.after(tail) for world in worlds]))
            for tail in product(*self._allowed[-2:])
        ]
        return _Choices.of(every, self._score)

    def _open(self, way: Sites) -> None:
        """Charge a way of chunks, and go on to what follows it."""
        worlds, of = self._worlds, self._score.of
        sites = (self._allowed[0][0], *way)
        ways = (Way((*sites, *self._tails.every[0][0]), 1),)
        chunks = [world.chunks(ways) for world in worlds]
        least = [
            of(world.together(part)) + opens
            for world, part, opens in zip(worlds, chunks, self._opens, strict=True)
        ]
        self._next_tail(least, chunks, sites, 0)

    def _next_tail(
        self, least: list[int], chunks: Sequence[Account], sites: Sites, number: int
    ) -> None:
        """Add the tail that adds least of those not yet added, and then what is left."""
        tails = self._tails
        adds = _sum(least, tails.adds[number])
        self._push(adds, partial(self._add_tail, chunks, sites, number))
        if number + 1 < len(tails.every):
            later = partial(self._next_tail, least, chunks, sites, number + 1)
            self._push(_sum(least, tails.onward[number + 1]), later)

    def _add_tail(self, chunks: Sequence[Account], sites: Sites, number: int) -> None:
        tail, after = self._tails.every[number]
        worlds, of, known = self._worlds, self._score.of, Placement((*sites, *tail))
        if worlds[0].merges:
            met = [world.meet(known.ways, tail[0]) for world in worlds]
            parts: list[tuple[Account, ...]] = list(zip(chunks, met, after, strict=True))
        else:
            parts = [(part,) for part in chunks]
        least = [of(world.together(*part)) for world, part in zip(worlds, parts, strict=True)]
        self._next_router(least, known, parts, self._routers_of(known), 0)

    def _routers_of(self, known: Placement) -> _Choices:
        key = self._worlds[0].before(known)
        if key not in self._routers:
            every = []
            for router in self._allowed[0]:
                route = self._worlds[0].route(Placement((router, *known.sites[1:])))
                every.append((router, (route,) * len(self._worlds)))
            self._routers[key] = _Choices.of(every, self._score)
        return self._routers[key]

    def _next_router(
        self,
        least: list[int],
        known: Placement,
        parts: Sequence[tuple[Account, ...]],
        routers: _Choices,
        number: int,
    ) -> None:
        adds = _sum(least, routers.adds[number])
        self._push(adds, partial(self._price, known, parts, routers.every[number]))
        if number + 1 < len(routers.every):
            later = partial(self._next_router, least, known, parts, routers, number + 1)
            self._push(_sum(least, routers.onward[number + 1]), later)

    def _price(
        self,
        known: Placement,
        parts: Sequence[tuple[Account, ...]],
        router: tuple[str, tuple[Account, ...]],
    ) -> Found:
        placement = Placement((router[0], *known.sites[1:]))
        costs = [
            world.together(route, *part)
            for world, route, part in zip(self._worlds, router[1], parts, strict=True)
        ]
        value = self._rank([self._score.of(cost) for cost in costs])
        pairs = zip(self._place, placement.sites, strict=True)
        return Found(value, tuple([places[site] for places, site in pairs]), placement, costs[0])


def _sum(some: Sequence[int], more: Sequence[int]) -> list[int]:
    return list(map(add, some, more))
