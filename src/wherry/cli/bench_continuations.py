"""`wherry bench continuations`: what continuations cost, beside goals and other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_cache_path

from wherry.base.errors import InputError
from wherry.benchmarks.continuations.figure import GOALS, Figure, met
from wherry.benchmarks.continuations.run import machine, run
from wherry.cli.options import Json
from wherry.cli.output import grid, heading, say, show_json
from wherry.cli.progress import progress

EXAMPLES = """\b
Examples:
  wherry bench continuations
  wherry bench continuations --figure durable_step_us --figure durable_batch_us
  wherry bench continuations --disk /mnt/nvme --json > continuations.json
"""


def command(
    *,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this and what it needs; repeatable.  [default: all]"
        ),
    ] = None,
    disk: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder on the disk to measure; 400 MB for a while."),
    ] = Path(),
    peers: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where DBOS and Restate are installed on first use, with pip and npm.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure durable steps, dormant continuations, and what other systems take for the same."""
    if not disk.is_dir():
        raise InputError(f"--disk {disk} is no folder")
    said: list[str] = []
    with progress() as begin:
        found = list(
            run(
                figure or (), disk, peers or user_cache_path("wherry") / "peers", begin, said.append
            )
        )
    where = machine(disk.absolute())
    if as_json:
        show_json({"machine": where, "rows": found, "left_out": said})
        return
    heading("wherry bench continuations: medians, all measured on this machine")
    say(f"{where['cpu']}, {where['cores']} cores, disk of {where['disk']}")
    say()
    by_name = {one.figure: one for one in found}
    grid(
        ("figure", "value", "unit", "p99", "n", "goal", ""),
        [_line(by_name, one) for one in found],
        right=(1, 3, 4),
    )
    for line in said:
        say(line)


def _line(found: dict[str, Figure], one: Figure) -> list[str]:
    goal = GOALS.get(one.figure)
    wanted = ""
    if goal is not None:
        wanted = f"{'<=' if goal.most else '>='} {goal.limit:g}"
        wanted += f" + {goal.beyond}" if goal.beyond else ""
    p99 = "" if one.p99 is None else f"{one.p99:.2f}"
    reached = {True: "met", False: "missed", None: ""}[met(found, one.figure)]
    return [one.figure, f"{one.value:.2f}", one.unit, p99, f"{one.n}", wanted, reached]
