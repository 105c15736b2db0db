"""Say where a query would run, why, and why not elsewhere: as values, and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from msgspec import Struct, field

from wherry.base.units import format_bytes, format_ns
from wherry.devices.altered import loaded
from wherry.devices.expense import Expense, expense
from wherry.devices.system import System
from wherry.ir.build import Known
from wherry.plan.breakeven import break_even
from wherry.plan.cost import Cost, readers_of
from wherry.plan.flips import Flip, flips
from wherry.plan.objective import TIME
from wherry.plan.place import Choice, Wish, host_only, place
from wherry.plan.placement import Placement, homes_of, stages_of
from wherry.plan.query import Query
from wherry.plan.terms import Analysis

_OTHERS_SHOWN = 5
_SHOWN_SHARE = 0.01
"""Resources busy for less of the predicted time than this are left to the JSON form."""


class StageExplained(Struct, frozen=True):
    """One stage: where it runs, what it does, and what of it is not native there."""

    segments: tuple[str, ...]
    operators: tuple[str, ...]
    site: str
    devices: tuple[str, ...]
    rows_out: float
    rows_out_low: float
    rows_out_high: float
    residuals: tuple[str, ...]


class CostExplained(Struct, frozen=True):
    """A predicted cost; every time is modelled, in nanoseconds.

    Attributes
    ----------
    score : float
        What the objective comes to, as a share of what it comes to on the host alone.
    """

    placement: str
    modelled_ns: int
    setup_ns: int
    bottleneck: str
    busy_ns: Mapping[str, int]
    fill_ns: int
    barrier_ns: int
    link_bytes: Mapping[str, int]
    score: float


class RefusalExplained(Struct, frozen=True):
    """A site that cannot run a segment, with every reason."""

    segment: str
    site: str
    reasons: tuple[str, ...]


class BuildExplained(Struct, frozen=True):
    """The other side of a join: how it is made, what is expected of it, and where it goes.

    Attributes
    ----------
    rows, nbytes : int
        Expected of its answer.
    memory_bytes : int
        What rows and table take at most on each of `devices`.
    """

    explanation: Explanation
    rows: int
    nbytes: int
    memory_bytes: int
    devices: tuple[str, ...]


class Explanation(Struct, frozen=True):
    """Everything the planner knows of a query on a system.

    Attributes
    ----------
    cold : bool
        Whether installing the plan on the devices is part of every predicted time.
    operators : tuple of str
        The pipeline, one line an operator, as declared.
    possible : int
        Placements that nothing refuses; `others` are the cheapest of those not chosen.
    chunks, chunks_stored : int
        Chunks to be read, and chunks there are.
    rows_sampled : int
        Rows that were looked at to estimate how many pass; 0 if statistics alone tell.
    regret : float
        By how much the placement may take longer than the best, as a share of its time, at the
        ends of the interval of rows that pass.
    stored_bytes, decoded_bytes : int
        About how many bytes come from where they are stored, and are written by decoding them.
    break_even_selectivity : float or None
        Share of rows at which the chosen placement stops being cheaper than the host alone.
    builds : tuple of BuildExplained
        The other sides of joins, which run before this query, one after another; predicted times
        do not include theirs.
    expense : Expense or None
        Predicted energy and money of the chosen placement.
    objective : dict of str to float
        What placements are chosen by, and its weights.
    load : dict of str to float
        What other tenants keep busy; every predicted time counts them.
    flips : tuple of Flip
        The link bandwidths and numbers of cores at which chunks would be worked on elsewhere.
    analysis : Analysis or None
        Predicted against actual, if the query was run for it.
    """

    system: str
    cold: bool
    operators: tuple[str, ...]
    chunks: int
    chunks_stored: int
    rows_scanned: float
    rows_sampled: int
    regret: float
    stored_bytes: int
    decoded_bytes: int
    stages: tuple[StageExplained, ...]
    chosen: CostExplained
    host_only: CostExplained
    others: tuple[CostExplained, ...]
    possible: int
    refused: tuple[RefusalExplained, ...]
    break_even_selectivity: float | None
    builds: tuple[BuildExplained, ...] = ()
    expense: Expense | None = None
    objective: Mapping[str, float] = field(default_factory=lambda: dict(TIME))
    load: Mapping[str, float] = field(default_factory=dict)
    flips: tuple[Flip, ...] = ()
    analysis: Analysis | None = None

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def explain(
    query: Query,
    system: System,
    choice: Choice,
    residuals: Sequence[tuple[str, ...]],
    *,
    wish: Wish | None = None,
    builds: Sequence[tuple[Known, Explanation]] = (),
) -> Explanation:
    """Give the explanation of a choice.

    Parameters
    ----------
    residuals : sequence of tuple of str
        For each stage, what of its program is not native and why; programs are rendered above
        this layer.
    wish : Wish, optional
        How the choice was made.
    builds : sequence of (Known, Explanation)
        What is expected of the other sides of joins, and how they are made.
    """
    wish = wish or Wish()
    system, cold, score = loaded(system, dict(wish.load)), wish.cold, choice.score
    baseline = _baseline(query, system, cold=cold)
    alone = max(1, score.of(baseline[1]))
    placement = choice.chosen.placement
    even = None
    if baseline[0] != placement:
        even = break_even(query, system, placement, baseline[0], cold=cold, score=score)

    def told(of: Placement, cost: Cost) -> CostExplained:
        return _cost(query, of, cost, score.of(cost) / alone)

    return Explanation(
        system=system.name,
        cold=cold,
        operators=(query.scan.describe(), *(o.describe() for o in query.operators)),
        chunks=len(query.chunks),
        chunks_stored=len(query.scan.source.chunks()),
        rows_scanned=query.flows[0].rows,
        rows_sampled=query.sampled,
        regret=choice.regret,
        stored_bytes=query.reading.media_bytes * len(query.chunks),
        decoded_bytes=query.reading.decoded_bytes * len(query.chunks),
        stages=_stages(query, system, choice, residuals),
        chosen=told(choice.chosen.placement, choice.chosen.cost),
        host_only=told(*baseline),
        others=tuple(told(a.placement, a.cost) for a in choice.others),
        possible=choice.possible,
        refused=tuple(
            RefusalExplained(segment.kind, site, reasons)
            for segment, sites in zip(query.segments, choice.refused, strict=True)
            for site, reasons in sites.items()
        ),
        break_even_selectivity=even,
        builds=_builds(query, system, placement, builds),
        expense=_expense(system, choice.chosen.cost),
        objective=dict(wish.weights),
        load=dict(wish.load),
        flips=flips(query, system, choice, wish),
    )


def _expense(system: System, cost: Cost) -> Expense:
    whole, busy = max(1, cost.time.ns), {}
    for name, profile in system.devices.items():
        working = "cores" if profile.runs_programs else "media"
        busy[name] = Fraction(cost.used(f"{working} {name}"), whole)
    return expense(system, busy, cost.time.ns)


def _builds(
    query: Query,
    system: System,
    placement: Placement,
    builds: Sequence[tuple[Known, Explanation]],
) -> tuple[BuildExplained, ...]:
    readers = readers_of(query, homes_of(query, system), stages_of(query.segments, placement))
    return tuple(
        BuildExplained(
            explanation=made,
            rows=build.rows,
            nbytes=build.nbytes,
            memory_bytes=build.table_bytes,
            devices=tuple(device for device, read in readers.items() if build in read),
        )
        for build, made in builds
    )


def _baseline(query: Query, system: System, *, cold: bool) -> tuple[Placement, Cost]:
    chosen = place(query, system, pins=host_only(query, system), cold=cold).chosen
    return chosen.placement, chosen.cost


def _stages(
    query: Query, system: System, choice: Choice, residuals: Sequence[tuple[str, ...]]
) -> tuple[StageExplained, ...]:
    homes = homes_of(query, system)
    found = []
    for stage, left in zip(
        stages_of(query.segments, choice.chosen.placement), residuals, strict=True
    ):
        segments = query.segments[stage.first : stage.last + 1]
        flow = query.flows[stage.last]
        found.append(
            StageExplained(
                segments=tuple(segment.kind for segment in segments),
                operators=tuple(dict.fromkeys(o for s in segments for o in s.operators)),
                site=stage.site,
                devices=tuple(dict.fromkeys(homes.device(stage.site, h) for h in homes.devices)),
                rows_out=flow.rows,
                rows_out_low=flow.rows_low,
                rows_out_high=flow.rows_high,
                residuals=left,
            )
        )
    return tuple(found)


def _cost(query: Query, placement: Placement, cost: Cost, score: float) -> CostExplained:
    return CostExplained(
        placement=placement.describe(query.segments),
        modelled_ns=cost.time.ns,
        setup_ns=cost.setup,
        bottleneck=cost.bottleneck,
        busy_ns=cost.busy,
        fill_ns=cost.fill,
        barrier_ns=cost.barrier,
        link_bytes=cost.link_bytes,
        score=score,
    )


def _lines(e: Explanation) -> list[str]:
    lines = _plan_lines(e)
    lines += [f"{name} is busy for {share:.0%} with others" for name, share in e.load.items()]
    if e.objective != dict(TIME):
        lines.append(f"chosen by {_weighed(e.objective)}")
    lines.append(f"programs {'to be installed first' if e.cold else 'installed before'}")
    if e.expense is not None and e.expense.energy:
        first, *more = e.expense.lines()
        lines += [f"spends {first}", *(f"  {line}" for line in more)]
    if e.regret > 0:
        worse = "slower" if e.objective == dict(TIME) else "worse"
        lines.append(
            f"at most {e.regret:.1%} {worse} than the best, if so many rows pass (modelled)"
        )
    lines += _comparison(e)
    lines += [
        f"refused: {refusal.segment} at {refusal.site}: {'; '.join(refusal.reasons)}"
        for refusal in e.refused
    ]
    return lines if e.analysis is None else [*lines, *e.analysis.lines()]


def _weighed(objective: Mapping[str, float]) -> str:
    if len(objective) == 1:
        return next(iter(objective))
    shares = " + ".join(f"{weight:g} x {name}" for name, weight in objective.items())
    return f"{shares}, each as a share of the host's alone"


def _plan_lines(e: Explanation) -> list[str]:
    """Give what runs where, the other sides of joins included, without what does not."""
    lines = [f"on {e.system}: {e.chosen.placement}"]
    lines += [f"{'  ' * depth}{'└ ' if depth else ''}{o}" for depth, o in enumerate(e.operators)]
    lines.append(f"reads {e.chunks} of {e.chunks_stored} chunks, {e.rows_scanned:,.0f} rows")
    if e.decoded_bytes:
        decoded, stored = format_bytes(e.decoded_bytes), format_bytes(e.stored_bytes)
        lines.append(f"decodes about {decoded} of {stored} as stored")
    for index, stage in enumerate(e.stages):
        lines += _stage_lines(index, stage, e.rows_sampled)
    lines += _cost_lines(e.chosen)
    return lines + [line for build in e.builds for line in _build_lines(build)]


def _build_lines(build: BuildExplained) -> list[str]:
    most = format_bytes(build.memory_bytes)
    first = (
        f"joins with about {build.rows:,} rows ({format_bytes(build.nbytes)}, with their table at "
        f"most {most}) on {', '.join(build.devices)}, made before:"
    )
    return [first, *(f"  {line}" for line in _plan_lines(build.explanation))]


def _stage_lines(index: int, stage: StageExplained, sampled: int) -> list[str]:
    spread = f"{stage.rows_out_low:,.0f} to {stage.rows_out_high:,.0f}"
    exact = stage.rows_out_low == stage.rows_out_high
    known = f"{spread}; {sampled:,} rows sampled" if sampled else f"surely {spread}"
    lines = [
        f"stage {index} [{' + '.join(stage.segments)}] on {', '.join(stage.devices)}: "
        f"{', '.join(stage.operators)}; {stage.rows_out:,.0f} rows out"
        + ("" if exact else f" ({known})")
    ]
    return lines + [f"  through pyarrow: {reason}" for reason in stage.residuals]


def _cost_lines(cost: CostExplained) -> list[str]:
    lines = [
        (
            f"predicted {format_ns(cost.modelled_ns)} modelled = "
            f"setup {format_ns(cost.setup_ns)} + "
            f"{cost.bottleneck} {format_ns(cost.busy_ns.get(cost.bottleneck, 0))} + "
            f"fill {format_ns(cost.fill_ns)} + barrier {format_ns(cost.barrier_ns)}"
        )
    ]
    lines += [
        f"  busy {name}: {format_ns(ns)} modelled"
        for name, ns in cost.busy_ns.items()
        if ns >= _SHOWN_SHARE * cost.modelled_ns
    ]
    return lines + [
        f"  {name}: {format_bytes(nbytes)}" for name, nbytes in sorted(cost.link_bytes.items())
    ]


def _comparison(e: Explanation) -> list[str]:
    lines = []
    if e.host_only.placement != e.chosen.placement:
        ratio = e.host_only.modelled_ns / max(1, e.chosen.modelled_ns)
        lines.append(
            f"host alone: {format_ns(e.host_only.modelled_ns)} modelled, {ratio:.2f} times as long"
        )
    if e.break_even_selectivity is not None:
        lines.append(
            f"pays while less than {e.break_even_selectivity:.1%} of the rows pass (modelled)"
        )
    lines += [flip.line() for flip in e.flips]
    by_time = e.objective == dict(TIME)
    lines += [
        f"not {o.placement}: {format_ns(o.modelled_ns)} modelled, held by {o.bottleneck}"
        + (
            ""
            if by_time
            else f"; comes to {o.score / max(e.chosen.score, 1e-12):.3f} times as much"
        )
        for o in e.others[:_OTHERS_SHOWN]
    ]
    dearer = e.possible - 1 - min(_OTHERS_SHOWN, len(e.others))
    if dearer:
        lines.append(f"and {dearer} dearer placements")
    return lines
