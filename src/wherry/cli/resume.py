"""`wherry resume`: go on with what is in a journal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wherry.base.errors import InputError, WherryError
from wherry.cli.journals import (
    Datasets,
    JournalName,
    existing,
    id_in,
    pairs_of,
    payload_of,
)
from wherry.cli.options import Json
from wherry.cli.output import counted, say, show_json
from wherry.cli.run_movable import (
    ending,
    finished_json,
    show_dormant,
    show_finished,
)
from wherry.cli.target import load_file
from wherry.movables.finished import Finished
from wherry.movables.home import Dormant, Home, open_home

EXAMPLES = """\b
Examples:
  wherry resume --all --journal orders.journal
  wherry resume 3f9a --journal orders.journal
  wherry resume --journal orders.journal --event approved --payload true
  wherry resume --all billing.py --journal orders.journal   (its effects are declared there)
  wherry resume 3f9a --now   (wakes it before its time)
"""


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID] [FILE.py...]", help="Which one; files that declare effects it calls."
        ),
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Everything in the journal.")] = False,
    journal: JournalName = None,
    event: Annotated[
        str | None, typer.Option(metavar="NAME", help="Let this event arrive first.")
    ] = None,
    payload: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the event carries.")
    ] = None,
    datasets: Datasets = None,
    system: Annotated[
        str | None,
        typer.Option("--system", "-s", metavar="FILE", help="Only if the one on record is lost."),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Wake ID before its time.")] = False,
    wait: Annotated[
        float | None,
        typer.Option(metavar="S", help="Seconds to wait for what sleeps; else until it wakes."),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="How many rows of an answer to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Drive continuations until they have ended or wait for an event; show their answers.

    They go on where they were: on the system and the datasets that the journal has on record.
    """
    ids = [word for word in words or () if not word.endswith(".py")]
    _asked_well(ids, event, everything=everything, payload=payload, now=now)
    carried = payload_of(payload)
    where = existing(journal)
    for word in words or ():
        if word.endswith(".py"):
            load_file(Path(word))
    one = id_in(where, ids[0]) if ids else None
    only = None if one is None else [one]
    given = pairs_of("--dataset", datasets)
    with open_home(where, system=system, datasets=given, only=only) as home:
        if event is not None:
            taken = home.signal(event, carried)
            if not as_json:
                say(_taken(event, taken))
        if one is not None:
            if now:
                home.resume(one)
            _one(home, one, where, wait, rows, as_json=as_json)
        else:
            home.drain(timeout_s=wait)
            _several(home, rows, as_json=as_json)


def _asked_well(
    ids: list[str], event: str | None, *, everything: bool, payload: str | None, now: bool
) -> None:
    """Refuse what does not go together."""
    if len(ids) > 1 or (everything and ids):
        raise InputError(f"resume takes one ID, or --all; got {', '.join(ids)}")
    if not ids and not everything and event is None:
        raise InputError("say what to go on with: an ID, --all, or --event NAME")
    if payload is not None and event is None:
        raise InputError("--payload is what --event carries; give its name")
    if now and not ids:
        raise InputError("--now wakes one continuation; give its ID")


def _taken(event: str, taken: bytes) -> str:
    if not taken:
        return f"nobody waits for event {event!r} now: it is kept for who will"
    return f"event {event!r} went to {taken.hex()}, which waited longest"


def _one(
    home: Home, id_: bytes, where: str, wait: float | None, rows: int, *, as_json: bool
) -> None:
    found = ending(home, id_, timeout_s=wait)
    if isinstance(found, Dormant):
        show_dormant(home, id_, found, where, as_json=as_json)
    elif as_json:
        show_json(finished_json(found, rows))
    else:
        show_finished(found, rows)


def _several(home: Home, rows: int, *, as_json: bool) -> None:
    """Show the end of everything that ended, in the order in which it did."""
    ended: list[Finished] = []
    failures: list[dict[str, Any]] = []
    for id_ in list(home.host.reports):
        try:
            found = ending(home, id_, timeout_s=None)
        except WherryError as error:
            failures.append({"id": id_.hex(), "state": "failed", "error": str(error)})
            continue
        if isinstance(found, Finished):
            ended.append(found)
    left = sum(home.journal.counts().states.values())
    if as_json:
        results = [*(finished_json(found, rows) for found in ended), *failures]
        show_json({"ended": results, "left": left})
    else:
        for found in ended:
            show_finished(found, rows)
        for failure in failures:
            say(f"failed: {failure['error']}")
        what = counted(len(ended) + len(failures), "continuation")
        say(f"{what} ended; {counted(left, 'other')} in the journal" if left else f"{what} ended")
    if failures:
        raise typer.Exit(1)
