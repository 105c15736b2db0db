"""What ways of chunks take at least: from a few look-ups each, so that most need no account.

A way is made of legs: a program on a site, or bytes from one site to the next. How long a leg keeps
what it uses busy, and how long one chunk takes for it, hangs on nothing else of the way; there are
few legs and many ways. A way takes no less than what is busiest on it, and than one chunk's way
with what is busiest besides. All chunks are taken to lie where the media are busy longest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

from wherry.devices.charge import media_alone_ns, media_latency_ns, media_ns, quotient
from wherry.devices.demand import programs_at_once
from wherry.devices.topology import Leg, legs
from wherry.plan.cost import Costs
from wherry.plan.placement import GATE, HOME, Stage
from wherry.plan.window import window_of

Sites = tuple[str, ...]
Numbers = np.ndarray[Any, np.dtype[np.int64]]

_CLIENT = "(client)"
"""Stands for the client among sites."""
_READ, _ANSWER = -2, -1
"""In place of a segment: bytes as they are read, and those of an answer."""


class _Run(NamedTuple):
    """A program of segments first..last on a site."""

    first: int
    last: int
    site: str


class _Move(NamedTuple):
    """What comes out of a segment, on its way from site to site."""

    source: str
    target: str
    segment: int


class _Lanes(Struct, frozen=True):
    """The way from a site to another one.

    Attributes
    ----------
    chunks : int
        How many come over the lane that is busiest for those of one home.
    rate : tuple of int
        Its bytes a nanosecond, as a fraction.
    rates : tuple of tuple of int
        Of each lane.
    latency_ns, back_ns : int
        Of all of them, and of the way back.
    """

    chunks: int
    rate: tuple[int, int]
    rates: tuple[tuple[int, int], ...]
    latency_ns: int
    back_ns: int


class Ways:
    """The ways that chunks of a query may go, and the legs that each is made of.

    Attributes
    ----------
    costs : Costs
        In any world: how chunks lie is the same.
    every : list of tuple of str
        For each way, the sites of what chunks go through.
    """

    def __init__(self, costs: Costs, allowed: Sequence[Sequence[str]]) -> None:
        self.costs = costs
        self.allowed = allowed
        self._legs: dict[_Run | _Move | None, int] = {None: 0}
        self._lanes: dict[tuple[str, str], _Lanes] = {}
        kinds = [allowed[number] for number in costs.places]
        self.every = [way for way in product(*kinds) if costs.merges or _leaves(way)]
        rows = [[self._number(leg) for leg in self._legs_of(way)] for way in self.every]
        # The way to the first program, it, and then whatever else there is.
        width = max(map(len, rows))
        self._index = np.array([row + [0] * (width - len(row)) for row in rows])

    def _number(self, leg: _Run | _Move | None) -> int:
        return self._legs.setdefault(leg, len(self._legs))

    def _legs_of(self, way: Sites) -> Iterator[_Run | _Move | None]:
        costs, place, segment, first = self.costs, HOME, _READ, 0
        runs = [costs.query.segments[number].runs for number in costs.places]
        while first < len(way) and runs[first]:
            last = first
            while last + 1 < len(way) and runs[last + 1] and way[last + 1] == way[first]:
                last += 1
            site = way[first]
            yield None if site == place else _Move(place, site, segment)
            yield _Run(costs.places[first], costs.places[last], site)
            place, segment, first = site, costs.places[last], last + 1
        if not costs.merges:
            yield None if way[-1] == place else _Move(place, way[-1], _ANSWER)
            yield _Move(way[-1], _CLIENT, _ANSWER)

    def least_ns(self, costs: Costs) -> list[int]:
        """Give the nanoseconds that each way takes at least, in a world."""
        if not costs.chunks_at:
            return [0] * len(self.every)
        found = [(0, 0, 0, 0)]
        for leg in self._legs:
            if isinstance(leg, _Run):
                found.append(self._ran(costs, leg))
            elif leg is not None:
                found.append(self._moved(costs, leg))
        busy, alone, beside, cores = np.array(found).T[:, self._index]
        read_busy, occupied, read = self._read(costs)
        inside = read + alone[:, 0] + alone[:, 1]
        whole = read + alone.sum(axis=1)
        most = np.maximum(beside.max(axis=1), np.where(self._once, cores.max(axis=1), 0))
        most = np.maximum(most, np.maximum(read_busy - occupied, self._rounds * inside))
        least: Numbers = np.maximum(whole + most, np.maximum(busy.max(axis=1), read_busy))
        return [int(ns) for ns in least.tolist()]

    @cached_property
    def _once(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Tell of each way whether a chunk of the home comes to no device's cores twice.

        Cores that it comes to twice are busy for both programs, and one run is longer.
        """
        sites = {site for way in self.every for site in way}
        device = {site: self.costs.homes.device(site, self._home) for site in sites}
        found = []
        for way in self.every:
            turns = [device[b] for a, b in zip((None, *way), way, strict=False) if a != b]
            found.append(len(turns) == len(set(turns)))
        return np.array(found)

    @cached_property
    def _home(self) -> str:
        """The home whose media are busy longest."""
        costs, nbytes = self.costs, self.costs.query.reading.media_bytes
        devices = costs.system.devices
        return max(
            costs.chunks_at,
            key=lambda name: media_ns(devices[name], nbytes) * costs.chunks_at[name],
        )

    @cached_property
    def _rounds(self) -> Numbers:
        """For each way, how often the first device's window is full before the last chunk."""
        costs, found = self.costs, dict[str, int]()
        for site in self.allowed[costs.places[0]]:
            device = costs.homes.device(site, self._home)
            window = max(1, window_of(costs.system.devices[device]))
            found[site] = (costs.chunks_of(site)[device] - 1) // window
        return np.array([found[way[0]] for way in self.every])

    def _read(self, costs: Costs) -> tuple[int, int, int]:
        """Give for how long media are busy, with all and with one chunk, and how long one takes."""
        profile, nbytes = costs.system.devices[self._home], costs.query.reading.media_bytes
        occupied = media_ns(profile, nbytes)
        alone = max(occupied, media_alone_ns(profile, nbytes)) + media_latency_ns(profile)
        chunks = 1 if profile.media is None else costs.chunks_at[self._home]
        return occupied * chunks, occupied, alone

    def _ran(self, costs: Costs, leg: _Run) -> tuple[int, int, int, int]:
        """Give for how long cores or memory are busy, how long one run takes, what is beside it."""
        reads, parts = leg.first == costs.places[0], len(costs.query.chunks)
        device = costs.homes.device(leg.site, self._home)
        chunks = costs.chunks_of(leg.site)[device]
        stage = Stage(leg.first, leg.last, leg.site, chunkwise=True)
        asked = costs.asked(device, stage, parts, reads=reads)
        alone, units = asked.alone_ns, programs_at_once(costs.system.devices[device])
        busy = alone // units * chunks
        # Cores run chunks side by side: what does not fill a round of them takes a whole one.
        runs = -(-busy * units // max(1, alone))
        rounds = -(-runs // units) * alone
        cores = max(busy, rounds) - alone
        return max(busy, asked.memory_ns * chunks), alone + asked.waiting_ns, 0, cores

    def _moved(self, costs: Costs, leg: _Move) -> tuple[int, int, int, int]:
        """Give for how long the busiest lane is busy, how long one chunk takes, what is beside."""
        source, target, segment = leg
        lanes = self._lanes.get((source, target))
        if lanes is None:
            lanes = self._lanes[source, target] = self._between(source, target)
        read = segment == _READ
        nbytes = costs.query.reading.media_bytes if read else costs.out_bytes(segment)
        alone = lanes.latency_ns + (lanes.back_ns if read else 0)
        for rate in lanes.rates:
            alone += quotient(nbytes, *rate)
        once = quotient(nbytes, *lanes.rate)
        return once * lanes.chunks, alone, once * max(0, lanes.chunks - 1), 0

    def _between(self, source: str, target: str) -> _Lanes:
        chunks: Counter[str] = Counter()
        for home, count in self.costs.chunks_at.items():
            for leg in self._way(home, source, target):
                chunks[leg.lane] += count
        mine, back = self._way(self._home, source, target), self._way(self._home, target, source)
        latencies = [sum(leg.latency_ns for leg in every) for every in (mine, back)]
        if not mine:
            return _Lanes(0, (1, 1), (), *latencies)
        most = max(mine, key=lambda leg: chunks[leg.lane] * leg.rate[1] / leg.rate[0])
        rates = tuple(leg.rate for leg in mine)
        return _Lanes(chunks[most.lane], most.rate, rates, *latencies)

    def _way(self, home: str, source: str, target: str) -> tuple[Leg, ...]:
        system, device = self.costs.system, self.costs.homes.device
        ends = [system.client if s == _CLIENT else device(s, home) for s in (source, target)]
        return legs(system, *ends)


def _leaves(way: Sites) -> bool:
    """Tell whether an answer may leave there.

    One assembled at `home` or `gate` leaves from the devices that made its parts, so it needs the
    last program there too.
    """
    return way[-1] not in (HOME, GATE) or way[-2:-1] == way[-1:]
