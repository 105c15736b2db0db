"""`wherry keys`: certificates for agents and for those who ask them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wherry.cli.options import Json
from wherry.cli.output import counted, grid, say, show_json

if TYPE_CHECKING:
    from wherry.serve.identity import Role
    from wherry.serve.keys import Entry

EXAMPLES = """\b
Examples:
  wherry keys init keys
  wherry keys issue csd0 --keys keys --agent --address 10.0.0.7
  wherry keys issue alice --keys keys --days 30
  wherry keys revoke alice --keys keys
  wherry keys list --keys keys --json
"""

Keys = Annotated[
    Path, typer.Option("--keys", "-k", metavar="DIR", help="The folder that `keys init` made.")
]


def app() -> typer.Typer:
    """Give the commands of `wherry keys`."""
    found = typer.Typer(rich_markup_mode=None)
    found.callback(invoke_without_command=True, epilog=EXAMPLES)(_root)
    for name, command in (
        ("init", init_command),
        ("issue", issue_command),
        ("revoke", revoke_command),
        ("list", list_command),
    ):
        found.command(name)(command)
    return found


def _root(context: typer.Context) -> None:
    """Make an authority; issue, revoke and list certificates of agents and clients."""
    if context.invoked_subcommand is None:
        say(context.get_help())


def init_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where keys are to be kept.")],
    days: Annotated[int, typer.Option(metavar="N", help="How long the authority holds.")] = 3650,
    as_json: Json = False,
) -> None:
    """Make an authority: the key that signs the certificates of all others."""
    from wherry.serve.keys import init  # noqa: PLC0415  needs an extra

    init(folder, int(time.time()), days)
    if as_json:
        show_json({"keys": str(folder)})
    else:
        say(f"an authority is in {folder}; whoever can read that folder can be anybody")


def issue_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a device, or of who asks.")],
    keys: Keys,
    *,
    agent: Annotated[
        bool, typer.Option("--agent", help="For an agent, which serves; else for who only asks.")
    ] = False,
    address: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="An agent's IP or DNS name; repeat it."),
    ] = None,
    days: Annotated[int, typer.Option(metavar="N", help="How long it holds.")] = 90,
    again: Annotated[
        bool, typer.Option("--again", help="The name has a folder; keep that as NAME.SERIAL.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a key and a certificate, in a folder to be copied to where they are used."""
    from wherry.serve.keys import issue  # noqa: PLC0415  needs an extra

    role: Role = "agent" if agent else "client"
    now = int(time.time())
    place = issue(keys, name, role, now, addresses=address or (), days=days, again=again)
    if as_json:
        show_json({"name": name, "role": role, "folder": str(place)})
    else:
        say(f"{role} {name}: copy {place} to where it runs, and nothing else")


def revoke_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name, or a serial number.")],
    keys: Keys,
    as_json: Json = False,
) -> None:
    """Revoke what a name has; agents that read the list again refuse it from then on."""
    from wherry.serve.keys import revoke  # noqa: PLC0415  needs an extra

    serials, written = revoke(keys, name, int(time.time()))
    if as_json:
        show_json({"revoked": serials, "written": [str(path) for path in written]})
        return
    say(f"{counted(len(serials), 'certificate')} of {name} revoked: {', '.join(serials) or 'none'}")
    say(f"copy {written[0]} to the agents' folders on other hosts; they read it again as they run")


def list_command(keys: Keys, as_json: Json = False) -> None:
    """Show every certificate that was issued, and whether it holds."""
    from wherry.serve.keys import entries  # noqa: PLC0415  needs an extra

    found = entries(keys, int(time.time()))
    if as_json:
        show_json({"keys": str(keys), "certificates": found})
        return
    grid(("name", "role", "state", "until", "serial", "addresses"), [_row(one) for one in found])


def _row(one: Entry) -> tuple[str, ...]:
    until = datetime.fromtimestamp(one.until_s, UTC).strftime("%Y-%m-%d %H:%M")
    return one.name, one.role, one.state, until, one.serial, " ".join(one.addresses)
