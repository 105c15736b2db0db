"""`wherry show`: all that a journal knows of one continuation."""

from __future__ import annotations

from wherry.base.units import format_bytes
from wherry.cli.journals import Id, JournalName, ago, cut, looking, when
from wherry.cli.options import Json
from wherry.cli.output import grid, heading, plain, say, show_json
from wherry.movables.looking import Seen, Value, find, name_of, seen, shown
from wherry.run.receipts import DIMENSIONS, described
from wherry.trace.hops import Hop

EXAMPLES = """\b
Examples:
  wherry show 3f9a --journal orders.journal
  wherry show 3f9a --json
"""


def command(id_: Id, journal: JournalName = None, as_json: Json = False) -> None:
    """Show a continuation's frame, program, history with receipts, leases, and budget."""
    with looking(journal) as (found, key):
        whole = find(found, id_)
        name, one = name_of(found, whole), seen(found, whole, key)
    if as_json:
        hops = [hop_json(hop) for hop in one.hops]
        answer = shown(one.answer)
        show_json({"name": name, **plain(one), "answer": plain(answer), "hops": hops})
        return
    heading(f"{name} {one.id}")
    for label, text in _facts(one, have_key=key is not None):
        if text:
            say(f"  {label:<10}{text}")
    _values("frame", one.frame)
    _values("given to its await", one.operands)
    show_hops("history: what each hop used", one.hops)
    if one.kept:
        say()
        heading("leases")
        grid(("what", "until", "bytes"),
             [(kept.what, when(kept.until_ns), format_bytes(kept.nbytes)) for kept in one.kept],
             right=(2,))  # fmt: skip


def hop_json(hop: Hop) -> dict[str, object]:
    """Give a hop for JSON: its receipt with amounts by name."""
    receipt = hop.receipt
    return {
        "epoch": hop.epoch,
        "hop": hop.hop,
        "node": receipt.node,
        "position": receipt.position,
        "line": receipt.line,
        "what": receipt.what,
        "start_ns": receipt.start_ns,
        "end_ns": receipt.end_ns,
        "origin": "modelled" if receipt.modelled else "measured",
        "used": dict(zip(DIMENSIONS, receipt.used, strict=True)),
        "failed": receipt.failed,
    }


def show_hops(title: str, hops: tuple[Hop, ...]) -> None:
    """Print hops, a line each, with what they used."""
    say()
    heading(title)
    if not hops:
        say("  nothing yet")
        return
    grid(("hop", "node", "line", "await", "began", "used", "failed"),
         [_hop(hop) for hop in hops], right=(2,))  # fmt: skip


def used_text(hop: Hop) -> str:
    """Give what a hop used, in words; the hop itself goes without saying."""
    used = zip(DIMENSIONS, hop.receipt.used, strict=True)
    said = {
        "time_ns": lambda n: (
            described("time_ns", n) + (" modelled" if hop.receipt.modelled else "")
        ),
        "rows": lambda n: f"{n:,} rows",
        "bytes": lambda n: f"{described('bytes', n)} sent",
        "iops": lambda n: f"{n:,} reads",
        "money_micro": lambda n: described("money_micro", n),
    }
    return ", ".join(said[name](amount) for name, amount in used if amount and name in said)


def _hop(hop: Hop) -> list[str]:
    receipt = hop.receipt
    number = str(hop.hop) if hop.epoch == 1 else f"{hop.hop} of epoch {hop.epoch}"
    line = str(receipt.line) if receipt.line else ""
    return [
        number, receipt.node, line, cut(receipt.what), when(receipt.start_ns), used_text(hop),
        receipt.failed,
    ]  # fmt: skip


def _facts(one: Seen, *, have_key: bool) -> list[tuple[str, str]]:
    at = one.at
    over = one.answer is not None or one.failed
    facts = [("state", "ended" if over else "not known: the journal has no state of it to be read")]
    if at is not None:
        line = f"line {at.line}: {at.text}" if at.line else ""
        since = f", since {ago(at.since_ns)}" if at.since_ns else ""
        waits = f"{at.waits}{since}" if at.waits else ""
        facts = [("state", f"{at.state} at {at.where}"), ("await", line), ("waits for", waits)]
        facts += [("wakes", when(at.wake_ns)), ("tenant", at.tenant)]
    left = ", ".join(described(name, amount) + f" ({name})" for name, amount in one.budget.items())
    places = "; ".join(
        f"{name}={', '.join(paths) or 'a table in memory'}" for name, paths in one.datasets.items()
    )
    moves = f"hop {one.hop}, epoch {one.epoch}" if at is not None else ""
    key = "" if have_key or at is None else "its values are sealed, and the key is not here"
    return [
        *facts,
        ("moves", moves),
        ("began", when(one.started_ns)),
        ("deadline", when(one.deadline_ns)),
        ("program", f"{one.program}  {one.file}" if one.program else ""),
        ("system", one.system),
        ("datasets", places),
        ("budget", f"{left} left" if left else ""),
        ("effects", "; ".join(one.effects)),
        ("frame", key),
        ("answer", "" if one.answer is None else f"{shown(one.answer)!r}"),
        ("failed", one.failed),
        ("damaged", one.damage),
    ]


def _values(title: str, values: tuple[Value, ...]) -> None:
    if not values:
        return
    say()
    heading(title)
    rows = [(value.movable, value.name, value.type, repr(value.value)) for value in values]
    grid(("movable", "name", "type", "value"), rows)
