"""Joins and distinct: every kind of table, every kind of key, near data and across devices."""

from decimal import Decimal

import hypothesis.strategies as st
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from support.tables import array_of

import wherry as wh
from wherry import InputError, Pipeline, Refused, col, load_system, scan
from wherry.base.errors import CorruptError
from wherry.ir.build import Build, build_of, received
from wherry.ops.join import HOWS, Join
from wherry.plan.joins import with_builds
from wherry.testing import VALUES, build_side, check_operator

EMULATED = load_system("dpu-csd-host")
LARGE = 1 << 40


def joined(left: pa.Table, right: pa.Table, how: str, on: list[str]) -> Join:
    """Give a join whose other side is made."""
    declared = scan(left).join(right, on=on, how=how)
    return with_builds(declared, build_side).operators[-1]


def keyed(keys: object, t: pa.DataType) -> tuple[pa.Table, pa.Table]:
    """Give two tables: the keys with row numbers, and some of them, repeated, with letters."""
    left = pa.array(keys, t)
    some = [key for i, key in enumerate(keys) if i % 3 != 1]
    right = pa.array([*some[::2], *some[::-3], None], t)
    letters = [f"{i:x}" for i in range(len(right))]
    return pa.table({"k": left, "n": range(len(left))}), pa.table({"k": right, "w": letters})


INTEGERS = {
    "a bit for every key": [i * 3 for i in range(200)],
    "a place for every key": list(range(-100, 300)),
    "hashes": [((i * 7919) % 997) * LARGE for i in range(300)],
    "all of 64 bits": [-(1 << 63), (1 << 63) - 1, 0, -1, 1, None] * 40,
    "one value": [7] * 30,
    "only nulls": [None] * 30,
    "a range of most rows": [0, 1 << 22, 5, None, (1 << 23) - 1, 1 << 23] * 3,
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", INTEGERS)
def test_every_kind_of_table(kind: str, how: str) -> None:
    left, right = keyed(INTEGERS[kind], pa.int64())
    check_operator(joined(left, right, how, ["k"]), left)


NAN = float("nan")
OTHERS = {
    "floats": ([0.0, -0.0, NAN, -NAN, 1.5, float("inf"), None, 1e300] * 9, pa.float64()),
    "small floats": ([0.0, -0.0, NAN, 2.5, None] * 9, pa.float32()),
    "unsigned": ([0, (1 << 64) - 1, 1 << 63, None] * 20, pa.uint64()),
    "short decimals": ([Decimal("-0.5"), Decimal("99.25"), None] * 20, pa.decimal128(9, 2)),
    "long decimals": (
        [Decimal(10) ** 37, -(Decimal(10) ** 37), Decimal(-1), Decimal(1), None] * 20,
        pa.decimal128(38, 0),
    ),
    "truth": ([True, False, None] * 25, pa.bool_()),
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", OTHERS)
def test_keys_that_are_no_plain_integers(kind: str, how: str) -> None:
    left, right = keyed(*OTHERS[kind])
    check_operator(joined(left, right, how, ["k"]), left)


def test_nan_is_nan_and_null_is_nothing() -> None:
    left = pa.table({"k": [NAN, None, -0.0, 1.0]})
    right = pa.table({"k": [0.0, -NAN, None]})
    assert scan(left).join(right, on="k", how="semi").with_columns(k=col("k") == 0).collect()[
        "k"
    ].to_pylist() == [False, True]
    assert scan(left).join(right, on="k", how="anti").collect()["k"].to_pylist() == [None, 1.0]


@settings(max_examples=60)
@given(data=st.data())
def test_several_keys_of_any_spread(data: st.DataObject) -> None:
    """Rows at and around block ends, keys of several columns, filters before and after."""
    rows = data.draw(st.sampled_from((0, 1, 63, 64, 65, 129, 300)))
    scale = data.draw(st.sampled_from((1, 1 << 20, 1 << 42)))
    spread = data.draw(st.integers(1, 400))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))

    def table(rows: int, name: str) -> pa.Table:
        nulls = rng.random(rows) < data.draw(st.sampled_from((0.0, 0.2)))
        a = pa.array(rng.integers(-spread, spread, rows) * scale, mask=nulls)
        b = pa.array(rng.choice(["x", "y", "zz"], rows))
        return pa.table({"a": a, "b": b.dictionary_encode(), name: np.arange(rows)})

    left, right = table(rows, "n"), table(data.draw(st.integers(0, 90)), "w")
    how, on = data.draw(st.sampled_from(HOWS)), data.draw(st.sampled_from((["a"], ["a", "b"])))
    query = scan(left).filter(col("n") >= 3).join(right, on=on, how=how)
    ready = with_builds(query, build_side)
    wanted = left
    for operator in ready.operators:
        wanted = operator.reference(wanted)
    assert query.collect().to_pylist() == wanted.to_pylist()


LEFT = pa.table({"k": [5, 1, None, 3, 1, 9] * 50, "n": range(300)})
RIGHT = pa.table({"k": [1, 3, 1, None, 8], "w": ["a", "b", "c", "d", "e"]})


def chunked(rows: int = 64) -> Pipeline:
    return scan(pa.Table.from_batches(LEFT.to_batches(max_chunksize=rows)))


STEPS = {
    "sort": lambda q: q.sort("k", "n", descending=[False, True]),
    "top_k": lambda q: q.top_k(7, by=["k", "n"]),
    "limit": lambda q: q.limit(70),
    "filter": lambda q: q.filter(col("n") > 100),
    "computed": lambda q: q.select(m=col("n") * 2, k=col("k")).filter(col("m") < 300),
    "agg": lambda q: q.agg(n=wh.count(), s=col("n").sum()),
    "group_by": lambda q: q.group_by("k").agg(s=col("n").sum()).sort("k"),
    "join": lambda q: q.join(RIGHT.rename_columns(["k", "z"]), on="k", how="left"),
}


@pytest.mark.parametrize("system", ["this-machine", "dpu-csd-host"])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("step", STEPS)
def test_what_follows_and_comes_before_a_join(step: str, how: str, system: str) -> None:
    after = STEPS[step](chunked().join(RIGHT, on="k", how=how))
    assert after.collect(system).to_pylist() == by_reference(after).to_pylist()
    if step not in {"computed", "agg"}:
        before = STEPS[step](chunked()).join(RIGHT, on="k", how=how)
        assert before.collect(system).to_pylist() == by_reference(before).to_pylist()


def by_reference(query: Pipeline) -> pa.Table:
    ready = with_builds(query, build_side)
    rows = LEFT
    for operator in ready.operators:
        rows = operator.reference(rows)
    return rows


def test_names_are_those_of_polars() -> None:
    other = pa.table({"key": [1], "n": [2], "k": [3]})
    made = scan(LEFT).join(other, left_on="k", right_on="key", how="left", suffix="_other")
    assert made.schema.names == ["k", "n", "n_other", "k_other"]
    assert scan(LEFT).join(other, on="k", how="semi").schema.names == ["k", "n"]


def test_keys_may_be_expressions_of_both_sides() -> None:
    made = scan(LEFT).join(RIGHT, left_on=col("k") - 4, right_on=col("k"), how="inner")
    assert set(made.collect()["k"].to_pylist()) == {5}
    assert made.schema.names == ["k", "n", "w"]


def test_integers_of_two_widths_and_texts_of_two_layouts_meet() -> None:
    left = pa.table(
        {"i": pa.array([1, -2], pa.int8()), "t": pa.array(["a", "b"]).dictionary_encode()}
    )
    right = pa.table({"i": pa.array([-2, 1 << 40]), "t": pa.array(["b", "c"], pa.string_view())})
    for on in ("i", "t", ["i", "t"]):
        assert scan(left).join(right, on=on, how="semi").collect()["i"].to_pylist() == [-2]


WRONG = {
    "k of type int64 and w of type string": {"left_on": "k", "right_on": "w"},
    "k of type int64 and f of type double": {"left_on": "k", "right_on": "f"},
    "needs on=, or left_on= and right_on=": {"left_on": "k"},
    "1 keys here and 2 keys there": {"left_on": ["k"], "right_on": ["k", "w"]},
    "no kind of join 'outer'": {"on": "k", "how": "outer"},
    "no column 'q'": {"on": "q"},
    "'n' would stand twice": {"on": "k", "suffix": ""},
    "takes names and expressions; got int": {"on": [3]},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_joined_is_refused_when_built(message: str) -> None:
    other = pa.table({"k": [1], "w": ["a"], "f": [0.5], "n": [1]})
    with pytest.raises(InputError, match=message):
        scan(LEFT).join(other, **WRONG[message])


def test_too_many_pairs_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.render.matches._PAIR_BYTES", 1 << 60)
    with pytest.raises(InputError, match=r"300 rows of a chunk make \d+ pairs, too many for"):
        scan(LEFT).join(RIGHT, on="k").collect()


def test_a_table_larger_than_a_device_is_refused_there() -> None:
    large = pa.table({"k": np.arange(200_000) * LARGE, "w": np.arange(200_000)})
    query = scan(LEFT).join(large, on="k")
    devices = dict(EMULATED.devices)
    memory = devices["host0"].memory
    small = type(memory.capacity_bytes)(8 << 20, "test")
    tiny = changed(memory, capacity_bytes=small)
    devices = {n: changed(p, memory=tiny) if p.memory else p for n, p in devices.items()}
    system = changed(EMULATED, devices=devices)
    with pytest.raises(Refused, match=r"of it for the tables of joins"):
        query.run(system)


def changed(value: object, **changes: object) -> object:
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **changes)
    return replace(value, **changes)


def test_chunks_that_no_key_is_in_are_not_read() -> None:
    left = pa.table({"k": range(1000), "n": range(1000)})
    chunks = scan(pa.Table.from_batches(left.to_batches(max_chunksize=100)))
    other = pa.table({"k": [340, 361, 399]})
    for how, read in (("semi", 1), ("inner", 1), ("left", 10), ("anti", 10)):
        query = chunks.join(other, on="k", how=how)
        assert query.explain().chunks == read
        ran = {e.chunk for e in query.run(EMULATED).evidence}
        assert len(ran) == read
    assert chunks.join(other.slice(0, 0), on="k").collect().num_rows == 0


def test_columns_that_nothing_reads_do_not_travel() -> None:
    other = pa.table({"k": [1, 3], "w": ["a", "b"], "long": ["x" * 10_000] * 2})
    whole = scan(LEFT).join(other, on="k").run(EMULATED)
    part = scan(LEFT).join(other, on="k").select("n", "w").run(EMULATED)
    assert part.table["w"].to_pylist() == whole.table["w"].to_pylist()
    assert part.builds[0].table.column_names == ["key 0", "w"]
    assert shipped(part) < 2_000 < 20_000 < shipped(whole)


def shipped(result: wh.Result) -> int:
    return sum(s.nbytes for s in result.timeline.spans if s.kind == "build")


def test_each_device_gets_a_build_once_and_its_time_counts() -> None:
    query = chunked(16).join(RIGHT, on="k").select("n", "w")
    near = {"near": "home"}
    result = query.run(EMULATED, placement=near)
    uses = [s for s in result.timeline.spans if s.kind == "build" and s.resource.startswith("link")]
    assert uses
    lanes = [span.resource for span in uses]
    assert len(set(lanes)) == len(lanes)
    assert result.time == query.run(EMULATED, placement=near).time
    (side,) = result.builds
    last = max(span.end_ns for span in result.timeline.spans)
    assert result.time.ns == side.time.ns + last
    assert {s.rows for s in uses} == {4}


def test_measured_time_holds_the_other_side() -> None:
    result = chunked().join(RIGHT, on="k").run()
    assert result.time.ns > result.builds[0].time.ns > 0


def test_explain_tells_of_the_other_side_and_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.session.run_many", None)
    found = chunked().join(scan(RIGHT).filter(col("w") != "a"), on="k").explain(EMULATED)
    (build,) = found.builds
    assert build.devices
    assert build.rows >= 1
    assert "with their table at most" in str(found)
    assert "filter w != 'a'" in str(found)


def test_one_plan_serves_every_build() -> None:
    digests = set()
    for keys in ([1, 2], [3]):
        ready = with_builds(chunked().join(pa.table({"k": keys}), on="k", how="semi"), build_side)
        digests.add(wh.plan.query.prepare(ready.source, ready.operators, ready.schema).plan_digest)
    assert len(digests) == 1


def test_rows_that_arrive_are_checked() -> None:
    build = build_of(RIGHT.slice(0, 3), 1)
    assert received(build.message).digest == build.digest
    with pytest.raises(CorruptError, match="are not the rows of a join"):
        received(build.message.slice(0, 100))
    other = Build(build.batch, 2)
    assert other.digest != build.digest


def test_dictionaries_are_native_and_other_texts_say_so() -> None:
    left = pa.table({"k": pa.array(["a", "b", "a"]).dictionary_encode(), "t": ["a", "b", "a"]})
    right = pa.table({"k": ["a"], "t": ["a"]})
    query = scan(left).join(right.select(["k"]), on="k", how="semi").select("k")
    assert query.run(strict=True).table.num_rows == 2
    with pytest.raises(Refused, match="looked up by pyarrow among those of the build"):
        scan(left).join(right.select(["t"]), on="t").run(strict=True)


def test_the_ledger_knows_what_a_join_refers_to() -> None:
    other = pa.table({"k": [1, 3], "w": pa.array(["a", "b"]).dictionary_encode()})
    left = scan(LEFT).join(other, on="k", how="left").run()
    # Every row stays, so its own columns are references; only the new column's codes are written.
    assert left.ledger.copied_bytes < 300 * 5 + 64
    assert left.ledger.referenced_bytes >= 300 * 16


def test_distinct() -> None:
    table = pa.table({"a": [1, None, 1, None, 2], "b": ["x", "y", "x", "y", "x"]})
    query = scan(pa.Table.from_batches(table.to_batches(max_chunksize=2)))
    assert query.distinct().collect().to_pylist() == [
        {"a": 1, "b": "x"},
        {"a": None, "b": "y"},
        {"a": 2, "b": "x"},
    ]
    assert query.distinct("b").collect()["b"].to_pylist() == ["x", "y"]
    assert query.distinct("b").schema.names == ["b"]


TYPES = (
    *(pa.bool_(), pa.decimal128(38, 10), pa.timestamp("ns"), pa.float32()),
    *(pa.utf8(), pa.string_view(), pa.dictionary(pa.int8(), pa.utf8())),
)


@pytest.mark.parametrize("t", TYPES, ids=str)
def test_sides_that_are_sliced_or_empty(t: pa.DataType) -> None:
    values = VALUES[t]
    left = pa.table({"k": array_of([*values, None, *values], t)})
    keys = [values[0], *values, values[1], values[0], *values]
    other = pa.table({"k": array_of(keys, t), "w": array_of(keys[::-1], t)})
    for how in HOWS:
        join = joined(left, other, how, ["k"])
        rows = join.build.batch
        for changed_rows in (rows.slice(2, 4), rows.slice(0, 0)):
            check_operator(replace(join, build=Build(changed_rows, 1)), left)


def test_a_stream_is_joined_as_it_comes_and_the_other_side_made_once() -> None:
    other = scan(pa.table({"k": [1, 3]}).to_reader())
    query = scan(LEFT.to_reader(max_chunksize=50)).join(other, on="k")
    rows = [row for batch in query.stream() for row in batch.to_pylist()]
    assert rows == [row for row in LEFT.to_pylist() if row["k"] in {1, 3}]


def test_the_first_of_joined_rows() -> None:
    lines = pa.table({"k": [3, 1, 2] * 50, "x": range(150)})
    side = pa.table({"k": [1, 3], "name": ["one", "three"]})
    made = wh.scan(lines).join(wh.scan(side), on="k").top_k(2, by="x").collect()
    assert made.to_pylist() == [
        {"k": 1, "x": 148, "name": "one"},
        {"k": 3, "x": 147, "name": "three"},
    ]
