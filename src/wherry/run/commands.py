"""What a machine says and hears: commands, the events that answer them, and its orders.

    Send      -> Accepted | Missing       a continuation to a device
    Install   -> Installed                the plan's bytes, or a build, to a device that lacks it
    Route     -> Routed                   choose the chunks
    Read      -> Loaded                   a share of chunks from where they are stored
    Move      -> Moved                    rows from device to device
    Run       -> Ran                      a stage over a chunk, or over all that came together
    Replan    -> Replanned                how chunks not yet begun go on
    Deliver   -> Delivered                rows to the client
    Finish                                the answer is whole

A share is chunks of one home that are read and run together: a single one where time is modelled,
as many as keep all cores busy on this machine. `chunk` numbers shares. A piece is what a stage made
of one: (stage, chunk); stage -1 is the share as stored, chunk -1 is what came of all together,
chunk -2 what came of chunks in an earlier run; NOTHING is an empty answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from wherry.data.chunk import ChunkRef
from wherry.plan.placement import Stage, Way
from wherry.plan.watch import Seen, Watch
from wherry.run.continuation import Continuation

PieceId = tuple[int, int]
Share = tuple[ChunkRef, ...]
ROUTING = -1
ALL = -1
BEFORE = -2
NOTHING: PieceId = (ROUTING, ALL)
"""What is delivered if no chunk can hold an answer."""


class Send(Struct, frozen=True):
    """Carry a continuation from device to device."""

    source: str
    target: str
    stage: int
    message: bytes


class Install(Struct, frozen=True):
    """Carry the plan's bytes, or those of the build of this digest, to a device that lacks them."""

    source: str
    target: str
    stage: int
    build: bytes = b""


class Route(Struct, frozen=True):
    """Choose the chunks on `device`."""

    device: str


class Read(Struct, frozen=True):
    """Read a share on the device that stores it, for `target`."""

    device: str
    target: str
    chunk: int
    refs: Share


class Move(Struct, frozen=True):
    """Carry a piece from device to device, for stage `stage`."""

    source: str
    target: str
    piece: PieceId
    stage: int


class Run(Struct, frozen=True):
    """Run stage `stage` on `device` over `pieces`, in order; the result is piece (stage, chunk)."""

    device: str
    stage: int
    chunk: int
    pieces: tuple[PieceId, ...]


class Replan(Struct, frozen=True):
    """Think again on `device`: `seen` is not what was planned with, and shares could go elsewhere.

    `left` are those shares, `begun` the ones on their way; both are put by where they go.
    """

    device: str
    seen: Seen
    left: tuple[tuple[Way, tuple[Share, ...]], ...]
    begun: tuple[tuple[Way, tuple[Share, ...]], ...]


class Deliver(Struct, frozen=True):
    """Carry a piece to the client."""

    source: str
    target: str
    piece: PieceId


class Finish(Struct, frozen=True):
    """The answer is `pieces`, in this order; nothing is left to do."""

    pieces: tuple[PieceId, ...]


Command = Send | Install | Route | Read | Move | Run | Replan | Deliver | Finish


class Accepted(Struct, frozen=True):
    """A device opened the continuation of a stage."""

    device: str
    stage: int


class Missing(Struct, frozen=True):
    """A device lacks the plan of a continuation, or the build of this digest."""

    device: str
    stage: int
    build: bytes = b""


class Installed(Struct, frozen=True):
    """A device has the plan, or the build, now."""

    device: str
    stage: int


class Routed(Struct, frozen=True):
    """The chunks that can hold an answer, in stored order, cut into shares."""

    shares: tuple[Share, ...]


class Loaded(Struct, frozen=True):
    """A share was read, or will be by whoever runs it."""

    chunk: int


class Moved(Struct, frozen=True):
    """A piece arrived at a device."""

    piece: PieceId
    device: str
    stage: int


class Ran(Struct, frozen=True):
    """A stage made `rows` rows of the `given` ones of a share; `selected` passed its predicate."""

    stage: int
    chunk: int
    rows: int
    given: int = 0
    selected: int = 0


class Replanned(Struct, frozen=True):
    """How shares not begun go from now on, having thought of `seen`; None: as before."""

    seen: Seen
    ways: tuple[Way, ...] | None


class Delivered(Struct, frozen=True):
    """The client has a piece."""

    piece: PieceId


Event = Accepted | Missing | Installed | Routed | Loaded | Moved | Ran | Replanned | Delivered


class Orders(Struct, frozen=True):
    """What a machine is told: everything that does not change during a run.

    Attributes
    ----------
    client : str
        The node that asks.
    continuation : Continuation
        As it leaves the client: no chunks yet.
    stages : tuple of Stage
        In order: chunkwise ones, the one where chunks meet, those that use what it made.
    homes : mapping of int to str
        The device that stores each file or table of the dataset.
    gates : mapping of str to str
        The gate of each of these devices, if stages run there.
    ways : tuple of Way
        The ways that chunks go; their weights say how many go which.
    windows : mapping of str to int
        How many shares a device works on at once: read, moved or running.
    enough : int or None
        A query that needs only its first rows stops reading once it has this many.
    key : bytes
        Seals messages.
    watch : Watch, optional
        When to think again of how chunks go; never, if not given.
    done : tuple of ChunkRef
        Chunks that went through the chunkwise stages before; they are not chosen again.
    held : int or None
        Rows that came of them, a piece that the client has; None if there is no such piece.
    stop : int or None
        How many of the chunks to take; all that are left, if not given.
    """

    client: str
    continuation: Continuation
    stages: tuple[Stage, ...]
    homes: Mapping[int, str]
    gates: Mapping[str, str]
    ways: tuple[Way, ...]
    windows: Mapping[str, int]
    enough: int | None
    key: bytes
    watch: Watch | None = None
    done: tuple[ChunkRef, ...] = ()
    held: int | None = None
    stop: int | None = None


class RowCounts(Protocol):
    """What a run of a program came to."""

    @property
    def rows_in(self) -> int:
        """Rows given."""

    @property
    def rows_selected(self) -> int:
        """Rows that passed the first predicate."""

    @property
    def rows_out(self) -> int:
        """Rows made."""


def ran(command: Run, counted: RowCounts) -> Ran:
    """Give the event of a run."""
    made, given = counted.rows_out, counted.rows_in
    return Ran(command.stage, command.chunk, made, given, counted.rows_selected)
