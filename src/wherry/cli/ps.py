"""`wherry ps`: where each continuation of a journal is, and what it waits for."""

from __future__ import annotations

from typing import Annotated

import typer

from wherry.base.errors import unknown_name
from wherry.cli.journals import JournalName, ago, cut, journal_of, looking, short, when
from wherry.cli.options import Json
from wherry.cli.output import counted, grid, say, show_json
from wherry.movables.looking import Summary, summaries
from wherry.run.records import STATES

EXAMPLES = """\b
Examples:
  wherry ps
  wherry ps --journal orders.journal --state parked
  wherry ps --tenant acme --json
"""


def command(
    journal: JournalName = None,
    *,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help=f"One of {', '.join(STATES.values())}.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only what they pay.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show, by id.")] = 100,
    as_json: Json = False,
) -> None:
    """Show continuations: where they are, at which line, what they wait for, and since when."""
    numbers = {name: number for number, name in STATES.items()}
    if state is not None and state not in numbers:
        raise unknown_name("state", state, numbers)
    wanted = None if state is None else numbers[state]
    with looking(journal) as (found, key):
        rows = summaries(found, key, state=wanted, tenant=tenant, limit=limit)
        total = sum(found.counts().states.values()) if len(rows) == limit else len(rows)
        damages = found.damages()
    if as_json:
        told = {"continuations": rows, "damaged": damages}
        show_json({"journal": journal_of(journal), **told})
        return
    for one in damages:
        say(f"damaged: {one.table} {one.key}: {one.problem}")
    if not rows:
        say(f"no continuations in {journal_of(journal)}{_that(state, tenant)}")
        return
    grid(("id", "movable", "state", "at", "line", "await", "waits for", "since", "wakes", "tenant"),
         [_row(row) for row in rows], right=(4,))  # fmt: skip
    more = f", the first {limit:,} of {total:,}" if total > len(rows) else ""
    say(f"  {counted(len(rows), 'continuation')}{more}")


def _row(row: Summary) -> list[str]:
    line = str(row.line) if row.line else ""
    since = f"{ago(row.since_ns)} ago" if row.since_ns else ""
    return [
        short(row.id), row.name, row.state, row.where, line, cut(row.text), row.waits, since,
        when(row.wake_ns), row.tenant,
    ]  # fmt: skip


def _that(state: str | None, tenant: str | None) -> str:
    said = [f"are {state}"] if state else []
    said += [f"{tenant} pays for"] if tenant else []
    return f" that {' and that '.join(said)}" if said else ""
