"""A run that stops after any chunk and goes on elsewhere gives the answer of one that never did."""

from collections.abc import Iterator, Sequence
from itertools import count as numbers
from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from support.compare import assert_same, rows_of
from support.pipelines import Relation, drawn_pipeline
from support.tables import ROW, drawn_table, stored

from wherry import InputError, Pipeline, Suspended, col, count, scan
from wherry.base.units import Measured, Modelled
from wherry.ops.join import Join
from wherry.session import Result
from wherry.testing import cases, check_rows

KEY = b"a key that both sides have"
SYSTEMS = ("this-machine", "dpu-csd-host", "gpu-direct-host", "rack-16")
CASES = list(cases())
SOAK = settings().max_examples > 1000
CHUNKS, ROWS = 12, 300


def rows() -> Pipeline:
    """Give rows of every sort of column: few keys, many keys, floats, texts, codes, nulls."""
    every = range(CHUNKS * ROWS)
    table = pa.table(
        {
            "few": [n * n % 5 for n in every],
            "many": [n * 7919 % 2003 for n in every],
            "float": [(n * 48271 % 99991) / 7 for n in every],
            "text": [f"text {n * 31 % 17}" for n in every],
            "code": pa.array([f"code {n * 13 % 11}" for n in every]).dictionary_encode(),
            "null": [None if n % 3 else n for n in every],
        }
    )
    return scan(pa.Table.from_batches(table.to_batches(max_chunksize=ROWS)))


Q = rows()
OTHER = scan(pa.table({"few": [0, 1, 4, 4], "worth": [1.5, 2.5, None, 4.5]}))
PIPELINES = {
    "totals": Q.agg(a=col("float").sum(), v=col("float").var(), n=count(), m=col("null").mean()),
    "exact totals": Q.filter(col("many") > 900).agg(s=col("null").sum(), t=col("text").max()),
    "ends": Q.filter(col("few") == 4).agg(f=col("text").first(), l=col("float").last()),
    "groups": Q.group_by("few", "code").agg(s=col("float").sum(), m=col("float").min()),
    "exact groups": Q.group_by("text").agg(s=col("null").sum(), n=count(), m=col("many").max()),
    "many groups": Q.group_by("many").agg(n=count(), m=col("null").min()),
    "counted": Q.group_by("few").agg(n=col("many").count_distinct(), s=col("null").sum()),
    "first": Q.top_k(9, by=["few", "float"], descending=[True, False]),
    "ties": Q.top_k(40, by="few").select("few", "many"),
    "order": Q.filter(col("float") < 4000).sort("text", "float"),
    "limit": Q.filter(col("many") < 700).limit(333),
    "limit of an order": Q.sort("few").limit(17),
    "distinct": Q.distinct("few", "text"),
    "shards": Q.select("many", "code").route("many", shards=3),
    "joined": Q.join(OTHER, on="few").group_by("text").agg(w=col("worth").max(), n=count()),
    "left join, ordered": Q.join(OTHER, on="few", how="left").top_k(30, by=["worth", "many"]),
    "encoded": Q.group_by("code").agg(n=count()).respond("lz4"),
    "after groups": Q.group_by("few").agg(n=col("many").max()).sort("n").limit(3),
    "rows": Q.filter(col("float") < 9000).select("text", twice=col("float") * 2),
    "encoded rows": Q.filter(col("many") < 99).select("text", "code").respond("zstd"),
    "semi join": Q.join(OTHER, on="few", how="semi").select("many", "null"),
}
FLOWING = ("rows", "encoded rows", "semi join")
"""Those whose operators need no other rows: what a run delivers of them stays delivered."""


def travelled(suspended: Suspended) -> Suspended:
    """Give what arrives elsewhere of what is put away here."""
    return Suspended.from_bytes(suspended.to_bytes(KEY), KEY)


def legs(
    pipeline: Pipeline, cuts: Sequence[int], systems: Sequence[str]
) -> tuple[list[Suspended], Result]:
    """Run a pipeline in legs: after each cut it goes on, on the next system, as it arrives."""
    stops: list[Suspended] = []
    for cut, system in zip(cuts, systems, strict=False):
        since = travelled(stops[-1]) if stops else None
        stops.append(pipeline.suspend(system, after=cut, since=since))
    return stops, pipeline.resume(travelled(stops[-1]), systems[len(cuts)])


def whole(stops: Sequence[Suspended], last: Result) -> pa.Table:
    """Give all that was delivered."""
    return pa.concat_tables([*(stop.result.table for stop in stops), last.table])


def same(seen: pa.Table, wanted: pa.Table) -> None:
    """Compare to the last bit: a float is written so that no other one is written the same."""
    assert seen.schema.equals(wanted.schema)
    assert repr(rows_of(seen)) == repr(rows_of(wanted))


@pytest.mark.parametrize("title", PIPELINES)
@pytest.mark.parametrize("first", SYSTEMS[:2])
@pytest.mark.parametrize("then", SYSTEMS[:3])
def test_the_answer_is_that_of_a_run_that_never_stopped(first, then, title):
    pipeline = PIPELINES[title]
    wanted = pipeline.run(then).table
    for after in (0, 1, 5, CHUNKS + 9):
        stops, last = legs(pipeline, [after], [first, then])
        same(whole(stops, last), wanted)
        if title != "limit":
            assert stops[0].chunks == min(after, CHUNKS)
        assert (title in FLOWING) == (stops[0].rows == 0) or not after or title == "totals"


@pytest.mark.parametrize("title", PIPELINES)
def test_it_may_stop_again_and_again(title):
    pipeline = PIPELINES[title]
    systems = ["dpu-csd-host", "this-machine", "gpu-direct-host", "this-machine", "dpu-csd-host"]
    stops, last = legs(pipeline, [2, 0, 5, 3], systems)
    same(whole(stops, last), pipeline.run("dpu-csd-host").table)


@pytest.mark.parametrize("title", ["totals", "groups", "many groups", "joined"])
@pytest.mark.parametrize("merge", ["host0", "dpu0"])
def test_floats_are_added_in_the_same_order_wherever_chunks_meet(title, merge):
    pipeline = PIPELINES[title]
    pins = {"near": "home", "partial": "home", "merge": merge}
    wanted = pipeline.run("dpu-csd-host", placement=pins).table
    for after in range(1, CHUNKS, 3):
        stopped = pipeline.suspend("dpu-csd-host", after=after, placement={"near": "host0"})
        answer = pipeline.resume(travelled(stopped), "dpu-csd-host", placement=pins)
        same(answer.table, wanted)


@pytest.mark.parametrize("number", range(0, len(CASES), 1 if SOAK else 61))
def test_every_operator_and_type(number):
    """Of the kit, every case in a soak, else some: chunks of five rows, stopped in their midst."""
    case = CASES[number]
    table = pa.Table.from_batches(case.rows.to_batches(max_chunksize=5), case.rows.schema)
    source = scan(table).source
    operator = case.operator
    if isinstance(operator, Join):
        operator = replace(operator, build=None)
    pipeline = Pipeline(source, (operator,), operator.schema(table.schema))
    wanted = pipeline.run("dpu-csd-host").table
    for cuts in ([1], [2], [0, 1, 1]):
        stops, last = legs(
            pipeline, cuts, ["dpu-csd-host", "gpu-direct-host", "dpu-csd-host", "gpu-direct-host"]
        )
        check_rows(whole(stops, last), wanted, case.title)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("stored")
    return (root / str(number) for number in numbers())


@settings(max_examples=max(60, settings().max_examples // 10))
@given(data=st.data())
def test_drawn_pipelines_stopped_anywhere(folders: Iterator[Path], data: st.DataObject) -> None:
    draw = data.draw
    table, columns = drawn_table(draw)
    pipeline = scan(stored(draw, table, next(folders)))
    start = Relation(pipeline, "", columns, (f'"{ROW}"',))
    pipeline = drawn_pipeline(draw, start).pipeline
    cuts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    systems = [draw(st.sampled_from(SYSTEMS[:3])) for _ in range(len(cuts) + 1)]
    stops, last = legs(pipeline, cuts, systems)
    assert_same(whole(stops, last), pipeline.collect(), ordered=True)


def test_both_halves_are_accounted_for() -> None:
    pipeline = PIPELINES["groups"]
    every = pipeline.run("dpu-csd-host")
    stopped = pipeline.suspend("dpu-csd-host", after=5)
    last = pipeline.resume(travelled(stopped), "dpu-csd-host")
    assert isinstance(stopped.result.time, Modelled)
    parts = [stopped.result, last]
    read = [{s.nbytes for s in part.timeline.spans if s.kind == "read"} for part in parts]
    assert all(read)
    chunks = [sum(e.stage == 0 for e in part.evidence) for part in parts]
    assert chunks == [5, CHUNKS - 5]
    given = sum(e.rows_in for part in parts for e in part.evidence if e.stage == 0)
    assert given == sum(e.rows_in for e in every.evidence if e.stage == 0) == CHUNKS * ROWS
    # What came of the first chunks goes to the client, and from there to where chunks meet.
    home = [s for s in stopped.result.timeline.spans if s.kind == "deliver"]
    assert {s.chunk for s in home} == set(range(5))
    held = [s for s in last.timeline.spans if s.kind == "move" and s.chunk == -2]
    assert held
    size = sum(part.nbytes for part in stopped.state.parts)
    assert all(0 < s.nbytes <= 2 * size for s in held)
    links = {s.resource for s in held}
    assert any(r.startswith("link client") for r in links), links
    merged = next(e for e in last.evidence if e.chunk == -1)
    assert merged.rows_in == stopped.rows + sum(e.rows_out for e in last.evidence if e.stage == 0)
    for part in parts:
        copied = sum(e.copied_bytes for e in part.ledger.entries)
        assert copied > 0
    again = pipeline.resume(travelled(stopped), "dpu-csd-host")
    assert (again.time, again.timeline) == (last.time, last.timeline)


def test_a_run_here_is_measured() -> None:
    stopped = PIPELINES["rows"].suspend(after=3)
    assert isinstance(stopped.result.time, Measured)
    last = PIPELINES["rows"].resume(stopped)
    assert sum(e.rows_in for e in stopped.result.evidence) == 3 * ROWS
    assert sum(e.rows_in for e in last.evidence) == (CHUNKS - 3) * ROWS


def test_sides_of_joins_run_once() -> None:
    stopped = PIPELINES["joined"].suspend("dpu-csd-host", after=4)
    assert len(stopped.result.builds) == 1
    assert PIPELINES["joined"].resume(travelled(stopped), "gpu-direct-host").builds == ()


def test_enough_rows_stop_for_good() -> None:
    stopped = PIPELINES["limit"].suspend("dpu-csd-host", after=CHUNKS)
    assert stopped.chunks < CHUNKS
    last = PIPELINES["limit"].resume(stopped, "dpu-csd-host")
    assert not [span for span in last.timeline.spans if span.kind == "read"]


def test_nothing_else_goes_on() -> None:
    stopped = Q.filter(col("few") > 2).agg(n=count()).suspend(after=2)
    with pytest.raises(InputError, match="another pipeline over 'memory' was suspended"):
        Q.filter(col("few") > 2).agg(n=col("few").sum()).resume(stopped)
    with pytest.raises(InputError, match="constant 3 where the suspended one has 2"):
        Q.filter(col("few") > 3).agg(n=count()).resume(stopped)
    with pytest.raises(InputError, match="changed after the query was suspended"):
        rows().filter(col("few") > 2).agg(n=count()).resume(stopped)
    with pytest.raises(InputError, match="after is -1; possible"):
        Q.suspend(after=-1)
