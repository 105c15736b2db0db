"""What the kernels did, once: the counts with which every placement of a query is simulated.

Which stage runs where changes which segments are one program, and whether rows are written before
they meet; what such a program does with a chunk is the same on every device. So the counts of a
stage are kept by the stages up to it and by which chunks leave their rows unwritten, each taken by
running the real programs the first time it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from wherry.base.units import Modelled
from wherry.data.chunk import ChunkRef
from wherry.data.decoding import Reading
from wherry.data.segment import SegmentPool
from wherry.devices.driver import Execution, Made
from wherry.devices.profile import Device, Profile
from wherry.ir.build import Build, Known, image_of, received
from wherry.ir.literals import parameters
from wherry.ir.types import is_build
from wherry.plan.placement import Stage
from wherry.plan.query import Query
from wherry.render.gather import Piece, piece_bytes
from wherry.render.outcome import ChunkOutput
from wherry.run.carrier import Count
from wherry.run.commands import Share
from wherry.run.continuation import Continuation, freeze
from wherry.run.orders import enough_of
from wherry.run.worker import Hop, Worker

_KEY: Final = bytes(32)
_HERE, _ELSEWHERE = "here", "elsewhere"
_ID: Final = bytes(16)

Chain = tuple[tuple[int, int], ...]
"""The segments, first and last, of each stage up to some stage."""
Unwritten = bool | tuple[bool, ...]
"""Whether chunks leave their rows to be written where they meet: all, none, or each."""


class _Counting(Struct, frozen=True):
    """The driver of no device: it does the work and takes no time."""

    name: str = _HERE
    profile: Profile = Profile(device=Device(name=_HERE, kind="cpu", title=_HERE))

    def execute(self, task: Any, given_bytes: Any) -> Execution[Made]:  # noqa: ARG002
        """Do `task`."""
        return Execution(task(), Modelled(0))


class Counts:
    """The counts of a query; what was not asked for yet is taken when it is.

    Attributes
    ----------
    query : Query
        Prepared; the rows of its joins are constants of it.
    before : tuple of Counts
        Of the other sides of its joins, which run before it.
    taking : callable
        Calls what takes counts; whoever wants to know how long that takes gives another one.
    """

    def __init__(
        self,
        query: Query,
        before: tuple[Counts, ...] = (),
        taking: Callable[[Callable[[], object]], object] = lambda take: take(),
    ) -> None:
        self.query = query
        self.before = before
        self.taking = taking
        self._read: list[int] = []
        self._chunkwise: dict[tuple[Chain, bool], tuple[Count, ...]] = {}
        self._gathered: dict[tuple[Chain, Unwritten], Count] = {}
        self._lacking: dict[tuple[int, int], tuple[bytes, ...]] = {}
        self._worker = Worker(_Counting(), (query.scan.source,), _KEY, SegmentPool())
        self._worker.install(query.plan_bytes)
        for build in self.builds.values():
            self._worker.keep(received(build.message))
        routing = self._hop(0, 0, (), unwritten=False)
        told = self._hop(0, 0, unwritten=False)
        self._shares: tuple[Share, ...] = tuple((ref,) for ref in self._worker.route(routing))
        for (ref,) in self._shares:
            batch, reading = self._worker.decoded(told, ref)
            self._read.append(piece_bytes(batch) if reading is None else reading.media_bytes)

    @property
    def builds(self) -> dict[bytes, Build]:
        """What the query's joins are made with, by digest."""
        values = (literal.value for literal in self.query.literals)
        return {v.digest: v for v in values if isinstance(v, Build)}

    @property
    def shares(self) -> tuple[Share, ...]:
        """The chunks that can hold an answer, each a share."""
        return self._shares

    def read_bytes(self, chunk: int) -> int:
        """Give the bytes of a chunk as they come from where it is stored."""
        return self._read[chunk]

    def shipped(self, digest: bytes) -> tuple[int, Known | None]:
        """Give the bytes of the plan, or of a build, as it travels, and what is known of it."""
        if not digest:
            return len(self.query.plan_bytes), None
        build = self.builds[digest]
        return len(build.message), build.known

    def lacking(self, first: int, last: int) -> tuple[bytes, ...]:
        """Give the digests of the builds that segments read, in the order devices ask for them."""
        if (first, last) not in self._lacking:
            self._lacking[first, last] = self._lacks(first, last)
        return self._lacking[first, last]

    def _lacks(self, first: int, last: int) -> tuple[bytes, ...]:
        plan = self.query.plan
        read = {parameter.index for parameter in parameters(plan.segments[first : last + 1])}
        wanted = [p for p in parameters(plan) if is_build(p.type) and p.index in read]
        values = (self.query.literals[p.index].value for p in wanted)
        return tuple(v.digest for v in values if isinstance(v, Build))

    def chunkwise(self, chain: Chain, *, unwritten: bool) -> tuple[Count, ...]:
        """Give, for every chunk, what the last stage of `chain` did."""
        key = (chain, unwritten)
        if key not in self._chunkwise:
            self.taking(lambda: self._pieces(chain, unwritten))
        return self._chunkwise[key]

    def gathered(self, chain: Chain, unwritten: Unwritten, merge: int) -> Count:
        """Give what the last stage of `chain` did with all that came together at stage `merge`."""
        key = (chain, unwritten)
        if key not in self._gathered:
            self.taking(lambda: self._gather(chain, unwritten, merge))
        return self._gathered[key]

    def _pieces(self, chain: Chain, unwritten: Unwritten) -> list[Piece]:
        """Run chunkwise stages over every chunk; keep their counts, give their pieces."""
        count = len(self._shares)
        made: list[Piece] = []
        last = len(chain) - 1
        found: dict[bool, list[Count]] = {True: [], False: []}
        earlier: list[list[Count]] = [[] for _ in range(last)]
        hops = [self._hop(*segments, unwritten=False) for segments in chain]
        leaving = self._hop(*chain[-1], unwritten=True)
        each = (unwritten,) * count if isinstance(unwritten, bool) else unwritten
        for (ref,), leaves in zip(self._shares, each, strict=True):
            piece, reading = self._worker.decoded(hops[0], ref)
            for number, hop in enumerate(hops):
                ends = number == last
                output = self._run(leaving if ends and leaves else hop, piece, reading)
                (found[leaves] if ends else earlier[number]).append(Count.of(output))
                piece, reading = output.batch, None
            made.append(piece)
        for number, counts in enumerate(earlier):
            self._chunkwise.setdefault((chain[: number + 1], False), tuple(counts))
        for leaves, counts in found.items():
            if len(counts) == count:
                self._chunkwise.setdefault((chain, leaves), tuple(counts))
        return made

    def _run(self, hop: Hop, piece: Piece, reading: Reading | None) -> ChunkOutput:
        return self._worker.run(hop, piece, reading).output

    def _gather(self, chain: Chain, unwritten: Unwritten, merge: int) -> None:
        pieces = self._pieces(chain[:merge], unwritten)
        given: Sequence[Piece] = pieces[: _wanted(pieces, enough_of(self.query))]
        for number in range(merge, len(chain)):
            hop = self._hop(*chain[number], unwritten=False)
            output = self._worker.run_gathered(hop, given).output
            self._gathered[chain[: number + 1], unwritten] = Count.of(output)
            given = [output.batch]

    def _hop(
        self,
        first: int,
        last: int,
        chunks: tuple[ChunkRef, ...] | None = None,
        *,
        unwritten: bool,
    ) -> Hop:
        """Give a continuation as a device would have it that the rows stay on, or leave.

        It names all of the query's chunks, if none are given.
        """
        query = self.query
        after = _HERE if unwritten else _ELSEWHERE
        message = Continuation(
            query=_ID,
            epoch=0,
            hop=0,
            plan=query.plan_digest,
            first=first,
            last=last,
            values=tuple(map(image_of, query.literals)),
            chunks=query.chunks if chunks is None else chunks,
            sites=(after,) * len(query.segments),
        )
        return self._worker.receive(freeze(message, _KEY))


def record(query: Query, before: Sequence[Counts] = ()) -> Counts:
    """Give the counts of a query: one real run of each program a placement can make of it.

    Parameters
    ----------
    query : Query
        With the rows of its joins (`wherry.session.record` makes them).
    before : sequence of Counts
        Of the other sides of its joins.
    """
    return Counts(query, tuple(before))


def chain_of(stages: Sequence[Stage]) -> Chain:
    """Give the chain of stages."""
    return tuple((stage.first, stage.last) for stage in stages)


def _wanted(pieces: Sequence[Piece], enough: int | None) -> int:
    """Give how many of the first pieces hold enough rows; all if no number is enough."""
    rows = 0
    for number, piece in enumerate(pieces):
        rows += piece.num_rows
        if enough is not None and rows >= enough:
            return number + 1
    return len(pieces)
