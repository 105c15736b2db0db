"""What is proven of a program before it runs: the table that `wherry explain` prints."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from wherry.flow.frame import frame_most
from wherry.flow.nodes import (
    Awaits,
    CallMovable,
    Chain,
    Gather,
    Perform,
    Position,
    Program,
    RespondWith,
    RouteTo,
    ScanOf,
    Sleep,
    TakeValue,
    identity,
)
from wherry.flow.types import is_wire, most_bytes, type_name

_ORDER = ("pure", "idempotent", "once")


class Live(Struct, frozen=True):
    """A variable in a frame: its type as text, and its bytes at most."""

    name: str
    type: str
    bytes: int


class Proven(Struct, frozen=True):
    """What is known of one position.

    Attributes
    ----------
    position, line : int
        Its number, and the line of its await.
    awaits : str
        What is awaited there.
    live : tuple of Live
        What its frame holds.
    frame_bytes : int
        Of its frame at most, frames of called movables included.
    effect : str
        `pure`, `idempotent(PARAMETER)` or `once`: what a repetition after a crash would do.
    needs : tuple of str
        Operators that a device must have to carry it out.
    """

    position: int
    line: int
    awaits: str
    live: tuple[Live, ...]
    frame_bytes: int
    effect: str
    needs: tuple[str, ...]


class Proof(Struct, frozen=True):
    """What is known of a whole program; `frame_bytes` is of its largest frame."""

    name: str
    identity: str
    parameters: tuple[Live, ...]
    result: str
    positions: tuple[Proven, ...]
    frame_bytes: int
    effect: str
    needs: tuple[str, ...]


def proof(program: Program) -> Proof:
    """Give what was proven of a program when it was compiled."""
    rows = tuple(
        _proven(program, number, position)
        for number, position in enumerate(program.positions[1:], 1)
    )
    effects = [_class(position.awaits, program) for position in program.positions]
    return Proof(
        program.name,
        identity(program).hex(),
        _live(program.positions[0]),
        type_name(program.result),
        rows,
        max((frame_most(program, p) for p in program.positions), default=0),
        max(effects, key=_ORDER.index),
        tuple(sorted({need for row in rows for need in row.needs})),
    )


def _proven(program: Program, number: int, position: Position) -> Proven:
    return Proven(
        number,
        position.line,
        awaits_text(program, position.awaits),
        _live(position),
        frame_most(program, position),
        _effect(position.awaits, program),
        _needs(position.awaits, program),
    )


def _live(position: Position) -> tuple[Live, ...]:
    return tuple(
        Live(s.name, type_name(s.type), most_bytes(s.type) if is_wire(s.type) else 0)
        for s in position.slots
    )


def awaits_text(program: Program, awaits: Awaits | None) -> str:
    """Say in one line what is awaited."""
    match awaits:
        case Chain(source, calls):
            begin = f"scan({source.dataset})" if isinstance(source, ScanOf) else source.name
            return ".".join((begin, *(call.method for call in calls)))
        case RouteTo(dataset):
            return f"route {dataset}"
        case TakeValue(column):
            return f"value {column}"
        case Gather(chains):
            return "gather " + ", ".join(awaits_text(program, chain) for chain in chains)
        case CallMovable(callee):
            return f"movable {program.callees[callee].name}"
        case Perform(name):
            return f"effect {name.rpartition(':')[2].rpartition('.')[2]}"
        case RespondWith():
            return "respond"
        case Sleep():
            return "sleep"
        case None:
            return "entry"
    return "event"


def _class(awaits: Awaits | None, program: Program) -> str:
    match awaits:
        case Perform(_, effect):
            return effect
        case CallMovable(callee):
            inner = program.callees[callee]
            found = [_class(position.awaits, inner) for position in inner.positions]
            return max(found, key=_ORDER.index)
    return "pure"


def _effect(awaits: Awaits | None, program: Program) -> str:
    match awaits:
        case Perform(_, "idempotent", key, parameters):
            return f"idempotent({parameters[key].name})"
    return _class(awaits, program)


def _needs(awaits: Awaits | None, program: Program) -> tuple[str, ...]:
    match awaits:
        case Chain(_, calls):
            return tuple(dict.fromkeys(call.method for call in calls))
        case Gather(chains):
            return tuple(dict.fromkeys(n for c in chains for n in _needs(c, program)))
        case CallMovable(callee):
            inner = program.callees[callee]
            found = [n for p in inner.positions for n in _needs(p.awaits, inner)]
            return tuple(dict.fromkeys(found))
        case RouteTo():
            return ("route",)
        case RespondWith():
            return ("respond",)
    return ()


def proof_rows(found: Proof) -> list[dict[str, Any]]:
    """Give the positions as rows of a table, or for JSON."""
    return [
        {
            "position": row.position,
            "line": row.line,
            "awaits": row.awaits,
            "live": [{"name": v.name, "type": v.type, "bytes": v.bytes} for v in row.live],
            "frame_bytes": row.frame_bytes,
            "effect": row.effect,
            "needs": list(row.needs),
        }
        for row in found.positions
    ]


def proof_json(found: Proof) -> dict[str, Any]:
    """Give the whole proof for JSON."""
    return {
        "name": found.name,
        "identity": found.identity,
        "parameters": [
            {"name": v.name, "type": v.type, "bytes": v.bytes} for v in found.parameters
        ],
        "result": found.result,
        "positions": proof_rows(found),
        "frame_bytes": found.frame_bytes,
        "effect": found.effect,
        "needs": list(found.needs),
    }


def proof_text(found: Proof) -> str:
    """Give the proof as plain text, a line a position."""
    needs = ", ".join(found.needs) or "nothing"
    given = ", ".join(f"{v.name}: {v.type}" for v in found.parameters)
    header = ("", "line", "awaits", "frame at most", "effect", "live")
    table = [header] + [
        (
            str(row.position),
            str(row.line),
            row.awaits,
            f"{row.frame_bytes} B",
            row.effect,
            ", ".join(f"{v.name}: {v.type}" for v in row.live) or "nothing",
        )
        for row in found.positions
    ]
    widths = [max(len(row[n]) for row in table) for n in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join(
        (
            f"{found.name}({given}) -> {found.result}",
            *lines,
            f"largest frame {found.frame_bytes} B, effects {found.effect}, needs {needs}",
        )
    )
