"""`wherry calibrate`: what one core of this machine does, beside the checked-in reference core."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wherry.base.errors import InputError
from wherry.benchmarks.calibration.profile import reference_rate, write_profile
from wherry.benchmarks.calibration.rates import MEASURES, Rate, pinned
from wherry.benchmarks.calibration.starts import starts
from wherry.cli.options import Json
from wherry.cli.output import grid, heading, say, show_json
from wherry.cli.progress import progress
from wherry.devices.proc import cpu_name

EXAMPLES = """\b
Examples:
  wherry calibrate
  wherry calibrate --json
  wherry calibrate --write my-host.toml && wherry profiles check my-host.toml
"""


def command(
    *,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a profile of this machine there, of kind cpu."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --write.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure the rates of one core with Wherry's own programs; nothing else should be running."""
    if overwrite and write is None:
        raise InputError("--overwrite is of the file of --write, which is not given")
    if write is not None and write.exists() and not overwrite:
        raise InputError(f"{write} is there already; possible: another name, --overwrite")
    rates = _measured()
    if write is not None:
        write_profile(write, rates, overwrite=overwrite)
    rows = [(rate, reference_rate(rate.name)) for rate in rates.values()]
    if as_json:
        show_json(
            {
                "machine": cpu_name(),
                "origin": "measured",
                "written": None if write is None else str(write),
                "rates": [
                    {
                        "name": rate.name,
                        "value": rate.value,
                        "reference": of,
                        "relative": None if of is None else rate.value / of,
                        "how": rate.how,
                    }
                    for rate, of in rows
                ],
            }
        )
        return
    heading(f"{cpu_name()}: one pinned thread, medians, measured")
    grid(
        ("rate", "here", "reference", "relative", "how"),
        [_row(rate, of) for rate, of in rows],
        right=(1, 2, 3),
    )
    if write is not None:
        say(f"profile written to {write}")


def _measured() -> dict[str, Rate]:
    found: list[Rate] = []
    with progress(1 + len(MEASURES)) as begin, pinned():
        for step, measure in MEASURES.items():
            begin(f"measuring {step}")
            found += measure()
        begin("measuring start-up times")
        found += starts()
    return {rate.name: rate for rate in found}


def _row(rate: Rate, of: float | None) -> tuple[str, ...]:
    beside = ("", "") if of is None else (f"{of:g}", f"{rate.value / of:.2f}")
    return rate.name, f"{rate.value:g}", *beside, rate.how
