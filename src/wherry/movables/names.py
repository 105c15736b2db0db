"""What movables await: names that mean something to the compiler, and nothing elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from wherry.base.errors import InputError
from wherry.flow.marks import Mark, effect_mark, marked
from wherry.flow.wire import Rows
from wherry.pipeline import Pipeline, scan

F = TypeVar("F", bound=Callable[..., Any])

marked(scan, Mark("scan"))

_EFFECTS: dict[str, Callable[..., Any]] = {}
"""Effects by the name that programs call them by."""


class Undeclared(InputError):
    """An effect is called that this process does not know; its continuation stays as it was."""


def effect(name: str) -> Callable[..., Any]:
    """Give the function of an effect.

    Raises
    ------
    Undeclared
        If no file that was loaded declares it.
    """
    found = _EFFECTS.get(name)
    if found is None:
        raise Undeclared(f"no effect {name!r} is declared here; give the file that declares it")
    return found


def _only(name: str) -> NoReturn:
    raise InputError(f"{name} is awaited in a function under @wherry.movable, not called elsewhere")


def _kind(kind: Any) -> Callable[[F], F]:
    def put(function: F) -> F:
        return marked(function, Mark(kind))  # type: ignore[return-value]

    return put


@_kind("route")
def route(dataset: str, *, key: object = None) -> Awaitable[Any]:
    """Give the shard of a dataset that has a key; it is found on the way to the data, by the NIC.

    `shard = await wherry.route("orders", key=customer)`. A dataset that is not sharded is its own
    only shard.
    """
    _only("wherry.route")


@_kind("value")
def value(rows: Rows, column: str) -> Awaitable[Any]:
    """Give the value of a column of rows that are exactly one.

    The annotation says its type: `total: float = await wherry.value(rows, "total")`.
    """
    _only("wherry.value")


@_kind("respond")
def respond(rows: Rows) -> Awaitable[Any]:
    """Give rows as the answer, from the buffers of the device that has them."""
    _only("wherry.respond")


@_kind("sleep")
def sleep(time: float | timedelta) -> Awaitable[Any]:
    """Sleep: seconds, or a timedelta. Meanwhile the continuation is a row of home's journal."""
    _only("wherry.sleep")


@_kind("event")
def event(name: str) -> Awaitable[Any]:
    """Wait for an event; the annotation says what it brings: `ok: bool = await event("ok")`.

    Whoever waits longest takes it; one that arrives before is kept.
    """
    _only("wherry.event")


@_kind("gather")
def gather(*chains: Pipeline) -> Awaitable[Any]:
    """Run chains at once: `a, b = await wherry.gather(shard.agg(...), rows.limit(9))`."""
    _only("wherry.gather")


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let movables await a function of yours that must not be repeated: sending, charging.

    Home calls it. Its intent is on record before and its result after; if a crash leaves the intent
    alone, the await raises `wherry.Unknown` and the function is not called again.
    """
    return _effect(function, "once", "")


def idempotent(*, key: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let movables await a function of yours that may be repeated with the same `key`.

    Parameters
    ----------
    key : str
        The parameter by which whoever is called knows a repetition.
    """
    return lambda function: _effect(function, "idempotent", key)


def _effect(function: Callable[..., Any], kind: str, key: str) -> Callable[..., Any]:
    mark = effect_mark(function, kind, key)
    _EFFECTS[mark.name] = function
    return marked(function, mark)
