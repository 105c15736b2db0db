"""`wherry bench systems`: whether an accelerator pays, and whether the planner finds out where."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from wherry.base.errors import InputError, unknown_name
from wherry.base.units import format_ns
from wherry.benchmarks.systems.data import generate
from wherry.benchmarks.systems.page.document import document
from wherry.benchmarks.systems.run import EXTRA, Report, run, steps
from wherry.benchmarks.systems.workloads import WORKLOADS
from wherry.cli.output import counted, grid, heading, plain, say, short_placement
from wherry.cli.progress import progress
from wherry.cli.tpch_data import kept
from wherry.devices.system import System, load_system, system_names
from wherry.devices.this_machine import THIS_MACHINE

_REQUESTS: Final = 400
_STDOUT: Final = "-"
_NS_PER_S: Final = 1e9

EXAMPLES = """\b
Examples:
  wherry bench systems
  wherry bench systems --report report.html --json out.json
  wherry bench systems --workload q6 --workload serve --system rack-16
  wherry bench systems --system my_rack.toml --scale-factor 1 --json - | jq .summary

Answers are compared with DuckDB's, counts are taken once from real runs of real kernels, and every
placement is simulated from them: all times are modelled, and the same on every machine.
"""


def command(
    *,
    system: Annotated[
        list[str] | None,
        typer.Option(
            "--system",
            "-s",
            metavar="SYSTEM",
            help="A system's name, or its .toml file; repeatable.  [default: all]",
        ),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="q1 .. q19, sweep, lookup, range, serve, mixed or maps; repeatable.  "
            "[default: all]",
        ),
    ] = None,
    scale_factor: Annotated[
        float, typer.Option(metavar="SF", help="Scale factor of the TPC-H tables.")
    ] = 0.1,
    requests: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests of the stream at each rate.")
    ] = _REQUESTS,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the tables are kept, in DIR/systems-SF; made on first use."
        ),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write JSON; - is the output.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a report: one HTML file, needs no network."),
    ] = None,
) -> None:
    """Place workloads on emulated systems and compare with the best possible; all is modelled."""
    names, systems = _workloads(workload), _systems(system)
    for path in (report, None if json_file in {None, _STDOUT} else Path(str(json_file))):
        if path is not None and not path.absolute().parent.is_dir():
            raise InputError(f"no folder {path.absolute().parent} to write {path.name} to")
    tables = kept("systems", scale_factor, data, generate)
    with progress(steps(names, systems)) as begin:
        found = run(tables, scale_factor, names, systems, asked=requests, begin=begin)
    text = msgspec.json.format(msgspec.json.encode(plain(found.plain())), indent=2) + b"\n"
    if report is not None:
        report.write_text(document(found), encoding="utf-8")
    if json_file == _STDOUT:
        sys.stdout.write(text.decode())
        return
    if json_file is not None:
        Path(json_file).write_bytes(text)
    _show(found)


def _workloads(asked: Sequence[str] | None) -> list[str]:
    every = [*WORKLOADS, *EXTRA]
    groups = {"sweep": [name for name in every if name.startswith("sweep-")]}
    for name in asked or ():
        if name not in every and name not in groups:
            raise unknown_name("workload", name, [*every, *groups])
    wanted = {one for name in asked or every for one in groups.get(name, [name])}
    return [name for name in every if name in wanted]


def _systems(asked: Sequence[str] | None) -> list[System]:
    emulated = [name for name in system_names() if name != THIS_MACHINE]
    if asked and THIS_MACHINE in asked:
        raise InputError(
            f"{THIS_MACHINE} is measured, not emulated; systems: {', '.join(emulated)}"
        )
    return [load_system(name) for name in dict.fromkeys(asked or emulated)]


def _show(found: Report) -> None:
    heading(f"wherry bench systems: scale factor {found.scale_factor:g}, every time modelled")
    say(f"reference core: {found.machine}")
    by_workload: dict[str, list[tuple[str, ...]]] = {}
    for row in found.rows:
        line = (
            row.system,
            _time(row.modelled_s),
            f"{row.host_only_s / row.modelled_s:.2f}",
            _time(row.oracle_s),
            f"{row.regret:.1%}",
            f"{row.simulated} of {row.possible}",
            short_placement(row.placement),
        )
        by_workload.setdefault(row.workload, []).append(line)
    headers = ("system", "time", "x host", "best", "regret", "simulated", "placement")
    for name, lines in by_workload.items():
        say()
        heading(f"{name}: {WORKLOADS[name].title}")
        grid(headers, lines, right=range(1, 6))
    _show_tenants(found)
    _show_served(found)
    _show_summary(found)
    took = format_ns(found.counting.ns), format_ns(found.simulating.ns)
    say()
    say(f"  counts and answers took {took[0]}, placing and simulating {took[1]}, both measured")


def _show_tenants(found: Report) -> None:
    if not found.tenants:
        return
    say()
    heading(f"two tenants at once: {' and '.join(found.tenants[0].workloads)}")
    headers = ("system", "both", "host only", "best pair tried", "regret", "one by one")
    lines = [
        (
            one.system,
            _time(one.modelled_s),
            _time(one.host_only_s),
            _time(one.best_s),
            f"{one.regret:.1%}",
            _time(sum(one.alone_s)),
        )
        for one in found.tenants
    ]
    grid(headers, lines, right=range(1, len(headers)))


def _show_served(found: Report) -> None:
    if not found.serve:
        return
    say()
    asked = counted(found.serve[0].requests, "request")
    heading(f"serve: lookups and small ranges, {asked} at each rate, as the planner placed them")
    headers = ("system", "a second", "p50", "p99", "p99.9", "host cores", "saved", "knee, a second")
    lines = []
    for one in found.serve:
        for number, rate in enumerate(one.rates["planner"]):
            first = not number
            lines.append(
                (
                    one.system if first else "",
                    f"{rate.rate_per_s:,}",
                    *map(_time, (rate.p50_s, rate.p99_s, rate.p999_s)),
                    f"{rate.host_cores:.2f}",
                    f"{one.host_cores_saved[number]:.2f}",
                    f"{one.knee_per_s['planner']:,}" if first else "",
                )
            )
    grid(headers, lines, right=range(1, len(headers)))


def _show_summary(found: Report) -> None:
    if not found.summary:
        return
    say()
    heading(f"lost against the best placement, over {counted(len(found.rows), 'cell')}")
    lines: Mapping[str, tuple[str, ...]] = {
        name: (f"{one.mean:.1%}", f"{one.p95:.1%}", f"{one.max:.1%}", str(one.twice), one.worst)
        for name, one in found.summary.items()
    }
    headers = ("placed by", "mean", "p95", "max", "2x and more", "worst")
    grid(headers, [(name, *cells) for name, cells in lines.items()], right=range(1, 5))


def _time(seconds: float) -> str:
    return format_ns(round(seconds * _NS_PER_S))
