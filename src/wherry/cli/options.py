"""Arguments that several commands take, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, get_args

import typer

from wherry.base.errors import InputError, unknown_name
from wherry.plan.objective import Objective, weights_of
from wherry.plan.segments import Kind
from wherry.session import HOST_ONLY, Pins

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="q1, q6, or a Python file with a pipeline or a movable: FILE.py[:NAME].",
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

ObjectiveText = Annotated[
    str,
    typer.Option(
        "--objective",
        metavar="WHAT",
        help="time, money, energy, or weights such as time=1,energy=0.2.",
    ),
]
DeadlineS = Annotated[
    float | None,
    typer.Option(
        "--deadline", metavar="S", help="Of agents: an answer or an error within S seconds."
    ),
]
LoadText = Annotated[
    str | None,
    typer.Option(
        "--load",
        metavar="SHARES",
        help="What other tenants keep busy: csd0=0.7,link csd1->pcie0=0.2.",
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


def objective_of(text: str) -> Objective:
    """Give the objective that `--objective` asks for.

    >>> objective_of("energy"), objective_of("time=1,energy=0.2")
    ('energy', {'energy': 0.2, 'time': 1.0})
    """
    given = _numbers("--objective", "QUANTITY=WEIGHT", text) if "=" in text else text
    weights = weights_of(given)
    return weights[0][0] if isinstance(given, str) else dict(weights)


def load_of(text: str | None) -> dict[str, float]:
    """Give the load that `--load` tells of.

    >>> load_of("csd0=0.7,cores dpu0=0.5")
    {'csd0': 0.7, 'cores dpu0': 0.5}
    """
    return {} if text is None else _numbers("--load", "NAME=SHARE", text)


def _numbers(option: str, form: str, text: str) -> dict[str, float]:
    found = {}
    for part in text.split(","):
        name, _, value = part.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"{option} is {form},...; got {part!r}")
    return found
