"""Errors over Flight: the agent's own arrive as they were, and those of the way say so.

An error travels in the trailers of a call, which hold 8 KiB together; a longer text is cut.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.flight as fl

from wherry.base.errors import CorruptError, Refused, Retryable, WherryError
from wherry.serve.received import Unreached
from wherry.serve.requests import Failed, error_of, failed, reply_of, to_bytes

_TEXT_BYTES: Final = 1200
"""Of a message as gRPC writes it, twice: what is not ASCII takes three bytes for one."""


def flight_error(problem: WherryError) -> fl.FlightError:
    """Give the error that tells a Flight client what happened, and ours all of it."""
    text = _cut(f"{type(problem).__name__}: {problem}")
    reply = failed(problem)
    if len(to_bytes(reply)) > _TEXT_BYTES:
        reply = Failed(reply.kind, _cut(str(problem)), reply.again_s)
    kind = fl.FlightServerError
    if isinstance(problem, Retryable):
        kind = fl.FlightUnavailableError
    elif isinstance(problem, Refused):
        kind = fl.FlightUnauthorizedError
    return kind(text, to_bytes(reply))


def error_of_flight(problem: Exception, device: str, seconds: float) -> WherryError:
    """Give the error that a failed call comes to, naming the device.

    Parameters
    ----------
    seconds : float
        How long the call was to take at most.
    """
    carried = getattr(problem, "extra_info", b"")
    if carried:
        try:
            reply = reply_of(carried)
        except CorruptError:
            reply = None
        if isinstance(reply, Failed):
            return error_of(reply, device)
    if isinstance(problem, fl.FlightTimedOutError):
        return Unreached(f"{device}: no answer within {seconds:g} s")
    if isinstance(problem, fl.FlightUnavailableError | fl.FlightCancelledError):
        return Unreached(f"{device}: not reached, or lost: {_reason(problem)}")
    if isinstance(problem, pa.ArrowException | ValueError):
        return CorruptError(f"{device}: {_reason(problem)}")
    return WherryError(f"{device}: {_reason(problem)}")


def _reason(problem: Exception) -> str:
    """Give what Arrow and gRPC say of a call, without what only their makers can use."""
    text = str(problem).partition(". gRPC client debug context")[0].partition(". Detail: ")[0]
    return text.rpartition("with message: ")[2] or type(problem).__name__


def _cut(text: str) -> str:
    while len(quote(text)) > _TEXT_BYTES:
        text = text[: len(text) * 3 // 4] + " ..."
    return text
