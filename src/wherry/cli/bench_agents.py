"""`wherry bench agents`: what it takes to have rows and answers from another process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Final

import typer
from msgspec import Struct, to_builtins

from wherry.benchmarks.agents import flight, unix
from wherry.benchmarks.agents.flight import FlightFigures
from wherry.benchmarks.agents.unix import UnixFigures
from wherry.cli.options import Json
from wherry.cli.output import grid, heading, say, show_json
from wherry.cli.progress import progress
from wherry.devices.proc import cpu_name, kernel_release, usable_cores

EXAMPLES: Final = """\b
Examples:
  wherry bench agents
  wherry bench agents --megabytes 64 --json > agents.json
"""

_TAKE_US: Final = 1000.0
"""Goal of handing over 256 MB between two processes of a host."""
_REQUEST_US: Final = 150.0
"""Goal of a small request there."""
_FLIGHT_SHARE: Final = 0.9
"""Goal of our Flight in pyarrow's own."""
_GOAL_BYTES: Final = 256 << 20


class _Line(Struct, frozen=True):
    """A figure, and what it is to reach; `most`: at most."""

    figure: str
    value: float
    unit: str
    goal: float | None = None
    most: bool = True

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.most else self.value >= self.goal


def command(
    *,
    megabytes: Annotated[
        int, typer.Option(min=1, help="Size of the table that is handed over, in MiB.")
    ] = _GOAL_BYTES >> 20,
    as_json: Json = False,
) -> None:
    """Measure hand-over and small requests between processes, over Unix sockets and Flight."""
    nbytes = megabytes << 20
    with progress(2) as begin:
        begin("a Unix socket")
        local = unix.measured(nbytes)
        begin("Flight on loopback")
        far = flight.measured(nbytes)
    lines = [*_local(local), *_far(far)]
    machine = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "kernel": kernel_release(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "origin": "measured",
    }
    if as_json:
        show_json(
            {
                "machine": machine,
                "unix": to_builtins(local),
                "flight": to_builtins(far),
                "met": {line.figure: line.met for line in lines if line.met is not None},
            }
        )
        return
    heading("wherry bench agents: medians, all measured on this machine")
    say(f"{machine['cpu']}, {machine['cores']} cores; {megabytes} MiB of an int64 and a float64")
    say()
    grid(("figure", "value", "unit", "goal", ""), [_cells(line) for line in lines], right=(1,))


def _local(found: UnixFigures) -> Iterator[_Line]:
    whole = found.nbytes == _GOAL_BYTES
    yield _Line("hand-over of one batch", found.take_us, "us", _TAKE_US if whole else None)
    yield _Line("  99 of 100 take at most", found.take_p99_us, "us")
    yield _Line("hand-over of batches of 2**20 rows", found.take_cut_us, "us")
    yield _Line("hand-over of a mapped file", found.take_file_us, "us")
    yield _Line("bytes copied for all of it", found.copied_bytes, "B", 0.0)
    yield _Line("first sum over what was handed over", found.first_read_gbs, "GB/s")
    yield _Line("second sum over it", found.read_gbs, "GB/s")
    yield _Line("small request", found.request_us, "us", _REQUEST_US)
    yield _Line("  99 of 100 take at most", found.request_p99_us, "us")


def _far(found: FlightFigures) -> Iterator[_Line]:
    yield _Line("Flight, pyarrow's own do_get", found.pyarrow_gbs, "GB/s")
    yield _Line("Flight, ours to our client", found.wherry_gbs, "GB/s")
    yield _Line("  of pyarrow's own", found.share, "", _FLIGHT_SHARE, most=False)
    yield _Line("Flight, ours to pyarrow's client", found.pyarrow_client_gbs, "GB/s")
    yield _Line("Flight, small request", found.request_us, "us")


def _cells(line: _Line) -> list[str]:
    goal = "" if line.goal is None else f"{'<=' if line.most else '>='} {line.goal:g}"
    reached = {True: "met", False: "missed", None: ""}[line.met]
    value = f"{line.value:.0f}" if line.unit == "B" else f"{line.value:.2f}"
    return [line.figure, value, line.unit, goal, reached]
