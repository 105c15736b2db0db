"""`wherry bench`: how fast this machine is with Wherry, and others; what other systems would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from wherry.base.errors import WherryError, unknown_name
from wherry.benchmarks.kernels.data import Data, generate
from wherry.benchmarks.kernels.goals import GOALS, LEAST_RATIO, MEAN_RATIO
from wherry.benchmarks.kernels.peers import ABSENT
from wherry.benchmarks.kernels.report import check_chart, draw, mean_ratio, runs_of
from wherry.benchmarks.kernels.row import Row
from wherry.benchmarks.kernels.runs import machine, possible_threads, run
from wherry.benchmarks.tpchgen import checked
from wherry.cli import (
    bench_agents,
    bench_continuations,
    bench_gpu,
    bench_load,
    bench_systems,
    growth,
)
from wherry.cli.options import Json
from wherry.cli.output import counted, grid, heading, say, show_json
from wherry.cli.progress import progress
from wherry.cli.tpch_data import kept
from wherry.devices.proc import usable_cores

_ROUNDS: Final = 9
_BAR: Final = 16
"""Characters of the longest bar; every bar is to the same scale."""
_FULL: Final = 12.0
"""The ratio whose bar is that long; a longer one ends in an arrow."""

_EXAMPLES = """\b
Examples:
  wherry bench kernels
  wherry bench kernels --workload q6-float64 --threads 1
  wherry bench kernels --scale-factor 1 --scale-factor 5 --chart kernels.svg
  wherry bench kernels --json > kernels.json
"""


def app() -> typer.Typer:
    """Give the commands of `wherry bench`."""
    found = typer.Typer(rich_markup_mode=None)
    found.callback(invoke_without_command=True, epilog=_EXAMPLES)(_root)
    found.command("kernels", epilog=_EXAMPLES)(kernels_command)
    found.command("gpu", epilog=bench_gpu.EXAMPLES)(bench_gpu.command)
    found.command("growth", epilog=growth.EXAMPLES)(growth.command)
    found.command("continuations", epilog=bench_continuations.EXAMPLES)(bench_continuations.command)
    found.command("agents", epilog=bench_agents.EXAMPLES)(bench_agents.command)
    found.command("load", epilog=bench_load.EXAMPLES)(bench_load.command)
    found.command("systems", epilog=bench_systems.EXAMPLES)(bench_systems.command)
    return found


def _root(context: typer.Context) -> None:
    """Measure Wherry on this machine, or place workloads on others."""
    if context.invoked_subcommand is None:
        say(context.get_help())


def kernels_command(
    *,
    scale_factor: Annotated[
        list[float] | None,
        typer.Option(metavar="SF", help="Scale factor of TPC-H; repeatable.  [default: 1]"),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Threads, and cores; repeatable.  [default: 1 and 2]"),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this one; repeatable.  [default: all]"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that medians are taken of.")] = _ROUNDS,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the tables are kept, in DIR/bench-SF; made on first use."
        ),
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the ratios: .svg or .png.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare Wherry with DuckDB, Polars, DataFusion, Acero and the memory; all is measured."""
    names = _chosen(workload)
    numbers = possible_threads(threads or range(1, min(2, usable_cores()) + 1))
    scales = list(dict.fromkeys(scale_factor or [1.0]))
    if chart is not None:
        check_chart(chart)
    where = machine()
    rows: list[Row] = []
    made = [_data(scale, data) for scale in scales]
    with progress(len(made) * len(numbers) * len(names)) as begin:
        for found in made:
            for number in numbers:
                label = f"scale factor {found.scale_factor:g}, {counted(number, 'thread')}"
                told = _labelled(begin, label)
                rows += run(
                    found,
                    names,
                    threads=number,
                    rounds=rounds,
                    begin=told,
                    bandwidth=where["read_gb_per_s"],
                )
    if chart is not None:
        draw(rows, _on(where), chart)
    if as_json:
        show_json({"machine": where, "rows": rows})
    else:
        _show(where, rows)
    wrong = [f"{row.workload}: {row.answers}" for row in rows if not row.equal]
    if wrong and as_json:
        raise typer.Exit(1)  # the JSON names the differences
    if wrong:
        raise WherryError(f"answers differ: {'; '.join(wrong)}")


def _chosen(names: Sequence[str] | None) -> list[str]:
    for name in names or ():
        if name not in GOALS:
            raise unknown_name("workload", name, GOALS)
    return [name for name in GOALS if not names or name in names]


def _data(scale_factor: float, folder: Path | None) -> Data:
    return kept("bench", checked(scale_factor), folder, generate)


def _labelled(begin: Any, label: str) -> Any:
    return lambda workload: begin(f"{label}: {workload}")


def _on(where: dict[str, Any]) -> str:
    reads = ", ".join(
        f"{gb_per_s:g} GB/s with {counted(int(threads), 'thread')}"
        for threads, gb_per_s in where["read_gb_per_s"].items()
    )
    return f"{where['cpu']}, {counted(where['cores'], 'core')}; reads {reads}"


def _show(where: dict[str, Any], rows: Sequence[Row]) -> None:
    heading("wherry bench kernels: medians of alternating rounds, all measured on this machine")
    say(_on(where))
    peers = where["peers"].items()
    say("; ".join(f"{name} {version}" for name, version in peers))
    absent = [name for name, version in peers if version == ABSENT]
    if absent:
        say(f"absent, so not compared: {', '.join(absent)}; python -m pip install 'wherry[bench]'")
    for scale, threads, found in runs_of(rows):
        say()
        heading(f"scale factor {scale:g}, {counted(threads, 'thread')}")
        grid(
            (
                "workload",
                "wherry ms",
                "peer ms",
                "best peer",
                "ratio / goal",
                "of limit",
                "goals",
                "ratio, goal at ┃",
            ),
            [_line(row) for row in found],
            right=(1, 2, 4, 5),
        )
        _summary(found)


def _line(row: Row) -> list[str]:
    if row.wherry_ms is None:
        return [row.workload, "absent", "", "", "", "", "", ""]
    best = row.best_peer
    return [
        row.workload,
        f"{row.wherry_ms:.2f}",
        "" if best is None else f"{row.peers[best]:.2f}",
        best or "",
        _beside(row.ratio_to_best, row.goal),
        _beside(row.share_of_limit, row.goal_share),
        {True: "met", False: "missed", None: ""}[row.met],
        "" if row.ratio_to_best is None else bar(row.ratio_to_best, row.goal),
    ]


def _beside(seen: float | None, goal: float | None) -> str:
    """Give a figure with its goal, each flush with those above and below."""
    wanted = "" if goal is None else f"/ {goal:g}"
    return "" if seen is None else f"{seen:.2f} {wanted:<6}"


def bar(ratio: float, goal: float) -> str:
    """Give a ratio as a bar with its goal as a mark, both to one scale.

    >>> bar(3.0, 2.0)
    '━━━┃'
    >>> bar(2.0, 6.0)
    '━━━     ┃'
    """
    length, mark = (round(min(value, _FULL) / _FULL * _BAR) for value in (ratio, goal))
    cells = ["━"] * length + [" "] * max(0, mark + 1 - length)
    cells[mark] = "┃"
    return "".join(cells) + ("▶" if ratio > _FULL else "")


def _summary(rows: Sequence[Row]) -> None:
    judged = [row for row in rows if row.met is not None]
    mean = mean_ratio(rows)
    say()
    if mean is not None:
        below = [row.workload for row in judged if (row.ratio_to_best or 0.0) < LEAST_RATIO]
        met = sum(1 for row in judged if row.met)
        say(f"  geometric mean of the ratios {mean:.2f}, goal {MEAN_RATIO:g}")
        say(f"  {met} of {counted(len(judged), 'goal')} met")
        say(f"  below {LEAST_RATIO:g}: {', '.join(below) or 'none'}")
    disturbed, whole = (sum(counts) for counts in zip(*map(_rounds, rows), strict=True))
    say(f"  {disturbed} of {counted(whole, 'round')} disturbed by other processes")
    for line in dict.fromkeys(_remarks(rows)):
        say(f"  {line}")


def _rounds(row: Row) -> tuple[int, int]:
    return row.disturbed_rounds, row.rounds


def _remarks(rows: Sequence[Row]) -> Iterator[str]:
    """Give what was not measured or is wrong, in words."""
    for row in rows:
        if row.absent is not None:
            yield f"{row.workload} is absent: {row.absent}"
        for form, said in row.failed.items():
            yield f"{row.workload}: {form} failed: {said}"
    if all(row.equal for row in rows):
        yield "all answers equal"
