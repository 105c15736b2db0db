"""Plan, place, run and explain declared pipelines on a system; the engine room of the façade."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.data.arrow_write import Written, write_ipc
from wherry.data.chunk import ChunkRef
from wherry.data.encoded import Encoding, check_compression
from wherry.data.one_shot import OneShot
from wherry.data.source import Source
from wherry.devices.system import System, load_system
from wherry.devices.this_machine import THIS_MACHINE
from wherry.ir.build import Build, Known, build_of
from wherry.ops.operator import Chain, Declared
from wherry.plan.explain import Explanation
from wherry.plan.explain import explain as explain_choice
from wherry.plan.joins import as_received, builds_in, expected, unmade, with_builds
from wherry.plan.placement import homes_of
from wherry.plan.query import Query, of_chunks
from wherry.plan.sample import sampled
from wherry.plan.terms import Analysis
from wherry.render.gather import Piece, batches_of
from wherry.run.commands import BEFORE
from wherry.run.device_table import DeviceTable
from wherry.run.orders import Leg
from wherry.session import agents, cards, on_card
from wherry.session.cards import where_it_lies
from wherry.session.journey import (
    Ask,
    Journey,
    journey_of,
    place,
    placed,
    prepared,
    query_of,
    residuals,
    wish,
    with_answers,
    workers,
)
from wherry.session.options import (
    HOST_ONLY,
    Options,
    Pins,
    SystemLike,
    check_options,
    for_builds,
)
from wherry.session.ready import Prepared, prepared_of
from wherry.session.result import Result
from wherry.session.running import executor_of, measured, modelled, stream_rows
from wherry.sim.recorded import Counts
from wherry.sim.recorded import record as counts_of
from wherry.trace.analysis import analysis

__all__ = [
    "HOST_ONLY", "Carried", "Options", "Pins", "Prepared", "Result", "SystemLike", "answers_at",
    "carry", "collect_on", "explain", "leave", "load", "names_at", "prepare", "record", "run",
    "run_many", "source_at", "stream", "write",
]  # fmt: skip


def load(declared: Declared, device: str, system: SystemLike = THIS_MACHINE) -> None:
    """Load the stored columns that a pipeline reads onto a card of this machine, to stay there."""
    cards.load(query_of(unmade(declared)), device, _system(system))


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
    ended, result = _runs([declared], system, options)[0]
    before = sum(time.ns for time in ended.before.times)
    time = type(result.time)(result.time.ns - before)
    chosen = ended.choice.chosen
    return analysis(
        ended.query,
        ended.system,
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
    given, chosen = _system(system), options or Options()
    found = _seen(declared, given)

    def expect(side: Declared, keys: int) -> Known:
        query, _ = _explained(side, _for_side(side, given), for_builds(chosen))
        return expected(query.flows[-1], side.schema, keys)

    query = prepared(with_builds(declared, expect), found)
    last = {way.sites[-1] for way in place(query, found, chosen).chosen.placement.ways}
    homes = homes_of(query, found)
    devices = {device for site in last for device in homes.at(site)}
    return devices.pop() if len(devices) == 1 else found.host


def _explained(declared: Declared, given: System, options: Options) -> tuple[Query, Explanation]:
    builds: list[tuple[Known, Explanation]] = []
    system = _seen(declared, given)

    def expect(side: Declared, keys: int) -> Known:
        query, explanation = _explained(side, _for_side(side, given), for_builds(options))
        known = expected(query.flows[-1], side.schema, keys)
        builds.append((known, explanation))
        return known

    query = prepared(with_builds(declared, expect), system)
    system = where_it_lies(query, system)
    choice = place(query, system, options)
    left = residuals(query, choice, system)
    return query, explain_choice(
        query, system, choice, left, wish=wish(query, system, options), builds=builds
    )


def record(declared: Declared) -> Counts:
    """Give the counts of a pipeline, with which `wherry.sim.replay` simulates its placements.

    The other sides of its joins run on this machine, to have their rows.
    """
    sides: list[Counts] = []

    def make(side: Declared, keys: int) -> Build:
        sides.append(record(side))
        return build_of(run(side).table, keys)

    return counts_of(sampled(query_of(with_builds(declared, make))), sides)


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
) -> list[tuple[Journey, Result]]:
    chosen = options or Options()
    check_options(chosen, system)
    if system.agents:
        return [agents.run(each, system, chosen, _asking(system, chosen)) for each in declared]
    mine = workers(system, [d.source for d in declared], chosen)
    ask = _asking(system, chosen)
    journeys = [journey_of(d, system, chosen, mine, ask) for d in declared]
    if system.name == THIS_MACHINE:
        ended = [measured(journey) for journey in journeys]
    else:
        ended = modelled(journeys, system, in_flight)
    return [(journey, result) for journey, (result, _) in zip(journeys, ended, strict=True)]


def _asking(system: System, options: Options) -> Ask:
    """Give what runs the other sides of joins: here, if agents do not have their rows."""

    def ask(side: Declared) -> Result:
        where, own = _for_side(side, system), for_builds(options)
        if not where.agents:  # Nobody else is waited for.
            own = replace(own, deadline_s=None)
        return run(side, where, own)

    return ask


def _for_side(side: Declared, system: System) -> System:
    """Give the system that the other side of a join runs on."""
    here = bool(system.agents) and not agents.lies_there(side)
    return agents.beside(system) if here else system


def prepare(
    declared: Declared, system: SystemLike = THIS_MACHINE, options: Options | None = None
) -> Prepared:
    """Run a pipeline on this machine, and give it ready to be answered again."""
    found, chosen = _system(system), options or Options()
    check_options(chosen, found)
    if found.name != THIS_MACHINE:
        raise InputError(
            f"a pipeline is prepared for {THIS_MACHINE}, not for {found.name}; `run` it there"
        )
    mine = workers(found, [declared.source], chosen)
    return prepared_of(journey_of(declared, found, chosen, mine, _asking(found, chosen)))


def stream(
    declared: Declared, system: SystemLike = THIS_MACHINE, options: Options | None = None
) -> Iterator[pa.RecordBatch]:
    """Give the batches of the answer in order, as they are made."""
    found, chosen = _system(system), options or Options()
    check_options(chosen, found)
    if found.name != THIS_MACHINE:
        yield from run(declared, found, chosen).table.to_batches()
        return
    source, apart = declared.source, not any(o.gathers for o in declared.operators)
    if isinstance(source, OneShot) and apart and not source.kept:
        # The other sides of joins are made once, not for every part.
        ready, _ = with_answers(declared, found, _asking(found, chosen))
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


def collect_on(
    declared: Declared,
    device: str,
    system: SystemLike = THIS_MACHINE,
    reader: str | None = None,
) -> DeviceTable:
    """Give the answer of a pipeline in the memory of the card that makes it."""
    return on_card.collect_on(declared, device, _system(system), reader)


def _streamed(declared: Declared, system: System, options: Options) -> Iterator[pa.RecordBatch]:
    mine = workers(system, [declared.source], options)
    found = journey_of(declared, system, options, mine, _asking(system, options))
    for piece in executor_of(found, stream_rows(found.query)).answer(found.machine):
        yield from batches_of(piece)


def _system(system: SystemLike) -> System:
    return system if isinstance(system, System) else load_system(system)


def _seen(declared: Declared, system: SystemLike) -> System:
    """Give a system as it can be used for a pipeline."""
    found = _system(system)
    return agents.seen(declared, found) if found.agents else found


def source_at(system: SystemLike, name: object) -> Source:
    """Give a dataset of a system's agents.

    Raises
    ------
    InputError
        If the system has none, or there is no dataset of that name.
    """
    found = _system(system)
    if not found.agents or not isinstance(name, str):
        raise InputError(
            f"no device of {found.name} is an agent, and only they have datasets by name"
            if isinstance(name, str)
            else f"agents serve datasets by name, not by a {type(name).__name__}"
        )
    return agents.connected(found).source(name)


def names_at(system: System) -> list[str]:
    """Give what the datasets of a system's agents are called."""
    return agents.connected(system).names()


def leave(declared: Declared, system: System, options: Options | None = None) -> list[agents.Left]:
    """Run a pipeline at a system's agents; give where the pieces of its answer lie, in order."""
    chosen = options or Options()
    return agents.leave(declared, system, chosen, _asking(system, chosen))


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
    if found.agents:
        raise InputError(
            f"a query cannot be suspended on {found.name}, whose devices are agents; possible: an "
            "emulated system, or this machine"
        )
    check_options(options, found)
    mine = workers(found, [declared.source], options)
    ready, before = with_answers(declared, found, _asking(found, options))
    ready = as_received(ready)
    query = prepared(ready, found)
    leg, held = begin(query)
    left = query.chunks[len(leg.done) :]
    part = of_chunks(query, left if leg.stop is None else left[: leg.stop])
    going = placed(part, before, (found, mine), options, leg)
    if held is not None:
        stages = going.machine.orders.stages
        last = sum(stage.chunkwise for stage in stages) - 1
        going.carrier.hold((last, BEFORE), held)
    real = found.name == THIS_MACHINE
    result, pieces = measured(going) if real else modelled([going], found)[0]
    builds = builds_in(ready)
    return Carried(query, tuple(pieces), going.machine.through, result, builds)
