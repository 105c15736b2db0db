"""Carry a query out on this machine, or in virtual time, and give the account of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from wherry.base.units import Time
from wherry.data.encoded import JOINED, joined
from wherry.data.ledger import Ledger, LedgerEntry, merge
from wherry.devices.system import System
from wherry.ops.select import type_bytes
from wherry.plan.query import Query
from wherry.plan.replan import Revision
from wherry.render.gather import Piece, batches_of
from wherry.run.carrier import Carrier
from wherry.run.commands import PieceId
from wherry.run.crew import crew as running
from wherry.run.executor import Executor
from wherry.run.orders import enough_of
from wherry.run.shares import cut
from wherry.session.journey import Journey
from wherry.session.result import Result
from wherry.trace.receipt import receipts
from wherry.trace.timeline import Timeline
from wherry.trace.usage import usage

_STREAM_BYTES = 64 << 20
"""Bytes of a share's stored rows, when its answer is consumed as it comes: what is held at a time.
A share of this size is read in 2 ms, which is much against what each share costs besides."""
_FIRST_CHUNKS_PER_CORE = 1
"""Chunks of the first share, when the first rows may be enough."""


def executor_of(journey: Journey, most_rows: int | None = None) -> Executor:
    """Give what runs a query on this machine, in shares of so many rows at most."""
    crew = running()
    enough = enough_of(journey.query) is not None
    first = _FIRST_CHUNKS_PER_CORE * len(crew.cores) if enough else None
    assert isinstance(journey.carrier, Carrier)
    return Executor(journey.carrier, crew, partial(cut, most_rows=most_rows, first=first))


def stream_rows(query: Query) -> int | None:
    """Give the rows of a share if answers are to be given away as they come."""
    if any(segment.kind == "merge" for segment in query.segments):
        return None
    # Text may be longer than its type says: what is stored of a row is a row's least size.
    stored = query.reading.media_bytes * len(query.chunks)
    rows = max(1, sum(ref.rows for ref in query.chunks))
    width = max(1, stored / rows, sum(type_bytes(t) for _, t in query.plan.fields))
    return max(1, int(_STREAM_BYTES / width))


Ended = tuple[Result, list[Piece]]
"""An account, and the pieces of what was made."""


def measured(journey: Journey) -> Ended:
    """Run a query on this machine."""
    executor = executor_of(journey)
    pieces = list(executor.answer(journey.machine))
    answer = answer_of(journey, pieces)
    timeline = Timeline("measured", tuple(executor.spans))
    return result_of(journey, answer, executor.elapsed, timeline, executor.revisions), pieces


def modelled(journeys: Sequence[Journey], system: System, in_flight: int = 1) -> list[Ended]:
    """Run queries in virtual time, `in_flight` of them at once."""
    # simpy takes longer to import than a query on this machine to run.
    from wherry.sim.simulator import Flight, simulate  # noqa: PLC0415

    flights = [Flight(journey.machine, journey.carrier) for journey in journeys]
    simulate(system, flights, in_flight=in_flight)
    results = []
    for journey, flight in zip(journeys, flights, strict=True):
        pieces = journey.carrier.answer(flight.answer, system.client)
        timeline = Timeline("modelled", tuple(flight.spans))
        answer = answer_of(journey, pieces)
        result = result_of(journey, answer, flight.time, timeline, flight.revisions)
        results.append((result, pieces))
    return results


def simulated(journey: Journey) -> Sequence[PieceId]:
    """Run a query in virtual time, for its answer alone; give its pieces, wherever they are."""
    from wherry.sim.simulator import Flight, simulate  # noqa: PLC0415

    flight = Flight(journey.machine, journey.carrier)
    simulate(journey.system, [flight])
    return flight.answer


def answer_of(journey: Journey, pieces: list[Piece]) -> pa.Table | pa.Buffer:
    """Give the pieces of the answer as one: a table by reference, or a stream."""
    schema, segments = journey.query.schema, journey.query.segments
    stages = journey.machine.orders.stages
    if stages and stages[-1].last < max(n for n, s in enumerate(segments) if s.runs):
        # The leg stopped before chunks met, and what it made is no answer.
        return schema.empty_table()
    if segments[-1].encoding is None:
        batches = [batch for piece in pieces for batch in batches_of(piece)]
        return pa.Table.from_batches(batches, schema=schema)
    whole = joined([piece.stream for piece in pieces], schema)
    if len(pieces) > 1:
        last = len(journey.machine.orders.stages) - 1
        entry = LedgerEntry(last, journey.system.client, 0, whole.size, JOINED)
        journey.carrier.ledger.append(entry)
    return whole


def result_of(
    journey: Journey,
    answer: pa.Table | pa.Buffer,
    time: Time,
    timeline: Timeline,
    revisions: Sequence[Revision],
) -> Result:
    """Give an answer with its account."""
    carrier, virtual = journey.carrier, timeline.origin == "modelled"
    return Result(
        answer=answer,
        placement=journey.placement,
        time=journey.before.then(time),
        timeline=timeline,
        ledger=merge([Ledger(tuple(carrier.ledger))]),
        receipts=receipts(timeline.spans, journey.system.devices),
        evidence=tuple(carrier.evidence),
        builds=tuple(journey.before.results),
        usage=usage(timeline.spans, journey.system, time.ns) if virtual else None,
        revisions=tuple(revisions),
    )
