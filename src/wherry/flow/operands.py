"""What each kind of await takes: operands that do not fit are reported."""

from __future__ import annotations

from collections.abc import Iterator

from wherry.flow.nodes import (
    CallMovable,
    Chain,
    Gather,
    Operand,
    Perform,
    Position,
    Program,
    RespondWith,
    RouteTo,
    Sleep,
    TakeValue,
    Traced,
    TracedCall,
    WaitFor,
)
from wherry.flow.record import operands_in
from wherry.flow.types import (
    INT,
    ROWS,
    SHARD,
    STR,
    TIMEDELTA,
    Fixed,
    Local,
    Many,
    Maybe,
    Reference,
    Scalar,
    Sized,
    WireType,
    fits,
    type_name,
)
from wherry.flow.value_types import State, Values, is_unknown

_SCALAR = (Local("a scalar"),)


def check_operands(values: Values, position: Position, state: State) -> None:
    """Report operands that the await of a position does not take."""
    types = [values.of(value, state) for value in position.operands]
    wanted = list(_wanted(position.awaits, values.program))
    if len(wanted) != len(types):
        seen = f"{len(types)} values where {len(wanted)} are needed"
        values.report(position, seen, f"give {len(wanted)}")
        return
    for value, t, (possible, what) in zip(position.operands, types, wanted, strict=True):
        if not is_unknown(t) and not any(_accepted(t, p) for p in possible):
            names = " or ".join(map(type_name, possible))
            values.report(value, f"{what} is {type_name(t)}", f"give {names}")


def traced_operands(chain: Chain) -> set[str]:
    """Give the operands that stand within expressions over rows: they have to be scalars."""
    found: set[str] = set()
    waiting: list[object] = [(call.arguments, call.named) for call in chain.calls]
    while waiting:
        match waiting.pop():
            case Traced() | TracedCall() as traced:
                found |= {*operands_in(traced)}
            case tuple() as several:
                waiting += several
    return found


def _accepted(t: WireType, wanted: WireType) -> bool:
    if wanted == Local("a scalar"):
        return isinstance(t, Scalar | Sized | Maybe | Fixed | Many)
    return t == wanted if isinstance(wanted, Reference) else fits(t, wanted)


def _wanted(awaits: object, program: Program) -> Iterator[tuple[tuple[WireType, ...], str]]:
    match awaits:
        case RouteTo(_, True):
            yield _SCALAR, "the key"
        case Chain(source, _, inputs):
            traced = traced_operands(awaits)
            for name in inputs:
                is_source = source == Operand(name)
                if name in traced:
                    yield _SCALAR, f"{name!r} within an expression"
                elif is_source:
                    yield (ROWS, SHARD), "the source of the pipeline"
                else:
                    yield (*_SCALAR, ROWS, SHARD), f"{name!r}"
        case Gather(chains):
            for chain in chains:
                yield from _wanted(chain, program)
        case TakeValue() | RespondWith():
            yield (ROWS,), "what has the rows"
        case Sleep():
            yield (INT, Scalar("float"), TIMEDELTA), "the time to sleep"
        case WaitFor():
            yield (STR,), "the name of the event"
        case CallMovable(callee):
            for slot in program.callees[callee].parameters:
                yield (slot.type,), f"the argument {slot.name!r}"
        case Perform(_, _, _, parameters):
            for slot in parameters:
                yield (slot.type,), f"the argument {slot.name!r}"
