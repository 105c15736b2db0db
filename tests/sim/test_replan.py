"""Placing anew what is left: faster where the estimate lies, and no slower where it is right."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.runs import emulated, query_of
from support.skewed import PASSING, SHAPES, skewed, slow_drives

from wherry import Pipeline, col, count, scan
from wherry.devices.system import System, load_system
from wherry.devices.this_machine import THIS_MACHINE
from wherry.plan import replan
from wherry.plan.place import Wish, choice_for
from wherry.plan.query import Query, near_flow
from wherry.plan.replan import MARGIN, Replanner, replanner
from wherry.plan.sample import sampled
from wherry.plan.watch import Seen
from wherry.session import record, run
from wherry.sim.recorded import Counts
from wherry.sim.recorded import record as counts_of
from wherry.sim.replay import Replayed, replay

KINDS = {
    "rows": lambda rows: rows.filter(PASSING),
    "groups": lambda rows: rows.filter(PASSING).group_by("v0").agg(n=count()),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pipeline]:
    return {shape: skewed(tmp_path_factory.mktemp(shape), shape) for shape in SHAPES}


def both(query: Query, system: System, counts: Counts | None = None) -> tuple[Replayed, Replayed]:
    """Give the run of the planner's placement, fixed, and placed anew where that pays."""
    counts, choice = counts or counts_of(query), choice_for(query, system, Wish())
    anew = replanner(query, system, choice, Wish())
    placement = choice.chosen.placement
    return replay(system, placement, counts), replay(system, placement, counts, anew=anew)


def switches(run: Replayed) -> int:
    return sum(revision.decision.ways is not None for revision in run.revisions)


@pytest.mark.parametrize(
    ("kind", "factor"), [("rows", 0.2), ("rows", 0.5), ("groups", 0.1), ("groups", 0.2)]
)
def test_statistics_that_guess_wrong_are_made_good(tables, kind, factor):
    """Bounds say that half of the rows pass, and none does; nobody looked at any."""
    query = query_of(KINDS[kind](tables["none"]))
    assert not query.sampled
    fixed, anew = both(query, slow_drives(factor))
    assert switches(anew) == 1
    assert anew.time.ns < 0.85 * fixed.time.ns
    (revision,) = anew.revisions
    seen = revision.decision.seen
    assert seen.high < 0.01 < seen.planned_low == pytest.approx(0.5, abs=0.02)
    assert f"replanned after {seen.chunks} chunks" in revision.line()
    assert revision.decision.before != revision.decision.after


def test_rows_that_lie_in_order_are_seen_coming(tables):
    """Half of the rows pass, as the sample says, but those that do lie together."""
    query = sampled(query_of(KINDS["rows"](tables["falling"])))
    fixed, anew = both(query, slow_drives(0.7))
    assert switches(anew) == 1
    assert anew.time.ns < 0.96 * fixed.time.ns


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_where_the_estimate_is_right_little_is_lost(tables, shape, kind):
    """Of what was sampled: nothing if rows are spread evenly, else less than the margin."""
    query = sampled(query_of(KINDS[kind](tables[shape])))
    counts = counts_of(query)
    for factor in (0.1, 0.35, 0.5, 1.0):
        fixed, anew = both(query, slow_drives(factor), counts)
        assert anew.time.ns <= (1 + MARGIN) * fixed.time.ns
        if shape in {"none", "all", "half"}:
            assert (anew.time, anew.revisions) == (fixed.time, ())


def test_a_sample_that_lies_is_not_believed_for_long(tables):
    """The sample saw rows in every run, and none passes."""
    query = sampled(query_of(KINDS["groups"](tables["none"])))
    near = near_flow(query)
    rows = query.flows[0].rows
    told = replace(near, rows_low=0.3 * rows, rows=0.4 * rows, rows_high=0.5 * rows)
    place = [segment.kind for segment in query.segments].index("near")
    flows = (*query.flows[:place], told, *query.flows[place + 1 :])
    lying = replan.with_near(replace(query, flows=flows, known={}), told)
    fixed, anew = both(lying, slow_drives(0.1))
    assert anew.revisions
    assert anew.time.ns <= (1 + MARGIN) * fixed.time.ns


def test_the_rate_is_of_what_came_out(tables, monkeypatch):
    """Whoever ignores what was seen, and keeps the estimate, has no reason to go elsewhere."""
    query, system = query_of(KINDS["groups"](tables["none"])), slow_drives(0.2)
    fixed, anew = both(query, system)
    planned = near_flow(query).rows / query.flows[0].rows
    monkeypatch.setattr(replan, "_shares", lambda *_: [planned])
    blind = both(query, system)[1]
    assert switches(blind) == 0 < switches(anew)
    assert anew.time.ns < 0.8 * blind.time.ns
    assert blind.time.ns == fixed.time.ns


def test_a_run_is_the_replay_of_its_counts_to_the_nanosecond(tables):
    pipeline, system = KINDS["rows"](tables["falling"]), slow_drives(0.7)
    result, again = run(pipeline, system), run(pipeline, system)
    assert result.revisions
    assert (result.time, result.timeline, result.revisions) == (
        again.time,
        again.timeline,
        again.revisions,
    )
    replayed = both(record(pipeline).query, system, record(pipeline))[1]
    assert (replayed.time, replayed.spans) == (result.time, result.timeline.spans)
    assert replayed.revisions == result.revisions
    assert result.table.equals(run(pipeline).table)


def test_a_revision_is_told_and_timed(tables):
    pipeline, system = KINDS["rows"](tables["falling"]), slow_drives(0.7)
    explanation = pipeline.explain(system=system, analyze=True)
    told = explanation.analysis.revisions
    assert told == run(pipeline, system).revisions
    assert all(revision.line() in str(explanation) for revision in told)
    spans = [span for span in run(pipeline, system).timeline.spans if span.kind == "replan"]
    assert [span.end_ns for span in spans] == [revision.at.ns for revision in told]
    stays, goes = (
        next(r for r in told if (r.decision.ways is None) == same) for same in (True, False)
    )
    assert "stay with" in stays.line()
    assert "instead of" in goes.line()


def watched(pipeline: Pipeline, system: System, *, sample: bool = False) -> Replanner | None:
    query = query_of(pipeline)
    query = sampled(query) if sample else query
    return replanner(query, system, choice_for(query, system, Wish()), Wish())


def test_what_is_known_or_has_no_other_way_is_not_watched(tables):
    rows, system = tables["half"], emulated()
    assert watched(rows.filter(PASSING), system) is not None
    assert watched(rows.select("v0"), system) is None
    assert watched(rows.filter(PASSING), load_system(THIS_MACHINE)) is None
    joined = rows.filter(PASSING).join(scan(rows.collect().slice(0, 9)), on="v0")
    query = record(joined.agg(n=count())).query
    assert replanner(query, system, choice_for(query, system, Wish()), Wish()) is None


def test_a_filter_below_totals_is_seen_by_what_it_selects(tables):
    anew = watched(tables["half"].filter(PASSING).agg(v=col("v0").sum()), emulated())
    assert anew is not None
    assert anew.watch.selects
    rows = watched(tables["half"].filter(PASSING), emulated())
    assert rows is not None
    assert not rows.watch.selects


def seen(query: Query, *, share: float, mean: float, part: float) -> Seen:
    """Give what is seen if `mean` of a part of all rows came out, and `share` of the last ones."""
    given = round(query.flows[0].rows * part)
    planned = near_flow(query).rows / query.flows[0].rows
    return Seen(
        chunks=9, rows_in=given, rows_out=round(given * mean), low=share, share=share, high=share,
        mean=mean, planned_low=planned, planned_high=planned,
    )  # fmt: skip


def test_the_worlds_are_what_was_seen_and_what_makes_up_for_it(tables):
    guessed = query_of(KINDS["rows"](tables["falling"]))
    known = sampled(guessed)
    half = near_flow(known).rows / known.flows[0].rows
    early = seen(known, share=0.9, mean=0.8, part=0.25)
    assert replan._shares(guessed, early) == [0.9, 0.8]
    made_up = (half - 0.25 * 0.8) / 0.75
    assert replan._shares(known, early) == pytest.approx([0.9, made_up], abs=1e-3)
    # Three quarters of the rows passed, and all that were sampled are no more than 62 %.
    late = seen(known, share=1.0, mean=1.0, part=0.75)
    assert replan._shares(known, late) == [1.0, 1.0]
    none = seen(known, share=0.0, mean=0.0, part=0.75)
    assert replan._shares(known, none) == [0.0, 0.0]
