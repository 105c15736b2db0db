"""`wherry run` of a movable, and what it shares with `wherry resume`: how endings are shown."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from wherry.base.errors import InputError, WherryError, unknown_name
from wherry.cli.journals import IN_MEMORY, journal_of, pairs_of, show_value, value_json, when
from wherry.cli.output import heading, plain, say, show_json
from wherry.cli.show import hop_json, show_hops
from wherry.flow.types import Sized, WireType
from wherry.movables.declare import Movable
from wherry.movables.finished import Finished
from wherry.movables.home import Dormant, Home, open_home
from wherry.movables.values import from_json
from wherry.run.records import PARKED


class Moves(Struct, frozen=True):
    """The options of `wherry run` that are of movables."""

    arguments: Sequence[str]
    datasets: Sequence[str]
    journal: str | None
    tenant: str
    budget: str | None
    wait: float | None

    def options(self) -> dict[str, object]:
        """Give each by its option's name; what was not given is false."""
        return {
            "--arg": self.arguments,
            "--dataset": self.datasets,
            "--journal": self.journal,
            "--tenant": self.tenant,
            "--budget": self.budget,
            "--wait": self.wait,
        }


def refuse_options(given: Mapping[str, object], why: str) -> None:
    """Refuse options that mean nothing here.

    Raises
    ------
    InputError
        If one of them is given.
    """
    for option, value in given.items():
        if value:
            raise InputError(f"{why} {option}")


def run_movable(
    movable: Movable, system: str, moves: Moves, *, trace: Path | None, rows: int, as_json: bool
) -> None:
    """Begin a continuation and drive it until it ends, or waits for an event."""
    where = journal_of(moves.journal)
    in_memory = where == IN_MEMORY
    named = arguments_of(movable, moves.arguments)
    limits = budget_of(moves.budget)
    datasets = pairs_of("--dataset", moves.datasets)
    if not in_memory and "://" not in where:
        Path(where).parent.mkdir(parents=True, exist_ok=True)
    journal = None if in_memory else where
    with open_home(journal, system=system, datasets=datasets, only=()) as home:
        id_ = home.start(movable, tenant=moves.tenant, budget=limits, **named)
        found = ending(home, id_, timeout_s=moves.wait)
        if isinstance(found, Dormant):
            show_dormant(home, id_, found, journal, as_json=as_json)
            return
    if trace is not None:
        trace.write_bytes(found.trace)
    if as_json:
        show_json(finished_json(found, rows))
    else:
        show_finished(found, rows)
        show_hops("hops: what each used", found.hops)


def arguments_of(movable: Movable, given: Sequence[str]) -> dict[str, Any]:
    """Give the arguments that `--arg NAME=VALUE` says, by the parameters' types.

    Raises
    ------
    InputError
        If there is no such parameter, or the text is no value of its type.
    """
    types = {slot.name: slot.type for slot in movable.program.parameters}
    found = {}
    for name, text in pairs_of("--arg", given).items():
        if name not in types:
            raise unknown_name("parameter", name, types)
        found[name] = _value(types[name], text, f"{movable.name}: {name}")
    return found


def budget_of(text: str | None) -> dict[str, int]:
    """Give the limits that `--budget` says, by dimension.

    >>> budget_of("rows=1000,hops=9")
    {'rows': 1000, 'hops': 9}
    """
    found = {}
    for name, value in pairs_of("--budget", (text or "").split(",") if text else ()).items():
        try:
            found[name] = int(value)
        except ValueError:
            raise InputError(f"--budget {name} is an integer; got {value!r}") from None
    return found


def ending(home: Home, id_: bytes, *, timeout_s: float | None) -> Finished | Dormant:
    """Drive a continuation; give what came of it, or where it waits.

    Raises
    ------
    WherryError
        If it failed: with its error, function, line and device in one sentence.
    """
    home.host.attach(id_)
    home.host.settle()  # what can be done at once is no waiting
    try:
        return home.result(id_, timeout_s=timeout_s)
    except Dormant as dormant:
        return dormant
    except Exception as error:
        raise failed(error, id_) from error


def failed(error: Exception, id_: bytes) -> WherryError:
    """Give the error that a continuation ended with as one sentence, saying where that was."""
    hops = [f for f in traceback.extract_tb(error.__traceback__) if " on " in f.name]
    if not hops:
        return error if isinstance(error, WherryError) else WherryError(str(error))
    last = hops[-1]
    return WherryError(
        f"{last.name} failed at {last.filename}:{last.lineno}: {type(error).__name__}: {error} "
        f"({id_.hex()})"
    )


def show_dormant(
    home: Home, id_: bytes, why: Dormant, journal: str | None, *, as_json: bool
) -> None:
    """Print where a continuation waits, and how to go on with it."""
    held = home.journal.held(id_)
    parked = held is not None and held.state == PARKED
    event = held.event if held is not None and parked else ""
    wake_ns = held.wake_ns if held is not None and parked else 0
    if as_json:
        show_json({
            "id": id_.hex(), "state": "parked" if parked else "running", "event": event,
            "wake_ns": wake_ns, "journal": journal,
        })  # fmt: skip
        return
    heading(f"{id_.hex()} is dormant")
    say(f"  wakes {when(wake_ns)} UTC" if wake_ns else f"  {why}")
    if journal is None:
        say("  it was in memory only, and goes with this process; --journal FILE keeps it")
        return
    what = f"--event {event} --payload JSON" if event else id_.hex()[:12]
    say(f"  to go on: wherry resume --journal {journal} {what}")


def show_finished(found: Finished, rows: int) -> None:
    """Print an answer with the name and id of what gave it, and what it took."""
    heading(f"{found.name} {found.id.hex()}: {found.time}, {len(found.hops)} hops")
    show_value(found.value, rows)


def finished_json(found: Finished, rows: int) -> dict[str, Any]:
    """Give an answer with the account of its hops, for JSON."""
    return {
        "id": found.id.hex(),
        "name": found.name,
        "state": "ended",
        "time": found.time,
        "answer": value_json(found.value, rows),
        "used": plain(found.used),
        "hops": [hop_json(hop) for hop in found.hops],
    }


def _value(t: WireType, text: str, what: str) -> Any:
    """Read an argument: JSON, or plain text where JSON would need quotes around it."""
    quoted = json.dumps(text).encode()
    if isinstance(t, Sized) and t.kind == "str":
        return from_json(t, quoted, what)
    try:
        return from_json(t, text.encode(), what)
    except InputError as problem:
        try:
            return from_json(t, quoted, what)
        except InputError:
            raise problem from None
