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
from wherry.run.machine import (
    ALL,
    ROUTING,
    Accepted,
    Install,
    Installed,
    Machine,
    Missing,
    Orders,
    PieceId,
    Read,
    Route,
    Routed,
    Run,
    Send,
    device_of,
    ways_of,
)
from wherry.run.orders import orders_of
from wherry.sim.recorded import Chain, Count, Counts, Unwritten, chain_of
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
    """

    time: Modelled
    begin_ns: int
    spans: tuple[Span, ...]


class Holdings(Struct):
    """What the devices of a system hold: plans and builds, by device and digest."""

    plans: set[tuple[str, bytes]] = field(default_factory=set)
    builds: set[tuple[str, bytes]] = field(default_factory=set)


def replay(system: System, placement: Placement, counts: Counts, *, cold: bool = False) -> Replayed:
    """Give the run of one query under a placement, on devices that do nothing else."""
    return replay_many(system, [(placement, counts)], cold=cold)[0]


def replay_many(
    system: System,
    queries: Sequence[tuple[Placement, Counts]],
    *,
    in_flight: int = 1,
    arrivals: Sequence[int] = (),
    cold: bool = False,
) -> list[Replayed]:
    """Give the runs of queries that share the devices of a system.

    Parameters
    ----------
    in_flight, arrivals
        As `wherry.sim.simulator.simulate` has them.
    cold : bool
        Whether devices lack the plans at first.
    """
    holdings = Holdings()
    if not cold:
        digests = {counts.query.plan_digest for _, counts in queries}
        holdings.plans.update((name, digest) for name in system.devices for digest in digests)
    flights = [_flight(system, placement, counts, holdings) for placement, counts in queries]
    simulate(system, flights, in_flight=in_flight, arrivals=arrivals)
    return [Replayed(flight.time, flight.begin, tuple(flight.spans)) for flight in flights]


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


def _flight(system: System, placement: Placement, counts: Counts, holdings: Holdings) -> Flight:
    orders = orders_of(counts.query, placement, system, _KEY)
    return Flight(Machine(orders), Recorded(counts, orders, holdings))


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
    """

    def __init__(self, counts: Counts, orders: Orders, holdings: Holdings) -> None:
        stages = orders.stages
        self._counts, self._holdings = counts, holdings
        self._plan = counts.query.plan_digest
        self._lacking = [counts.lacking(stage.first, stage.last) for stage in stages]
        merge = next((i for i, stage in enumerate(stages) if not stage.chunkwise), None)
        unwritten = _unwritten(counts, orders, merge)
        self._runs: list[tuple[Count, ...]] = []
        self._whole: dict[int, Count] = {}
        for number in range(len(stages)):
            chain = chain_of(stages[: number + 1])
            if merge is None or number < merge:
                leaves = unwritten if number + 1 == merge else False
                self._runs.append(_chunk_counts(counts, chain, leaves))
            else:
                self._whole[number] = counts.gathered(chain, unwritten, merge)

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
        if stage < 0:
            return self._counts.read_bytes(chunk)
        return (self._whole[stage] if chunk == ALL else self._runs[stage][chunk]).nbytes

    def run(self, command: Run) -> Count:
        """Give what the run came to."""
        if command.chunk == ALL:
            return self._whole[command.stage]
        return self._runs[command.stage][command.chunk]


def _unwritten(counts: Counts, orders: Orders, merge: int | None) -> Unwritten:
    """Give which chunks stay where they meet, so that their rows may wait to be written."""
    if merge is None:
        return False
    last, site = merge - 1, orders.stages[merge].site
    ways = ways_of(orders, counts.shares)
    each = tuple(
        device_of(orders, share, way, last) == site
        for share, way in zip(counts.shares, ways, strict=True)
    )
    return each if len(set(each)) > 1 else any(each)


def _chunk_counts(counts: Counts, chain: Chain, unwritten: Unwritten) -> tuple[Count, ...]:
    """Give the counts of every chunk, each with its rows written or not."""
    if isinstance(unwritten, bool):
        return counts.chunkwise(chain, unwritten=unwritten)
    ways = counts.chunkwise(chain, unwritten=False), counts.chunkwise(chain, unwritten=True)
    return tuple(ways[leaves][chunk] for chunk, leaves in enumerate(unwritten))
