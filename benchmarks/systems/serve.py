"""A stream of requests at given rates: how long they take, and what they leave to the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from wherry.benchmarks.systems import requests
from wherry.benchmarks.systems.cell import NS_PER_S
from wherry.benchmarks.systems.judge import HOST, PLANNER
from wherry.devices.system import System
from wherry.plan.place import host_only, place
from wherry.plan.placement import Placement
from wherry.sim.recorded import Counts
from wherry.sim.replay import Replayed, replay_many

RATES: Final = (10_000, 100_000, 300_000, 1_000_000)
_BENT: Final = 2.0
"""Past the knee p99 is more than so many times that of the least rate."""


class Rate(Struct, frozen=True):
    """A stream at one rate, modelled.

    Attributes
    ----------
    p50_s, p99_s, p999_s : float
        Seconds until so many requests of a hundred, or thousand, are answered: nearest rank.
    host_cores : float
        Cores of the host that are busy, on the average.
    """

    rate_per_s: int
    p50_s: float
    p99_s: float
    p999_s: float
    host_cores: float


class Served(Struct, frozen=True):
    """What a system makes of the stream, as the planner placed it and on the host alone.

    Attributes
    ----------
    placement : str
        Of the planner, for a lookup.
    knee_per_s : dict of str to int
        By who placed: the highest rate tried whose p99 is at most twice that of the lowest.
    rates : dict of str to tuple of Rate
        By who placed.
    host_cores_saved : tuple of float
        Of each rate: what the host alone keeps busy more.
    """

    system: str
    requests: int
    placement: str
    knee_per_s: dict[str, int]
    rates: dict[str, tuple[Rate, ...]]
    host_cores_saved: tuple[float, ...]


class _Asked(Struct, frozen=True):
    """Requests, and the placement of each shape of them by who placed it."""

    system: System
    different: Sequence[Counts]
    shapes: Mapping[bytes, Mapping[str, Placement]]

    def at(self, rate: int, count: int, who: str) -> Rate:
        which, arrivals = requests.stream(count, rate)
        asked = [self.different[number] for number in which]
        flights = [(self.shapes[one.query.plan_digest][who], one) for one in asked]
        runs = replay_many(self.system, flights, arrivals=arrivals)
        times = sorted(run.time.ns for run in runs)
        p50, p99, p999 = (_rank(times, mille) / NS_PER_S for mille in (500, 990, 999))
        return Rate(rate, p50, p99, p999, _host_cores(runs, self.system.host))


def serve(system: System, different: Sequence[Counts], count: int) -> Served:
    """Give what a system makes of a stream of `count` requests at each rate."""
    # Requests of one shape differ in their constants and go one way.
    shapes: dict[bytes, Mapping[str, Placement]] = {}
    for counts in different:
        query = counts.query
        if query.plan_digest not in shapes:
            shapes[query.plan_digest] = {
                PLANNER: place(query, system).chosen.placement,
                HOST: place(query, system, pins=host_only(query, system)).chosen.placement,
            }
    asked = _Asked(system, different, shapes)
    alone = tuple(asked.at(rate, count, HOST) for rate in RATES)
    near = alone
    if any(one[PLANNER] != one[HOST] for one in shapes.values()):
        near = tuple(asked.at(rate, count, PLANNER) for rate in RATES)
    rates = {PLANNER: near, HOST: alone}
    first = different[0].query
    return Served(
        system=system.name,
        requests=count,
        placement=shapes[first.plan_digest][PLANNER].describe(first.segments),
        knee_per_s={who: _knee(found) for who, found in rates.items()},
        rates=rates,
        host_cores_saved=tuple(
            one.host_cores - other.host_cores for one, other in zip(alone, near, strict=True)
        ),
    )


def _host_cores(runs: Sequence[Replayed], host: str) -> float:
    name = f"cores {host}"
    spans = [span for run in runs for span in run.spans if span.resource == name]
    busy = sum(span.end_ns - span.start_ns for span in spans)
    return busy / max(run.begin_ns + run.time.ns for run in runs)


def _rank(times: Sequence[int], mille: int) -> int:
    """Give the least time that `mille` of a thousand requests do not exceed."""
    return times[-(-mille * len(times) // 1000) - 1]


def _knee(rates: Sequence[Rate]) -> int:
    least = rates[0].p99_s
    return max(rate.rate_per_s for rate in rates if rate.p99_s <= _BENT * least)
