"""`wherry trace`: one trace over all hops of a continuation, however many processes made them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import typer

from wherry.base.errors import InputError
from wherry.base.units import format_ns
from wherry.cli.journals import Id, JournalName, cut, looking, when
from wherry.cli.options import Json
from wherry.cli.output import counted, grid, heading, say, show_json
from wherry.cli.show import hop_json, used_text
from wherry.movables.looking import find, hops, name_of
from wherry.trace.hops import Hop, otlp, perfetto, span_id

EXAMPLES = """\b
Examples:
  wherry trace 3f9a --journal orders.journal
  wherry trace 3f9a --perfetto hops.json
  wherry trace 3f9a --otlp spans.json
"""

_PAUSE_NS: Final = 100_000_000
"""Of nothing between two hops: a line of its own says so."""
_BAR: Final = 24


def command(
    id_: Id,
    journal: JournalName = None,
    *,
    perfetto_file: Annotated[
        Path | None,
        typer.Option("--perfetto", metavar="FILE", help="Write it there, for ui.perfetto.dev."),
    ] = None,
    otlp_file: Annotated[
        Path | None,
        typer.Option("--otlp", metavar="FILE", help="Write OpenTelemetry spans there, as JSON."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every hop of a continuation on one line of time, or write the trace to a file."""
    with looking(journal) as (found, _):
        whole = find(found, id_)
        name, made = name_of(found, whole), hops(found, whole)
    made.sort(key=lambda hop: (hop.receipt.start_ns, hop.epoch, hop.hop))
    if not made:
        raise InputError(f"{whole.hex()} has made no hop yet")
    for path, write in ((perfetto_file, perfetto), (otlp_file, otlp)):
        if path is not None:
            path.write_bytes(write(made, name))
    if as_json:
        spans = [{"span": span_id(h.id, h.epoch, h.hop).hex(), **hop_json(h)} for h in made]
        show_json({"trace": whole.hex(), "name": name, "hops": spans})
    elif perfetto_file is None and otlp_file is None:
        show_trace(name, made)


def show_trace(name: str, made: list[Hop]) -> None:
    """Print hops by time, with bars, and the pauses between them."""
    begun = made[0].receipt.start_ns
    ended = max(hop.receipt.end_ns for hop in made)
    busy = sum(hop.receipt.end_ns - hop.receipt.start_ns for hop in made)
    nodes = dict.fromkeys(hop.receipt.node for hop in made)
    heading(f"{name} {made[0].id.hex()}")
    say(
        f"{counted(len(made), 'hop')} at {', '.join(nodes)} from {when(begun)}: {format_ns(busy)} "
        f"at work in {format_ns(ended - begun)}"
    )
    say()
    lives = list(dict.fromkeys(hop.life for hop in made))
    if len(lives) > 1:
        say(f"in {len(lives)} lives of its home: each a process of its own")
    longest = max(hop.receipt.end_ns - hop.receipt.start_ns for hop in made)
    rows = []
    for before, hop in zip((None, *(h for h, _ in pairwise(made))), made, strict=True):
        pause = 0 if before is None else hop.receipt.start_ns - before.receipt.end_ns
        if pause >= _PAUSE_NS:
            rows.append(["", "", "", "", f"... {format_ns(pause)} of nothing", "", "", ""])
        rows.append([str(lives.index(hop.life) + 1), *_row(hop, begun, longest)])
    grid(("life", "at", "node", "line", "await", "took", "", "used"), rows, right=(1, 3, 5))


def _row(hop: Hop, begun: int, longest: int) -> list[str]:
    receipt = hop.receipt
    took = receipt.end_ns - receipt.start_ns
    bar = "#" * max(1, round(_BAR * took / max(1, longest)))
    failed = f"; {receipt.failed}" if receipt.failed else ""
    return [
        f"+{format_ns(receipt.start_ns - begun)}", receipt.node, str(receipt.line or ""),
        cut(receipt.what), format_ns(took), bar, f"{used_text(hop)}{failed}",
    ]  # fmt: skip
