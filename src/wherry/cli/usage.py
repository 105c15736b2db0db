"""`wherry usage`: what each tenant's continuations used, from the receipts of their hops."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from wherry.base.errors import InputError
from wherry.cli.journals import JournalName, journal_of, looking
from wherry.cli.options import Json
from wherry.cli.output import grid, say, show_json
from wherry.movables.looking import Bill, bills
from wherry.run.receipts import DIMENSIONS, described

EXAMPLES = """\b
Examples:
  wherry usage
  wherry usage --tenant acme --since 2026-01-01
  wherry usage --journal orders.journal --json
"""

_HEADERS = {
    "time_ns": "time",
    "bytes": "over links",
    "rows": "rows",
    "iops": "reads",
    "ram_byte_ns": "memory",
    "nic_buffer_byte_ns": "NIC buffer",
    "hops": "hops",
    "money_micro": "money",
}


def command(
    journal: JournalName = None,
    *,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only this one.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only hops that ended since: 2026-01-31[T12:00]."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bill per tenant: sums of what all hops used; modelled and measured apart."""
    since_ns = 0 if since is None else _since(since)
    with looking(journal) as (found, _):
        rows = bills(found, tenant=tenant, since_ns=since_ns)
    if as_json:
        show_json({"journal": journal_of(journal), "bills": [_json(row) for row in rows]})
    elif not rows:
        say(f"no receipts in {journal_of(journal)}")
    else:
        headers = ("tenant", "origin", "continuations", *_HEADERS.values())
        grid(headers, [_row(row) for row in rows], right=range(2, len(headers)))


def _row(row: Bill) -> list[str]:
    used = dict(zip(DIMENSIONS, row.used, strict=True))
    amounts = [described(name, used[name]) for name in _HEADERS]
    return [row.tenant or "(none)", row.origin, f"{row.continuations:,}", *amounts]


def _json(row: Bill) -> dict[str, Any]:
    return {
        "tenant": row.tenant,
        "origin": row.origin,
        "continuations": row.continuations,
        "used": dict(zip(DIMENSIONS, row.used, strict=True)),
    }


def _since(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000
    except ValueError:
        raise InputError(f"--since is a date or time such as 2026-01-31; got {text!r}") from None
