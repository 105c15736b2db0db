"""A small program for schedules of faults: what a movable does, without its compiler.

A program is a row of letters, and its steps are pure functions of the state, as those of a movable
are. `expected` says what a run must come to.

    g  a hop to a device                  e  an effect that may take place once
    q  a query that leaves rows           i  an effect that may be repeated with its key
    u  reads those rows where they are    s  a sleep
    r  reads those rows from elsewhere    w  an event
    l  a hop to the same node             t  an event that never comes
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from wherry.run.delivery import Kept, Outcome, answer, failed, go, lost, park, perform
from wherry.run.message import ERROR, REFERS, TIMED_OUT, UNKNOWN, Message

MS: Final = 1_000_000
LOST: Final = b"rows lost"
CANCELLED: Final = b"cancelled"
PLAIN: Final = {"g": 2, "q": 3, "l": 4, "s": 5, "t": 6}
"""What the ops add that have no result."""
_UNKNOWN: Final = 7
_FRAME: Final = struct.Struct("<QHB")
_NOWHERE: Final = 255

Segments = dict[bytes, int]
"""Rows that a node keeps, by name."""


class Place(NamedTuple):
    """Where a step is carried out: the program, the node, all nodes and the rows each keeps."""

    ops: str
    here: str
    nodes: tuple[str, ...]
    segments: list[Segments]


class Values(NamedTuple):
    """The live values: the total, which effects are unknown, and which rows are where."""

    total: int
    unknown: int
    owner: int
    resource: bytes


def entry() -> bytes:
    """Give the frame a run begins with."""
    return _frozen(Values(1, 0, _NOWHERE, b""))


def mixed(total: int, value: int) -> int:
    """Give the next total: every op, in its place, counts."""
    return (total * 31 + value + 1) & ((1 << 61) - 1)


def effect_result(total: int) -> bytes:
    """Give what an effect comes to."""
    return struct.pack("<Q", total ^ 0x5A5A)


EVENT: Final = "go"
"""What every `w` of every continuation waits for; each takes one."""
PAYLOAD: Final = struct.pack("<Q", 12345)


def expected(ops: str, unknown: int) -> bytes:
    """Give the answer of a run in which the effects in the mask `unknown` are not known."""
    total, rows = 1, 0
    for op, letter in enumerate(ops):
        if letter in "ei":
            value = _UNKNOWN if unknown >> op & 1 else total ^ 0x5A5A
        elif letter == "w":
            value = int.from_bytes(PAYLOAD, "little")
        elif letter in "ur":
            value = rows
        else:
            value = PLAIN[letter]
        total = mixed(total, value)
        if letter == "q":
            rows = _rows_of(total)
    return struct.pack("<QH", total, unknown)


def step(place: Place, m: Message, used: bytes) -> Outcome:
    """Carry out a step; it used `used`."""
    values = _thawed(m.frame)
    op = (m.position >> 1) - 1
    kept: tuple[Kept, ...] = ()
    if m.position & 1:
        values = _given(place.ops[op], m, op, values)
    elif m.position:
        if m.given == ERROR:
            return failed(LOST, receipt=used)
        letter = place.ops[op]
        if letter in "ur":
            rows = place.segments[values.owner].get(values.resource)
            if rows is None:
                return lost(LOST, position=m.position, frame=m.frame, receipt=used)
            total = mixed(values.total, rows)
            values = Values(total, values.unknown, _NOWHERE, b"")
        else:
            values = values._replace(total=mixed(values.total, PLAIN[letter]))
        if letter == "q":
            resource = m.id[:2] + bytes((op, m.hop & 255, m.epoch & 255))
            owner = place.nodes.index(place.here)
            place.segments[owner][resource] = _rows_of(values.total)
            kept = (Kept(resource, 64),)
            values = values._replace(owner=owner, resource=resource)
    return _onward(place, op + 1, values, receipt=used, kept=kept)


def placed(ops: str, m: Message, nodes: tuple[str, ...], avoid: tuple[str, ...]) -> str:
    """Give the node where a state that is driven anew goes on; "": none."""
    op = (m.position >> 1) - 1
    if m.position & 1 or m.position == 0:
        return nodes[0]
    if ops[op] == "u":
        owner = nodes[_thawed(m.frame).owner]
        return owner if owner not in avoid else nodes[0]
    possible = [name for name in nodes[1:] if name not in avoid]
    return possible[m.epoch % len(possible)] if possible else ""


def _given(letter: str, m: Message, op: int, values: Values) -> Values:
    """Put the result of an op in."""
    value, unknown = PLAIN.get(letter, 0), values.unknown
    if letter in "ei" and m.given == UNKNOWN:
        value, unknown = _UNKNOWN, unknown | 1 << op
    elif letter in "eiw":
        value = int.from_bytes(m.operand, "little")
    elif letter == "t" and m.given != TIMED_OUT:
        value = 0
    return values._replace(total=mixed(values.total, value), unknown=unknown)


def _onward(place: Place, op: int, values: Values, **left: Any) -> Outcome:
    """Run to the next await, which is that of `op`."""
    if op == len(place.ops):
        value = struct.pack("<QH", values.total, values.unknown)
        return answer(value, **left)
    flags = 0 if values.owner == _NOWHERE else REFERS
    letter, at, frame = place.ops[op], 2 * op + 2, _frozen(values)
    if letter in "ei":
        call = struct.pack("<BQ", op, values.total)
        once = letter == "e"
        return perform(at + 1, frame, call, once=once, flags=flags, **left)
    if letter in "swt":
        wait = 0 if letter == "w" else (20 + 37 * (values.total % 11)) * MS
        event = {"s": "", "w": EVENT, "t": "never"}[letter]
        return park(at + 1, frame, wait_ns=wait, event=event, flags=flags, **left)
    if letter == "u":
        target = place.nodes[values.owner]
    elif letter == "l":
        target = place.here
    else:
        target = place.nodes[1 + (values.total + op) % (len(place.nodes) - 1)]
    return go(target, at, frame, flags=flags, **left)


def _rows_of(total: int) -> int:
    """Give what the rows say that a query left which came to this total."""
    return total & 0xFFFF


def _frozen(values: Values) -> bytes:
    return _FRAME.pack(values.total, values.unknown, values.owner) + values.resource


def _thawed(frame: bytes) -> Values:
    total, unknown, owner = _FRAME.unpack_from(frame)
    return Values(total, unknown, owner, frame[_FRAME.size :])
