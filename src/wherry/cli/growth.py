"""`wherry bench growth`: how time grows with the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wherry.benchmarks.growth import Growth, generate, measure
from wherry.cli.options import Json
from wherry.cli.output import grid, heading, show_json
from wherry.cli.tpch_data import kept

_SCALES = (0.1, 1.0)
_ROUNDS = 9

EXAMPLES = """\b
Examples:
  wherry bench growth
  wherry bench growth --scale-factor 0.1 --scale-factor 1 --scale-factor 10 --json
"""


def command(
    *,
    scale_factor: Annotated[
        list[float] | None,
        typer.Option(metavar="SF", help="Of TPC-H; repeatable.  [default: 0.1 and 1]"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that medians are taken of.")] = _ROUNDS,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the tables are kept, in DIR/growth-SF; made on first use."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure processor time a row at several scale factors."""
    scales = dict.fromkeys(scale_factor or _SCALES)
    made = {scale: kept("growth", scale, data, generate) for scale in scales}
    found = measure(made, rounds)
    if as_json:
        show_json({"rows": found})
    else:
        _show(found)


def _show(found: list[Growth]) -> None:
    heading("processor time of all threads, measured; 1.00 of the first is linear")
    grid(
        ("question", "scale factor", "rows", "a query", "a row", "of the first"),
        [
            (
                one.question,
                f"{one.scale_factor:g}",
                f"{one.rows:,}",
                f"{one.query_ms:.2f} ms",
                f"{one.row_ns:.3f} ns",
                f"{one.against_first:.2f}",
            )
            for one in found
        ],
        right=(1, 2, 3, 4, 5),
    )
