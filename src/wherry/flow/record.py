"""Recording: the arguments of a chain are evaluated once, over placeholders, and become data.

An argument is evaluated twice, with placeholders of different names: what differs after the names
are made the same does not follow from the function alone, and is refused.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, NoReturn

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.flow.nodes import Chain, ChainCall, Operand, Traced, TracedCall
from wherry.flow.source import Source
from wherry.ir.builder import Aggregate, Case, Expr, TextMethods, TimeMethods, col
from wherry.ir.expr import Call, Column, Compare, Literal, Node

_SECOND: Final = "\x01"
"""Ends the names of the second recording's placeholders."""
_TURNED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LEAVES: Final = (
    *(type(None), bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal),
    pa.DataType,
)


class Held(Expr):
    """A variable of the movable within an expression over rows: its value is not known yet."""

    __slots__ = ("operand", "variable")

    def __init__(self, operand: str, shown: str) -> None:
        super().__init__(Literal(Operand(operand)))
        self.operand = operand.removesuffix(_SECOND)
        self.variable = shown

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise InputError(f"{self.variable} has no {what} while the pipeline is recorded; {instead}")

    def __bool__(self) -> NoReturn:
        self._refuse(
            "truth value",
            "use & | ~ and when(c).then(a).otherwise(b), or decide in a statement before",
        )

    def __iter__(self) -> NoReturn:
        self._refuse("items", "use one variable an item")

    def __len__(self) -> NoReturn:
        self._refuse("length", f"write `n = len({self.variable})` before and use n")

    def __contains__(self, item: object) -> NoReturn:
        self._refuse("items", "use .is_in([...]) on the column")

    def _as(self, what: str, call: str) -> NoReturn:
        self._refuse(what, f"write `x = {call}({self.variable})` in a statement before and use x")

    def __index__(self) -> NoReturn:
        self._as("number", "int")

    def __int__(self) -> NoReturn:
        self._as("number", "int")

    def __float__(self) -> NoReturn:
        self._as("number", "float")

    def __hash__(self) -> int:  # type: ignore[override]
        self._refuse("hash", "compare with ==, or use .is_in([...])")

    def __str__(self) -> str:
        self._as("text", "str")

    def __repr__(self) -> str:
        return f"<held {self.variable}>"

    def __format__(self, spec: str) -> str:
        self._refuse("text", f'write `x = f"{{{self.variable}}}"` in a statement before and use x')

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse(f"attribute {name!r}", f"write `x = {self.variable}.{name}` before and use x")


class RowOf:
    """A row within a lambda: `r.day` and `r["day"]` are columns."""

    __slots__ = ("_end",)

    def __init__(self, end: str) -> None:
        object.__setattr__(self, "_end", end)

    def __getattr__(self, name: str) -> Expr:
        if name.startswith("__"):
            raise AttributeError(name)
        return col(name + object.__getattribute__(self, "_end"))

    def __getitem__(self, name: str) -> Expr:
        if not isinstance(name, str):
            raise InputError(f"a column is named by text; got {type(name).__name__}")
        return self.__getattr__(name)

    def _refuse(self) -> NoReturn:
        raise InputError("the row stands for every row of the data; ask it for a column: r.price")

    def __bool__(self) -> NoReturn:
        self._refuse()

    def __iter__(self) -> NoReturn:
        self._refuse()

    def __len__(self) -> NoReturn:
        self._refuse()

    def __contains__(self, item: object) -> NoReturn:
        self._refuse()

    def __hash__(self) -> int:
        self._refuse()

    def __str__(self) -> str:
        self._refuse()

    def __format__(self, spec: str) -> str:
        self._refuse()


class Impure(InputError):
    """Two recordings of one expression differ."""


def recorded(source: Source, node: ast.expr, variables: Mapping[str, str]) -> object:
    """Give what an argument of a chain records to.

    Parameters
    ----------
    variables : mapping of str to str
        The names that are variables of the movable, and how messages call them.

    Raises
    ------
    Impure
        If it records differently the second time.
    InputError
        If it cannot be recorded; the message says what to write instead.
    """
    first, second = (_once(source, node, variables, end) for end in ("", _SECOND))
    if repr(first) != repr(second):
        raise Impure("it gives another expression every time")
    return first


def _once(source: Source, node: ast.expr, variables: Mapping[str, str], end: str) -> object:
    given = {name: Held(name + end, shown) for name, shown in variables.items()}
    try:
        value = source.evaluate(node, given)
        if inspect.isfunction(value):
            value = value(RowOf(end))
        return _plain(value)
    except InputError:
        raise
    except Exception as problem:  # noqa: BLE001 - what evaluating the user's expression may raise
        raise InputError(f"{type(problem).__name__}: {problem}") from None


def _plain(value: object) -> object:
    match value:
        case Held() as held:
            return Operand(held.operand)
        case Expr():
            return Traced(_renamed(value.node), _unended(value.name))
        case Aggregate():
            argument = value.call.argument
            call = Call(value.call.kind, None if argument is None else _renamed(argument))
            return TracedCall(call, _unended(value.name))
        case Case():
            raise InputError("a choice needs its end; write when(...).then(...).otherwise(...)")
        case tuple() | list():
            return tuple(map(_plain, value))
        case RowOf():
            raise InputError("the row itself is no expression; ask it for a column: r.price")
        case TextMethods() | TimeMethods():
            raise InputError(".str and .dt need a method: .str.contains(...), .dt.year()")
    if isinstance(value, _LEAVES):
        return value
    raise InputError(
        f"a {type(value).__name__} cannot be recorded; possible: expressions, lambdas over a row, "
        "texts, numbers, dates, None, tuples of them"
    )


def _unended(name: str | None) -> str | None:
    return None if name is None else name.removesuffix(_SECOND)


def _renamed(value: Any) -> Any:
    """Give the tree with the ends of placeholders' names cut off, and literals checked."""
    match value:
        case Column(name, t):
            return Column(name.removesuffix(_SECOND), t)
        case Literal(Operand(name)):
            return Literal(Operand(name.removesuffix(_SECOND)))
        case Literal(Held() as held):
            return Literal(Operand(held.operand))
        case Literal(inner) if isinstance(inner, Expr):
            raise InputError("a text pattern must be a text, not an expression over rows")
        case Literal(inner) if not isinstance(inner, _LEAVES):
            raise InputError(f"a {type(inner).__name__} is no constant of an expression")
        case Compare(op, Literal(Operand() | Held()), right) if not isinstance(right, Literal):
            # Python asks a subclass first: `r.day >= lo` arrives as `lo <= r.day`.
            return _renamed(Compare(_TURNED[op], right, value.left))
        case tuple():
            return tuple(map(_renamed, value))
    if isinstance(value, Struct):
        changed = {f: _renamed(getattr(value, f)) for f in value.__struct_fields__}
        return replace(value, **changed)
    return value


def operands_in(value: object) -> list[str]:
    """Give the names of the operands in what was recorded, each once, in order."""
    found: list[str] = []
    _collect(value, found)
    return found


def _collect(value: object, found: list[str]) -> None:
    if isinstance(value, Operand):
        if value.name not in found:
            found.append(value.name)
    elif isinstance(value, tuple):
        for item in value:
            _collect(item, found)
    elif isinstance(value, Struct):
        for f in value.__struct_fields__:
            _collect(getattr(value, f), found)


def filled(chain: Chain, operands: tuple[object, ...]) -> Chain:
    """Give the chain with the values of its operands in place of their names.

    The source, if it is an operand, stays one: what it is read from is the caller's business.
    """
    values = dict(zip(chain.inputs, operands, strict=True))
    calls = tuple(_filled(call, values) for call in chain.calls)
    return replace(chain, calls=calls)


def _filled(value: Any, values: Mapping[str, object]) -> Any:
    match value:
        case Operand(name):
            return values[name]
        case tuple():
            return tuple(_filled(item, values) for item in value)
    if isinstance(value, Node | Call | Traced | TracedCall | ChainCall):
        changed = {f: _filled(getattr(value, f), values) for f in value.__struct_fields__}
        return replace(value, **changed)
    return value


def applied(call: ChainCall, target: object) -> Any:
    """Call a filled chain's method on a pipeline, with expressions as users write them."""
    method: Callable[..., Any] = getattr(target, call.method)
    arguments = [_written(a) for a in call.arguments]
    return method(*arguments, **{name: _written(a) for name, a in call.named})


def _written(value: object) -> object:
    match value:
        case Traced(node, name):
            return Expr(node, name)
        case TracedCall(call, name):
            return Aggregate(call, name)
        case tuple():
            return tuple(map(_written, value))
    return value
