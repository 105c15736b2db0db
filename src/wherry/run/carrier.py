"""The work behind commands, without time: what executor and simulator both do to carry them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from msgspec import Struct, field

from wherry.base.errors import CorruptError, InputError
from wherry.base.units import Time
from wherry.data.decoding import Packed, Reading
from wherry.data.encoded import ENCODED, Encoded
from wherry.data.ledger import LedgerEntry
from wherry.devices.work import Work
from wherry.ir.build import Build, Known, received
from wherry.plan.placement import Way
from wherry.plan.replan import Decide, Decision, Going
from wherry.render.gather import Piece, piece_bytes, several
from wherry.render.outcome import ChunkOutput
from wherry.render.team import Team, alone
from wherry.run.commands import (
    ALL,
    Accepted,
    Install,
    Installed,
    Missing,
    PieceId,
    Read,
    Replan,
    Route,
    Routed,
    Run,
    Send,
    Share,
)
from wherry.run.on_device import Loaded
from wherry.run.worker import Hop, MissingBuild, MissingPlan, Worker


class Count(Struct, frozen=True, kw_only=True):
    """What one run of a program came to: all that its time on a device follows from.

    Attributes
    ----------
    rows_in, rows_selected, rows_out : int
        Rows given, rows that passed the first predicate, rows made.
    nbytes : int
        Bytes of what was made.
    work : Work
        What it was charged for.
    packed : tuple of Packed
        Of the bytes decoded for it, those that an engine could decompress.
    """

    rows_in: int
    rows_selected: int
    rows_out: int
    nbytes: int
    work: Work
    packed: tuple[Packed, ...] = ()

    @classmethod
    def of(cls, output: ChunkOutput, **more: Any) -> Self:
        """Give the count of a program's output; `more` are the fields of what has more."""
        return cls(
            rows_in=output.rows_in,
            rows_selected=output.rows_selected,
            rows_out=output.batch.num_rows,
            nbytes=output.nbytes,
            work=output.work,
            packed=output.packed,
            **more,
        )


class Evidence(Count, frozen=True, kw_only=True):
    """What ran where: one entry for each run of a program over a share.

    Attributes
    ----------
    time : Modelled or Measured
        Modelled: of the core it ran on. Measured: from its beginning to its end.
    residuals : tuple of str
        Every expression or step that went through pyarrow, with the reason; empty says that all of
        it was native.
    """

    device: str
    stage: int
    chunk: int
    time: Time
    residuals: tuple[str, ...]


class Unread(Struct, frozen=True):
    """A share that is read where it is run."""

    device: str
    refs: Share


class Carrier(Struct):
    """The workers of a system, the messages they hold, and the pieces they made for one query.

    Attributes
    ----------
    builds : mapping of bytes to Build
        What the query's joins are made with, by digest.
    by_reference : bool
        Builds are handed over as they lie in memory, not as bytes.
    decide : callable, optional
        Places anew what is left of a run that is watched.
    """

    workers: Mapping[str, Worker]
    plan_bytes: bytes
    builds: Mapping[bytes, Build] = field(default_factory=dict)
    by_reference: bool = True
    decide: Decide | None = None
    _hops: dict[tuple[str, int], Hop] = field(default_factory=dict)
    pieces: dict[PieceId, Piece] = field(default_factory=dict)
    readings: dict[int, Reading] = field(default_factory=dict)
    _made: dict[PieceId, tuple[bytes, int]] = field(default_factory=dict)
    ledger: list[LedgerEntry] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

    def send(self, command: Send) -> Accepted | Missing:
        """Hand the message's bytes to the worker of the target."""
        try:
            hop = self.workers[command.target].receive(command.message)
        except MissingPlan:
            return Missing(command.target, command.stage)
        except MissingBuild as lacking:
            return Missing(command.target, command.stage, lacking.digest)
        self.open(command.target, command.stage, hop)
        return Accepted(command.target, command.stage)

    def open(self, device: str, stage: int, hop: Hop) -> None:
        """Let `device` go on with a stage under a continuation that was received."""
        self._hops[device, stage] = hop

    @property
    def opened(self) -> int:
        """How many continuations are open."""
        return len(self._hops)

    def hop(self, device: str, stage: int) -> Hop:
        """Give the continuation under which a device runs a stage.

        Raises
        ------
        InputError
            If it has none.
        """
        found = self._hops.get((device, stage))
        if found is None:
            raise InputError(f"{device} has no continuation for stage {stage}")
        return found

    def install(self, command: Install) -> Installed:
        """Hand the plan's bytes, or a build, to the worker of the target."""
        worker = self.workers[command.target]
        if command.build:
            build = self.builds[command.build]
            worker.keep(build if self.by_reference else received(build.message))
        else:
            worker.install(self.plan_bytes)
        return Installed(command.target, command.stage)

    def shipped(self, command: Install) -> tuple[int, Known | None]:
        """Give the bytes of a plan or a build on its way, and what is known of the build."""
        if not command.build:
            return len(self.plan_bytes), None
        build = self.builds[command.build]
        return len(build.message), build.known

    def route(self, command: Route) -> Routed:
        """Let the worker choose the chunks; each is a share."""
        chunks = self.workers[command.device].route(self.hop(command.device, -1))
        return Routed(tuple((ref,) for ref in chunks))

    def hold(self, piece: PieceId, rows: Piece) -> None:
        """Have a piece that came from elsewhere: whoever runs a stage over it looks at it first."""
        self.pieces[piece] = rows
        self._made.pop(piece, None)

    def _keep_made(self, piece: PieceId, rows: Piece, hop: Hop, segment: int) -> None:
        """Keep a piece that was made here, of the rows that go into a segment of a plan."""
        self.pieces[piece] = rows
        self._made[piece] = hop.installed.digest, hop.installed.place(segment)

    def read(self, command: Read) -> int:
        """Make a share of one chunk a piece, by reference to where it lies; give its rows.

        What is decoded is decoded here, but is as it is stored until a program uses it: so it
        travels, and whoever runs the program is charged for decoding.
        """
        hop = self.hop(command.target, 0)
        (ref,) = command.refs
        batch, reading = self.workers[command.device].decoded(hop, ref)
        if reading is not None:
            self.readings[command.chunk] = reading
        self._keep_made((-1, command.chunk), batch, hop, 0)
        return int(batch.num_rows)

    def nbytes(self, piece: PieceId) -> int:
        """Give the bytes of a piece as it lies or travels: as stored if it was only read."""
        stage, chunk = piece
        if stage == -1 and chunk in self.readings:
            return self.readings[chunk].media_bytes
        return piece_bytes(self.pieces[piece])

    def leave(self, command: Read) -> None:
        """Make a share a piece that is read by whoever runs it."""
        self.pieces[-1, command.chunk] = Unread(command.device, command.refs)

    def run(self, command: Run, team: Team = alone) -> Evidence:
        """Run a stage; its input pieces are let go, its result becomes a piece."""
        worker = self.workers[command.device]
        hop = self.hop(command.device, command.stage)
        given = [self._taken(command, hop, piece) for piece in command.pieces]
        if command.chunk == ALL:
            pieces = [self._read(command, hop, piece) for piece in given]
            execution = worker.run_gathered(hop, pieces, team)
        elif len(given) != 1:
            raise InputError(
                f"stage {command.stage} runs over one piece at a time, not {len(given)}"
            )
        elif isinstance(given[0], Unread):
            execution, readings = worker.run_share(hop, given[0].refs, team)
            self._note_readings(command, readings)
        else:
            reading = self.readings.pop(command.chunk, None)  # Only a chunk just read has one.
            execution = worker.run(hop, given[0], reading)
            self._note_readings(command, [] if reading is None else [reading])
        output = execution.output
        made = command.stage, command.chunk
        self._keep_made(made, output.batch, hop, hop.continuation.last + 1)
        self.ledger.append(
            LedgerEntry(
                command.stage,
                command.device,
                output.referenced_bytes,
                output.copied_bytes,
                output.why,
            )
        )
        if isinstance(output.batch, Encoded):
            self.ledger.append(
                LedgerEntry(command.stage, command.device, 0, output.batch.nbytes, ENCODED)
            )
        found = Evidence.of(
            output,
            device=command.device,
            stage=command.stage,
            chunk=command.chunk,
            time=execution.time,
            residuals=(*worker.residuals(hop), *output.fallbacks),
        )
        self.evidence.append(found)
        return found

    def _taken(self, command: Run, hop: Hop, piece: PieceId) -> Piece | Unread:
        """Take a piece that a stage is to run over.

        Raises
        ------
        CorruptError
            If it is not what the stage takes: programs believe the schema that they were made for.
        """
        found, made = self.pieces.pop(piece), self._made.pop(piece, None)
        place = hop.installed.place(hop.continuation.first)
        if isinstance(found, Unread):
            if place:
                raise CorruptError(f"stage {command.stage} takes no stored rows")
        elif made != (hop.installed.digest, place):
            self.workers[command.device].check_pieces(hop, [found])
        return found

    def answer(self, pieces: Iterable[PieceId], client: str) -> list[Piece]:
        """Hand the pieces of the answer to the client."""
        del client  # They lie in its process.
        return [self.pieces.pop(piece) for piece in pieces]

    def replan(self, command: Replan) -> Decision:
        """Decide how the shares that are left go."""
        return decided(self.decide, command)

    def _read(self, command: Run, hop: Hop, piece: Piece | Unread) -> Piece:
        if not isinstance(piece, Unread):
            return piece
        found = [self.workers[piece.device].decoded(hop, ref) for ref in piece.refs]
        self._note_readings(command, [reading for _, reading in found if reading is not None])
        return several([batch for batch, _ in found])

    def _note_readings(self, command: Run, readings: Iterable[Reading | Loaded]) -> None:
        for why, written in (pair for reading in readings for pair in reading.whys):
            self.ledger.append(LedgerEntry(command.stage, command.device, 0, written, why))


def decided(decide: Decide | None, command: Replan) -> Decision:
    """Give the decision that a machine asks for; only a run with `decide` is watched."""
    assert decide is not None
    left, begun = (_going(of) for of in (command.left, command.begun))
    return decide(command.seen, left, begun)


def _going(shares: Sequence[tuple[Way, Sequence[Share]]]) -> tuple[Going, ...]:
    chunks = ((way, tuple(ref for share in each for ref in share)) for way, each in shares)
    return tuple(Going(way.sites, refs) for way, refs in chunks)
