"""One query with everything its run needs: prepared, placed, and what carries it out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import Refused
from wherry.base.units import Measured, Time
from wherry.data.segment import SegmentPool
from wherry.data.source import Source
from wherry.devices.emulated import EmulatedDriver
from wherry.devices.here import HereDriver
from wherry.devices.system import System
from wherry.devices.this_machine import THIS_MACHINE, card_names
from wherry.ir.build import Build, build_of
from wherry.ops.operator import Declared
from wherry.plan.joins import with_builds
from wherry.plan.objective import weights_of
from wherry.plan.place import Choice, Wish, choice_for, host_only
from wherry.plan.placement import stages_of
from wherry.plan.query import Query, prepare
from wherry.plan.replan import Decide, replanner
from wherry.plan.sample import sampled
from wherry.run.carrier import Carrier
from wherry.run.installed import program_of
from wherry.run.machine import Machine
from wherry.run.orders import WHOLE, Leg, orders_of
from wherry.run.worker import Worker
from wherry.serve.remote import RemoteCarrier
from wherry.session.cards import card, unable, where_it_lies
from wherry.session.options import HOST_ONLY, Options
from wherry.session.result import Result


def prepared(declared: Declared, system: System) -> Query:
    """Give the query, sizes sampled if there is a choice of devices that hangs on them."""
    query = query_of(declared)
    able = sum(profile.runs_programs for profile in system.devices.values())
    return sampled(query) if able > 1 else query


def query_of(declared: Declared) -> Query:
    """Give the query of a pipeline."""
    return prepare(declared.source, declared.operators, declared.schema)


def place(query: Query, system: System, options: Options) -> Choice:
    """Choose where a query runs."""
    return choice_for(query, system, wish(query, system, options))


def wish(query: Query, system: System, options: Options) -> Wish:
    """Give what is asked of a placement."""
    pins = options.pins
    found = Wish.of(
        host_only(query, system) if pins == HOST_ONLY else pins,
        cold=options.cold,
        weights=weights_of(options.objective),
        load=options.load,
    )
    lacking = unable(query, system)
    return replace(found, unable=lacking) if lacking else found


def residuals(query: Query, choice: Choice, system: System) -> list[tuple[str, ...]]:
    """Give what of each stage has no native program; cards run nothing else."""
    stages, own = stages_of(query.segments, choice.chosen.placement), card_names(system)
    return [
        () if s.site in own else program_of(query.plan, s.first, s.last).residuals for s in stages
    ]


class Before(Struct, frozen=True):
    """What ran before a query: the other sides of its joins, and the time until each was ready."""

    results: list[Result] = field(default_factory=list)
    times: list[Time] = field(default_factory=list)

    def then(self, time: Time) -> Time:
        """Give the time of everything, the query's own being `time`."""
        for earlier in self.times:
            time = time + earlier  # type: ignore[operator]
        return time


class Journey(Struct, frozen=True):
    """One query with everything its run needs."""

    query: Query
    choice: Choice
    machine: Machine
    carrier: Carrier | RemoteCarrier
    system: System
    before: Before

    @property
    def placement(self) -> str:
        """Which site runs each segment."""
        return self.choice.chosen.placement.describe(self.query.segments)


Ask = Callable[[Declared], Result]
"""Runs the other side of a join, a query of its own."""


def with_answers(declared: Declared, system: System, ask: Ask) -> tuple[Declared, Before]:
    """Run the other sides of all joins; give the pipeline that has their answers as constants."""
    before = Before()
    real = system.name == THIS_MACHINE

    def make(side: Declared, keys: int) -> Build:
        result = ask(side)
        start = time.perf_counter_ns()
        build = build_of(result.table, keys, os.urandom(16) if real else b"")
        took = result.time
        if isinstance(took, Measured):
            took = took + Measured(time.perf_counter_ns() - start)
        before.results.append(result)
        before.times.append(took)
        return build

    return with_builds(declared, make), before


class Planned(Struct, frozen=True):
    """A query that was placed: its machine, and what carries it out needs besides."""

    query: Query
    choice: Choice
    machine: Machine
    builds: dict[bytes, Build]
    decide: Decide | None


def planned(
    query: Query, system: System, options: Options, leg: Leg = WHOLE, *, key: bytes, whole: bool
) -> Planned:
    """Place a query, and give the machine that says what is to be done.

    Parameters
    ----------
    key : bytes
        Seals its messages.
    whole : bool
        Whether a share keeps all cores of a device busy (`wherry.run.orders`).
    """
    choice = place(query, system, options)
    if options.strict:
        left = [reason for stage in residuals(query, choice, system) for reason in stage]
        if left:
            raise Refused("strict: part of the query has no native program", left)
    anew = replanner(query, system, choice, wish(query, system, options))
    watch = None if anew is None else anew.watch
    placement = choice.chosen.placement
    orders = orders_of(query, placement, system, key, watch, leg=leg, whole=whole)
    builds = {v.value.digest: v.value for v in query.literals if isinstance(v.value, Build)}
    decide = None if anew is None else anew.decide
    return Planned(query, choice, Machine(orders), builds, decide)


def journey_of(
    declared: Declared,
    system: System,
    options: Options,
    workers: Mapping[str, Worker],
    ask: Ask,
) -> Journey:
    """Give a pipeline ready to run, its joins' other sides having run."""
    ready, before = with_answers(declared, system, ask)
    return placed(prepared(ready, system), before, (system, workers), options)


def placed(
    query: Query,
    before: Before,
    where: tuple[System, Mapping[str, Worker]],
    options: Options,
    leg: Leg = WHOLE,
) -> Journey:
    """Give a query ready to run in this process."""
    system, workers = where_it_lies(query, where[0]), where[1]
    if not options.cold:
        for worker in workers.values():
            worker.install(query.plan_bytes)
    key = next(iter(workers.values())).key
    real = system.name == THIS_MACHINE
    found = planned(query, system, options, leg, key=key, whole=real)
    carrier = Carrier(
        workers, query.plan_bytes, found.builds, by_reference=real, decide=found.decide
    )
    return Journey(query, found.choice, found.machine, carrier, system, before)


def workers(system: System, sources: Iterable[Source], options: Options) -> dict[str, Worker]:
    """Give a worker for every device; all read the same datasets and share a fresh key."""
    key = os.urandom(32)
    datasets = tuple({(s.name, s.fingerprint): s for s in sources}.values())
    real, own = system.name == THIS_MACHINE, card_names(system)
    on_card = partial(card, reader=options.reader, strict=options.strict)
    return {
        name: Worker(
            HereDriver(name, profile) if real else EmulatedDriver(name, profile),
            datasets,
            key,
            segments(),
            card=partial(on_card, name) if name in own else None,
        )
        for name, profile in system.devices.items()
    }


@cache
def segments() -> SegmentPool:
    """Give the pool of this process."""
    return SegmentPool()
