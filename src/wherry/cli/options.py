"""Arguments that several commands take, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, get_args

import typer

from wherry.base.errors import InputError, unknown_name
from wherry.plan.segments import Kind
from wherry.session import HOST_ONLY, Pins

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="q1, q6, or a Python file that defines a pipeline: FILE.py[:NAME]."
    ),
]
SystemName = Annotated[
    str,
    typer.Option("--system", "-s", metavar="SYSTEM", help="A system's name, or its .toml file."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where the TPC-H tables of q1 and q6 are kept, in DIR/tpch-SF; made on first use.",
    ),
]
ScaleFactor = Annotated[
    float, typer.Option("--sf", metavar="SF", help="Scale factor of the TPC-H tables.")
]
Cold = Annotated[
    bool, typer.Option("--cold", help="Emulated devices lack the query's programs at first.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PlacementText = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE", help="host-only, or pins such as near=home,merge=host0; else the planner."
    ),
]


def pins_of(text: str | None) -> Pins:
    """Give the pins that `--placement` asks for.

    >>> pins_of("near=home,merge=host0")
    {'near': 'home', 'merge': 'host0'}
    """
    if text is None:
        return {}
    if text == HOST_ONLY:
        return HOST_ONLY
    return dict(_pin(part) for part in text.split(","))


def _pin(part: str) -> tuple[str, str]:
    kind, equals, site = part.partition("=")
    if not equals or not site:
        raise InputError(f"--placement is {HOST_ONLY} or SEGMENT=SITE,...; got {part!r}")
    if kind not in KINDS:
        raise unknown_name("segment", kind, KINDS)
    return kind, site
