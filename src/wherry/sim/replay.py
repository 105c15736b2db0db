"""Simulate placements of queries from counts: no program runs, and the time is that of a run."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from wherry.base.events import Span
from wherry.base.units import Modelled
from wherry.devices.system import System
from wherry.ir.build import Known
from wherry.plan.place import host_only, place
from wherry.plan.placement import Placement
from wherry.plan.replan import Decision, Replanner, Revision
from wherry.run.carrier import Count, decided
from wherry.run.commands import (
    ALL,
    ROUTING,
    Accepted,
    Install,
    Installed,
    Missing,
    Orders,
    PieceId,
    Read,
    Replan,
    Route,
    Routed,
    Run,
    Send,
)
from wherry.run.machine import Machine
from wherry.run.orders import orders_of
from wherry.sim.recorded import Counts, Unwritten, chain_of
from wherry.sim.simulator import Flight, simulate

_KEY = bytes(32)


class Replayed(Struct, frozen=True):
    """A simulated run.

    Attributes
    ----------
    time : Modelled
        From the request to the last byte of the answer; what ran before a join is not in it.
    begin_ns : int
        When it began.
    spans : tuple of Span
        What it used.
    revisions : tuple of Revision
        When and how its chunks were sent elsewhere, or were not.
    """

    time: Modelled
    begin_ns: int
    spans: tuple[Span, ...]
    revisions: tuple[Revision, ...] = ()


class Holdings(Struct):
    """What the devices of a system hold: plans and builds, by device and digest."""

    plans: set[tuple[str, bytes]] = field(default_factory=set)
    builds: set[tuple[str, bytes]] = field(default_factory=set)


def replay(
    system: System,
    placement: Placement,
    counts: Counts,
    *,
    cold: bool = False,
    anew: Replanner | None = None,
) -> Replayed:
    """Give the run of one query under a placement, on devices that do nothing else.

    Parameters
    ----------
    anew : Replanner, optional
        Watches the run and places anew what is left; if not given, the placement is fixed.
    """
    return replay_many(system, [(placement, counts)], cold=cold, anew=[anew])[0]


def replay_within(
    system: System, placement: Placement, counts: Counts, until_ns: int
) -> Replayed | None:
    """Give the run of one query under a placement; None if it takes longer than `until_ns`."""
    flight = _flight(system, placement, counts, _holding(system, [counts]), None)
    if not simulate(system, [flight], until_ns=until_ns):
        return None
    return _replayed(flight)


def replay_many(
    system: System,
    queries: Sequence[tuple[Placement, Counts]],
    *,
    in_flight: int = 1,
    arrivals: Sequence[int] = (),
    cold: bool = False,
    anew: Sequence[Replanner | None] = (),
) -> list[Replayed]:
    """Give the runs of queries that share the devices of a system.

    Parameters
    ----------
    in_flight, arrivals
        As `wherry.sim.simulator.simulate` has them.
    cold : bool
        Whether devices lack the plans at first.
    anew : sequence of Replanner or None, optional
        Who places anew what is left of each query; nobody, if not given.
    """
    holdings = Holdings() if cold else _holding(system, [counts for _, counts in queries])
    asked = anew or [None] * len(queries)
    flights = [
        _flight(system, placement, counts, holdings, who)
        for (placement, counts), who in zip(queries, asked, strict=True)
    ]
    simulate(system, flights, in_flight=in_flight, arrivals=arrivals)
    return [_replayed(flight) for flight in flights]


def _holding(system: System, every: Sequence[Counts]) -> Holdings:
    """Give what devices hold that have the plans of queries, and no builds."""
    digests = {counts.query.plan_digest for counts in every}
    return Holdings({(name, digest) for name in system.devices for digest in digests})


def _replayed(flight: Flight) -> Replayed:
    return Replayed(flight.time, flight.begin, tuple(flight.spans), tuple(flight.revisions))


def before(
    system: System, counts: Counts, *, on_host: bool = False, cold: bool = False
) -> Modelled:
    """Give the time of the other sides of a query's joins, placed by the planner or on the host."""
    total = Modelled(0)
    for side in counts.before:
        pins = host_only(side.query, system) if on_host else {}
        chosen = place(side.query, system, pins=pins, cold=cold).chosen.placement
        total += before(system, side, on_host=on_host, cold=cold)
        total += replay(system, chosen, side, cold=cold).time
    return total


def _flight(
    system: System,
    placement: Placement,
    counts: Counts,
    holdings: Holdings,
    anew: Replanner | None,
) -> Flight:
    watch = None if anew is None else anew.watch
    orders = orders_of(counts.query, placement, system, _KEY, watch)
    return Flight(Machine(orders), Recorded(counts, orders, holdings, anew))


class Recorded:
    """What carries a machine's work by saying what it came to before.

    Parameters
    ----------
    counts : Counts
        Of the query.
    orders : Orders
        Of its placement.
    holdings : Holdings
        Shared by all queries on a system.
    anew : Replanner or None
        Who decides how the rest of the chunks go.
    """

    def __init__(
        self, counts: Counts, orders: Orders, holdings: Holdings, anew: Replanner | None = None
    ) -> None:
        stages = orders.stages
        self._counts, self._holdings, self._anew = counts, holdings, anew
        self._plan = counts.query.plan_digest
        self._lacking = [counts.lacking(stage.first, stage.last) for stage in stages]
        self._chains = [chain_of(stages[: number + 1]) for number in range(len(stages))]
        self._merge = next((i for i, stage in enumerate(stages) if not stage.chunkwise), None)
        self._meet = None if self._merge is None else stages[self._merge].site
        self._runs: dict[tuple[int, bool], tuple[Count, ...]] = {}
        self._made: dict[PieceId, Count] = {}
        self._left: set[int] = set()
        self._unwritten: Unwritten = False

    def send(self, command: Send) -> Accepted | Missing:
        """Accept a message if the device has the plan, and the builds that the stage reads."""
        device, stage = command.target, command.stage
        if (device, self._plan) not in self._holdings.plans:
            return Missing(device, stage)
        for digest in self._lacking[stage] if stage != ROUTING else ():
            if (device, digest) not in self._holdings.builds:
                return Missing(device, stage, digest)
        return Accepted(device, stage)

    def shipped(self, command: Install) -> tuple[int, Known | None]:
        """Give the bytes of a plan or build on its way, and what is known of the build."""
        return self._counts.shipped(command.build)

    def install(self, command: Install) -> Installed:
        """Note that the device has it now."""
        if command.build:
            self._holdings.builds.add((command.target, command.build))
        else:
            self._holdings.plans.add((command.target, self._plan))
        return Installed(command.target, command.stage)

    def route(self, command: Route) -> Routed:  # noqa: ARG002
        """Give the chunks that were chosen."""
        return Routed(self._counts.shares)

    def read(self, command: Read) -> int:
        """Give the rows of a share."""
        return sum(ref.rows for ref in command.refs)

    def nbytes(self, piece: PieceId) -> int:
        """Give the bytes of a piece."""
        stage, chunk = piece
        return self._counts.read_bytes(chunk) if stage < 0 else self._made[piece].nbytes

    def run(self, command: Run) -> Count:
        """Give what the run came to."""
        stage, chunk = command.stage, command.chunk
        if chunk == ALL:
            counted = self._whole(stage, command.pieces)
        else:
            # Rows of a chunk that stays where chunks meet wait there to be written.
            leaves = stage + 1 == self._merge and command.device == self._meet
            if leaves:
                self._left.add(chunk)
            counted = self._chunkwise(stage, leaves=leaves)[chunk]
        self._made[stage, chunk] = counted
        return counted

    def replan(self, command: Replan) -> Decision:
        """Decide how the shares that are left go."""
        return decided(None if self._anew is None else self._anew.decide, command)

    def _chunkwise(self, stage: int, *, leaves: bool) -> tuple[Count, ...]:
        found = self._runs.get((stage, leaves))
        if found is None:
            found = self._counts.chunkwise(self._chains[stage], unwritten=leaves)
            self._runs[stage, leaves] = found
        return found

    def _whole(self, stage: int, pieces: tuple[PieceId, ...]) -> Count:
        assert self._merge is not None
        if stage == self._merge:
            met = {chunk in self._left for _, chunk in pieces}
            every = range(len(self._counts.shares))
            mixed = tuple(chunk in self._left for chunk in every)
            self._unwritten = mixed if len(met) > 1 else any(met)
        return self._counts.gathered(self._chains[stage], self._unwritten, self._merge)
