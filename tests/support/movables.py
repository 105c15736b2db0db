"""Movables for tests: declared from text, run twice with the same fake awaits, and compared.

`natively` runs the `async def` as Python does; `as_machine` runs its program, freezing and thawing
at every await. Both give what was awaited, in order, and how it ended.
"""

from __future__ import annotations

import itertools
import linecache
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
from msgspec import Struct, field

import wherry
from wherry import col, lit, when
from wherry.base.errors import InputError, Retryable
from wherry.flow.annotations import Home, Most
from wherry.flow.compile import compile_function
from wherry.flow.frame import frame_most, freeze_frame, thaw_frame
from wherry.flow.marks import Mark, effect_mark
from wherry.flow.nodes import (
    Chain,
    Gather,
    Perform,
    Program,
    RespondWith,
    RouteTo,
    ScanOf,
    Sleep,
    TakeValue,
    WaitFor,
)
from wherry.flow.parse_awaits import Vocabulary
from wherry.flow.record import RowOf, _plain, filled
from wherry.flow.run import compiled_of
from wherry.flow.types import Fixed, Many, Maybe, Reference, Scalar, Sized, WireType
from wherry.flow.verify import decode_program
from wherry.flow.wire import Rows, Shard
from wherry.ir.codec import encode

VOCABULARY = Vocabulary(
    frozenset(
        [
            "filter",
            "select",
            "with_columns",
            "agg",
            "group_by",
            "distinct",
            "join",
            "sort",
            "top_k",
            "limit",
        ]
    )
)


class Awaitable:
    """Something a native coroutine awaits: it is yielded to whoever drives it."""

    def __init__(self, *said: Any) -> None:
        self.said = said

    def __await__(self) -> Iterator[Any]:
        return (yield self)


class NativeChain(Awaitable):
    """A pipeline of a native run: it notes its calls as the compiler records them."""

    def __init__(self, source: Any, calls: tuple[Any, ...] = ()) -> None:
        super().__init__("chain", source, calls)

    def __getattr__(self, method: str) -> Any:
        if method.startswith("__"):
            raise AttributeError(method)

        def call(*arguments: Any, **named: Any) -> NativeChain:
            _, source, calls = self.said
            noted = tuple(map(_noted, arguments)), tuple((n, _noted(v)) for n, v in named.items())
            return NativeChain(source, (*calls, (method, *noted)))

        return call


def _noted(value: Any) -> Any:
    if isinstance(value, NativeRows):
        return value.rows
    if callable(value) and not hasattr(value, "node"):
        value = value(RowOf(""))
    return tuple(map(_noted, value)) if isinstance(value, tuple | list) else _plain(value)


class NativeRows:
    """Rows or a shard of a native run: with attributes, and methods that begin a pipeline."""

    def __init__(self, rows: Rows | Shard) -> None:
        self.rows = rows

    def __getattr__(self, name: str) -> Any:
        if name in type(self.rows).__struct_fields__:
            return getattr(self.rows, name)
        return getattr(NativeChain(self.rows), name)


class Marked:
    """A marked function: the compiler reads its mark, a native run awaits what it gives."""

    def __init__(self, mark: Mark, names: tuple[str, ...]) -> None:
        self.__wherry__ = mark
        self.names = names

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        kind = self.__wherry__.kind
        if kind == "scan":
            return NativeChain(("scan", *arguments))
        bound = (*arguments, *(named[n] for n in self.names[len(arguments) :] if n in named))
        if kind == "effect":
            return Awaitable("effect", self.__wherry__.name, *bound)
        if kind == "gather":
            return Awaitable("gather", *(chain.said for chain in arguments))
        return Awaitable(kind, *bound)


class Movable:
    """A declared movable: called natively it gives its coroutine."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.program = compile_function(function, VOCABULARY)
        self.__wherry__ = Mark("movable", program=self.program)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)


def effect(kind: str = "once", key: str = "") -> Callable[[Callable[..., Any]], Marked]:
    """Make a marked effect of a function, which is never called."""

    def mark(function: Callable[..., Any]) -> Marked:
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        return Marked(effect_mark(function, kind, key), names)

    return mark


route = Marked(Mark("route"), ("dataset", "key"))
scan = Marked(Mark("scan"), ("dataset",))
value = Marked(Mark("value"), ("rows", "column"))
respond = Marked(Mark("respond"), ("rows",))
sleep = Marked(Mark("sleep"), ("time",))
event = Marked(Mark("event"), ("name",))
gather = Marked(Mark("gather"), ())


@effect("once")
async def pay(amount: int, to: str) -> bool:  # type: ignore[empty-body]
    """Answers with a truth value."""


@effect("idempotent", key="to")
async def note(to: str, count: int) -> int:  # type: ignore[empty-body]
    """Answers with a number."""


@effect("pure")
async def ask(what: str) -> str | None:
    """Answers with a text or nothing."""


@effect("pure")
async def tell(what: str) -> None:
    """Answers with nothing."""


@effect("once")
async def send(conn: Home[object], text: str) -> int:  # type: ignore[empty-body]
    """Answers with a number; takes what is bound to its place."""


@effect("once")
async def connect(host: str) -> Home[object]:  # type: ignore[empty-body]
    """Answers with what is bound to its place."""


GIVEN: dict[str, Any] = {
    "wherry": wherry,
    "pa": pa,
    "col": col,
    "lit": lit,
    "when": when,
    "Home": Home,
    "date": date,
    "datetime": datetime,
    "time": time,
    "timedelta": timedelta,
    "UTC": UTC,
    "Decimal": Decimal,
    "Annotated": Annotated,
    "Most": Most,
    "Rows": Rows,
    "Shard": Shard,
    "route": route,
    "scan": scan,
    "value": value,
    "respond": respond,
    "sleep": sleep,
    "event": event,
    "gather": gather,
    "pay": pay,
    "note": note,
    "ask": ask,
    "tell": tell,
    "send": send,
    "connect": connect,
    "InputError": InputError,
    "Retryable": Retryable,
    "effect": effect,
}
_NUMBERS = itertools.count()


def declare(text: str, **given: Any) -> Callable[..., Any]:
    """Give the last function of a module with this text, which its source can be read of."""
    file = f"<test {next(_NUMBERS)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names = {"__name__": "corpus", **GIVEN, **given}
    before = set(names)
    exec(compile(text, file, "exec"), names)
    made = [v for n, v in names.items() if n not in before and hasattr(v, "__code__")]
    return made[-1]


def compiled(text: str, **given: Any) -> Program:
    """Give the program of the last function of a text."""
    return compile_function(declare(text, **given), VOCABULARY)


class Ran(Struct):
    """What a run awaited, in order, and how it ended: a result, or an error's class and text."""

    awaited: list[Any] = field(default_factory=list)
    ended: Any = None


class Script(Struct):
    """The results of awaits, made as they are asked for and then kept; some are errors."""

    seed: int
    failing: float = 0.0
    most: int = 60
    kept: list[Any] = field(default_factory=list)

    def result(self, number: int, wanted: WireType) -> Any:
        """Give the result of the await with this number."""
        if number == len(self.kept):
            chance = random.Random(self.seed * 1000 + number)
            if number >= self.most:
                self.kept.append(Retryable("too long"))
            elif chance.random() < self.failing:
                self.kept.append(
                    chance.choice(
                        [ValueError("boom"), KeyError("k"), ZeroDivisionError("z"), InputError("i")]
                    )
                )
            else:
                self.kept.append(made(wanted, chance))
        return self.kept[number]


def made(t: WireType, chance: random.Random) -> Any:
    """Make a value of a type."""
    match t:
        case Maybe(item):
            return None if chance.random() < 0.4 else made(item, chance)
        case Fixed(items):
            return tuple(made(i, chance) for i in items)
        case Many(item, most):
            return tuple(made(item, chance) for _ in range(chance.randrange(min(most, 4) + 1)))
        case Reference("rows"):
            rows = chance.choice([0, 1, 7, 2_000_000])
            return Rows("csd0", chance.randbytes(8), rows, chance.randrange(9), 8 * rows, 1 << 60)
        case Reference():
            return Shard("orders", f"csd{chance.randrange(4)}", chance.randrange(-1, 9))
        case Sized("str"):
            return chance.choice(["", "a", "grün", "abc,def", "12", "  x "])
        case Sized("bytes"):
            return chance.choice([b"", b"12", b"\xff\x00"])
        case Sized():
            return chance.choice([Decimal("1.50"), Decimal(-3), Decimal("1E+3")])
        case Scalar(kind):
            return _SCALARS[kind](chance)
    return object()


_SCALARS: dict[str, Callable[[random.Random], Any]] = {
    "int": lambda c: c.choice([0, 1, -1, 2, 3, 5, 10, 1 << 30]),
    "float": lambda c: c.choice([0.0, -0.0, 1.5, -2.25, 1e12, float("inf")]),
    "bool": lambda c: c.random() < 0.5,
    "none": lambda c: None,
    "date": lambda c: date(2020, 1, 1) + timedelta(days=c.randrange(2000)),
    "datetime": lambda c: (
        datetime(2020, 1, 31, 5, 6, 7, 8, c.choice([None, None, UTC]))
        + timedelta(hours=c.randrange(2000))
    ),
    "time": lambda c: time(c.randrange(24), c.randrange(60), 1, c.randrange(10)),
    "timedelta": lambda c: timedelta(seconds=c.randrange(-(10**6), 10**6), microseconds=5),
}


def natively(function: Callable[..., Any], arguments: tuple[Any, ...], script: Script) -> Ran:
    """Run the coroutine itself with the results of a script that was run before."""
    ran = Ran()
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    coroutine = function(**dict(zip(names, map(_native, arguments), strict=True)))
    answer: Any = None
    try:
        while True:
            failed = isinstance(answer, Exception)
            asked = coroutine.throw(answer) if failed else coroutine.send(_native(answer))
            number = len(ran.awaited)
            ran.awaited.append(_plain_said(asked.said))
            if number >= len(script.kept):
                ran.ended = "more awaits than the machine"
                return ran
            answer = script.kept[number]
    except StopIteration as stop:
        ran.ended = ("gave", _plain_value(stop.value))
    except Exception as error:  # noqa: BLE001 - however it ends is compared
        ran.ended = ("raised", type(error).__name__, str(error))
    finally:
        coroutine.close()
    return ran


def _native(found: Any) -> Any:
    if isinstance(found, Rows | Shard):
        return NativeRows(found)
    return tuple(map(_native, found)) if type(found) is tuple else found


def _plain_value(found: Any) -> Any:
    if isinstance(found, NativeRows):
        return repr(found.rows)
    return tuple(map(_plain_value, found)) if type(found) is tuple else repr(found)


def _plain_said(said: tuple[Any, ...]) -> Any:
    kind, *rest = said
    if kind == "chain":
        return ("chain", repr(rest[0]), repr(rest[1]))
    if kind == "gather":
        return ("gather", *map(_plain_said, rest))
    return (kind, *map(_plain_value, rest))


def as_machine(
    program: Program, arguments: tuple[Any, ...], script: Script, *, freeze: bool = True
) -> Ran:
    """Run the program, frozen and thawed at every await, through its own encoded bytes."""
    if freeze:
        program = decode_program(encode(program), VOCABULARY.methods)
    machine = compiled_of(program)
    ran = Ran()
    try:
        step = machine.start(arguments)
        while step[0] >= 0:
            position, values, operands = step
            if freeze:
                values = _moved(program, position, values)
            inner = machine.waiting(position, values)
            number = len(ran.awaited)
            ran.awaited.append(_asked(inner.awaits, operands))
            answer = script.result(number, inner.type)
            if isinstance(answer, Exception):
                step = machine.throw(position, values, answer)
            else:
                step = machine.resume(position, values, answer)
        ran.ended = ("gave", _plain_value(step[1]))
    except Exception as error:  # noqa: BLE001 - however it ends is compared
        ran.ended = ("raised", type(error).__name__, str(error))
    return ran


def _moved(program: Program, position: int, values: tuple[Any, ...]) -> tuple[Any, ...]:
    data = freeze_frame(program, position, values)
    assert len(data) <= frame_most(program, program.positions[position])
    thawed = thaw_frame(program, position, data)
    assert repr(thawed) == repr(values)
    assert freeze_frame(program, position, thawed) == data
    return thawed


def _asked(awaits: Any, operands: tuple[Any, ...]) -> Any:
    match awaits:
        case Chain():
            return _asked_chain(awaits, operands)
        case Gather(chains):
            asked, at = [], 0
            for chain in chains:
                asked.append(_asked_chain(chain, operands[at : at + len(chain.inputs)]))
                at += len(chain.inputs)
            return ("gather", *asked)
        case RouteTo(dataset):
            said: tuple[Any, ...] = ("route", dataset, *operands)
        case TakeValue(column):
            said = ("value", *operands, column)
        case RespondWith():
            said = ("respond", *operands)
        case Sleep():
            said = ("sleep", *operands)
        case WaitFor():
            said = ("event", *operands)
        case Perform(name):
            said = ("effect", name, *operands)
        case _:
            raise TypeError(awaits)
    return (said[0], *map(_plain_value, said[1:]))


def _asked_chain(chain: Chain, operands: tuple[Any, ...]) -> Any:
    scanned = isinstance(chain.source, ScanOf)
    source = ("scan", chain.source.dataset) if scanned else operands[0]
    calls = tuple((c.method, c.arguments, c.named) for c in filled(chain, operands).calls)
    return ("chain", repr(source), repr(calls))


def check_same(
    function: Callable[..., Any], program: Program, arguments: tuple[Any, ...], script: Script
) -> Ran:
    """Run both ways and compare; give the run."""
    machine = as_machine(program, arguments, script)
    native = natively(function, arguments, script)
    assert machine.awaited == native.awaited
    assert machine.ended == native.ended
    return machine
