"""What pipelines refuse while they are built, and what a run refuses before it begins."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from wherry import InputError, Pipeline, Refused, col, count, run_many, scan
from wherry.devices.system import system_names

ROWS = pa.table({"a": [1, 2], "t": ["x", "y"]})
PIPELINES = {
    "no predicate": (lambda q: q.filter(), "filter needs at least one predicate"),
    "a filter of numbers": (lambda q: q.filter(col("a")), "a filter needs a truth value; a has"),
    "nothing selected": (lambda q: q.select(), "select needs at least one column"),
    "a name twice": (lambda q: q.select("a", a=col("t")), "select: the name 'a' stands twice"),
    "no name": (lambda q: q.select(col("a") + 1), "needs a name: use .alias() or name=expression"),
    "a number selected": (lambda q: q.select(5), "select takes names and expressions; got int 5"),
    "no key": (lambda q: q.group_by(), "group_by needs at least one key"),
    "no aggregate": (lambda q: q.agg(), "agg needs at least one aggregate"),
    "an expression in agg": (lambda q: q.agg(n=col("a")), "agg takes aggregates such as"),
    "an aggregate without name": (lambda q: q.agg(count()), "needs a name: use .alias()"),
    "sum of text": (lambda q: q.agg(n=col("t").sum()), "sum(t) does not apply to string"),
    "no sort key": (lambda q: q.sort(), "sort needs at least one column"),
    "an unknown sort key": (lambda q: q.sort("b"), "no column 'b'; columns: a, t"),
    "too few directions": (
        lambda q: q.sort("a", "t", descending=[True]),
        "sort: 2 columns but 1 values of descending",
    ),
    "a negative limit": (
        lambda q: q.limit(-1),
        "limit needs a number of rows, from 0 to 2**63 - 1; got -1",
    ),
    "a limit of 64 bits": (lambda q: q.limit(1 << 63), "from 0 to 2**63 - 1; got 9223372036854"),
    "a k of 64 bits": (lambda q: q.top_k(1 << 63, by="a"), "top_k needs a number of rows, from 0"),
    "is_in a text": (lambda q: q.filter(col("t").is_in("xy")), "is_in takes several values, such"),
    "is_in nothing": (lambda q: q.filter(col("a").is_in(None)), "is_in takes several values, such"),
    "a true limit": (lambda q: q.limit(True), "got True"),
    "two ways to route": (
        lambda q: q.route("a", 1, shards=2),
        "route needs one of equals=, shards= or bounds=; got equals, shards",
    ),
    "no shards": (lambda q: q.route("a", shards=0), "route: shards is 0; possible: 1 to 4096"),
    "a shard column twice": (
        lambda q: q.route("a", shards=2).route("a", shards=2),
        "route adds a column 'shard', and there is one already",
    ),
    "a null bound": (lambda q: q.route("a", bounds=[None]), "bounds= must be constants of the"),
    "a bound of another type": (lambda q: q.route("a", bounds=[1.5]), "bounds= must be constants"),
    "bounds out of order": (lambda q: q.route("a", bounds=[3, 1]), "bounds must ascend: 3, 1"),
}


@pytest.mark.parametrize("title", PIPELINES)
def test_pipelines_refuse_while_they_are_built(title: str) -> None:
    build, message = PIPELINES[title]
    with pytest.raises(InputError) as refused:
        build(scan(ROWS))
    assert message in str(refused.value)


RUNS = {
    "an unknown system": (lambda q: q.run("dpu"), "no system 'dpu'"),
    "an unknown segment": (
        lambda q: q.run("dpu-csd-host", placement={"neer": "home"}),
        "no segment 'neer'; did you mean 'near'?",
    ),
    "an unknown site": (
        lambda q: q.run("dpu-csd-host", placement={"near": "host9"}),
        "no site 'host9'; did you mean 'host0'? sites: home, gate, host0, dpu0, csd0, csd1",
    ),
    "a placement that is a word": (
        lambda q: q.run("dpu-csd-host", placement="host"),
        "possible: a mapping of segment to site, 'host-only'",
    ),
    "nothing in flight": (
        lambda q: run_many([q], "dpu-csd-host", in_flight=0),
        "in_flight is 0; at least 1 query has to be on its way",
    ),
}


@pytest.mark.parametrize("title", RUNS)
def test_runs_refuse_before_they_begin(title: str) -> None:
    act, message = RUNS[title]
    with pytest.raises(InputError) as refused:
        act(scan(ROWS))
    assert message in str(refused.value)


def test_an_impossible_placement_is_refused_with_every_reason() -> None:
    with pytest.raises(Refused) as refused:
        scan(ROWS).run("dpu-csd-host", placement={"routing": "csd0"})
    assert "routing at csd0: csd0 (newport) has no route" in str(refused.value)
    assert "routing is pinned to csd0" in refused.value.reasons


def test_a_device_without_a_rate_is_refused_what_needs_it(tmp_path: Path) -> None:
    rows = pa.table({"a": list(range(2000))})
    parquet.write_table(rows, tmp_path / "a.parquet")
    feather.write_feather(rows, tmp_path / "a.arrow", compression="uncompressed")

    def first(name: str) -> Pipeline:
        return scan(tmp_path / name).filter(col("a") < 5).select(b=col("a") + 1)

    plain = first("a.arrow").run("csd-host", placement={"near": "home"})
    assert plain.table.to_pydict() == {"b": [1, 2, 3, 4, 5]}
    with pytest.raises(Refused) as refused:
        first("a.parquet").run("csd-host", placement={"near": "home"})
    assert (
        "near at home: csd0 (smartssd) has no relative_decode in its profile, which its time would "
        "follow from"
    ) in refused.value.reasons


@pytest.mark.parametrize("system", [n for n in system_names() if n != "this-machine"])
def test_every_shipped_system_gives_the_answer_of_this_machine(system: str) -> None:
    rows = pa.table({"a": list(range(1000)), "t": ["x", "y"] * 500})
    query = scan(rows).filter(col("a") >= 10).group_by("t").agg(s=col("a").sum()).sort("t")
    assert query.run(system).table == query.run("this-machine").table


def test_nullability_and_metadata_stay_with_what_is_stored() -> None:
    field = pa.field("a", pa.int64(), nullable=False, metadata={"k": "v"})
    rows = pa.table([pa.array([1, 2])], schema=pa.schema([field], metadata={"m": "n"}))
    query = scan(rows).filter(col("a") > 1)
    assert query.collect().schema == query.schema == pa.schema([("a", pa.int64())])
    assert query.stream().read_all().to_pydict() == {"a": [2]}


def test_names_of_parts_do_not_meet_names_of_columns() -> None:
    made = {"m": col("a").mean(), "m.sum": col("a").max(), "m..count": count()}
    assert scan(ROWS).agg(**made).collect().to_pydict() == {
        "m": [1.5],
        "m.sum": [2],
        "m..count": [2],
    }
    grouped = scan(ROWS).group_by(**{"m.count": col("t")}).agg(m=col("a").mean())
    assert grouped.collect().to_pydict() == {"m.count": ["x", "y"], "m": [1.0, 2.0]}


@pytest.mark.parametrize("system", ["this-machine", "dpu-csd-host"])
def test_the_mean_of_large_integers_does_not_wrap(system: str) -> None:
    rows = pa.table({"a": [2**62] * 4, "b": pa.array([2**64 - 1] * 4, pa.uint64())})
    seen = scan(rows).agg(a=col("a").mean(), b=col("b").mean()).collect(system)
    assert seen.to_pydict() == {"a": [2.0**62], "b": [2.0**64]}


def test_statistics_prune_by_the_value_that_is_compared() -> None:
    rows = pa.table({"x": pa.array([0.1, 0.1], pa.float32())})
    for test in (col("x") <= 0.1, col("x") == 0.1, col("x").is_in([0.1]), ~(col("x") > 0.1)):
        assert scan(rows).filter(test).collect().num_rows == 2
    for test in (col("x") < 0.1, col("x") != 0.1, col("x") > 0.1):
        assert scan(rows).filter(test).collect().num_rows == 0


def test_dates_that_no_moment_holds_are_refused_not_wrapped() -> None:
    days = pa.array([2_932_896], pa.int32()).cast(pa.date32())
    rows = pa.table({"d": days, "t": pa.array([0], pa.timestamp("ns"))})
    with pytest.raises(InputError, match="out of bounds"):
        scan(rows).filter(col("d") > col("t")).collect()


def test_dictionaries_that_outgrow_their_index_say_so() -> None:
    narrow = pa.dictionary(pa.int8(), pa.utf8())
    parts = [pa.array([f"{x}{i}" for i in range(100)]).dictionary_encode() for x in "ab"]
    rows = pa.table({"d": pa.chunked_array([part.cast(narrow) for part in parts])})
    with pytest.raises(InputError, match="Cast dictionary columns with narrow indices"):
        scan(rows).group_by("d").agg(n=count()).collect()


def test_columns_of_columns_of_columns_are_refused_in_words() -> None:
    query = scan(ROWS)
    for _ in range(400):
        query = query.with_columns(a=col("a") + 1)
    with pytest.raises(InputError, match="400 operators compute columns of each other's columns"):
        query.collect()
