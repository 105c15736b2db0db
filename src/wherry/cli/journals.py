"""Journals on the command line: which one, how continuations are named, how they are shown."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import pyarrow as pa
import typer
from platformdirs import user_state_path

from wherry.base.errors import InputError
from wherry.base.units import format_ns
from wherry.cli.output import answer, plain, say, show_answer
from wherry.movables.looking import find, shown
from wherry.movables.places import known_key, looked
from wherry.run.journal import Journal

IN_MEMORY: Final = "memory"
_NS: Final = 1_000_000_000
_SHOWN: Final = 12
"""Hexadecimal digits of an id in tables."""

_TEXT: Final = 44
"""Characters of an await's text in tables."""

JournalName = Annotated[
    str | None,
    typer.Option(
        "--journal",
        "-j",
        metavar="JOURNAL",
        help="An SQLite file, or postgresql://...; the user's own unless given.",
    ),
]
Id = Annotated[
    str, typer.Argument(metavar="ID", help="As `wherry ps` shows it; its first digits will do.")
]
Datasets = Annotated[
    list[str] | None,
    typer.Option("--dataset", metavar="NAME=PATH", help="A dataset that movables name; repeat it."),
]


def journal_of(given: str | None) -> str:
    """Give the journal that is meant: the user's own unless one is given."""
    if given is not None:
        return given
    return str(user_state_path("wherry") / "journal.sqlite")


@contextmanager
def looking(given: str | None) -> Iterator[tuple[Journal, bytes | None]]:
    """Open a journal to read it, and give it with the key to its seals.

    Raises
    ------
    InputError
        If there is none.
    """
    where = journal_of(given)
    if where == IN_MEMORY:
        raise InputError("what was in memory only went with its process; --journal names a file")
    with closing(looked(where)) as journal:
        yield journal, known_key(where)


def existing(given: str | None) -> str:
    """Give the journal that is meant, which must be there.

    Raises
    ------
    InputError
        If there is none.
    """
    where = journal_of(given)
    if where == IN_MEMORY:
        raise InputError("what was in memory only went with its process; --journal names a file")
    if "://" not in where and not Path(where).is_file():
        raise InputError(f"there is no journal {where}")
    return where


def id_in(where: str, text: str) -> bytes:
    """Give the id that `text` begins, in a journal."""
    with closing(looked(where)) as journal:
        return find(journal, text)


def pairs_of(option: str, given: Iterable[str] | None) -> dict[str, str]:
    """Give what options of the form NAME=VALUE say.

    >>> pairs_of("--dataset", ["orders=data/orders.arrow"])
    {'orders': 'data/orders.arrow'}
    """
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InputError(f"{option} is NAME=VALUE; got {text!r}")
        if name in found:
            raise InputError(f"{option} {name} is given twice: {found[name]!r} and {value!r}")
        found[name] = value
    return found


def payload_of(text: str | None) -> Any:
    """Give what an event carries, from JSON.

    Raises
    ------
    InputError
        If it is no JSON.
    """
    try:
        return None if text is None else msgspec.json.decode(os.fsencode(text))
    except (ValueError, RecursionError) as problem:
        raise InputError(f"--payload is JSON, such as true or '\"text\"': {problem}") from None


def short(id_: str) -> str:
    """Give an id as tables show it."""
    return id_[:_SHOWN]


def cut(text: str) -> str:
    """Give the text of an await as tables show it; JSON has all of it."""
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"


def when(ns: int) -> str:
    """Give a time of day in UTC; nothing for 0."""
    if not ns:
        return ""
    return datetime.fromtimestamp(ns // _NS, UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(ns: int) -> str:
    """Give how long ago a time was."""
    return format_ns(max(0, time.time_ns() - ns)) if ns else ""


def show_value(value: Any, rows: int) -> None:
    """Print what a continuation returned."""
    if isinstance(value, pa.Table):
        show_answer(value, rows)
    else:
        say(f"  {shown(value)!r}")


def value_json(value: Any, rows: int) -> Any:
    """Give what a continuation returned, for JSON; of a table the first `rows`."""
    return answer(value, rows) if isinstance(value, pa.Table) else plain(shown(value))
