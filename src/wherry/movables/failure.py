"""Errors that cross hops: as bytes on the way, as one stitched traceback where they arrive.

Every hop has left a receipt with the line of its await; the hop that failed adds where in the
function it was. The caller sees them as frames of one traceback, each with the device it ran on.
"""

from __future__ import annotations

import ast
import sys
import traceback
from collections.abc import Sequence
from types import FrameType, TracebackType

import msgspec

from wherry.base import errors
from wherry.base.errors import CorruptError, WherryError
from wherry.run.receipts import BudgetExceeded, Receipt

_FRAMES_SHOWN = 20
"""Hops of a traceback: of more, the last."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A line of a movable, and the node it ran on."""

    function: str
    file: str
    line: int
    node: str


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An error as it travels.

    Attributes
    ----------
    kind : str
        Name of the error's class.
    message : str
        What it said.
    places : tuple of Place
        Where it happened, outermost first.
    function, file : str
        The movable that failed, and where it is declared; empty if the protocol ended it.
    """

    kind: str
    message: str
    places: tuple[Place, ...] = ()
    function: str = ""
    file: str = ""


_failures = msgspec.msgpack.Decoder(Failure)  # see wherry.base.decoders


class Unknown(WherryError):
    """Nobody can say whether an effect that may happen once has happened."""


class Failed(WherryError):
    """A movable failed with an error of a class that the caller does not know by name."""


_KNOWN: dict[str, type[Exception]] = {
    **{
        name: found
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, WherryError)
    },
    **{
        found.__name__: found
        for found in (
            *(ArithmeticError, ZeroDivisionError, OverflowError, ValueError, KeyError, IndexError),
            *(TypeError, BudgetExceeded, Unknown),
        )
    },
}


def failure_of(error: BaseException, file: str, function: str, node: str) -> Failure:
    """Give an error as it travels: with the lines of `file`, the movable's, that it passed."""
    passed = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno or 0 for frame in passed if frame.filename == file]
    places = tuple(Place(function, file, line, node) for line in lines)
    kind = type(error).__name__
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return Failure(kind, said, places, function, file)


def to_bytes(failure: Failure) -> bytes:
    """Give the bytes of a failure."""
    return msgspec.msgpack.encode(failure)


def from_bytes(data: bytes) -> Failure:
    """Read what `to_bytes` wrote.

    Raises
    ------
    CorruptError
        If the bytes are no failure.
    """
    try:
        return _failures.decode(data)
    except msgspec.DecodeError as problem:
        raise CorruptError(f"{len(data)} bytes are no failure: {problem}") from None


def error_of(failure: Failure) -> Exception:
    """Give the error that a failure stands for: of its own class if that is known here."""
    known = _KNOWN.get(failure.kind)
    if known is None:
        return Failed(f"{failure.kind}: {failure.message}")
    return known(failure.message)


def stitched(failure: Failure, hops: Sequence[Receipt]) -> Exception:
    """Give the error with one traceback over all hops: function, line and device of each.

    Parameters
    ----------
    hops : sequence of Receipt
        In order; entries without a line (what home did by itself) are left out.
    """
    error = error_of(failure)
    function, file = failure.function, failure.file
    passed = [Place(function, file, hop.line, hop.node) for hop in hops if hop.line and file]
    places = [*passed[-_FRAMES_SHOWN:], *failure.places]
    if len(passed) > _FRAMES_SHOWN:
        error.add_note(f"{len(passed) - _FRAMES_SHOWN} hops before are left out")
    found: TracebackType | None = None
    for place in reversed(places):
        frame = _frame(place)
        found = TracebackType(found, frame, frame.f_lasti, max(1, place.line))
    return error.with_traceback(found)


def _frame(place: Place) -> FrameType:
    """Give a frame that a traceback shows as a line of the movable on its device."""
    name = f"{place.function} on {place.node}" if place.node else place.function
    tree = ast.increment_lineno(ast.parse("_getframe()", mode="eval"), max(0, place.line - 1))
    code = compile(tree, place.file, "eval").replace(co_name=name, co_qualname=name)
    frame: FrameType = eval(code, {"_getframe": sys._getframe})  # noqa: S307
    return frame
