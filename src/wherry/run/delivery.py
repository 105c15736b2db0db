"""What a node's protocol machine is told and what it says to do: its events and commands.

    events                                     commands
    Submit     a new continuation              Persist   write records atomically
    Received   bytes from another node         Send      bytes to another node
    Executed   what a step came to             Execute   carry a step out          -> Executed
    Performed  what an effect came to          Perform   carry an effect out       -> Performed
    Placed     where a state may go on         Place     choose a node             -> Placed
    Loaded     what the journal keeps of one   Load      read that                 -> Loaded
    Matched    a waiting one and its event     Match     look for such a pair      -> Matched
    Woken      a parked one is due             Report    tell the caller the end
    Signalled  an event arrived                Release   let go of what was kept
    Cancel, Resume, Migrate, Attach: asked     Stop      a step need not go on
    Program    a program is in the journal
    Restored, Pending, Tick

Commands are carried out in order, and what follows a `Persist` is not carried out before its
records are durable. That is the only rule a carrier must keep; it may put many batches into one
commit. A node without a journal skips `Persist`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from wherry.run.message import (
    ANSWER,
    FAILED,
    LOST,
    NOTHING,
    ONCE,
    PARK,
    PERFORM,
    RUN,
    UNBOUNDED,
    WAIT_NS_MAX,
    Budget,
    Message,
)
from wherry.run.records import Code, Record, Signal

NO_SPAN: Final = bytes(8)


class Kept(Struct, frozen=True, gc=False):
    """Something a step left at its node: under the name `resource`, `nbytes` long."""

    resource: bytes
    nbytes: int = 0


class Outcome(Struct, frozen=True, gc=False):
    """What a step came to; `go`, `park`, `perform`, `answer`, `failed` and `lost` make them.

    Attributes
    ----------
    kind : int
        One of `message.KINDS`.
    target : str
        Where a `RUN` goes on; every other kind goes home.
    position, frame, operand, given, flags
        The state it goes on with, as in `Message`.
    budget : Budget
        What is left after this step.
    span : bytes
        The span of this step.
    receipt : bytes
        What this step used.
    kept : tuple of Kept
        What it left at its node, under the continuation's lease.
    """

    kind: int
    target: str = ""
    position: int = 0
    frame: bytes = b""
    operand: bytes = b""
    given: int = NOTHING
    flags: int = 0
    budget: Budget = UNBOUNDED
    span: bytes = NO_SPAN
    receipt: bytes = b""
    kept: tuple[Kept, ...] = ()


def go(target: str, position: int, frame: bytes, **more: Any) -> Outcome:
    """Go on at `target`; `operand` and `given` say with what result."""
    return Outcome(RUN, target, position, frame, **more)


def park(position: int, frame: bytes, *, wait_ns: int = 0, event: str = "", **more: Any) -> Outcome:
    """Wait for so long (0: for ever), or for an event, whichever is first."""
    operand = min(wait_ns, WAIT_NS_MAX).to_bytes(8, "little") + event.encode()
    return Outcome(PARK, "", position, frame, operand, **more)


def perform(
    position: int, frame: bytes, call: bytes, *, once: bool, flags: int = 0, **more: Any
) -> Outcome:
    """Have home perform the effect that `call` describes, and go on with its result."""
    flags |= ONCE if once else 0
    return Outcome(PERFORM, "", position, frame, call, flags=flags, **more)


def answer(value: bytes, **more: Any) -> Outcome:
    """End with an answer."""
    return Outcome(ANSWER, "", 0, b"", value, **more)


def failed(error: bytes, **more: Any) -> Outcome:
    """End with an error."""
    return Outcome(FAILED, "", 0, b"", error, **more)


def lost(error: bytes, *, position: int = 0, frame: bytes = b"", **more: Any) -> Outcome:
    """Rows that the state refers to are gone: home goes back to a state before them.

    If there is none, the state (`position`, `frame`) goes on at home with `error`.
    """
    return Outcome(LOST, "", position, frame, error, **more)


def own_error(kind: str, text: str) -> bytes:
    """Give the bytes of an error that the protocol itself ends a continuation with.

    Kinds: timed out, cancelled, unknown, lost, damaged, not known.
    """
    return msgspec.msgpack.encode((kind, text))


def parking(operand: bytes) -> tuple[int, str]:
    """Give how long a parked one waits (ns, 0: for ever) and for which event."""
    return min(int.from_bytes(operand[:8], "little"), WAIT_NS_MAX), operand[8:].decode(
        errors="replace"
    )


class Submit(Struct, frozen=True, gc=False):
    """A new continuation: `message` is its entry, with hop 0 and epoch 1. Its caller waits.

    Its id is new, or a caller that attached was told that it is not known. `code` is its program,
    `setting` what it runs on; they are put on record with it if this node has not seen them.
    """

    message: Message
    code: Code | None = None
    setting: Code | None = None


class Received(Struct, frozen=True, gc=False):
    """Bytes arrived from a node that says it is `sender`."""

    sender: str
    data: bytes


class Executed(Struct, frozen=True, gc=False):
    """The step of this message came to `outcome`."""

    message: Message
    outcome: Outcome


class Performed(Struct, frozen=True, gc=False):
    """The effect of this message came to `value`: a result, or an error if `given` says so."""

    message: Message
    given: int
    value: bytes


class Placed(Struct, frozen=True, gc=False):
    """The state of this message may go on at `target`; empty: nowhere now."""

    message: Message
    target: str


class Loaded(Struct, frozen=True, gc=False):
    """What the journal keeps of `id`, as a `Load` asked.

    `damage` names a record of it that is there but cannot be read.
    """

    id: bytes
    records: tuple[Record, ...]
    damage: str = ""


class Restored(Struct, frozen=True, gc=False):
    """At start, one for each id that is not parked: what the journal keeps of it."""

    id: bytes
    records: tuple[Record, ...]
    damage: str = ""


class Matched(Struct, frozen=True, gc=False):
    """What a `Match` found: the one parked for `name` and a signal not taken; or neither."""

    name: str
    id: bytes = b""
    signal: Signal | None = None


class Pending(Struct, frozen=True, gc=False):
    """At start, one for each name of which the journal has signals not taken."""

    name: str


class Woken(Struct, frozen=True, gc=False):
    """The time of a parked one has come, or the journal found that it cannot read its row."""

    id: bytes


class Signalled(Struct, frozen=True, gc=False):
    """An event arrived at home, with a number that tells it from others of its name."""

    name: str
    number: bytes
    payload: bytes


class Cancel(Struct, frozen=True, gc=False):
    """End a continuation with this error."""

    id: bytes
    error: bytes


class Resume(Struct, frozen=True, gc=False):
    """Drive a continuation anew now; let the time come that a parked one waits for."""

    id: bytes


class Migrate(Struct, frozen=True, gc=False):
    """Have a continuation that is parked at this epoch and hop go on with another program.

    The program is in the journal, and this node was told of it.
    """

    id: bytes
    epoch: int
    hop: int
    program: bytes
    position: int
    frame: bytes


class Attach(Struct, frozen=True, gc=False):
    """A caller waits for the end of a continuation."""

    id: bytes


class Program(Struct, frozen=True, gc=False):
    """A program is in the journal: found at start, or declared."""

    code: Code


class Tick(Struct, frozen=True, gc=False):
    """Time passed."""


Event = (
    Submit | Received | Executed | Performed | Placed | Loaded | Restored | Matched | Woken
    | Pending | Migrate | Signalled | Cancel | Resume | Attach | Program | Tick
)  # fmt: skip


class Persist(Struct, frozen=True, gc=False):
    """Write these records atomically; what follows waits until they are durable."""

    records: tuple[Record, ...]


class Send(Struct, frozen=True, gc=False):
    """Carry bytes to a node."""

    target: str
    data: bytes


class Execute(Struct, frozen=True, gc=False):
    """Carry out the step of this message."""

    message: Message


class Perform(Struct, frozen=True, gc=False):
    """Carry out the effect of this message; `key` is the same each time it is asked for."""

    message: Message
    key: bytes


class Place(Struct, frozen=True, gc=False):
    """Choose where this state may go on, other than at `avoid`."""

    message: Message
    avoid: tuple[str, ...]


class Load(Struct, frozen=True, gc=False):
    """Read what the journal keeps of `id`, and say `Loaded` with it."""

    id: bytes


class Match(Struct, frozen=True, gc=False):
    """Look for one that waits for this event, and for one that arrived and is not taken."""

    name: str


class Report(Struct, frozen=True, gc=False):
    """Tell those who wait how a continuation ended."""

    id: bytes
    failed: bool
    value: bytes


class Release(Struct, frozen=True, gc=False):
    """Let go of something kept at this node for a continuation."""

    resource: bytes
    id: bytes


class Stop(Struct, frozen=True, gc=False):
    """The step of this epoch and hop need not go on; what it comes to is no longer asked for."""

    id: bytes
    epoch: int
    hop: int


Command = Persist | Send | Execute | Perform | Place | Load | Match | Report | Release | Stop
Handler = Callable[[Event, int, int, int], list[Command]]
