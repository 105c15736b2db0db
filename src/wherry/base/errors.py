"""Errors written for the person who reads them: what, where, what was seen, what is possible.

The type says what to do next: `InputError` and `Refused` mean "change the question", `Retryable`
means "ask again", and every other `WherryError` means "stop".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class WherryError(Exception):
    """Anything Wherry reports on purpose; the command line prints it as one sentence."""

    exit_code = 1


class InputError(WherryError):
    """What was given cannot be used as it is: a column, a type, a file, a key of a profile."""

    exit_code = 2


class Refused(InputError):
    """Planning found no way to run the query; `reasons` holds all of them at once.

    Parameters
    ----------
    message : str
        One sentence that says what is refused.
    reasons : sequence of str
        Every reason found, in the order of the stages they concern.
    """

    def __init__(self, message: str, reasons: Sequence[str] = ()) -> None:
        super().__init__(message, tuple(reasons))
        self.message = message
        self.reasons = tuple(reasons)

    def __str__(self) -> str:
        return "; ".join((self.message, *self.reasons))


class CorruptError(InputError):
    """Stored or received bytes are not what their header promises."""


class Retryable(WherryError):
    """The same request may succeed later: a device is busy, a lease ran out."""


def unknown_name(kind: str, seen: str, possible: Iterable[str]) -> InputError:
    """Give the error for a name that does not exist, with the nearest one that does.

    >>> str(unknown_name("column", "pirce", ["price", "day"]))
    "no column 'pirce'; did you mean 'price'? columns: price, day"
    """
    names = list(possible)
    close = difflib.get_close_matches(seen, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return InputError(f"no {kind} {seen!r}{hint} {kind}s: {listed(names) or 'none'}")


def listed(names: Sequence[str]) -> str:
    """Give names with commas between: of very many the first, and how many are left out.

    >>> listed([f"csd{n}" for n in range(42)])[-23:]
    'csd38, csd39 and 2 more'
    """
    said = ", ".join(names[:_LISTED])
    return said if len(names) <= _LISTED else f"{said} and {len(names) - _LISTED} more"


_LISTED = 40
