"""Carries out the commands of a query's machine by asking agents: work there, accounts here.

Rows stay where they are made. A piece that is needed elsewhere is taken by the device that needs
it from the one that has it; only the answer comes to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import Retryable, WherryError
from wherry.base.ids import DIGEST_BYTES, seal
from wherry.base.units import Measured, Modelled
from wherry.data.decoding import Reading
from wherry.data.ledger import LedgerEntry
from wherry.devices.work import Work
from wherry.ir.build import Build, Known
from wherry.plan.replan import Decide, Decision
from wherry.render.gather import Piece
from wherry.render.team import Team, alone
from wherry.run import commands
from wherry.run.carrier import Evidence, decided
from wherry.run.commands import ALL, PieceId
from wherry.run.continuation import Continuation, chunks_of, runs_of
from wherry.serve import requests
from wherry.serve.deadline import Overdue, together, without
from wherry.serve.links import AgentLost, Link
from wherry.serve.pieces import as_batches, as_piece
from wherry.serve.requests import Made

GIVEN: Final = "given by the caller"
_RELEASE_S: Final = 1.0
"""An agent that does not let go in so long does when its lease ends."""
_ATTEMPTS: Final = 6
"""Plan, directory, a new key, and builds that came while others went."""


class _Kept(Struct):
    """A piece at a device."""

    device: str
    made: Made


class RemoteCarrier:
    """The work behind commands, done by agents; any thread may call any method.

    Parameters
    ----------
    links : mapping of str to Link
        Every device of the system.
    continuation : Continuation
        As the machine has it. Its messages are sealed anew with the keys of those they go to.
    plan_bytes, directory : bytes, callable
        What agents are sent that lack the plan, or do not know the dataset.
    builds : mapping of bytes to Build
        What the query's joins are made with, by digest.
    decide : callable, optional
        Places anew what is left of a run that is watched.
    lacking : callable, optional
        Gives what a device lacks, whatever it kept of other queries, when the continuation of a
        stage first reaches it: digests of builds, or b"" for the plan. So modelled time does not
        hang on what ran before. Not given: what it really lacks.
    kinds : sequence of str
        What each stage is made of, for errors: `near+partial`.
    """

    def __init__(
        self,
        links: Mapping[str, Link],
        continuation: Continuation,
        *,
        plan_bytes: bytes,
        directory: Callable[[], bytes],
        builds: Mapping[bytes, Build],
        decide: Decide | None = None,
        lacking: Callable[[int], Sequence[bytes]] | None = None,
        kinds: Sequence[str] = (),
    ) -> None:
        self.links, self.plan_bytes, self.builds = links, plan_bytes, builds
        self.query, self._epoch = continuation.query, continuation.epoch
        self.decide, self._directory, self._lacking = decide, directory, lacking
        self._kinds = kinds
        self.ledger: list[LedgerEntry] = []
        self._left = False
        self.evidence: list[Evidence] = []
        self._messages: dict[tuple[str, int], bytes] = {}
        self._kept: dict[PieceId, _Kept] = {}
        self._unread: dict[PieceId, commands.Read] = {}
        self._held: dict[PieceId, Piece] = {}
        self._told: set[tuple[str, bytes]] = set()

    def hop(self, stage: int) -> str:
        """Give which part of the query a stage is, as errors say it."""
        query = self.query.hex()[:8]
        if stage == commands.ROUTING:
            return f"hop: routing of query {query}"
        kinds = f" {self._kinds[stage]}" if stage < len(self._kinds) else ""
        return f"hop: stage {stage}{kinds} of query {query}"

    # What a machine commands.

    def send(self, command: commands.Send) -> commands.Accepted | commands.Missing:
        """Send a continuation; what the agent lacks is sent, builds once the machine says so."""
        for digest in self._lacking(command.stage) if self._lacking else ():
            if (command.target, digest) not in self._told:
                self._told.add((command.target, digest))
                return commands.Missing(command.target, command.stage, digest)
        link = self.links[command.target]
        self._messages[command.target, command.stage] = command.message
        reply = self._received(
            link,
            lambda key_id, message: requests.Receive(key_id, command.stage, message),
            command.message,
            f"sending it stage {command.stage}",
            requests.Accepted,
            hop=self.hop(command.stage),
            ask_machine=self._lacking is None,
        )
        if isinstance(reply, requests.Lacks):
            return commands.Missing(command.target, command.stage, reply.digest)
        return commands.Accepted(command.target, command.stage)

    def install(self, command: commands.Install) -> commands.Installed:
        """Send a build; if devices are only said to lack it, when they do."""
        if self._lacking is None:
            lacks = requests.Lacks(requests.BUILD, command.build)
            self._supply(self.links[command.target], lacks, self.hop(command.stage))
        return commands.Installed(command.target, command.stage)

    def shipped(self, command: commands.Install) -> tuple[int, Known | None]:
        """Give the bytes of a plan or a build on its way, and what is known of the build."""
        if not command.build:
            return len(self.plan_bytes), None
        build = self.builds[command.build]
        return len(build.message), build.known

    def route(self, command: commands.Route) -> commands.Routed:
        """Let the agent choose the chunks; each is a share."""
        ask = requests.Route(self.query, self._epoch)
        link, hop = self.links[command.device], self.hop(commands.ROUTING)
        reply = link.ask(ask, "choosing chunks", requests.Routed, hop=hop)
        return commands.Routed(tuple((ref,) for ref in chunks_of(reply.chunks)))

    def read(self, command: commands.Read) -> int:
        """Let the agent that stores chunks make them a piece; give its rows."""
        message = self._messages[command.target, 0]
        made = self._received(
            self.links[command.device],
            lambda key_id, sealed: requests.Read(
                key_id, sealed, command.chunk, tuple(runs_of(command.refs))
            ),
            message,
            f"reading chunk {command.chunk}",
            Made,
            hop=self.hop(0),
        )
        self._kept[-1, command.chunk] = _Kept(command.device, made)
        return int(made.rows)

    def leave(self, command: commands.Read) -> None:
        """Make a share a piece: read by whoever runs it, or by the agent that stores it."""
        if command.device == command.target:
            self._unread[-1, command.chunk] = command
        else:
            self.read(command)

    def nbytes(self, piece: PieceId) -> int:
        """Give the bytes of a piece as it lies or travels."""
        return self._kept[piece].made.nbytes

    def move(self, command: commands.Move) -> None:
        """Let the target take a piece from the device that has it."""
        self._bring(command.piece, command.target, command.stage)

    def run(self, command: commands.Run, team: Team = alone) -> Evidence:
        """Let an agent run a stage; pieces that are not there yet are brought."""
        del team
        link, doing = self.links[command.device], f"running stage {command.stage}"
        chunks: requests.Chunks = ()
        reading: Reading | None = None
        for piece in command.pieces:
            if piece in self._unread:
                chunks = tuple(runs_of(self._unread[piece].refs))
            else:
                self._bring(piece, command.device, command.stage)
                reading = self._kept[piece].made.reading if command.chunk != ALL else None
        pieces = () if chunks else command.pieces
        ask = requests.Run(
            self.query, self._epoch, command.stage, command.chunk, pieces, chunks, reading
        )
        made = link.ask(ask, doing, Made, hop=self.hop(command.stage))
        for piece in command.pieces:
            self._kept.pop(piece, None)
            self._unread.pop(piece, None)
        self._kept[command.stage, command.chunk] = _Kept(command.device, made)
        return self._noted(command, link, made)

    def replan(self, command: commands.Replan) -> Decision:
        """Decide how the shares that are left go."""
        return decided(self.decide, command)

    # What the caller has and gets.

    def hold(self, piece: PieceId, rows: Piece) -> None:
        """Have a piece with the caller; the agent that needs it is given it."""
        self._held[piece] = rows

    def answer(self, pieces: Iterable[PieceId], client: str) -> list[Piece]:
        """Take the pieces of the answer from the devices that made them."""
        found = []
        for piece in pieces:
            kept = self._kept.pop(piece)
            link = self.links[kept.device]
            received = link.take(kept.made.ticket, "giving its answer", hop=self.hop(piece[0]))
            rows = as_piece(received.batches)
            found.append(rows)
            if link.address:
                referenced = max(0, kept.made.nbytes - received.copied_bytes)
                copied, why = received.copied_bytes, received.why
                entry = LedgerEntry(piece[0], client, referenced, copied, why)
                self.ledger.append(entry)
        return found

    def at(self, pieces: Iterable[PieceId]) -> list[tuple[Link, Made]]:
        """Give where pieces are."""
        return [(self.links[self._kept[p].device], self._kept[p].made) for p in pieces]

    def keep_answer(self) -> None:
        """Leave what there is to whoever has tickets: agents forget the query by themselves."""
        self._left = True

    def release(self) -> None:
        """Let every agent forget the query; one that is lost forgets it by itself."""
        if self._left:
            return
        ask, hop = requests.Release(self.query), f"hop: end of query {self.query.hex()[:8]}"

        def released(link: Link) -> None:
            with suppress(WherryError):
                link.ask(ask, "letting go", requests.Done, hop=hop, within_s=_RELEASE_S)

        with without():
            together(released, [link for link in self.links.values() if not link.lost])

    # How it is asked.

    def _received(
        self,
        link: Link,
        ask: Callable[[int, bytes], requests.Message],
        message: bytes,
        doing: str,
        kind: type[Any],
        *,
        hop: str,
        ask_machine: bool = False,
    ) -> Any:
        """Ask with a sealed message until the agent has all that it names."""
        body, stale = message[:-DIGEST_BYTES], False
        for _ in range(_ATTEMPTS):
            welcome = link.welcome(anew=stale)
            try:
                request = ask(welcome.key_id, body + seal(welcome.key, body))
                reply = link.ask(request, doing, kind, requests.Lacks, hop=hop)
            except Retryable as problem:
                if stale or isinstance(problem, AgentLost | Overdue):
                    raise
                stale = True  # The key may have ended: with a new one it is tried once more.
                continue
            if not isinstance(reply, requests.Lacks):
                return reply
            if ask_machine and reply.what == requests.BUILD:
                return reply
            self._supply(link, reply, hop)
        raise Retryable(f"{link.device} loses what it was sent as soon as it has it ({hop})")

    def _supply(self, link: Link, lacks: requests.Lacks, hop: str) -> None:
        if lacks.what == requests.DIRECTORY:
            body = self._directory()
        elif lacks.what == requests.BUILD:
            body = self.builds[lacks.digest].message.to_pybytes()
        else:
            body = self.plan_bytes
        install = requests.Install(lacks.what, body)
        link.ask(install, f"being sent a {lacks.what}", requests.Done, hop=hop)

    def _bring(self, piece: PieceId, device: str, stage: int) -> None:
        """Have a piece at a device."""
        if piece in self._held:
            self._give(piece, device, stage)
            return
        kept = self._kept[piece]
        if kept.device == device:
            return
        source, target = self.links[kept.device], self.links[device]
        doing = f"fetching piece {piece} from {kept.device}"
        if not source.address:
            # A station of this process listens to nobody: the caller hands its rows on.
            received = source.take(kept.made.ticket, doing, hop=self.hop(stage))
            self._held[piece] = as_piece(received.batches)
            self._give(piece, device, stage, kept.made.reading)
            return
        ask = requests.Fetch(self.query, self._epoch, piece, source.address, kept.made.ticket)
        try:
            made = target.ask(ask, doing, Made, hop=self.hop(stage), others=(source,))
        except Retryable as problem:
            # It may not have come to the source, which was lost then.
            if not isinstance(problem, AgentLost | Overdue) and not source.alive():
                assert source.why is not None
                raise source.why from None
            raise
        referenced, copied, why = made.moved
        self.ledger.append(LedgerEntry(stage, device, referenced, copied, why))
        told = Made(made.rows, kept.made.nbytes, made.ticket, kept.made.reading)
        self._kept[piece] = _Kept(device, told)

    def _give(
        self, piece: PieceId, device: str, stage: int, reading: Reading | None = None
    ) -> None:
        rows = self._held.pop(piece)
        body = _stream(as_batches(rows, piece))
        ask = requests.Give(self.query, self._epoch, piece, body)
        doing = f"being given piece {piece}"
        made = self.links[device].ask(ask, doing, Made, hop=self.hop(stage))
        self.ledger.append(LedgerEntry(piece[0] + 1, device, 0, len(body), GIVEN))
        self._kept[piece] = _Kept(device, Made(made.rows, made.nbytes, made.ticket, reading))

    def _noted(self, command: commands.Run, link: Link, made: Made) -> Evidence:
        spent = made.spent
        assert spent is not None  # a run tells what it came to
        for referenced, copied, why in spent.ledger:
            entry = LedgerEntry(command.stage, command.device, referenced, copied, why)
            self.ledger.append(entry)
        emulated = link.welcome().emulated
        found = Evidence(
            rows_in=spent.rows_in,
            rows_selected=spent.rows_selected,
            rows_out=made.rows,
            nbytes=made.nbytes,
            work=Work(*spent.work),
            packed=spent.packed,
            device=command.device,
            stage=command.stage,
            chunk=command.chunk,
            time=Modelled(spent.core_ns) if emulated else Measured(spent.core_ns),
            residuals=spent.residuals,
        )
        self.evidence.append(found)
        return found


def _stream(batches: Sequence[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())
