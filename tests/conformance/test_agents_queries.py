"""Datasets and options of every sort at agents: same answers and, if modelled, same accounts.

What an agent is asked runs at a twin of its system, too (`support.clusters`): its devices are
emulated in this process.
"""

from datetime import date, timedelta

import pyarrow as pa
import pytest
from hypothesis import settings
from msgspec.structs import replace
from support.clusters import check_same, cluster, store, write
from support.runs import all_placements
from support.skewed import PASSING, skewed, slow_drives

from wherry import InputError, Refused, col, count, scan
from wherry.session import HOST_ONLY, Options, run

SOAK = settings().max_examples > 1000
ROWS = 240
PLACE = pa.struct([("a", pa.int64()), ("b", pa.utf8())])


def table(rows, first=0):
    if not rows:
        return table(1).slice(1)
    numbers = range(first, first + rows)
    return pa.table(
        {
            "k": pa.array([i % 7 for i in numbers], pa.int32()),
            "x": pa.array(
                [None if i % 11 == 3 else i * 7919 % 1000 / 8 for i in numbers], pa.float64()
            ),
            "s": [None if i % 5 == 2 else f"text {i % 13} that is long" for i in numbers],
            "d": [date(1994, 1, 1) + timedelta(days=i % 400) for i in numbers],
            "m": pa.array([f"m{i % 3}" for i in numbers]).dictionary_encode(),
            "v": pa.array(
                [f"view {i % 17} of more than twelve" for i in numbers], pa.string_view()
            ),
            "o": [i % 2 == 0 for i in numbers],
            "t": pa.array([{"a": i, "b": str(i) if i % 4 else None} for i in numbers], PLACE),
            "row": list(numbers),
        }
    )


PARQUET = ["k", "x", "s", "d", "o", "row"]


def _datasets(folder):
    rows = table(ROWS)
    store(folder, rows, "arrow", parts=3, rows=32)
    store(folder, rows, "many", rows=1)
    store(folder, rows, "lz4", parts=2, rows=50, compression="lz4")
    columns = rows.select(PARQUET)
    store(folder, columns, "parquet", parts=3, rows=40, form="parquet", compression="snappy")
    store(folder, rows, "alone", parts=2, rows=64, agents=("csd1",))
    # Between the parts with rows lie some without, at each agent.
    for number, count_ in enumerate((0, 50, 0, 1, 80, 0)):
        agent = ("csd0", "csd1", "csd1")[number % 3]
        path = folder / agent / "gaps" / f"{number}.arrow"
        write(path, table(count_, number * 100), rows=20)
    store(folder, rows.slice(0, 0), "nothing")
    # The same files at both drives, one more at each.
    for agent in ("csd0", "csd1"):
        for part in ("0", "1", agent):
            path = folder / agent / "twice" / f"{part}.arrow"
            write(path, table(40, 1000 if part == agent else int(part) * 40), rows=16)
    _same_times(folder)
    for number in range(4):
        path = folder / ("csd0", "csd1")[number % 2] / "hive" / f"year=199{number}" / "p.parquet"
        write(path, columns.slice(number * 60, 60), rows=25)
    write(folder / "dpu0" / "side.arrow", rows.select(["k", "s", "row"]).slice(3, 9), rows=4)


def _same_times(folder):
    """Have copies look like copies: a part is known by name, size and time of its last change."""
    for first in (folder / "csd0" / "twice").iterdir():
        other = folder / "csd1" / "twice" / first.name
        if other.exists():
            other.unlink()
            other.hardlink_to(first)


@pytest.fixture(scope="module", params=[True, False], ids=["emulated", "measured"])
def there(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("q")
    _datasets(folder)
    with cluster(folder, emulate=request.param) as found:
        found.modelled = request.param
        yield found


def same(there, pipeline, **options):
    """Run at agents and at the twin; give what agents gave."""
    far, near = there.both(pipeline, Options(**options))
    check_same(far, near, modelled=there.modelled)
    return far


QUERIES = {
    "filter": lambda q: q.filter(col("x") < 40, col("o")),
    "computed": lambda q: q.select("k", twice=col("x") * 2, day=col("d")).filter(col("twice") > 9),
    "totals": lambda q: q.agg(n=count(), total=col("x").sum(), last=col("s").last()),
    "groups": lambda q: q.group_by("k", "o").agg(n=count(), mean=col("x").mean(), s=col("s").max()),
    "texts": lambda q: q.group_by("s").agg(n=count(), spread=col("x").std()),
    "distinct": lambda q: q.distinct("k", "o"),
    "top": lambda q: q.top_k(7, by="x"),
    "sort": lambda q: q.sort("s", "row", descending=[True, False]),
    "limit": lambda q: q.limit(9),
    "limit of few": lambda q: q.filter(col("x") < 5).limit(2),
    "route": lambda q: q.route("k", 3),
    "shards": lambda q: q.route("row", shards=3),
    "ranges": lambda q: q.route("row", bounds=[10, 120]),
    "respond": lambda q: q.filter(col("k") > 2).respond(),
    "lz4": lambda q: q.sort("x").respond("lz4"),
    "zstd": lambda q: q.filter(col("o")).respond("zstd"),
    "everything": lambda q: q,
}
DATASETS = ("arrow", "lz4", "parquet", "alone", "gaps", "nothing", "twice", "hive")


@pytest.mark.parametrize("dataset", DATASETS)
def test_datasets_of_every_sort(there, dataset):
    stored = there.scan(dataset)
    first, step = DATASETS.index(dataset), 1 if SOAK else 2 if there.modelled else 4
    for name in list(QUERIES)[first % step :: step]:
        query = QUERIES[name](stored)
        same(there, query)
        same(there, query, pins={"near": "home"})


def test_hive_partitions_are_pruned(there):
    query = there.scan("hive").filter(col("year") == 1992).agg(n=count(), year=col("year").max())
    found = same(there, query)
    assert found.table.to_pylist() == [{"n": 60, "year": 1992}]
    near = same(there, query, pins={"near": "home", "partial": "home"})
    assert {entry.device for entry in near.evidence} == {"csd0", "host0"}


def test_copies_at_two_agents_are_one_part(there):
    found = there.scan("twice")
    labels = [place.part.label for place in found.source.directory.places]
    assert labels == ["0.arrow", "1.arrow", "csd0.arrow", "csd1.arrow"]
    assert found.source.holders == (("csd0", "csd1"), ("csd0", "csd1"), ("csd0",), ("csd1",))
    assert same(there, found.agg(n=count())).table.to_pylist() == [{"n": 160}]


JOINS = ("inner", "left", "semi", "anti")


@pytest.mark.parametrize("how", JOINS)
@pytest.mark.parametrize("side", ["agents", "here"])
def test_joins_with_rows_at_agents_and_here(there, how, side):
    other = there.scan("side") if side == "agents" else scan(table(9, 3).select(["k", "s", "row"]))
    joined = there.scan("arrow").join(other.filter(col("row") > 4), on=["k", "s"], how=how)
    same(there, joined.filter(col("x") > 3))
    # An agent that still has the rows of a join is charged for them like one that has not.
    same(there, joined.agg(n=count()), pins={"near": "home"})
    same(there, joined.agg(n=count()), pins={"near": "home"})


PLACED = {
    "rows": lambda q: q.filter(col("x") < 60).select("k", "v", "t"),
    "groups": lambda q: q.group_by("m").agg(n=count(), total=col("x").sum()),
    "sorted": lambda q: q.sort("x").respond("lz4"),
}


@pytest.mark.parametrize("name", PLACED)
def test_every_placement(there, name):
    """Chunks are read at one agent and run at another, met and answered at each."""
    query = PLACED[name](there.scan("alone"))
    every = [pins for _, pins in all_placements(*there.near(query))]
    step = 1 if SOAK else max(1, len(every) // (12 if there.modelled else 6))
    for pins in every[::step]:
        same(there, query, pins=pins)


def test_options(there):
    query = there.scan("arrow").filter(col("k") < 3).group_by("o").agg(n=count())
    for options in ({"cold": True}, {"cold": True}, {"pins": HOST_ONLY}, {"strict": True}):
        same(there, query, **options)
    same(there, query, load={"csd0": 0.5, "cores host0": 0.4})
    with pytest.raises(Refused, match=r"strict.*sort_indices"):
        run(there.scan("arrow").sort("s"), there.system, Options(strict=True))
    with pytest.raises(Refused, match=r"busy_watts.*csd0, csd1"):
        run(query, there.system, Options(objective="energy"))


def test_installing_is_charged_whatever_ran_before(there):
    query = there.scan("arrow").filter(col("row") < 77)
    cold = [same(there, query, cold=True).time for _ in range(2)]
    if there.modelled:
        assert cold[0] == cold[1] > same(there, query).time


def test_a_limit_stops_early(there):
    query = there.scan("many").limit(1)
    found = same(there, query, pins={"near": "home", "partial": "home"})
    if not there.modelled:
        return  # A share is as many rows as there are.
    assert sum(e.rows_in for e in found.evidence if e.stage == 0) < ROWS


def test_explanations(there):
    query = there.scan("arrow").filter(col("k") < 3).group_by("o").agg(n=count())
    near, twin = there.near(query)
    told = str(query.explain(there.system))
    assert told == str(near.explain(twin)).replace(twin.name, there.system.name)
    analyzed = query.explain(there.system, analyze=True)
    assert analyzed.analysis.origin == ("modelled" if there.modelled else "measured")
    joined = there.scan("arrow").join(there.scan("side"), on="k")
    assert "host0" in str(joined.explain(there.system))


def test_streams_files_and_shards(there, tmp_path):
    query = there.scan("arrow").filter(col("o"))
    wanted = scan(table(ROWS)).filter(col("o")).collect()
    assert pa.Table.from_batches(query.stream(there.system)).equals(wanted)
    query.write(tmp_path / "out.arrow", there.system)
    assert scan(tmp_path / "out.arrow").collect().equals(wanted)
    shards = query.route("row", shards=3).collect_shards(there.system)
    near, twin = there.near(query)
    assert shards == near.route("row", shards=3).collect_shards(twin)


def test_what_needs_its_rows_here_is_refused(there):
    query = there.scan("arrow").filter(col("o"))
    with pytest.raises(InputError, match=r"cannot be suspended.*this machine"):
        query.suspend(there.system, after=1)
    with pytest.raises(InputError, match=r"serve datasets by their names.*'memory' is not theirs"):
        scan(table(3)).run(there.system)
    with pytest.raises(InputError, match=r"no dataset 'arow'; did you mean 'arrow'"):
        there.scan("arow")
    with pytest.raises(InputError, match=r"at agents"):
        query.run("dpu-csd-host")


def test_a_system_is_the_one_that_is_given(there):
    """A system with other links over the same agents has other times."""
    query = there.scan("arrow").filter(col("x") < 60)
    if not there.modelled:
        pytest.skip("times of measured runs do not follow from links")
    slower = slow_drives(0.01)
    changed = replace(there.system, links=slower.links)
    pins = {"near": "host0"}
    first = query.run(there.system, placement=pins).time
    assert query.run(changed, placement=pins).time > first
    assert query.run(there.system, placement=pins).time == first


def test_chunks_go_elsewhere_on_the_way(tmp_path):
    """Runs at agents are planned again like those in one process."""
    skewed(tmp_path, "falling", batches=24, rows=512)
    folder = tmp_path / "s"
    for number, path in enumerate(sorted(tmp_path.glob("*.arrow"))):
        target = folder / ("csd0", "csd1")[number % 2] / "rows" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    with cluster(folder) as there:
        there.modelled, links = True, slow_drives(0.02).links
        there.system = replace(there.system, links=links)
        there.twin = replace(there.twin, links=links)
        found = same(there, there.scan("rows").filter(PASSING))
        assert found.revisions


def test_agents_that_are_reached_by_flight(tmp_path):
    """Whatever bytes travel by: the same answers and accounts, and every byte is carried."""
    store(tmp_path, table(ROWS).drop_columns("m"), "rows", parts=3, rows=64)
    with cluster(tmp_path, flight=True) as there:
        there.modelled = True
        stored = there.scan("rows")
        for name in ("filter", "groups", "top", "lz4"):
            for pins in ({"near": "home"}, {"near": "dpu0"}):
                found = same(there, QUERIES[name](stored), pins=pins)
                assert "carried over the network" in {e.why for e in found.ledger.entries}
        side = scan(table(9, 3).select(["k", "row"]))
        same(there, stored.join(side, on="k", how="left"))
