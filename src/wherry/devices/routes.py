"""The best way between two nodes of a graph of links: fewest hops, least latency, file order.

A rack has hundreds of drives behind one switch, and every transfer asks for a way. So the graph is
read once, a search from a node goes on only as far as it is asked, and it keeps what it settled.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from math import lcm
from threading import Lock
from typing import Literal

import msgspec
from msgspec import Struct, field

from wherry.devices.figures import Figure


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True, cache_hash=True):
    """A connection of two nodes; the bandwidth is the usable one, one way.

    `duplex` says whether both ways have that bandwidth at once (full) or share it (half);
    `both_ways_share` is the share of it that each way of a full link keeps while both are busy.
    """

    ends: tuple[str, str]
    bandwidth_gb_per_s: Figure
    latency_us: Figure
    duplex: Literal["full", "half"]
    both_ways_share: Figure | None = None


class Lane(msgspec.Struct, frozen=True):
    """One direction of one link, the unit in which bytes are accounted; `link` is its index."""

    link: int
    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}->{self.target}"


Way = tuple[Lane, ...]


def shortest(links: Iterable[Link], start: str) -> dict[str, Way]:
    """Give the best way from `start` to every node that can be reached, `start` included."""
    return _Search(_leaving(tuple(links)), start).all()


class Graph:
    """Finds ways over links that do not change."""

    def __init__(self, links: tuple[Link, ...]) -> None:
        self._leaving = _leaving(links)
        self._searches: dict[str, _Search] = {}
        self._lock = Lock()

    def way(self, start: str, target: str) -> Way | None:
        """Give the best way from `start` to `target`, or None if there is none."""
        with self._lock:
            search = self._searches.get(start)
            if search is None:
                search = self._searches[start] = _Search(self._leaving, start)
            return search.to(target)


# (hops, latency, indices of the links, node, way): the indices break ties, so that equal ways are
# chosen alike in every process.
_Step = tuple[int, int, tuple[int, ...], str, Way]
_Leaving = dict[str, list[tuple[Lane, int]]]


def _leaving(links: tuple[Link, ...]) -> _Leaving:
    """Give the lanes that leave each node, each with its latency as a whole number.

    A sum of binary fractions would make ways differ that are equal as the file spells them. So the
    latencies are exact decimals, in units of one over their common denominator.
    """
    latencies = [Fraction(repr(link.latency_us.value)) for link in links]
    unit = lcm(*(latency.denominator for latency in latencies))
    found: _Leaving = defaultdict(list)
    for index, (link, latency) in enumerate(zip(links, latencies, strict=True)):
        a, b = link.ends
        for lane in (Lane(index, a, b), Lane(index, b, a)):
            found[lane.source].append((lane, int(latency * unit)))
    return found


class _Search(Struct):
    """Dijkstra's search from one node, which goes on where it stopped."""

    leaving: _Leaving
    start: str
    done: dict[str, Way] = field(default_factory=dict)
    waiting: list[_Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.waiting.append((0, 0, (), self.start, ()))

    def to(self, target: str) -> Way | None:
        while target not in self.done and self.waiting:
            self._settle()
        return self.done.get(target)

    def all(self) -> dict[str, Way]:
        while self.waiting:
            self._settle()
        return self.done

    def _settle(self) -> None:
        hops, latency, order, node, way = heapq.heappop(self.waiting)
        if node in self.done:
            return
        self.done[node] = way
        for lane, further in self.leaving.get(node, ()):
            if lane.target not in self.done:
                step = (hops + 1, latency + further, (*order, lane.link), lane.target, (*way, lane))
                heapq.heappush(self.waiting, step)
