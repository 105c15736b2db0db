"""`wherry demo`: three workloads near their data, against the host alone, checked by DuckDB."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from wherry.base.errors import WherryError, unknown_name
from wherry.base.units import Measured, format_bytes
from wherry.benchmarks.offload import Measure, Outcome, compare
from wherry.benchmarks.workloads import WORKLOADS
from wherry.cli.demo_resume import demo_resume
from wherry.cli.options import Data, Json, ScaleFactor, SystemName
from wherry.cli.output import counted, grid, heading, plain, say, short_placement, show_json
from wherry.cli.progress import progress
from wherry.cli.tpch_data import tables
from wherry.devices.system import load_system

EXAMPLES = """\b
Examples:
  wherry demo
  wherry demo --sf 0.01
  wherry demo --json
  wherry demo resume
"""

_SYSTEM: Final = "dpu-csd-host"
_RESUME: Final = "resume"
_STEPS_EACH = 6
"""Runs and the second opinion of a workload; a bar that ends early does no harm."""


def command(
    part: Annotated[
        str | None,
        typer.Argument(metavar="[resume]", help="resume: kill a movable's process, and go on."),
    ] = None,
    *,
    system: SystemName = _SYSTEM,
    data: Data = None,
    sf: ScaleFactor = 0.1,
    as_json: Json = False,
) -> None:
    """Run TPC-H Q6, Q1 and 1,000 keyed requests near their data and on the host alone.

    `wherry demo resume` kills a process in the middle of a movable, and another goes on with it.
    """
    if part is not None:
        if part != _RESUME:
            raise unknown_name("demo", part, [_RESUME])
        demo_resume(system, as_json=as_json)
        return
    start = time.perf_counter_ns()
    found = load_system(system)
    folders = tables(sf, data)
    with progress(_STEPS_EACH * len(WORKLOADS)) as begin:
        outcomes = [compare(w, folders, found, begin) for w in WORKLOADS.values()]
    took = Measured(time.perf_counter_ns() - start)
    wrong = [f"{outcome.name}: {outcome.difference}" for outcome in outcomes if outcome.difference]
    if as_json:
        show_json(_as_json(found.name, sf, outcomes, took))
        raise typer.Exit(1 if wrong else 0)  # the JSON names the differences
    _show(found.name, sf, outcomes, took)
    if wrong:
        raise WherryError(f"not equal to DuckDB: {'; '.join(wrong)}")


def _as_json(system: str, sf: float, outcomes: Sequence[Outcome], took: Measured) -> dict[str, Any]:
    return {
        "system": system,
        "scale_factor": sf,
        "workloads": [
            {**plain(outcome), "equal_to_duckdb": outcome.difference is None}
            for outcome in outcomes
        ],
        "took": took,
    }


def _show(system: str, sf: float, outcomes: Sequence[Outcome], took: Measured) -> None:
    heading(f"wherry demo on {system}, TPC-H at scale factor {sf:g}")
    say("Real rows through real programs on this machine; devices, and so the times, are modelled.")
    say("Programs were installed before, except where a line says cold.")
    for outcome in outcomes:
        say()
        heading(f"{outcome.name}: {outcome.title}")
        _show_times(outcome)
        say()
        _show_links(outcome)
        say()
        asked = "" if outcome.requests == 1 else f"{counted(outcome.requests, 'answer')}, "
        verdict = "equal to DuckDB" if outcome.difference is None else "NOT EQUAL to DuckDB"
        say(f"  {asked}{counted(outcome.rows, 'row')}: {verdict}")
    say()
    say(f"all of it: {took}")


def _show_times(outcome: Outcome) -> None:
    rows = [_time_row(run, _baseline(outcome, cold=run.cold)) for run in outcome.runs]
    grid(("", "placement", "time", "against host only"), rows, right=(2, 3))
    if outcome.requests > 1:
        say()
        latencies = [
            (run.role, _rate(outcome.requests, run), str(run.p50), str(run.p99))
            for run in outcome.runs
        ]
        headers = ("", "requests per second", "p50 of a request", "p99")
        grid(headers, latencies, right=(1, 2, 3))


def _baseline(outcome: Outcome, *, cold: bool) -> Measure:
    """Give the host alone under the same conditions; every outcome has it."""
    return next(run for run in outcome.runs if run.role == "host only" and run.cold == cold)


def _time_row(run: Measure, host: Measure) -> list[str]:
    role = f"{run.role}, cold" if run.cold else run.role
    against = "" if run is host else f"{host.time.ns / max(1, run.time.ns):.2f} x"
    return [role, short_placement(run.placement), str(run.time), against]


def _rate(requests: int, run: Measure) -> str:
    return f"{requests * 1_000_000_000 / max(1, run.time.ns):,.0f} {run.time.origin}"


def _show_links(outcome: Outcome) -> None:
    runs = [run for run in outcome.runs if not run.cold]
    names = sorted({name for run in runs for name in run.link_bytes})
    rows = [[name, *(format_bytes(run.link_bytes.get(name, 0)) for run in runs)] for name in names]
    totals = [format_bytes(sum(run.link_bytes.values())) for run in runs]
    grid(
        ("bytes over link", *(run.role for run in runs)),
        [*rows, ["all links", *totals]],
        right=range(1, len(runs) + 1),
    )
