"""What a journal keeps: records of continuations, written in atomic batches.

A node's protocol machine asks for batches to be written and goes on when they are durable. What it
asks back are single records, so that a million dormant continuations need no memory.

    Held        the state of a continuation at this node; a later one replaces it
    Stepped     a state of a continuation that home can go back to if rows it made since are lost
    Effect      a dedupe key: an effect was begun, or done with this result
    Leased      something kept alive for a continuation until a time: a segment, a result
    Signal      an event that arrived, what it carried, and which continuation took it
    Receipted   what a hop used: at home for good, elsewhere until home has it
    Answered    the one answer
    Code        the bytes of a program or a plan, for as long as a continuation names it
    Forgotten   ends a continuation's state and steps; leases end by themselves, its answer and
                effects stay for `keep_ns`

Times are Unix nanoseconds of the node's own clock; 0 says never.
"""

from __future__ import annotations

from typing import Final

import msgspec

RUNNING: Final = 1
"""A step is carried out here."""
AWAY: Final = 2
"""It was sent on, and the next node has not said that it has it."""
PASSED: Final = 3
"""The next node has it on record."""
PARKED: Final = 4
"""It waits for a time or an event; nothing runs."""
ENDED: Final = 5
"""Its answer is on record."""

STATES: Final = {
    RUNNING: "running",
    AWAY: "away",
    PASSED: "passed",
    PARKED: "parked",
    ENDED: "ended",
}


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The state of a continuation at this node.

    Attributes
    ----------
    id : bytes
        16 bytes.
    epoch, hop : int
        How often it was driven anew, and how many moves came before.
    state : int
        One of `STATES`.
    program : bytes
        Digest of its program; `Code` keeps the bytes.
    position : int
        Where in the program it is.
    message : bytes
        The sealed message to go on from: the newest state this node knows.
    where : str
        The node that has it or is to get it; empty: this one.
    wake_ns : int
        When a parked one wakes, or a sent one is driven anew.
    event : str
        What a parked one waits for; empty: no event.
    tenant : str
        Who pays.
    started_ns : int
        When the caller asked.
    came : bytes
        Digest of the state that the step here began with; empty where home made the state.
    setting : bytes
        Digest of the `Code` that says which system and datasets it runs on.
    """

    id: bytes
    epoch: int
    hop: int
    state: int
    program: bytes
    position: int
    message: bytes
    where: str = ""
    wake_ns: int = 0
    event: str = ""
    tenant: str = ""
    started_ns: int = 0
    came: bytes = b""
    setting: bytes = b""


class Stepped(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The state `message` of a hop; a later one of the same continuation and hop replaces it."""

    id: bytes
    hop: int
    epoch: int
    target: str
    message: bytes
    receipt: bytes


class Effect(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A dedupe key: begun (`done` false) or done, with the result's bytes."""

    key: bytes
    id: bytes
    hop: int
    done: bool
    result: bytes = b""


class Leased(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something kept here for a continuation until `until_ns`; 0 ends it now."""

    resource: bytes
    id: bytes
    until_ns: int
    nbytes: int = 0


class Signal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that arrived at `at_ns`: `number` tells repeated ones of a name apart.

    `taken` is the id of the continuation that took it. One that is not taken replaces nothing.
    """

    name: str
    number: bytes
    payload: bytes
    taken: bytes = b""
    at_ns: int = 0


class Receipted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a hop used: one per continuation, epoch, hop, node and `run`.

    A hop can be carried out twice, if it is asked for again after its node has forgotten it: `run`
    tells these apart.

    `told` says that home has it on record: home keeps such a row, any other node may drop it.
    """

    id: bytes
    epoch: int
    hop: int
    node: str
    tenant: str
    receipt: bytes
    run: int = 0
    told: bool = False
    home: str = ""


class Answered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer of a continuation, or the error it ended with."""

    id: bytes
    failed: bool
    value: bytes
    at_ns: int = 0


class Code(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The bytes of a "program", a "plan" or a "setting" by their digest.

    `names` are the digests of the code it needs: it is kept for as long as this is.
    """

    digest: bytes
    kind: str
    body: bytes
    names: tuple[bytes, ...] = ()


class Forgotten(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """State and steps of a continuation may go; its answer, effects, receipts and leases stay.

    With `at_ns` it stays known that it was here until the journal is told that such times have
    expired, and its effects go then; without, they go as its answer expires.
    """

    id: bytes
    at_ns: int = 0


SETTING: Final = "setting"
"""The kind of a `Code` that says where continuations run."""

Record = Held | Stepped | Effect | Leased | Signal | Receipted | Answered | Code | Forgotten
