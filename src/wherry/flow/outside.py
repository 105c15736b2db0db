"""Names from outside a movable: constants, marks, movables, listed functions; nothing else."""

from __future__ import annotations

import ast
import builtins
import datetime as dt
import decimal
import random
import types
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import WherryError
from wherry.flow.constants import constant_type
from wherry.flow.marks import Mark, mark_of
from wherry.flow.rules import FUNCTIONS
from wherry.flow.source import MISSING, Source
from wherry.flow.types import BYTES_BOUND

ERRORS: Final = (
    *(ArithmeticError, ZeroDivisionError, OverflowError, ValueError, KeyError, IndexError),
    LookupError,
)
"""What Python itself may raise that a movable can catch or raise, besides errors of Wherry."""

_LISTED: Final[dict[Any, str]] = {
    **{
        getattr(builtins, name): name
        for name in FUNCTIONS - {"date", "datetime", "time", "timedelta", "Decimal"}
    },
    dt.date: "date",
    dt.datetime: "datetime",
    dt.time: "time",
    dt.timedelta: "timedelta",
    decimal.Decimal: "Decimal",
}
_IMPURE: Final = {
    "time": "take the time as a parameter, or from an effect: it differs at every run",
    "random": "take random numbers as parameters, or from an effect",
    "uuid": "take identities as parameters, or from an effect",
    "os": "read the environment before, and pass it as a parameter",
}
_INSTEAD: Final[dict[Any, str]] = {
    print: "make it an effect: `await log(text)` with @wherry.effect",
    input: "wait for an event: `text: str = await wherry.event(name)`",
    open: "read the file before, or within an effect",
    sorted: "sort rows with a pipeline: `await rows.sort(...)`",
    list: "use a tuple: frozen values cannot change",
    dict: "use a tuple or single variables",
    set: "use a tuple",
    enumerate: "loop `for i in range(len(xs))` and use xs[i]",
    zip: "loop `for i in range(len(xs))` and use xs[i], ys[i]",
    map: "write the loop: `for x in xs`",
    filter: "write the loop: `for x in xs` with `if`",
    reversed: "loop `for i in range(len(xs) - 1, -1, -1)` and use xs[i]",
    any: "write the loop, with `break`",
    all: "write the loop, with `break`",
    isinstance: "a variable has one type; test `is None` for what may be None",
    getattr: "name the attribute",
    setattr: "frozen values cannot change; assign a variable",
    eval: "write the expression",
    exec: "write the statements",
    pow: "write a ** b",
    repr: 'write f"{x!r}"',
    format: 'write f"{x:...}"',
    id: "frozen values have no identity: they are copied",
    hash: "a hash differs from process to process; use the value",
    next: "iterators cannot be frozen; loop over a tuple",
    iter: "iterators cannot be frozen; loop over a tuple",
    type: "a variable has one type: there is nothing to ask",
    super: "a movable is a plain function",
    vars: "name the variables",
    locals: "name the variables",
    globals: "name the variables",
}


class Outside(Struct, frozen=True):
    """What a name from outside came to: exactly one of these is set.

    Attributes
    ----------
    constant : bool
        Whether `value` is a constant.
    function : str
        A listed function.
    mark : Mark or None
        Of a marked object.
    """

    value: Any
    constant: bool = False
    function: str = ""
    mark: Mark | None = None


def resolved(source: Source, node: ast.expr, variables: frozenset[str]) -> Any:
    """Give the object that a name, or attributes of a module, stand for; or `MISSING`."""
    match node:
        case ast.Name(name) if name not in variables:
            return source.outside(name)
        case ast.Attribute(inner, name):
            owner = resolved(source, inner, variables)
            if isinstance(owner, types.ModuleType | type):
                return getattr(owner, name, MISSING)
    return MISSING


def outside_of(source: Source, node: ast.expr, found: Any) -> Outside | None:
    """Say what an object from outside is to a program; what it cannot be is refused."""
    if found is source.function:
        source.refuse(node, *calls_itself(source.function.__name__))
        return None
    mark = mark_of(found)
    if mark is not None:
        return Outside(found, mark=mark)
    if is_listed(found):
        return Outside(found, function=_LISTED[found])
    if constant_type(found) is not None:
        return Outside(found, constant=True)
    seen, instead = _refusal(ast.unparse(node), found)
    source.refuse(node, seen, instead)
    return None


def calls_itself(name: str) -> tuple[str, str]:
    """Give the reason why a movable cannot name itself."""
    return f"{name} calls itself", "write a loop: how deep frames are nested must be known before"


def is_listed(found: Any) -> bool:
    """Tell whether an object is a function that programs can call."""
    return _hashable(found) and found in _LISTED


def _hashable(found: Any) -> bool:
    return isinstance(found, type | types.BuiltinFunctionType)


def _refusal(name: str, found: Any) -> tuple[str, str]:
    kind = type(found).__name__
    if _hashable(found) and found in _INSTEAD:
        return f"{name} cannot be called in a movable", _INSTEAD[found]
    module = (getattr(found, "__module__", None) or "").split(".")[0]
    owner = getattr(found, "__self__", None)
    if isinstance(owner, random.Random):
        module = "random"
    if owner in (dt.date, dt.datetime) if isinstance(owner, type) else module in _IMPURE:
        return f"{name} is impure", _IMPURE.get(module, _IMPURE["time"])
    if isinstance(found, list | set | dict | bytearray):
        return (
            f"{name} is a {kind} of the module, which may change",
            "make it a tuple of constants, or pass it as a parameter",
        )
    if isinstance(found, str | bytes | int | tuple):
        return (
            f"{name} is a {kind} that no frame can hold",
            f"constants are 64-bit ints, texts of up to {BYTES_BOUND} bytes, small tuples of them",
        )
    if isinstance(found, types.FunctionType):
        what = "an async function" if _is_async(found) else "a function"
        return (
            f"{name} is {what}, which a program cannot call",
            "make it @wherry.movable or @wherry.effect and await it"
            if _is_async(found)
            else "write its statements here, or make it an @wherry.effect and await it",
        )
    if isinstance(found, types.ModuleType):
        return f"{name} is a module", f"name what you need of it: a constant, {name}.NAME"
    if isinstance(found, type):
        return f"{name} is a class", "frames hold scalars, tuples, rows and shards"
    return (
        f"{name} is captured and has type {kind}, which no frame can hold",
        "pass what is needed of it as a parameter, or use it within an effect",
    )


def _is_async(found: types.FunctionType) -> bool:
    return bool(found.__code__.co_flags & 0x80)


def error_name(found: Any) -> str | None:
    """Give the name under which a program knows a class of errors; None if it cannot."""
    if not isinstance(found, type):
        return None
    return found.__name__ if found in ERRORS or issubclass(found, WherryError) else None


def error_class(name: str) -> type[Exception] | None:
    """Give the class of errors with a name; None if this process knows none."""
    for known in ERRORS:
        if known.__name__ == name:
            return known
    waiting: list[type[WherryError]] = [WherryError]
    while waiting:
        found = waiting.pop()
        if found.__name__ == name:
            return found
        waiting += found.__subclasses__()
    return None
