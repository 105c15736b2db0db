"""A pipeline that was run once, ready to be answered again: its programs alone, nothing besides.

Planning, messages between devices and the account of a run take 0.2 to 0.4 ms (measured), against
some microseconds of a program over a small table. The first answer is an ordinary run; what it
asked devices to do is kept, and asked of them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.data.chunk import ChunkRef
from wherry.ir.expr import Column
from wherry.ir.resolve import call_type
from wherry.ir.stage import Pass, Rows, Stage, Totals
from wherry.plan.segments import stage_of
from wherry.render.gather import Piece, batches_of
from wherry.render.team import Team, Work, alone
from wherry.run.carrier import Carrier, Evidence, Unread
from wherry.run.commands import ALL, PieceId, Run
from wherry.run.crew import Crew
from wherry.run.worker import Hop, Worker
from wherry.session.journey import Journey
from wherry.session.running import executor_of


class Asked(Struct, frozen=True):
    """What a device was asked to do.

    Attributes
    ----------
    refs : tuple of ChunkRef, optional
        The chunks that it reads and runs over; None: it runs over what was made before.
    picks : tuple of (str, str), optional
        If one row came together: the columns of the answer by what they are of that row.
    """

    worker: Worker
    hop: Hop
    made: PieceId
    pieces: tuple[PieceId, ...]
    refs: tuple[ChunkRef, ...] | None
    picks: tuple[tuple[str, str], ...] | None


class Recording(Carrier):
    """A carrier that notes what it asks devices to do."""

    asked: list[Asked] = field(default_factory=list)

    def run(self, command: Run, team: Team = alone) -> Evidence:
        """Run a stage as any carrier does."""
        given = [self.pieces[piece] for piece in command.pieces]
        hop = self.hop(command.device, command.stage)
        refs = given[0].refs if given and isinstance(given[0], Unread) else None
        if refs is None and any(isinstance(piece, Unread) for piece in given):
            raise InputError("rows that meet as they are stored are not prepared; run it instead")
        first, last = hop.segments
        stage = stage_of(hop.plan.segments[first : last + 1])
        picks = one_row(stage) if command.chunk == ALL else None
        made = command.stage, command.chunk
        worker = self.workers[command.device]
        self.asked.append(Asked(worker, hop, made, command.pieces, refs, picks))
        return super().run(command, team)


class Prepared:
    """A pipeline on this machine, ready to be answered; any thread may ask at any time.

    Attributes
    ----------
    placement : str
        Which device runs each segment.
    schema : pyarrow.Schema
        Of the answer.
    """

    def __init__(
        self, placement: str, schema: pa.Schema, source: Any, asked: list[Asked], crew: Crew
    ) -> None:
        self.placement, self.schema = placement, schema
        self._source, self._asked, self._crew = source, asked, crew
        used = {piece for one in asked for piece in one.pieces}
        self._answer = sorted(one.made for one in asked if one.made not in used)

    def collect(self) -> pa.Table:
        """Give the answer, as `Pipeline.collect` does.

        Raises
        ------
        InputError
            If a file was changed in place, or a value cannot be computed.
        """
        self._source.chunks()  # refuses files that were changed
        pieces: dict[PieceId, Piece] = {}
        for one in self._asked:
            pieces[one.made] = self._made(one, pieces)
        batches = [b for piece in self._answer for b in batches_of(pieces[piece])]
        return pa.Table.from_batches(batches, schema=self.schema)

    def _made(self, one: Asked, pieces: Mapping[PieceId, Piece]) -> Piece:
        if one.refs is not None:
            return one.worker.run_share(one.hop, one.refs, self._team)[0].output.batch
        given = [pieces[piece] for piece in one.pieces]
        if one.made[1] != ALL:
            return one.worker.run(one.hop, given[0]).output.batch
        if one.picks is not None and len(given) == 1 and isinstance(given[0], pa.RecordBatch):
            (row,) = given
            if row.num_rows == 1:
                columns = {name: row.column(of) for name, of in one.picks}
                return pa.RecordBatch.from_pydict(columns)
        return one.worker.run_gathered(one.hop, given, self._team).output.batch

    def _team(self, work: Work) -> None:
        self._crew.run(work)


def prepared_of(journey: Journey) -> Prepared:
    """Run a query that is ready to run, and give it ready to be answered again."""
    if journey.before.results:
        raise InputError(
            "a pipeline with joins is not prepared: their other sides would be of another time"
        )
    carrier, query = journey.carrier, journey.query
    assert isinstance(carrier, Carrier)
    noting = Recording(
        carrier.workers, carrier.plan_bytes, carrier.builds, carrier.by_reference, carrier.decide
    )
    executor = executor_of(replace(journey, carrier=noting))
    for _ in executor.answer(journey.machine):
        pass
    return Prepared(journey.placement, query.schema, query.scan.source, noting.asked, executor.crew)


def one_row(stage: Stage) -> tuple[tuple[str, str], ...] | None:
    """Give what a merge of totals makes of one row, if it only picks columns of it.

    A sum, minimum or maximum of one value is that value.
    """
    first, *rest = stage.steps or (None,)
    if not isinstance(first, Pass) or not isinstance(first.sink, Totals) or first.predicate:
        return None
    found: dict[str, str] = {}
    for name, call in first.sink.calls:
        of = call.argument
        if call.kind not in {"sum", "min", "max"} or not isinstance(of, Column):
            return None
        if call_type(call) != of.type:
            return None
        found[name] = of.name
    for step in rest:
        if not isinstance(step, Pass) or not isinstance(step.sink, Rows) or step.predicate:
            return None
        if not all(isinstance(node, Column) for _, node in step.sink.outputs):
            return None
        found = {
            name: found[node.name] for name, node in step.sink.outputs if isinstance(node, Column)
        }
    return tuple(found.items())
