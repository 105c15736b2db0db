"""`wherry bench gpu`: which share of its limits a CUDA device's answers take."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from msgspec.structs import replace

from wherry.base.errors import InputError, WherryError
from wherry.base.units import format_bytes
from wherry.benchmarks.gpu.card import cupy
from wherry.benchmarks.gpu.engines import ABSENT
from wherry.benchmarks.gpu.goals import SCALE_FACTOR
from wherry.benchmarks.gpu.limits import Limits
from wherry.benchmarks.gpu.measure import OURS
from wherry.benchmarks.gpu.ours import first_card
from wherry.benchmarks.gpu.row import Row
from wherry.benchmarks.gpu.run import QUICK, Report, Size, checked, run
from wherry.cli.options import Json
from wherry.cli.output import counted, grid, heading, say, show_json
from wherry.cli.progress import progress
from wherry.devices.this_machine import THIS_MACHINE

EXAMPLES: Final = """\b
Examples:
  wherry bench gpu
  wherry bench gpu --quick
  wherry bench gpu --workload q6 --workload small --scale-factor 10
  wherry bench gpu --json > gpu.json
"""
_STEPS: Final = 6
"""Before the first workload: rows, a file, and four of limits."""


def command(
    *,
    scale_factor: Annotated[
        float | None,
        typer.Option(metavar="SF", help="Of rows in memory, at most.  [default: 100]"),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this one; repeatable.  [default: all]"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=10, help="For all of it; what does not fit is left out.  [default: 480]"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Scale factor 1, few rounds: a minute.")
    ] = False,
    host_memory: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="GIB", help="Of the host, where Linux says less than it will get."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where a file is written and read.  [default: /tmp]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a CUDA device's limits, and Wherry, array code and engines against them."""
    names = checked(workload or ())
    if scale_factor is not None and not 0 < scale_factor <= _MOST:
        raise InputError(f"--scale-factor {scale_factor:g}; possible: above 0, {_MOST:g} at most")
    if data is not None and not data.is_dir():
        raise InputError(f"--data {data}: no such folder")
    size = QUICK if quick else Size()
    given = None if host_memory is None else int(host_memory * (1 << 30))
    asked = {"scale_factor": scale_factor, "seconds": seconds, "memory_bytes": given}
    size = replace(size, **{name: value for name, value in asked.items() if value is not None})
    cp = cupy()
    device = first_card().device
    folder = data or Path(tempfile.gettempdir())
    with progress(_STEPS + len(names)) as begin:
        found = run(cp, device, THIS_MACHINE, size=size, names=names, folder=folder, begin=begin)
    if as_json:
        show_json(found)
    else:
        _show(found)
    wrong = [
        f"{row.workload}: {row.failed.get(OURS) or row.answers}" for row in found.rows if _bad(row)
    ]
    if wrong and as_json:
        raise typer.Exit(1)  # the JSON names them
    if wrong:
        raise WherryError(f"no answer, or one that is not right: {'; '.join(wrong)}")


_MOST: Final = 1000.0


def _bad(row: Row) -> bool:
    return not row.right or OURS in row.failed


def _show(found: Report) -> None:
    heading("wherry bench gpu: medians of alternating rounds, all measured on this machine")
    say(_on(found))
    absent = [name for name, version in found.machine["packages"].items() if version == ABSENT]
    if absent:
        say(f"absent, so not compared: {', '.join(absent)}")
    say()
    grid(("limit", "GB/s", ""), list(_limits(found.limits)), right=(1,))
    say()
    headers = (
        "workload", "SF", "ms", "on card", "limit", "of limit", "best peer", "", "answers", "goal",
        "",
    )  # fmt: skip
    grid(headers, [_line(row) for row in found.rows], right=range(1, 7))
    say()
    for row in found.rows:
        if row.p99_ms is not None:
            say(f"  {row.workload}: p99 {_ms(row.p99_ms)} ms of {counted(row.rounds, 'answer')}")
        if row.ways:
            ways = ", ".join(f"{format_bytes(n)} {way}" for way, n in row.ways.items())
            say(f"  {row.workload}: loaded {ways}")
    for line in found.dropped:
        say(f"  left out: {line}")
    for row in found.rows:
        for name, said in row.failed.items():
            say(f"  {row.workload}: {name} failed: {said}")
    judged = [row for row in found.rows if row.met is not None]
    met = sum(1 for row in judged if row.met)
    say(f"  {met} of {counted(len(judged), 'goal')} met; all took {found.seconds:.0f} s")
    if any(row.met is None and row.goal for row in found.rows):
        say(f"  goals in ms of rows of lineitem are of scale factor {SCALE_FACTOR:g}")


def _on(found: Report) -> str:
    where, cards = found.machine, found.machine["cards"]
    if isinstance(cards, str):
        return f"{cards}; {where['cpu']}, {counted(where['cores'], 'core')}"
    said = ", ".join(
        f"{card['name']}, driver {card['driver']}, PCIe {card['link_generation_max']} "
        f"x{card['link_lanes_max']}"
        for card in cards
    )
    return f"{said}; {where['cpu']}, {counted(where['cores'], 'core')}"


def _limits(limits: Limits) -> list[tuple[str, str, str]]:
    plain = {
        "read the card's memory": limits.read,
        "copy within it, both ways counted": limits.copy,
        "registered memory to the card": limits.to_device,
        "card to registered memory": limits.from_device,
        "other memory to the card": limits.to_device_pageable,
        "card to other memory": limits.from_device_pageable,
    }
    lines = [(name, f"{rate:g}", "") for name, rate in plain.items()]
    by_threads = {
        "copy memory to a ring": limits.memory,
        "read from the page cache": limits.cached,
        "read past it": limits.direct,
    }
    for name, rates in by_threads.items():
        most = f"{max(rates.values()):g}" if rates else ""
        told = ", ".join(f"{threads}: {rate:g}" for threads, rate in rates.items())
        lines.append((name, most, f"threads {told}" if rates else limits.why))
    return lines


def _line(row: Row) -> Sequence[str]:
    best = min(row.peers, key=row.peers.__getitem__) if row.peers else None
    return (
        row.workload,
        f"{row.scale_factor:.3g}" if row.rows else "",
        _ms(row.answer_ms),
        _ms(row.card_ms),
        _ms(row.limit_ms),
        "" if row.share is None else f"{row.share:.0%}",
        "" if best is None else _ms(row.peers[best]),
        best or "",
        _answers(row),
        row.goal,
        {True: "met", False: "missed", None: ""}[row.met],
    )


def _answers(row: Row) -> str:
    if OURS in row.failed:
        return "failed"
    if row.answers == "none":
        return ""
    return "change" if row.same_bits is False else row.answers


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
