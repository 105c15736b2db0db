"""A workload on a system, its joins' other sides included: one row of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from wherry.base.events import Span
from wherry.benchmarks.systems.judge import HOST, ORACLE, PLANNER, Judged, judge
from wherry.devices.system import System
from wherry.plan.rules import RULES
from wherry.sim.recorded import Counts
from wherry.trace.timeline import Timeline
from wherry.trace.usage import usage

NS_PER_S = 1_000_000_000


class Row(Struct, frozen=True):
    """What JSON has of a workload on a system; every time is modelled, in seconds.

    Attributes
    ----------
    placement, oracle_placement : str
        Of the planner's choice, and of the best.
    modelled_s, host_only_s, oracle_s, predicted_s : float
        Of the planner's choice; of the host alone; the least of all; what the planner expected.
    regret : float
        modelled_s / oracle_s - 1.
    rules : mapping of str to float
        The same for the choice of each rule.
    bytes_by_link, host_bytes_by_link : mapping of str to int
        Over each direction of each link, by the planner's choice and by the host alone.
    energy_j, host_energy_j : float
        Of all devices whose draw is known.
    bound_s : float
        However chunks are split over devices, the busiest resource is busy for so long.
    possible, simulated : int
        Placements that nothing refuses, and those that had to be simulated to find the best.
    fixed_s : float
        Of the planner's choice if what is left is never placed anew.
    revisions : tuple of str
        When and how it was, or was not after all.
    """

    workload: str
    system: str
    placement: str
    modelled_s: float
    host_only_s: float
    oracle_s: float
    regret: float
    rules: Mapping[str, float]
    bytes_by_link: Mapping[str, int]
    energy_j: float
    oracle_placement: str
    predicted_s: float
    bound_s: float
    host_bytes_by_link: Mapping[str, int]
    host_energy_j: float
    possible: int
    simulated: int
    fixed_s: float
    revisions: tuple[str, ...]


class Cell(Struct, frozen=True):
    """A row, and what the planner's choice used when, for pictures."""

    row: Row
    spans: tuple[Span, ...]


def cell_of(workload: str, system: System, counts: Counts) -> Cell:
    """Give the cell of a workload; each side of a join is judged by itself, and times add up."""
    queries = list(_in_order(counts))
    judged = [judge(system, query) for query in queries]
    last, text = judged[-1], queries[-1].query.segments
    ns = {
        who: sum(one.run(who).time.ns for one in judged) for who in (PLANNER, HOST, ORACLE, *RULES)
    }
    row = Row(
        workload=workload,
        system=system.name,
        placement=last.placements[PLANNER].describe(text),
        modelled_s=ns[PLANNER] / NS_PER_S,
        host_only_s=ns[HOST] / NS_PER_S,
        oracle_s=ns[ORACLE] / NS_PER_S,
        regret=ns[PLANNER] / ns[ORACLE] - 1,
        rules={name: ns[name] / ns[ORACLE] - 1 for name in RULES},
        bytes_by_link=_link_bytes(judged, PLANNER),
        energy_j=_energy(judged, PLANNER, system),
        oracle_placement=last.placements[ORACLE].describe(text),
        predicted_s=sum(one.predicted_ns for one in judged) / NS_PER_S,
        bound_s=sum(one.bound_ns for one in judged) / NS_PER_S,
        host_bytes_by_link=_link_bytes(judged, HOST),
        host_energy_j=_energy(judged, HOST, system),
        possible=sum(one.possible for one in judged),
        simulated=sum(one.simulated for one in judged),
        fixed_s=sum(one.fixed.time.ns for one in judged) / NS_PER_S,
        revisions=tuple(each.line() for one in judged for each in one.planned.revisions),
    )
    return Cell(row, last.run(PLANNER).spans)


def _in_order(counts: Counts) -> Iterator[Counts]:
    """Give the queries in the order in which they run: a join's other side before it."""
    for side in counts.before:
        yield from _in_order(side)
    yield counts


def _link_bytes(judged: list[Judged], who: str) -> dict[str, int]:
    spans = tuple(span for one in judged for span in one.run(who).spans)
    return Timeline("modelled", spans).link_bytes()


def _energy(judged: list[Judged], who: str, system: System) -> float:
    runs = [one.run(who) for one in judged]
    return sum(usage(run.spans, system, run.time.ns).expense.energy_j for run in runs)
