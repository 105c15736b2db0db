"""A small program for schedules of faults: what a movable does, without its compiler.

A program is a row of letters, and its steps are pure functions of the state, as those of a movable
are. `expected` says what a run must come to.

    g  a hop to a device              e  an effect that may take place once
    q  a query that leaves rows       i  an effect that may be repeated with its key
    u  reads those rows where they are  s  a sleep
    l  a hop to the same device       w  an event          t  an event that never comes
"""

from __future__ import annotations

import struct
from typing import Final

from wherry.run.delivery import Kept, Outcome, answer, failed, go, lost, park, perform
from wherry.run.message import ERROR, REFERS, TIMED_OUT, UNKNOWN, Message

_FRAME: Final = struct.Struct("<QHB")
_NOWHERE: Final = 255
MASK: Final = (1 << 61) - 1
MS: Final = 1_000_000
LOST: Final = b"rows lost"

Segments = dict[bytes, int]


def mixed(total: int, value: int) -> int:
    """Give the next total: every op, in its place, counts."""
    return (total * 31 + value + 1) & MASK


def effect_result(total: int) -> bytes:
    """Give what an effect comes to."""
    return struct.pack("<Q", total ^ 0x5A5A)


def event_payload(name: str) -> bytes:
    """Give what an event carries."""
    return struct.pack("<Q", sum(name.encode()))


def event_name(id_: bytes, op: int) -> str:
    """Give the event that this op of a continuation waits for."""
    return f"{id_[:2].hex()}.{op}"


def expected(ops: str, id_: bytes, unknown: int) -> bytes:
    """Give the answer of a run in which the effects in the mask `unknown` are not known."""
    total, rows = 1, 0
    for op, letter in enumerate(ops):
        if letter in "ei":
            value = 7 if unknown >> op & 1 else total ^ 0x5A5A
        elif letter == "w":
            value = int.from_bytes(event_payload(event_name(id_, op)), "little")
        elif letter == "u":
            value = rows
        else:
            value = PLAIN[letter]
        total = mixed(total, value)
        if letter == "q":
            rows = rows_of(total)
    return struct.pack("<QH", total, unknown)


PLAIN: Final = {"g": 2, "q": 3, "l": 4, "s": 5, "t": 6}
"""What the ops add that have no result."""


def rows_of(total: int) -> int:
    """Give what the rows say that a query left which came to this total."""
    return total & 0xFFFF


def step(
    ops: str, m: Message, here: str, nodes: tuple[str, ...], segments: Segments, used: bytes
) -> Outcome:
    """Carry out a step at node `here`, whose kept rows are `segments`; it used `used`."""
    total, unknown, owner = _FRAME.unpack_from(m.frame)
    resource = m.frame[_FRAME.size :]
    at = m.position
    op = (at >> 1) - 1
    kept: tuple[Kept, ...] = ()
    if at & 1:
        total, unknown = _given(ops[op], m, op, total, unknown)
    elif at:
        if m.given == ERROR:
            return failed(LOST, receipt=used)
        letter = ops[op]
        if letter == "q":
            resource = m.id[:2] + bytes((op, m.hop & 255, m.epoch & 255))
            total = mixed(total, PLAIN["q"])
            segments[resource] = rows_of(total)
            owner, kept = nodes.index(here), (Kept(resource, 64),)
        elif letter == "u":
            if resource not in segments:
                return lost(LOST, position=at, frame=m.frame, receipt=used)
            total = mixed(total, segments[resource])
            owner, resource = _NOWHERE, b""
        else:
            total = mixed(total, PLAIN[letter])
    frame = _FRAME.pack(total, unknown, owner) + resource
    return _onward(ops, m, op + 1, here, nodes, frame, used, kept)


def _given(letter: str, m: Message, op: int, total: int, unknown: int) -> tuple[int, int]:
    if letter in "ei":
        if m.given == UNKNOWN:
            return mixed(total, 7), unknown | 1 << op
        return mixed(total, int.from_bytes(m.operand, "little")), unknown
    if letter == "w":
        return mixed(total, int.from_bytes(m.operand, "little")), unknown
    if letter == "t":
        return mixed(total, PLAIN["t"] if m.given == TIMED_OUT else 0), unknown
    return mixed(total, PLAIN["s"]), unknown


def _onward(
    ops: str, m: Message, op: int, here: str, nodes: tuple[str, ...], frame: bytes, used: bytes,
    kept: tuple[Kept, ...],
) -> Outcome:  # fmt: skip
    total, unknown, owner = _FRAME.unpack_from(frame)
    if op == len(ops):
        return answer(struct.pack("<QH", total, unknown), receipt=used, kept=kept)
    flags = 0 if owner == _NOWHERE else REFERS
    letter, at = ops[op], 2 * op + 2
    if letter in "ei":
        call = struct.pack("<BQ", op, total)
        return perform(
            at + 1, frame, call, once=letter == "e", flags=flags, receipt=used, kept=kept
        )
    if letter in "swt":
        wait = 0 if letter == "w" else (20 + 37 * (total % 11)) * MS
        event = "" if letter == "s" else event_name(m.id, op)
        return park(at + 1, frame, wait_ns=wait, event=event, flags=flags, receipt=used, kept=kept)
    return go(target(ops, op, frame, here, nodes), at, frame, flags=flags, receipt=used, kept=kept)


def target(ops: str, op: int, frame: bytes, here: str, nodes: tuple[str, ...]) -> str:
    """Give the node for an op: rows are read where they are, all else where the total says."""
    total, _, owner = _FRAME.unpack_from(frame)
    if ops[op] == "u":
        return nodes[owner]
    if ops[op] == "l":
        return here
    return nodes[1 + (total + op) % (len(nodes) - 1)]


def placed(ops: str, m: Message, nodes: tuple[str, ...], avoid: tuple[str, ...]) -> str:
    """Give the node where a state that is driven anew goes on; "": none."""
    op = (m.position >> 1) - 1
    if m.position & 1 or m.position == 0:
        return nodes[0]
    if ops[op] == "u":
        return target(ops, op, m.frame, nodes[0], nodes)
    possible = [name for name in nodes[1:] if name not in avoid]
    return possible[m.epoch % len(possible)] if possible else ""


def entry(unknown: int = 0) -> bytes:
    """Give the frame a run begins with."""
    return _FRAME.pack(1, unknown, _NOWHERE)
