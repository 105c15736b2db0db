"""What positions, pipelines and types of a decoded program must be, each for itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pyarrow as pa
from msgspec import Struct

from wherry.flow.constants import constant_type
from wherry.flow.nodes import (
    Awaits,
    CallMovable,
    Chain,
    ChainCall,
    Gather,
    Operand,
    Perform,
    Program,
    RespondWith,
    RouteTo,
    ScanOf,
    Sleep,
    Slot,
    Traced,
    TracedCall,
)
from wherry.flow.types import (
    BYTES_BOUND,
    DECIMAL_BYTES,
    ITEMS_BOUND,
    LEVELS,
    NONE,
    ROWS,
    SCALARS,
    SHARD,
    SIZED,
    Fixed,
    Local,
    Many,
    Maybe,
    Reference,
    Scalar,
    Sized,
    WireType,
    is_wire,
    levels,
    type_name,
)
from wherry.ir.expr import Literal

_NAME: Final = re.compile(r"[^\W\d]\w{0,99}|\d{1,5}\.(i|stop|items|item|result)")
_INPUT: Final = re.compile(r"[^\W\d]\w{0,99}|\d{1,5}\.(i|stop|items|item|result|operand)")
_METHOD: Final = re.compile(r"[a-z][a-z_]{0,31}")


def chains_of(awaits: Awaits | None) -> tuple[Chain, ...]:
    """Give the pipelines that are awaited."""
    match awaits:
        case Chain():
            return (awaits,)
        case Gather(chains):
            return chains
    return ()


def is_name(name: str) -> bool:
    """Tell whether a variable can be called so."""
    return _NAME.fullmatch(name) is not None


def type_problems(found: Iterable[WireType]) -> Iterator[str]:
    """Give what is wrong with types."""
    for t in found:
        if levels(t) > LEVELS or not all(map(_is_type, _type_parts(t))):
            yield f"the type {t!r:.80}"


def _type_parts(t: WireType) -> Iterator[WireType]:
    yield t
    match t:
        case Maybe(item) | Many(item):
            yield from _type_parts(item)
        case Fixed(items):
            for item in items:
                yield from _type_parts(item)


def _is_type(t: WireType) -> bool:
    match t:
        case Scalar(kind):
            return kind in SCALARS
        case Sized("decimal", most):
            return most == DECIMAL_BYTES
        case Sized(kind, most):
            return kind in SIZED and 1 <= most <= BYTES_BOUND
        case Reference(kind):
            return kind in {"rows", "shard"}
        case Maybe(item):
            return item != NONE and not isinstance(item, Maybe | Local)
        case Fixed(items):
            return len(items) <= ITEMS_BOUND and not any(isinstance(i, Local) for i in items)
        case Many(item, most):
            return 1 <= most <= ITEMS_BOUND and not isinstance(item, Local)
        case Local(name):
            return name == "Home"


def await_problems(program: Program, awaits: Awaits | None, t: WireType) -> Iterator[str]:
    """Give what is wrong with an await that gives a value of type `t`."""
    match awaits:
        case RouteTo(dataset):
            wanted: WireType | None = SHARD
            if not 1 <= len(dataset) <= 64:
                yield "the name of a dataset"
        case Chain() | RespondWith():
            wanted = ROWS
        case Sleep():
            wanted = NONE
        case Gather(chains):
            wanted = Fixed((ROWS,) * len(chains))
            if not 1 <= len(chains) <= 64:
                yield "the pipelines of gather"
        case CallMovable(callee):
            if not 0 <= callee < len(program.callees):
                yield "a movable that is not there"
                return
            wanted = program.callees[callee].result
        case Perform():
            yield from _effect(awaits)
            wanted = None
        case _:
            wanted = None
            if not is_wire(t):
                yield "an await of what is bound to its place"
    if wanted is not None and t != wanted:
        yield f"an await of {type_name(wanted)} that gives {type_name(t)}"
    for chain in chains_of(awaits):
        yield from _chain(chain)


def _effect(effect: Perform) -> Iterator[str]:
    yield from type_problems(slot.type for slot in effect.parameters)
    if not all(is_name(slot.name) for slot in effect.parameters):
        yield "the name of a parameter"
    needs_key = effect.effect == "idempotent"
    key = 0 <= effect.key < len(effect.parameters)
    if effect.effect not in {"pure", "idempotent", "once"} or needs_key != key:
        yield f"the effect class {effect.effect!r:.20} with key {effect.key}"
    elif key and not is_wire(effect.parameters[effect.key].type):
        yield "a key bound to its place"
    if not 1 <= len(effect.name) <= 256:
        yield "the name of an effect"


def _chain(chain: Chain) -> Iterator[str]:
    if len(set(chain.inputs)) != len(chain.inputs):
        yield "an operand twice"
    if not all(_INPUT.fullmatch(name) for name in chain.inputs):
        yield "the name of an operand"
    if isinstance(chain.source, ScanOf) and not 1 <= len(chain.source.dataset) <= 64:
        yield "the name of a dataset"
    if not chain.calls:
        yield "a pipeline without operators"
    used = {chain.source.name} if isinstance(chain.source, Operand) else set()
    for call in chain.calls:
        if _METHOD.fullmatch(call.method) is None:
            yield f"the operator {call.method!r:.40}"
        named = [value for _, value in call.named]
        if not all(is_name(name) for name, _ in call.named):
            yield "the name of an argument"
        for argument in (*call.arguments, *named):
            yield from _argument(argument, used)
    if used != set(chain.inputs):
        yield "operands that the pipeline does not read"


def _argument(argument: object, used: set[str]) -> Iterator[str]:
    match argument:
        case Operand(name):
            used.add(name)
        case Traced(node):
            yield from _literals(node, used)
        case TracedCall(call):
            if call.argument is not None:
                yield from _literals(call.argument, used)
        case tuple():
            for item in argument:
                yield from _argument(item, used)
        case pa.DataType():
            return
        case _ if constant_type(argument) is None:
            yield f"the argument {argument!r:.60}"


def _literals(node: Any, used: set[str]) -> Iterator[str]:
    waiting = [node]
    while waiting:
        found = waiting.pop()
        match found:
            case Literal(Operand(name)):
                used.add(name)
            case Literal(value) if constant_type(value) is None:
                yield f"the constant {value!r:.60}"
            case tuple():
                waiting += found
            case Slot() | ChainCall() | Chain() | Operand() | Program():
                yield f"a {type(found).__name__} within an expression"
            case _ if isinstance(found, Struct) and not isinstance(found, Literal):
                waiting += [getattr(found, f) for f in found.__struct_fields__]
