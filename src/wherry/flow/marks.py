"""What a name means to the compiler: a mark on the object that it resolves to, never its spelling.

Kinds of marks, and what `await` of a call gives:

    route     route(dataset, key=value)        the shard that has the key
    scan      scan(dataset)                    not awaited: a chain may start with it
    value     value(rows, "column")            the annotated type: `x: int = await value(...)`
    respond   respond(rows)                    the rows, as the answer
    sleep     sleep(seconds or timedelta)      None
    event     event(name)                      the annotated type, or bytes
    gather    gather(chain, chain, ...)        a tuple of rows
    movable   a compiled function              its result
    effect    a function of the caller's side  its result; once, or idempotent by a key
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Literal, get_type_hints

from msgspec import Struct

from wherry.base.errors import InputError, unknown_name
from wherry.flow.annotations import wire_type
from wherry.flow.nodes import Program, Slot
from wherry.flow.types import NONE, Local, WireType

Kind = Literal["route", "scan", "value", "respond", "sleep", "event", "gather", "movable", "effect"]
ATTRIBUTE: Final = "__wherry__"


class Mark(Struct, frozen=True):
    """What the compiler knows of a marked object.

    Attributes
    ----------
    kind : Kind
        One of the table above.
    name : str
        Of an effect: what it is registered as.
    effect : "pure", "idempotent" or "once"
        Of an effect: whether it may be repeated.
    key : str
        Of an idempotent effect: the parameter that tells repetitions.
    parameters : tuple of Slot
        Of an effect.
    result : WireType
        Of an effect.
    program : Program, optional
        Of a movable.
    """

    kind: Kind
    name: str = ""
    effect: str = "pure"
    key: str = ""
    parameters: tuple[Slot, ...] = ()
    result: WireType = NONE
    program: Program | None = None


def mark_of(found: object) -> Mark | None:
    """Give the mark of an object, if it has one."""
    mark = getattr(found, ATTRIBUTE, None)
    return mark if isinstance(mark, Mark) else None


def marked(function: Callable[..., Any], mark: Mark) -> Callable[..., Any]:
    """Put a mark on a function, and give the function."""
    setattr(function, ATTRIBUTE, mark)
    return function


def effect_mark(function: Callable[..., Any], effect: str, key: str = "") -> Mark:
    """Read an effect's mark off its annotations.

    Parameters
    ----------
    function : callable
        Every parameter is annotated with a wire type or `Home`; so is the result (None if not).
    effect : "pure", "idempotent" or "once"
        What may happen to it after a crash.
    key : str
        The parameter that tells repetitions of an idempotent effect.

    Raises
    ------
    InputError
        If an annotation is missing or no wire type, or no parameter is called `key`.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    if effect not in {"pure", "idempotent", "once"}:
        raise unknown_name("effect class", effect, ("pure", "idempotent", "once"))
    hints = get_type_hints(function, include_extras=True)
    slots = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.name not in hints:
            raise InputError(f"effect {name}: {parameter} must be a plain, annotated parameter")
        slots.append(Slot(parameter.name, wire_type(hints[parameter.name])))
    if (effect == "idempotent") != bool(key):
        raise InputError(f"effect {name}: an idempotent effect, and no other, needs key=PARAMETER")
    carried = [slot.name for slot in slots if not isinstance(slot.type, Local)]
    if key and key not in carried:
        raise unknown_name("parameter", key, carried)
    result = wire_type(hints.get("return"))
    return Mark("effect", name, effect, key, tuple(slots), result)
