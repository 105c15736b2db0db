"""Take the counts of every workload once, then judge it on every system."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct

from wherry.base.errors import WherryError
from wherry.base.events import Span
from wherry.base.units import Measured
from wherry.benchmarks.compare import difference
from wherry.benchmarks.second_opinion import ask
from wherry.benchmarks.systems import maps, requests, sweep
from wherry.benchmarks.systems.cell import Row, cell_of
from wherry.benchmarks.systems.maps import Map, map_of
from wherry.benchmarks.systems.serve import Served, serve
from wherry.benchmarks.systems.summary import Losses, summary
from wherry.benchmarks.systems.tenants import Shared, share
from wherry.benchmarks.systems.workloads import TENANTS, WORKLOADS
from wherry.benchmarks.workload import Tables
from wherry.devices.system import System
from wherry.devices.work import load_reference
from wherry.session import record
from wherry.sim.recorded import Counts

SERVE: Final = "serve"
MIXED: Final = "mixed"
MAPS: Final = "maps"
EXTRA: Final = {
    SERVE: "a stream of key lookups and small ranges at given rates",
    MIXED: f"two tenants at once: {' and '.join(TENANTS)}",
    MAPS: "shares of the sweep by the bandwidth of a link",
}
"""What is no row of its own: it is asked for by name like a workload."""
Begin = Callable[[str], None]
_Taken = TypeVar("_Taken")


class Report(Struct, frozen=True):
    """What `wherry bench systems` found; all times modelled, and the same on every machine.

    Attributes
    ----------
    machine : str
        The reference core that device profiles are relative to.
    rows : tuple of Row
        Workload by workload, system by system.
    spans : dict of (str, str) to tuple of Span
        Of the planner's choice, by workload and system; not in JSON.
    counting, simulating : Measured
        What taking counts and comparing answers took here, and all the rest; not in JSON.
    """

    machine: str
    scale_factor: float
    rows: tuple[Row, ...]
    summary: dict[str, Losses]
    tenants: tuple[Shared, ...]
    serve: tuple[Served, ...]
    maps: tuple[Map, ...]
    spans: dict[tuple[str, str], tuple[Span, ...]]
    counting: Measured
    simulating: Measured

    def plain(self) -> dict[str, Any]:
        """Give what JSON has."""
        names = ("machine", "scale_factor", "rows", "summary", "tenants", "serve", "maps")
        return {name: getattr(self, name) for name in names}


def steps(names: Sequence[str], systems: Sequence[System]) -> int:
    """Give how often `run` says what it begins."""
    return len(names) * (len(systems) + 1)


def run(
    tables: Tables,
    scale_factor: float,
    names: Sequence[str],
    systems: Sequence[System],
    *,
    asked: int,
    begin: Begin = lambda _: None,
) -> Report:
    """Judge workloads on systems.

    Parameters
    ----------
    names : sequence of str
        Of `WORKLOADS` and `EXTRA`.
    asked : int
        Requests of the stream at each rate.

    Raises
    ------
    WherryError
        An answer is not DuckDB's.
    """
    started = time.perf_counter_ns()
    rows: list[Row] = []
    spans: dict[tuple[str, str], tuple[Span, ...]] = {}
    counted = _Counted(tables)
    for name in (name for name in names if name in WORKLOADS):
        begin(f"{name}: counts")
        counts = counted.of(name)
        for system in systems:
            begin(f"{name} on {system.name}")
            cell = cell_of(name, system, counts)
            rows.append(cell.row)
            spans[name, system.name] = cell.spans
        counted.forget(name, names)
    tenants = _tenants(counted, names, systems, begin)
    served = _served(counted, names, systems, asked, begin)
    maps_found = _maps(counted, names, systems, begin)
    took = time.perf_counter_ns() - started
    return Report(
        machine=load_reference().title,
        scale_factor=scale_factor,
        rows=tuple(rows),
        summary=summary(rows) if rows else {},
        tenants=tenants,
        serve=served,
        maps=maps_found,
        spans=spans,
        counting=Measured(counted.took_ns),
        simulating=Measured(took - counted.took_ns),
    )


class _Counted:
    """The counts of workloads, each taken once, and its answer compared with DuckDB's."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._known: dict[str, Counts] = {}
        self.took_ns = 0

    def of(self, name: str) -> Counts:
        if name not in self._known:
            self._known[name] = self._timed(lambda: self._taken(name))
        return self._known[name]

    def forget(self, name: str, names: Sequence[str]) -> None:
        """Let counts go, with the memory that their programs filled, unless they come again."""
        again = {*TENANTS} if MIXED in names else set()
        if MAPS in names:
            again.update(sweep.name_of(one, maps.WIDTH) for one in sweep.SHARES)
        if name not in again:
            del self._known[name]

    def requests(self) -> list[Counts]:
        return self._timed(
            lambda: [self._watched(record(one)) for one in requests.different(self._tables)]
        )

    def _taken(self, name: str) -> Counts:
        question = WORKLOADS[name]
        pipeline = question.pipeline(self._tables)
        wanted = ask(question.sql, self._tables)
        found = difference(pipeline.collect(), wanted, ordered=question.ordered)
        if found is not None:
            raise WherryError(f"{name}: not DuckDB's answer: {found}")
        return self._watched(record(pipeline))

    def _timed(self, take: Callable[[], _Taken]) -> _Taken:
        started = time.perf_counter_ns()
        found = take()
        self.took_ns += time.perf_counter_ns() - started
        return found

    def _watched(self, counts: Counts) -> Counts:
        """Give counts that note how long those take that a placement is the first to ask for."""
        for side in counts.before:
            self._watched(side)
        counts.taking = self._timed
        return counts


def _tenants(
    counted: _Counted, names: Sequence[str], systems: Sequence[System], begin: Begin
) -> tuple[Shared, ...]:
    if MIXED not in names:
        return ()
    begin(f"{MIXED}: counts")
    both = tuple(counted.of(name) for name in TENANTS)
    found = []
    for system in systems:
        begin(f"{MIXED} on {system.name}")
        found.append(share(TENANTS, system, both))
    return tuple(found)


def _served(
    counted: _Counted, names: Sequence[str], systems: Sequence[System], asked: int, begin: Begin
) -> tuple[Served, ...]:
    if SERVE not in names:
        return ()
    begin(f"{SERVE}: counts")
    different = counted.requests()
    found = []
    for system in systems:
        begin(f"{SERVE} on {system.name}")
        found.append(serve(system, different, asked))
    return tuple(found)


def _maps(
    counted: _Counted, names: Sequence[str], systems: Sequence[System], begin: Begin
) -> tuple[Map, ...]:
    if MAPS not in names:
        return ()
    begin(f"{MAPS}: counts")
    by_share = {one: counted.of(sweep.name_of(one, maps.WIDTH)) for one in sweep.SHARES}
    found = []
    for system in systems:
        begin(f"{MAPS} on {system.name}")
        if system.name in maps.SYSTEMS:
            found.append(map_of(system, by_share))
    return tuple(found)
