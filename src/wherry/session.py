"""Plan, place, run and explain declared pipelines on a system; the engine room of the façade."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import InputError, Refused
from wherry.base.units import Measured, Time
from wherry.data.arrow_write import Written, write_ipc
from wherry.data.chunk import ChunkRef
from wherry.data.encoded import JOINED, Encoding, check_compression, decode, joined
from wherry.data.ledger import Ledger, LedgerEntry, merge
from wherry.data.one_shot import OneShot
from wherry.data.segment import SegmentPool
from wherry.data.source import Source
from wherry.devices.cpu import CpuDriver
from wherry.devices.emulated import EmulatedDriver
from wherry.devices.system import System, load_system
from wherry.devices.this_machine import THIS_MACHINE
from wherry.ir.build import Build, Known, build_of
from wherry.ops.operator import Chain, Declared
from wherry.ops.select import type_bytes
from wherry.plan.explain import Explanation
from wherry.plan.explain import explain as explain_choice
from wherry.plan.joins import as_received, builds_in, expected, with_builds
from wherry.plan.objective import Objective, weights_of
from wherry.plan.place import Choice, Wish, choice_for, host_only
from wherry.plan.placement import homes_of, stages_of
from wherry.plan.query import Query, of_chunks, prepare
from wherry.plan.replan import Revision, replanner
from wherry.plan.sample import sampled
from wherry.plan.terms import Analysis
from wherry.render.gather import Piece, batches_of
from wherry.run.carrier import Carrier, Evidence
from wherry.run.commands import BEFORE
from wherry.run.crew import crew as running
from wherry.run.executor import Executor
from wherry.run.machine import Machine
from wherry.run.orders import WHOLE, Leg, enough_of, orders_of
from wherry.run.shares import cut
from wherry.run.worker import Worker, program_of
from wherry.sim.recorded import Counts
from wherry.sim.recorded import record as counts_of
from wherry.trace.analysis import analysis
from wherry.trace.perfetto import chrome_trace
from wherry.trace.receipt import Receipt, receipts
from wherry.trace.timeline import Timeline
from wherry.trace.usage import Usage, usage

SystemLike = str | Path | System
Pins = Mapping[str, str] | Literal["host-only"]
HOST_ONLY: Final = "host-only"
"""Placement that runs every segment on the host: what offload is compared with."""

_STREAM_BYTES = 64 << 20
"""Bytes of a share's stored rows, when its answer is consumed as it comes: what is held at a time.
A share of this size is read in 2 ms, which is much against what each share costs besides."""
_FIRST_CHUNKS_PER_CORE = 1
"""Chunks of the first share, when the first rows may be enough."""


class Result(Struct, frozen=True, dict=True):
    """An answer and the account of how it was made.

    Attributes
    ----------
    table : pyarrow.Table
        The answer; one that came encoded is decoded when it is first asked for.
    encoded : pyarrow.Buffer or None
        The answer as an Arrow IPC stream, if `respond` was declared.
    placement : str
        Which site ran each segment: `routing@dpu0 near@home ...`.
    time : Modelled or Measured
        From the request to the last byte of the answer.
    timeline : Timeline
        Every use of every resource.
    ledger : Ledger
        Bytes referenced and copied, per stage, device and reason.
    receipts : tuple of Receipt
        What each stage used on each device.
    evidence : tuple of Evidence
        What really ran where, one entry for each run of a program.
    builds : tuple of Result
        The other sides of joins, which ran before, one after another. `time` includes theirs;
        timeline, ledger, receipts, evidence and usage are of this query alone.
    usage : Usage or None
        How busy each resource was, energy and money; None where time is measured.
    revisions : tuple of Revision
        When something else passed than what was planned with, and how the rest of the chunks went
        from then on; `placement` is the one it began with.
    """

    answer: pa.Table | pa.Buffer
    placement: str
    time: Time
    timeline: Timeline
    ledger: Ledger
    receipts: tuple[Receipt, ...]
    evidence: tuple[Evidence, ...]
    builds: tuple[Result, ...] = ()
    usage: Usage | None = None
    revisions: tuple[Revision, ...] = ()

    @cached_property
    def table(self) -> pa.Table:
        """The answer, decoded from the stream if it came as one."""
        return self.answer if isinstance(self.answer, pa.Table) else decode(self.answer)

    @property
    def encoded(self) -> pa.Buffer | None:
        """The stream that the answer came as, if it came as one."""
        return self.answer if isinstance(self.answer, pa.Buffer) else None

    @property
    def trace(self) -> bytes:
        """The timeline as a file for ui.perfetto.dev or chrome://tracing."""
        return chrome_trace(self.timeline)


class Options(Struct, frozen=True):
    """How to run.

    Attributes
    ----------
    pins : mapping of str to str, or "host-only"
        Segment kind to site, for segments that must run there; the rest is the planner's choice.
    strict : bool
        Refuse to run anything through pyarrow that has no native program.
    cold : bool
        Emulated devices lack the plan at first; otherwise an earlier run has installed it. Where
        stages run, and how long it takes, then counts the installation.
    objective : "time", "money", "energy", or mapping of them to weights
        What placements are chosen by. In a weighting each counts as a share of what the query on
        the host alone comes to. Devices without the figures are refused by name.
    load : mapping of str to float
        What other tenants keep busy, as a share of the time: devices (`csd0`) or resources
        (`cores csd0`). The planner counts on what is left; an emulated run has no other tenants.
    """

    pins: Pins = field(default_factory=dict)
    strict: bool = False
    cold: bool = False
    objective: Objective = "time"
    load: Mapping[str, float] = field(default_factory=dict)


def explain(
    declared: Declared,
    system: SystemLike = THIS_MACHINE,
    options: Options | None = None,
    *,
    analyze: bool = False,
) -> Explanation:
    """Give where a pipeline would run on a system, why, and why not elsewhere.

    Parameters
    ----------
    analyze : bool
        Also run it, and give predicted against actual for every term of its cost.
    """
    found, chosen = _system(system), options or Options()
    explanation = _explained(declared, found, chosen)[1]
    return (
        replace(explanation, analysis=_analyzed(declared, found, chosen))
        if analyze
        else explanation
    )


def _analyzed(declared: Declared, system: System, options: Options) -> Analysis:
    journey, result = _runs([declared], system, options)[0]
    before = sum(time.ns for time in journey.before.times)
    time = type(result.time)(result.time.ns - before)
    chosen = journey.choice.chosen
    return analysis(
        journey.query,
        system,
        chosen,
        result.timeline,
        time=time,
        before_ns=before,
        revisions=result.revisions,
    )


def answers_at(
    declared: Declared, system: SystemLike = THIS_MACHINE, options: Options | None = None
) -> str:
    """Give the device that would make the answer of a pipeline; the host if several would."""
    found, chosen = _system(system), options or Options()

    def expect(side: Declared, keys: int) -> Known:
        query, _ = _explained(side, found, _for_builds(chosen))
        return expected(query.flows[-1], side.schema, keys)

    query = _prepared(with_builds(declared, expect), found)
    last = {way.sites[-1] for way in _place(query, found, chosen).chosen.placement.ways}
    homes = homes_of(query, found)
    devices = {device for site in last for device in homes.at(site)}
    return devices.pop() if len(devices) == 1 else found.host


def _explained(declared: Declared, system: System, options: Options) -> tuple[Query, Explanation]:
    builds: list[tuple[Known, Explanation]] = []

    def expect(side: Declared, keys: int) -> Known:
        query, explanation = _explained(side, system, _for_builds(options))
        known = expected(query.flows[-1], side.schema, keys)
        builds.append((known, explanation))
        return known

    query = _prepared(with_builds(declared, expect), system)
    choice = _place(query, system, options)
    residuals = _residuals(query, choice)
    return query, explain_choice(
        query, system, choice, residuals, wish=_wish(query, system, options), builds=builds
    )


def _for_builds(options: Options) -> Options:
    """Give how the other side of a join is run: pins name this query's segments, not its own."""
    return options if options.pins == HOST_ONLY else replace(options, pins={})


def _prepared(declared: Declared, system: System) -> Query:
    """Give the query, sizes sampled if there is a choice of devices that hangs on them."""
    query = _query_of(declared)
    able = sum(profile.runs_programs for profile in system.devices.values())
    return sampled(query) if able > 1 else query


def _query_of(declared: Declared) -> Query:
    return prepare(declared.source, declared.operators, declared.schema)


def _with_answers(declared: Declared, system: System, options: Options) -> tuple[Declared, _Before]:
    """Run the other sides of all joins; give the pipeline that has their answers as constants."""
    before = _Before()
    real = system.name == THIS_MACHINE

    def make(side: Declared, keys: int) -> Build:
        result = run(side, system, _for_builds(options))
        start = time.perf_counter_ns()
        build = build_of(result.table, keys, os.urandom(16) if real else b"")
        took = result.time
        if isinstance(took, Measured):
            took = took + Measured(time.perf_counter_ns() - start)
        before.results.append(result)
        before.times.append(took)
        return build

    return with_builds(declared, make), before


def record(declared: Declared) -> Counts:
    """Give the counts of a pipeline, with which `wherry.sim.replay` simulates its placements.

    The other sides of its joins run on this machine, to have their rows.
    """
    sides: list[Counts] = []

    def make(side: Declared, keys: int) -> Build:
        sides.append(record(side))
        return build_of(run(side).table, keys)

    return counts_of(sampled(_query_of(with_builds(declared, make))), sides)


def run(
    declared: Declared, system: SystemLike = THIS_MACHINE, options: Options | None = None
) -> Result:
    """Run a pipeline on a system: measured on this machine, modelled on any other."""
    return run_many([declared], system, options)[0]


def run_many(
    declared: Sequence[Declared],
    system: SystemLike = THIS_MACHINE,
    options: Options | None = None,
    *,
    in_flight: int = 1,
) -> list[Result]:
    """Run pipelines on one system; emulated ones share its devices, `in_flight` at a time."""
    if in_flight < 1:
        raise InputError(f"in_flight is {in_flight}; at least 1 query has to be on its way")
    return [result for _, result in _runs(declared, _system(system), options, in_flight)]


def _runs(
    declared: Sequence[Declared], system: System, options: Options | None, in_flight: int = 1
) -> list[tuple[_Journey, Result]]:
    workers = _workers(system, [d.source for d in declared])
    journeys = [_journey(d, system, options or Options(), workers) for d in declared]
    if system.name == THIS_MACHINE:
        ended = [_measured(journey) for journey in journeys]
    else:
        ended = _modelled(journeys, system, in_flight)
    return [(journey, result) for journey, (result, _) in zip(journeys, ended, strict=True)]


def stream(
    declared: Declared, system: SystemLike = THIS_MACHINE, options: Options | None = None
) -> Iterator[pa.RecordBatch]:
    """Give the batches of the answer in order, as they are made."""
    found, chosen = _system(system), options or Options()
    if found.name != THIS_MACHINE:
        yield from run(declared, found, chosen).table.to_batches()
        return
    source, apart = declared.source, not any(o.gathers for o in declared.operators)
    if isinstance(source, OneShot) and apart and not source.kept:
        # The other sides of joins are made once, not for every part.
        ready, _ = _with_answers(declared, found, chosen)
        for part in source.rounds():
            part_of = Chain(part, ready.operators, ready.schema)
            yield from _streamed(part_of, found, chosen)
    else:
        yield from _streamed(declared, found, chosen)


def write(
    declared: Declared,
    path: str | Path,
    system: SystemLike = THIS_MACHINE,
    options: Options | None = None,
    *,
    compression: str | None = None,
    overwrite: bool = False,
) -> Written:
    """Run a pipeline and write its answer as an Arrow IPC file, batch by batch as it is made."""
    encoding = Encoding(check_compression(compression))
    batches = stream(declared, system, options)
    return write_ipc(Path(path), declared.schema, batches, encoding, overwrite=overwrite)


def _streamed(declared: Declared, system: System, options: Options) -> Iterator[pa.RecordBatch]:
    journey = _journey(declared, system, options, _workers(system, [declared.source]))
    for piece in _executor(journey, _stream_rows(journey.query)).answer(journey.machine):
        yield from batches_of(piece)


def _system(system: SystemLike) -> System:
    return system if isinstance(system, System) else load_system(system)


def _place(query: Query, system: System, options: Options) -> Choice:
    return choice_for(query, system, _wish(query, system, options))


def _wish(query: Query, system: System, options: Options) -> Wish:
    pins = options.pins
    return Wish.of(
        host_only(query, system) if pins == HOST_ONLY else pins,
        cold=options.cold,
        weights=weights_of(options.objective),
        load=options.load,
    )


def _residuals(query: Query, choice: Choice) -> list[tuple[str, ...]]:
    stages = stages_of(query.segments, choice.chosen.placement)
    return [program_of(query.plan, stage.first, stage.last).residuals for stage in stages]


class _Before(Struct, frozen=True):
    """What ran before a query: the other sides of its joins, and the time until each was ready."""

    results: list[Result] = field(default_factory=list)
    times: list[Time] = field(default_factory=list)

    def then(self, time: Time) -> Time:
        """Give the time of everything, the query's own being `time`."""
        for earlier in self.times:
            time = time + earlier  # type: ignore[operator]
        return time


class _Journey(Struct, frozen=True):
    """One query with everything its run needs."""

    query: Query
    choice: Choice
    machine: Machine
    carrier: Carrier
    system: System
    before: _Before

    @property
    def placement(self) -> str:
        return self.choice.chosen.placement.describe(self.query.segments)


def _journey(
    declared: Declared, system: System, options: Options, workers: Mapping[str, Worker]
) -> _Journey:
    ready, before = _with_answers(declared, system, options)
    return _placed(_prepared(ready, system), before, (system, workers), options)


def _placed(
    query: Query,
    before: _Before,
    where: tuple[System, Mapping[str, Worker]],
    options: Options,
    leg: Leg = WHOLE,
) -> _Journey:
    system, workers = where
    choice = _place(query, system, options)
    if options.strict:
        left = [reason for stage in _residuals(query, choice) for reason in stage]
        if left:
            raise Refused("strict: part of the query has no native program", left)
    if not options.cold:
        for worker in workers.values():
            worker.install(query.plan_bytes)
    key = next(iter(workers.values())).key
    anew = replanner(query, system, choice, _wish(query, system, options))
    watch = None if anew is None else anew.watch
    machine = Machine(orders_of(query, choice.chosen.placement, system, key, watch, leg=leg))
    carrier = Carrier(
        workers,
        query.plan_bytes,
        {v.value.digest: v.value for v in query.literals if isinstance(v.value, Build)},
        by_reference=system.name == THIS_MACHINE,
        decide=None if anew is None else anew.decide,
    )
    return _Journey(query, choice, machine, carrier, system, before)


def _workers(system: System, sources: Iterable[Source]) -> dict[str, Worker]:
    """Give a worker for every device; all read the same datasets and share a fresh key."""
    key = os.urandom(32)
    datasets = tuple({(s.name, s.fingerprint): s for s in sources}.values())
    real = system.name == THIS_MACHINE
    return {
        name: Worker(
            CpuDriver(name, profile) if real else EmulatedDriver(name, profile),
            datasets,
            key,
            _segments(),
        )
        for name, profile in system.devices.items()
    }


def _executor(journey: _Journey, most_rows: int | None = None) -> Executor:
    crew = running()
    enough = enough_of(journey.query) is not None
    first = _FIRST_CHUNKS_PER_CORE * len(crew.cores) if enough else None
    return Executor(journey.carrier, crew, partial(cut, most_rows=most_rows, first=first))


def _stream_rows(query: Query) -> int | None:
    """Give the rows of a share if answers are to be given away as they come."""
    if any(segment.kind == "merge" for segment in query.segments):
        return None
    # Text may be longer than its type says: what is stored of a row is a row's least size.
    stored = query.reading.media_bytes * len(query.chunks)
    rows = max(1, sum(ref.rows for ref in query.chunks))
    width = max(1, stored / rows, sum(type_bytes(t) for _, t in query.plan.fields))
    return max(1, int(_STREAM_BYTES / width))


class Carried(Struct, frozen=True, eq=False):
    """What one leg of a query came to.

    Attributes
    ----------
    query : Query
        Whole, not only this leg's chunks.
    pieces : tuple of Piece
        Of the answer; if the leg stopped before chunks met, what came of each share.
    chunks : tuple of ChunkRef
        That it took, in stored order.
    result : Result
        The account; its answer has no rows if the leg stopped before chunks met.
    builds : tuple of Build
        The other sides of joins, in order, known by the digests of their rows.
    """

    query: Query
    pieces: tuple[Piece, ...]
    chunks: tuple[ChunkRef, ...]
    result: Result
    builds: tuple[Build, ...]


def carry(
    declared: Declared,
    system: SystemLike,
    options: Options,
    begin: Callable[[Query], tuple[Leg, Piece | None]],
) -> Carried:
    """Carry out one leg of a pipeline: from where another one stopped, to where it is to stop.

    Parameters
    ----------
    begin : callable
        Gives the leg of the query, and the piece that the client has of those before it.
    """
    found = _system(system)
    workers = _workers(found, [declared.source])
    ready, before = _with_answers(declared, found, options)
    ready = as_received(ready)
    query = _prepared(ready, found)
    leg, held = begin(query)
    left = query.chunks[len(leg.done) :]
    part = of_chunks(query, left if leg.stop is None else left[: leg.stop])
    journey = _placed(part, before, (found, workers), options, leg)
    if held is not None:
        stages = journey.machine.orders.stages
        last = sum(stage.chunkwise for stage in stages) - 1
        journey.carrier.keep((last, BEFORE), held)
    real = found.name == THIS_MACHINE
    result, pieces = _measured(journey) if real else _modelled([journey], found, 1)[0]
    builds = builds_in(ready)
    return Carried(query, tuple(pieces), journey.machine.through, result, builds)


_Ended = tuple[Result, list[Piece]]
"""An account, and the pieces of what was made."""


def _measured(journey: _Journey) -> _Ended:
    executor = _executor(journey)
    pieces = list(executor.answer(journey.machine))
    answer = _answer(journey, pieces)
    timeline = Timeline("measured", tuple(executor.spans))
    return _result(journey, answer, executor.elapsed, timeline, executor.revisions), pieces


def _modelled(journeys: list[_Journey], system: System, in_flight: int) -> list[_Ended]:
    # simpy takes longer to import than a query on this machine to run.
    from wherry.sim.simulator import Flight, simulate  # noqa: PLC0415

    flights = [Flight(journey.machine, journey.carrier) for journey in journeys]
    simulate(system, flights, in_flight=in_flight)
    results = []
    for journey, flight in zip(journeys, flights, strict=True):
        pieces = [journey.carrier.pieces.pop(piece) for piece in flight.answer]
        timeline = Timeline("modelled", tuple(flight.spans))
        answer = _answer(journey, pieces)
        result = _result(journey, answer, flight.time, timeline, flight.revisions)
        results.append((result, pieces))
    return results


def _answer(journey: _Journey, pieces: list[Piece]) -> pa.Table | pa.Buffer:
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


def _result(
    journey: _Journey,
    answer: pa.Table | pa.Buffer,
    time: Time,
    timeline: Timeline,
    revisions: Sequence[Revision],
) -> Result:
    carrier, modelled = journey.carrier, timeline.origin == "modelled"
    return Result(
        answer=answer,
        placement=journey.placement,
        time=journey.before.then(time),
        timeline=timeline,
        ledger=merge([Ledger(tuple(carrier.ledger))]),
        receipts=receipts(timeline.spans, journey.system.devices),
        evidence=tuple(carrier.evidence),
        builds=tuple(journey.before.results),
        usage=usage(timeline.spans, journey.system, time.ns) if modelled else None,
        revisions=tuple(revisions),
    )


@cache
def _segments() -> SegmentPool:
    return SegmentPool()
