"""What a run came to, term by term of the cost that was predicted for it.

Setup lasts until the first read or program of a chunk begins; the barrier from the last program
that works on chunks by themselves (or, if nothing is merged, from the last one) to the end. A
resource is busy for what its spans take of all its units. Fill is what is left of the total, so
actual terms add up as predicted ones do: setup + busiest resource + fill + barrier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wherry.base.events import Span
from wherry.base.units import Time
from wherry.devices.system import System
from wherry.plan.place import Alternative
from wherry.plan.placement import Stage, stages_of
from wherry.plan.query import Query
from wherry.plan.replan import Revision
from wherry.plan.terms import Analysis, Term
from wherry.trace.timeline import Timeline
from wherry.trace.usage import used_ns

_SHADOWS = ("window ", "bandwidth ")
"""Resources that hold a run and leave no spans: chunks on their way at once, memory bandwidth."""


def analysis(
    query: Query,
    system: System,
    chosen: Alternative,
    timeline: Timeline,
    *,
    time: Time,
    before_ns: int = 0,
    revisions: Sequence[Revision] = (),
) -> Analysis:
    """Give predicted against actual for a run of a query.

    Parameters
    ----------
    chosen : Alternative
        What ran, and the cost that was predicted for it.
    time : Modelled or Measured
        Of the run, what ran before it not included.
    before_ns : int
        Of that.
    revisions : sequence of Revision
        What was decided anew during the run.
    """
    placement, cost = chosen.placement, chosen.cost
    stages = stages_of(query.segments, placement)
    spans = [span for span in timeline.spans if span.kind != "hold"]
    busy = _busy(used_ns(spans, system), system)
    setup, barrier = _begin(spans), time.ns - _met(spans, stages, time.ns)
    fill = time.ns - setup - barrier - max(busy.values(), default=0)
    terms = [
        Term("setup", "", "ns", cost.setup, setup),
        *(Term("busy", name, "ns", *pair) for name, pair in _beside(cost.busy, busy).items()),
        Term("fill", "", "ns", cost.fill, fill),
        Term("barrier", "", "ns", cost.barrier, barrier),
        Term("total", "", "ns", cost.time.ns, time.ns),
    ]
    sent = timeline.link_bytes()
    for name in sorted({*cost.link_bytes, *sent}):
        predicted, actual = cost.link_bytes.get(name, 0), sent.get(name, 0)
        terms.append(Term("link", name, "bytes", predicted, actual))
    for number, stage in enumerate(stages):
        made = sum(s.rows for s in spans if s.kind == "run" and s.stage == number)
        kinds = " + ".join(s.kind for s in query.segments[stage.first : stage.last + 1])
        terms.append(Term("rows", f"{number} {kinds}", "rows", query.flows[stage.last].rows, made))
    described = placement.describe(query.segments)
    return Analysis(timeline.origin, described, tuple(terms), before_ns, tuple(revisions))


def _beside(
    predicted: Mapping[str, int], actual: Mapping[str, int]
) -> dict[str, tuple[int, int | None]]:
    """Give each resource's busy time, predicted and actual, the busiest first."""
    names = {*predicted, *actual}
    found = {
        name: (
            predicted.get(name, 0),
            None if name.startswith(_SHADOWS) else actual.get(name, 0),
        )
        for name in names
    }
    return dict(
        sorted(found.items(), key=lambda pair: (-max(pair[1][0], pair[1][1] or 0), pair[0]))
    )


def _busy(used: Mapping[str, int], system: System) -> dict[str, int]:
    """Give busy times by the names that predictions have: both ways of a half-duplex link once."""
    half = {
        f"link {a}->{b}": f"link {'<->'.join(link.ends)}"
        for link in system.links
        if link.duplex == "half"
        for a, b in (link.ends, link.ends[::-1])
    }
    found: dict[str, int] = {}
    for name, ns in used.items():
        of = half.get(name, name)
        found[of] = found.get(of, 0) + ns
    return found


def _begin(spans: Sequence[Span]) -> int:
    chunks = [span.start_ns for span in spans if span.kind in {"read", "run"}]
    return min(chunks, default=0)


def _met(spans: Sequence[Span], stages: Sequence[Stage], end: int) -> int:
    """Give when the last chunk was through by itself."""
    apart = {number for number, stage in enumerate(stages) if stage.chunkwise}
    through = [span.end_ns for span in spans if span.kind == "run" and span.stage in apart]
    if len(apart) < len(stages):
        # On its way to where chunks meet, a chunk is not through.
        meets = len(apart)
        through += [s.end_ns for s in spans if s.kind == "move" and s.stage == meets]
    return max(through, default=end)
