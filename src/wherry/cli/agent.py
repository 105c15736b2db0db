"""`wherry agent`: be a device that others send work to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from wherry.base.errors import InputError
from wherry.cli.options import Json
from wherry.cli.output import say, show_json
from wherry.devices.profile import load_profile
from wherry.serve.agent import Agent, Asked, until_told
from wherry.statements.answering import SqlAnswers

EXAMPLES = """\b
Examples:
  wherry agent --profile smartssd --data drive0 --listen unix:csd0.sock --emulate
  wherry agent --profile bluefield-3 --name dpu0 --listen unix:dpu0.sock
  wherry agent --profile newport --name csd0 --data drive0 --listen grpc+tls://10.0.0.7:7000 \\
    --keys keys/csd0 --tenants tenants.toml
"""


def command(
    *,
    profile: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="What the device is: a profile.")
    ],
    listen: Annotated[
        list[str],
        typer.Option(metavar="ADDRESS", help="unix:PATH or grpc+tls://HOST:PORT; repeat it."),
    ],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The device's name in systems; else the socket's."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Datasets: Arrow or Parquet files, or folders of them."),
    ] = None,
    emulate: Annotated[
        bool, typer.Option("--emulate", help="Charge the profile's time; else it is measured.")
    ] = False,
    keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The agent's certificate and key.")
    ] = None,
    tenants: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who may ask for what; else you alone, for everything."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where refusals go, as JSON lines; else stderr."),
    ] = None,
    system: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A system of agents that SQL over Flight is answered from; else this one alone.",
        ),
    ] = None,
    lease: Annotated[
        float, typer.Option(min=1.0, metavar="S", help="Seconds that unspoken-of rows are kept.")
    ] = 15.0,
    running: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Requests that work at once; 0: what suits its cores."
        ),
    ] = 0,
    metrics: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Prometheus metrics, on this machine alone.")
    ] = "",
    otel: Annotated[
        bool, typer.Option("--otel", help="Tell OpenTelemetry's provider of this process, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve as one device of a system, until Ctrl-C or SIGTERM.

    The programs of queries come as plans and are compiled here; rows leave only by tickets.
    """
    asked = Asked(
        name=name or _name_of(listen),
        profile=load_profile(profile),
        listen=tuple(listen),
        data=data,
        emulate=emulate,
        keys=str(keys or ""),
        tenants=tenants,
        log=log,
        lease_s=lease,
        running=running,
        metrics=metrics,
        otel=otel,
    )
    agent = Agent(asked, partial(SqlAnswers, system=system))

    def ready(_: object) -> None:
        if as_json:
            show_json({"agent": asked.name, "listen": asked.listen})
        else:
            kind = "emulated" if emulate else "measured"
            names = ", ".join(agent.station.catalogue.names) or "none"
            say(f"agent {asked.name}, {kind}, profile {profile}, at {', '.join(listen)}")
            say(f"datasets: {names}")

    until_told(agent, ready)


def _name_of(listen: list[str]) -> str:
    stem = Path(listen[0].partition(":")[2]).stem if listen else ""
    if not stem or not listen[0].startswith("unix:"):
        raise InputError("an agent has a name, that of a device in a system; give --name")
    return stem
