"""`wherry migrate`: what sleeps in a journal, against a newer version of its code."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from wherry.base.errors import InputError
from wherry.cli.journals import JournalName, existing, short
from wherry.cli.options import Json
from wherry.cli.output import counted, grid, say, show_json
from wherry.cli.target import load_file, movables_of
from wherry.movables.dormant import Fitting, Found
from wherry.movables.migration import KEEP, MIGRATE, PIN
from wherry.movables.places import known_key, looked, opened

EXAMPLES = """\b
Examples:
  wherry migrate --check top_orders_v2.py --journal orders.journal
  wherry migrate top_orders_v2.py --journal orders.journal
"""

_NS: Final = 1_000_000_000


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE.py", help="The newer movables.")],
    journal: JournalName = None,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only tell what would become of each.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Thaw every dormant frame against newer code: keep, migrate or pin, and why.

    Without --check frames that migrate are rewritten. Pinned ones stay in their old program, which
    the journal keeps for as long as they are there.
    """
    where = existing(journal)
    newer = {one.name: one.program for one in movables_of(load_file(file)).values()}
    if not newer:
        raise InputError(f"{file} defines no movable")
    key = known_key(where)
    if key is None:
        raise InputError(f"the frames of {where} are sealed, and its key is not here")
    with closing(looked(where) if check else opened(where)) as found:
        fitting = Fitting(found, key, newer)
        begun = time.perf_counter_ns()
        done = fitting.check() if check else fitting.rewrite()
        took_ns = time.perf_counter_ns() - begun
    if as_json:
        show_json(_as_json(done, took_ns))
    else:
        _show(done, took_ns, list(newer))


def _as_json(done: Found, took_ns: int) -> dict[str, Any]:
    groups = [
        {
            "name": group.name,
            "program": group.program,
            "position": group.position,
            "line": group.line,
            "becomes": group.kind,
            "why": group.why,
            "frames": number,
        }
        for group, number in done.groups.items()
    ]
    return {
        **{kind: done.count(kind) for kind in (KEEP, MIGRATE, PIN)},
        "others": done.others,
        "rewritten": done.rewritten,
        "groups": groups,
        "frames_per_second": _pace(done, took_ns),
    }


def _show(done: Found, took_ns: int, names: list[str]) -> None:
    if done.groups:
        rows = [
            (group.name, short(group.program), str(group.position), str(group.line), f"{n:,}",
             group.kind, group.why)
            for group, n in done.groups.items()
        ]  # fmt: skip
        headers = ("movable", "program", "position", "line", "frames", "becomes", "why")
        grid(headers, rows, right=(2, 3, 4))
    else:
        say(f"nothing of {', '.join(names)} is in the journal")
    counts = ", ".join(f"{kind} {done.count(kind):,}" for kind in (KEEP, MIGRATE, PIN))
    others = f"; {counted(done.others, 'frame')} of other movables" if done.others else ""
    say(f"{counts}{others}; {_pace(done, took_ns):,} frames/s")
    if done.rewritten:
        say(f"{counted(done.rewritten, 'frame')} rewritten and thawed again")


def _pace(done: Found, took_ns: int) -> int:
    return round((done.groups.total() + done.others) * _NS / max(1, took_ns))
