"""`wherry cancel`: end a continuation with an error."""

from __future__ import annotations

from wherry.base.errors import InputError
from wherry.cli.journals import Id, JournalName, existing, id_in
from wherry.cli.options import Json
from wherry.cli.output import say, show_json
from wherry.movables.home import open_home

EXAMPLES = """\b
Examples:
  wherry cancel 3f9a --journal orders.journal
"""


def command(id_: Id, journal: JournalName = None, as_json: Json = False) -> None:
    """End a continuation: whoever asks for its answer gets an error, and its rows are let go."""
    where = existing(journal)
    found = id_in(where, id_)
    with open_home(where, only=()) as home:
        if home.journal.answered(found) is not None:
            raise InputError(f"{found.hex()} has ended; `wherry show` has its answer")
        home.cancel(found)
        ended = home.journal.answered(found) is not None
    if not ended:
        raise InputError(f"{found.hex()} is not this journal's to end")
    if as_json:
        show_json({"id": found.hex(), "state": "cancelled"})
    else:
        say(f"{found.hex()} is cancelled")
