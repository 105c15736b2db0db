"""Run pipelines on systems whose devices are agents; what is lost on the way, others do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from wherry.base.errors import InputError, Retryable
from wherry.devices.system import System
from wherry.devices.this_machine import this_machine
from wherry.devices.topology import Dataset
from wherry.ir.build import Build
from wherry.ops.operator import Declared
from wherry.plan.query import Query
from wherry.run.commands import ROUTING
from wherry.run.installed import installed
from wherry.run.shares import cut_by_home
from wherry.serve.deadline import Overdue, within
from wherry.serve.dial import dial
from wherry.serve.dispatch import Dispatch
from wherry.serve.far import FarSource
from wherry.serve.links import AgentLost, Link
from wherry.serve.live import Live, live
from wherry.serve.remote import RemoteCarrier
from wherry.session.journey import Ask, Before, Journey, Planned, planned, prepared, with_answers
from wherry.session.options import Options
from wherry.session.result import Result
from wherry.session.running import answer_of, modelled, result_of, simulated
from wherry.trace.timeline import Timeline

T = TypeVar("T")

SHARE_ROWS: Final = 1 << 21
"""Rows of a share at most: few enough that every drive of a system has some to begin with, many
enough that asking for them costs little beside the work."""
_TRIES: Final = 3
"""How often a query is begun that agents forget, though none of them is lost."""


def lies_there(declared: Declared) -> bool:
    """Tell whether a pipeline reads a dataset of agents."""
    return isinstance(declared.source, FarSource)


def beside(system: System) -> System:
    """Give where the caller's own tables are run.

    Where agents measure, this machine; where they model their time, a system of the same devices
    in this process, because the times are added up: the tables lie in the memory of its host.
    """
    if not connected(system).emulated:
        return this_machine()
    mine = Dataset(name="*", devices=(system.host,), layout="files")
    return replace(system, agents={}, datasets=(*system.datasets, mine))


def connected(system: System) -> Live:
    """Give a system's connections."""
    return live(system, partial(dial, keys=system.keys))


def seen(declared: Declared, system: System) -> System:
    """Give a system as far as it can be used for a pipeline."""
    return connected(system).seen(_source(declared, system))


def _source(declared: Declared, system: System) -> FarSource:
    source = declared.source
    if not isinstance(source, FarSource):
        names = ", ".join(connected(system).names()) or "none"
        raise InputError(
            f"the agents of {system.name} serve datasets by their names, and {source.name!r} is "
            f"not theirs; scan one with wherry.scan(NAME, system=...); datasets: {names}"
        )
    return source


def run(declared: Declared, system: System, options: Options, ask: Ask) -> tuple[Journey, Result]:
    """Run a pipeline at agents; if one is lost, without it from the beginning.

    Raises
    ------
    AgentLost, Refused
        If what is left cannot answer: the devices and what they did are named.
    Overdue
        If there is a deadline, and it is over.
    Retryable
        If agents forgot what they were to do, or are busy, again and again.
    """

    def finished(journey: Journey, carrier: RemoteCarrier, there: Live) -> Result:
        if there.emulated:
            return modelled([journey], journey.system)[0][0]
        return _measured(journey, carrier)

    return _flown(declared, system, options, ask, finished)


class Left(Struct, frozen=True):
    """A piece of an answer that lies where it was made.

    Attributes
    ----------
    link : Link
        The way to the device that has it.
    ticket : bytes
        For whoever takes it.
    rows, nbytes : int
        Of the piece.
    """

    link: Link
    ticket: bytes
    rows: int
    nbytes: int


def leave(declared: Declared, system: System, options: Options, ask: Ask) -> list[Left]:
    """Run a pipeline at agents as `run` does; give where the answer lies, in order."""

    def finished(journey: Journey, carrier: RemoteCarrier, there: Live) -> list[Left]:
        if there.emulated:
            pieces = simulated(journey)
        else:
            pieces = _dispatch(journey, carrier).carry_out(journey.machine)
        carrier.keep_answer()
        return [
            Left(link, made.ticket, made.rows, made.nbytes) for link, made in carrier.at(pieces)
        ]

    return _flown(declared, system, options, ask, finished)[1]


def _flown(
    declared: Declared,
    system: System,
    options: Options,
    ask: Ask,
    finished: Callable[[Journey, RemoteCarrier, Live], T],
) -> tuple[Journey, T]:
    with within(options.deadline_s):
        source, there = _source(declared, system), connected(system)
        ready, before = with_answers(declared, system, ask)
        tries = len(there.links) + _TRIES
        while True:
            tries -= 1
            try:
                return _once(ready, before, there, (there.seen(source), options), finished)
            except AgentLost as lost:
                link = there.links.get(lost.device)
                if link is None or not link.address or _last(there) or not tries:
                    raise
                link.lose(lost)
            except Overdue:
                raise
            except Retryable as problem:
                # An agent that began anew meanwhile knows nothing of the query; a busy one has
                # been asked often enough.
                if getattr(problem, "again_s", 0.0) or tries <= len(there.links):
                    raise


def _last(there: Live) -> bool:
    return not any(link.address and not link.lost for link in there.links.values())


def _once(
    ready: Declared,
    before: Before,
    there: Live,
    asked: tuple[System, Options],
    finished: Callable[[Journey, RemoteCarrier, Live], T],
) -> tuple[Journey, T]:
    source, (system, options) = ready.source, asked
    assert isinstance(source, FarSource)
    query = prepared(ready, system)
    if not there.emulated:  # modelled time has no tenants but those that a run is told of
        options = msgspec.structs.replace(options, load={**there.load(), **options.load})
    found = planned(query, system, options, key=os.urandom(32), whole=not there.emulated)
    carrier = RemoteCarrier(
        there.links,
        found.machine.orders.continuation,
        plan_bytes=query.plan_bytes,
        directory=source.told,
        builds=found.builds,
        decide=found.decide,
        lacking=_lacking(query, found, cold=options.cold) if there.emulated else None,
        kinds=[
            "+".join(s.kind for s in query.segments[stage.first : stage.last + 1] if s.runs)
            for stage in found.machine.orders.stages
        ],
    )
    journey = Journey(query, found.choice, found.machine, carrier, system, before)
    there.watchman.watch(carrier.query)
    try:
        return journey, finished(journey, carrier, there)
    finally:
        there.watchman.over(carrier.query)
        carrier.release()


def _lacking(query: Query, found: Planned, *, cold: bool) -> Callable[[int], Sequence[bytes]]:
    """Give what devices lack that have seen nothing: builds, and the plan if they are cold."""
    plan, stages = installed(query.plan_bytes), found.machine.orders.stages
    pairs = list(zip(plan.facts.parameters, query.literals, strict=True))

    def lacking(stage: int) -> list[bytes]:
        ends = (0, 0) if stage == ROUTING else (stages[stage].first, stages[stage].last)
        read = plan.read(*ends)
        builds = [
            v.value.digest for p, v in pairs if p.index in read and isinstance(v.value, Build)
        ]
        return [b"", *builds] if cold else builds

    return lacking


def _dispatch(journey: Journey, carrier: RemoteCarrier) -> Dispatch:
    homes = journey.machine.orders.homes
    return Dispatch(carrier, partial(cut_by_home, homes=homes, most_rows=SHARE_ROWS))


def _measured(journey: Journey, carrier: RemoteCarrier) -> Result:
    dispatch = _dispatch(journey, carrier)
    made = dispatch.carry_out(journey.machine)
    answer = answer_of(journey, carrier.answer(made, journey.system.client))
    elapsed = dispatch.elapsed
    timeline = Timeline("measured", tuple(dispatch.spans))
    return result_of(journey, answer, elapsed, timeline, dispatch.revisions)
