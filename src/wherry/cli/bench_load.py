"""`wherry bench load`: what an agent does when more is asked of it than it can do."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from wherry.base.errors import InputError
from wherry.benchmarks.kernels.report import check_chart
from wherry.benchmarks.load.callers import User
from wherry.benchmarks.load.figures import KEPT, TAIL, Stretch
from wherry.benchmarks.load.picture import draw
from wherry.benchmarks.load.run import MULTIPLES, Report, run
from wherry.benchmarks.load.spawned import spawned
from wherry.benchmarks.load.work import script_of
from wherry.cli.options import Json
from wherry.cli.output import counted, grid, heading, say, show_json
from wherry.cli.progress import progress
from wherry.devices.system import UNIX

EXAMPLES: Final = """\b
Examples:
  wherry bench load
  wherry bench load --seconds 5 --rounds 3 --chart load.svg --json > load.json
  wherry bench load unix:host0.sock --dataset orders --rate 1 --rate 10
"""
_MOST: Final = 10.0
_SECONDS_MAX: Final = 120.0
_CONNECTIONS_MAX: Final = 384


def command(
    *,
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="ADDRESS", help="unix:PATH of an agent; one of its own if not given."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the agent; else its first.")
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            metavar="N", help="Times what it can do, up to 10; repeatable.  [default: 0.5 to 10]"
        ),
    ] = None,
    user: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UID[=WEIGHT]", help="Ask as this user, with its tenant's weight; repeatable."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.5, max=_SECONDS_MAX, help="How long each rate is put on.")
    ] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Medians are taken of.")] = 1,
    connections: Annotated[
        int, typer.Option(min=1, max=_CONNECTIONS_MAX, help="To the agent, of all users.")
    ] = 96,
    rows: Annotated[int, typer.Option(min=1, help="Of the table of an agent of its own.")] = 1
    << 20,
    running: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="What an agent of its own works on at once."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of when queries are due.")] = 1,
    chart: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw it: .svg or .png.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put more and more load on an agent of this host, and tell what it still does.

    Queries come when they are due, whether or not earlier ones were answered. Run by root, an agent
    of its own is asked as three users of different weights.
    """
    multiples = tuple(sorted(set(rate or MULTIPLES)))
    for multiple in multiples:
        if not 0 < multiple <= _MOST:
            raise InputError(f"--rate {multiple:g}; possible: above 0, {_MOST:g} at most")
    users = tuple(map(_user, user or [str(os.geteuid())]))
    if address is not None and not address.startswith(UNIX):
        raise InputError(f"{address!r}: load is put on agents of this host; possible: unix:PATH")
    if chart is not None:
        check_chart(chart)
    with progress(rounds * (len(multiples) + 1)) as begin:

        def measured(path: str, users: tuple[User, ...], pid: int | None) -> Report:
            return run(
                path,
                script_of(UNIX + path, dataset),
                users,
                multiples=multiples,
                seconds=seconds,
                rounds=rounds,
                connections=connections,
                seed=seed,
                pid=pid,
                tell=begin,
            )

        if address is None:
            with (
                tempfile.TemporaryDirectory(prefix="wherry-load-") as folder,
                spawned(Path(folder), rows, running) as own,
            ):
                report = measured(own.path, own.users, own.pid)
        else:
            report = measured(address.removeprefix(UNIX), users, None)
    if chart is not None:
        draw(report, _on(report), chart)
    if as_json:
        show_json(report)
    else:
        _show(report)


def _user(text: str) -> User:
    uid, _, weight = text.partition("=")
    try:
        return User(int(uid), float(weight or 1))
    except ValueError:
        raise InputError(f"--user is UID[=WEIGHT]; got {text!r}") from None


def _on(report: Report) -> str:
    where = report.machine
    return (
        f"{where['cpu']}, {counted(where['cores'], 'core')}; {counted(len(report.users), 'tenant')}"
        f", {counted(report.connections, 'connection')}; a query: "
        f"{counted(report.requests, 'request')}, {counted(report.rows, 'row')}"
    )


def _show(report: Report) -> None:
    heading("wherry bench load: an open loop, all measured on this machine")
    say(_on(report))
    say(f"it can do {report.capacity_per_s:.1f} queries a second; loads are multiples of that")
    say()
    headers = (
        "load", "due /s", "done /s", "of peak", "not taken", "refused", "p50 ms", "p99 ms",
        "p999 ms", "fair", "agent", "caller",
    )  # fmt: skip
    peak = report.verdict.peak_per_s
    grid(headers, [_line(s, peak) for s in report.stretches], right=range(len(headers)))
    said = report.verdict
    say()
    say(
        f"  at the highest load it does {said.kept:.0%} of its peak, goal {KEPT:.0%}: "
        f"{_reached(said.kept_met)}"
    )
    if said.kept_by_core is not None:
        say(f"  by the second of the agent's processor time it does {said.kept_by_core:.0%} there")
    if said.tail is not None:
        say(
            f"  p99 there is {said.tail:.2f} times the highest at other loads above 1, "
            f"goal at most {TAIL:g}: {_reached(said.bounded)}"
        )
    say("  refused: until a refusal came, p50 in ms; agent, caller: processor seconds a second")
    failed = sum(s.failed for s in report.stretches)
    if failed:
        say(f"  {counted(failed, 'query')} failed once begun")
    for text, count in report.stretches[-1].why.items():
        say(f"  {count} times: {text}")


def _line(found: Stretch, peak: float) -> list[str]:
    return [
        f"{found.multiple:g}",
        f"{found.offered_per_s:.0f}",
        f"{found.done_per_s:.1f}",
        f"{found.done_per_s / peak:.0%}" if peak else "",
        f"{found.refused_share:.1%}",
        *(_ms(v) for v in (found.refusal_p50_ms, found.p50_ms, found.p99_ms, found.p999_ms)),
        "" if found.fairness is None else f"{found.fairness:.3f}",
        "" if found.agent_s is None else f"{found.agent_s:.2f}",
        f"{found.caller_s:.2f}",
    ]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _reached(met: bool) -> str:
    return "met" if met else "missed"
