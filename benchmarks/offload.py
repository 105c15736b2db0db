"""Run a workload near its data and on the host alone, and check every answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
from msgspec import Struct

from wherry.base.units import Measured, Modelled, Time
from wherry.benchmarks.compare import difference
from wherry.benchmarks.workload import Tables, Workload
from wherry.devices.system import System
from wherry.pipeline import Pipeline
from wherry.session import HOST_ONLY, Options, Pins, Result, run_many

Report = Callable[[str], None]
"""Is told what begins, for a progress bar."""


class Measure(Struct, frozen=True):
    """One workload under one placement.

    Attributes
    ----------
    role : str
        "planner's choice", "near the data", "host only".
    cold : bool
        Whether devices lacked the programs at first.
    placement : str
        Of the first pipeline; pins and one shape give all of them the same.
    time : Modelled or Measured
        From the first request to the last answer.
    p50, p99 : Modelled or Measured
        Of a request's time to its answer.
    link_bytes : dict of str to int
        Over each direction of each link, all pipelines together.
    """

    role: str
    cold: bool
    placement: str
    time: Time
    p50: Time
    p99: Time
    link_bytes: dict[str, int]


class Outcome(Struct, frozen=True):
    """A workload's runs, and whether every answer of every run is DuckDB's.

    Attributes
    ----------
    runs : tuple of Measure
        What is compared, warm, the host alone last among them; then, if the planner placed, both
        cold.
    difference : str or None
        The first difference from DuckDB; None if there is none.
    """

    name: str
    title: str
    requests: int
    rows: int
    runs: tuple[Measure, ...]
    difference: str | None


def compare(
    workload: Workload, tables: Tables, system: System, report: Report = lambda _: None
) -> Outcome:
    """Give the outcome of a workload over `tables` on a system.

    Where the planner places, the placement near the data is run too if the planner leaves all to
    the host, and both sides are also run cold: an installation that is not shown looks free.
    """
    pipelines = workload.pipelines(tables)
    tried = _Tried(workload, system, pipelines, report)
    if workload.placed_by == "pins":
        tried.run("near the data", workload.near(system))
    else:
        tried.run("planner's choice", {})
        if _all_on(system.host, tried.runs[0].placement):
            tried.run("near the data", workload.near(system))
    tried.run("host only", HOST_ONLY)
    if workload.placed_by == "planner":
        tried.run("the same choice", _pins_of(tried.runs[0].placement), cold=True)
        tried.run("host only", HOST_ONLY, cold=True)
    report(f"{workload.name}: DuckDB")
    wanted = workload.reference(tables)
    return Outcome(
        workload.name,
        workload.title,
        len(pipelines),
        sum(table.num_rows for table in wanted),
        tuple(tried.runs),
        _first_difference(tried, wanted),
    )


class _Tried:
    """The runs so far, and their answers."""

    def __init__(
        self, workload: Workload, system: System, pipelines: list[Pipeline], report: Report
    ) -> None:
        self.workload, self.system, self.pipelines = workload, system, pipelines
        self.report = report
        self.runs: list[Measure] = []
        self.answers: list[list[pa.Table]] = []

    def run(self, role: str, pins: Pins, *, cold: bool = False) -> None:
        self.report(f"{self.workload.name}: {role}{', cold' if cold else ''}")
        options = Options(pins=pins, cold=cold)
        in_flight = self.workload.in_flight
        results = run_many(self.pipelines, self.system, options, in_flight=in_flight)
        self.runs.append(_measure(role, cold, results))
        self.answers.append([result.table for result in results])


def _pins_of(placement: str) -> dict[str, str]:
    """Read a placement's text back: `near@home merge@host0`."""
    parts = (part.partition("@") for part in placement.split())
    return {kind: site for kind, _, site in parts}


def _all_on(site: str, placement: str) -> bool:
    return all(part.endswith(f"@{site}") for part in placement.split())


def _measure(role: str, cold: bool, results: Sequence[Result]) -> Measure:
    times = sorted((result.time for result in results), key=lambda time: time.ns)
    links: dict[str, int] = {}
    for result in results:
        for name, nbytes in result.timeline.link_bytes().items():
            links[name] = links.get(name, 0) + nbytes
    return Measure(
        role=role,
        cold=cold,
        placement=results[0].placement,
        time=_altogether(results),
        p50=_percentile(times, 50),
        p99=_percentile(times, 99),
        link_bytes=dict(sorted(links.items())),
    )


def _altogether(results: Sequence[Result]) -> Time:
    """Give the time of all: emulated runs share one clock, measured ones follow each other."""
    if len(results) == 1:
        return results[0].time
    if isinstance(results[0].time, Measured):
        return Measured(sum(result.time.ns for result in results))
    return Modelled(max(span.end_ns for result in results for span in result.timeline.spans))


def _percentile(times: Sequence[Time], percent: int) -> Time:
    """Give the nearest rank: the least time that `percent` % of all do not exceed."""
    return times[-(-percent * len(times) // 100) - 1]


def _first_difference(tried: _Tried, wanted: Sequence[pa.Table]) -> str | None:
    for run, answers in zip(tried.runs, tried.answers, strict=True):
        for number, (seen, right) in enumerate(zip(answers, wanted, strict=True)):
            found = difference(seen, right, ordered=tried.workload.ordered)
            if found is not None:
                where = f"request {number}, " if len(wanted) > 1 else ""
                return f"{run.role}: {where}{found}"
    return None
