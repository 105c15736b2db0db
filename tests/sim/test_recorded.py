"""A replay from counts is the run, to the nanosecond; and what the planner predicts is near it."""

from collections.abc import Callable, Iterator
from datetime import date
from itertools import islice, pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc
from support import devices as d
from support.runs import all_placements, query_of

from wherry import InputError, Pipeline, Refused, col, count, load_system, run_many, scan
from wherry.base.units import Modelled
from wherry.benchmarks import tpch
from wherry.benchmarks.simulating import hops
from wherry.benchmarks.workloads import orders, q1, q6
from wherry.devices.topology import System
from wherry.plan.cost import Costs
from wherry.plan.expected import stage_work
from wherry.plan.place import host_only, place
from wherry.plan.placement import Placement, Stage
from wherry.session import HOST_ONLY, record
from wherry.sim.recorded import Counts
from wherry.sim.replay import before, replay, replay_many, replay_within

Tables = dict[str, Path]
SYSTEMS = ("dpu-csd-host", "gpu-direct-host", "csd-host", "nvmeof-dpu", "rack-16")
MOST = 6
"""Placements tried of each workload and system, spread over all there are."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("data") / "tpch-0.002"
    return tpch.generate(folder, 0.002)


def joined(tables: Tables) -> Pipeline:
    early = scan(tables["orders"]).filter(col("o_orderdate") < date(1993, 1, 1))
    lines = scan(tables["lineitem"]).filter(col("l_quantity") < 10)
    kept = lines.join(
        early.select("o_orderkey", "o_orderdate"), left_on="l_orderkey", right_on="o_orderkey"
    )
    return kept.group_by("o_orderdate").agg(n=count(), paid=col("l_extendedprice").sum())


def asked(tables: Tables) -> Pipeline:
    return orders.pipelines(tables)[3]


def many_groups(tables: Tables) -> Pipeline:
    grouped = scan(tables["lineitem"]).group_by("l_orderkey").agg(n=col("l_quantity").sum())
    return grouped.top_k(10, by="n")


def first(tables: Tables) -> Pipeline:
    return scan(tables["lineitem"]).filter(col("l_quantity") < 10).limit(50)


def in_order(tables: Tables) -> Pipeline:
    few = scan(tables["lineitem"]).filter(col("l_quantity") < 3).select("l_orderkey", "l_shipmode")
    return few.sort("l_shipmode", "l_orderkey")


def sent(tables: Tables) -> Pipeline:
    return scan(tables["orders"]).filter(col("o_totalprice") > 200_000).respond("lz4")


WORKLOADS: tuple[Callable[[Tables], Pipeline], ...] = (
    q1.pipeline, q6.pipeline, asked, joined, many_groups, first, in_order, sent,
)  # fmt: skip
each_workload = pytest.mark.parametrize(
    "workload", WORKLOADS, ids=lambda w: f"{w.__module__.rpartition('.')[2]}.{w.__name__}"
)
each_system = pytest.mark.parametrize("name", SYSTEMS)


@pytest.fixture(scope="module")
def counts(tables: Tables) -> Callable[[Callable[[Tables], Pipeline]], Counts]:
    """Give the counts of a workload, taken once for all systems."""
    found: dict[object, Counts] = {}

    def taken(workload: Callable[[Tables], Pipeline]) -> Counts:
        if workload not in found:
            found[workload] = record(workload(tables))
        return found[workload]

    return taken


def spread(pipeline: Pipeline, system: System) -> Iterator[tuple[Placement, dict[str, str]]]:
    """Give some of the placements, the first and others at equal distances."""
    every = list(all_placements(pipeline, system))
    return islice(every, 0, None, max(1, -(-len(every) // MOST)))


@each_system
@each_workload
def test_a_replay_is_the_run(workload, name, tables, counts) -> None:
    system, pipeline, taken = load_system(name), workload(tables), counts(workload)
    if pipeline_joins(pipeline):
        first_sides = before(system, taken)
        chosen = pipeline.run(system)
        pairs = [(placement_of(chosen.placement), chosen)]
    else:
        first_sides = Modelled(0)
        pairs = [
            (placement, pipeline.run(system, placement=pins))
            for placement, pins in spread(pipeline, system)
        ]
    assert pairs
    for placement, real in pairs:
        replayed = replay(system, placement, taken)
        assert replayed.spans == real.timeline.spans
        assert replayed.time + first_sides == real.time


def pipeline_joins(pipeline: Pipeline) -> bool:
    return any("join" in operator.needs for operator in pipeline.operators)


def placement_of(text: str) -> Placement:
    return Placement(tuple(part.partition("@")[2] for part in text.split()))


def test_a_replay_ends_once_it_takes_too_long(tables, counts) -> None:
    taken, system = counts(q6.pipeline), load_system("dpu-csd-host")
    for placement, _ in islice(spread(q6.pipeline(tables), system), 4):
        whole = replay(system, placement, taken)
        assert replay_within(system, placement, taken, whole.time.ns + 1) == whole
        assert replay_within(system, placement, taken, whole.time.ns - 1) is None


@pytest.mark.parametrize(("name", "each"), [("nvme-host", 4), ("dpu-csd-host", 4)])
def test_a_chunk_hop_is_one_step_of_a_chunk(tables, name, each) -> None:
    lines = scan(tables["lineitem"]).filter(col("l_quantity") < 10)
    found, system = record(lines), load_system(name)
    alone = place(found.query, system, pins=host_only(found.query, system)).chosen.placement
    run = replay(system, alone, found)
    assert hops(run) == each * len(found.shares)


def test_counts_are_taken_by_whoever_times_them(tables) -> None:
    found, system, called = record(q6.pipeline(tables)), load_system("dpu-csd-host"), []

    def taking(take: Callable[[], object]) -> None:
        called.append(take())

    found.taking = taking
    placement = next(spread(q6.pipeline(tables), system))[0]
    assert replay(system, placement, found) == replay(
        system, placement, record(q6.pipeline(tables))
    )
    assert called


@pytest.mark.parametrize(("least", "written"), [(0, False), (25, True)])
def test_what_all_rows_pass_through_is_expected_to_be_written_nowhere(tables, least, written):
    lines = scan(tables["lineitem"]).filter(col("l_quantity") >= least).select("l_orderkey")
    found = record(lines)
    made = [one.work.write_bytes for one in found.chunkwise(((1, 1),), unwritten=False)]
    work = stage_work(found.query, Stage(1, 1, "host0", chunkwise=True), len(made))
    assert (work.write_bytes > 0) == written
    assert work.write_bytes == pytest.approx(sum(made) / len(made), rel=0.1)


def test_a_join_on_the_host_alone_is_replayed_too(tables, counts) -> None:
    system, taken = load_system("dpu-csd-host"), counts(joined)
    real = joined(tables).run(system, placement=HOST_ONLY, cold=True)
    replayed = replay(system, placement_of(real.placement), taken, cold=True)
    assert replayed.spans == real.timeline.spans
    assert replayed.time + before(system, taken, on_host=True, cold=True) == real.time


def test_tenants_are_replayed_together(tables) -> None:
    """Queues between tenants: each query's time depends on the others' use of the devices."""
    system = load_system("dpu-csd-host")
    pipelines = orders.pipelines(tables)[:12]
    real = run_many(pipelines, system, in_flight=4)
    pairs = [
        (placement_of(result.placement), record(pipeline))
        for pipeline, result in zip(pipelines, real, strict=True)
    ]
    together = replay_many(system, pairs, in_flight=4)
    assert [one.time for one in together] == [one.time for one in real]
    assert [one.spans for one in together] == [one.timeline.spans for one in real]


def test_an_open_loop_queues_once_it_asks_too_much(counts) -> None:
    """Queues between tenants: requests come at their rate, whatever the devices can do."""
    system, taken = load_system("dpu-csd-host"), counts(q6.pipeline)
    placement = Placement(("dpu0", "home", "home", "dpu0", "dpu0"))
    alone = replay(system, placement, taken).time
    rare = [i * 2 * alone.ns for i in range(5)]
    served = replay_many(system, [(placement, taken)] * 5, arrivals=rare)
    assert [one.begin_ns for one in served] == rare
    assert {one.time for one in served} == {alone}
    crowded = replay_many(system, [(placement, taken)] * 5, arrivals=[0] * 5)
    assert max(one.time for one in crowded) > alone


def test_a_split_is_replayed(tables, counts) -> None:
    system, taken = load_system("dpu-csd-host"), counts(q6.pipeline)
    real = q6.pipeline(tables).run(system)
    assert replay(system, chosen_for(q6.pipeline(tables), system), taken).time == real.time


def chosen_for(pipeline: Pipeline, system: System) -> Placement:
    return place(query_of(pipeline), system).chosen.placement


BOUNDS = {
    q1.pipeline: (0.9, 1.1),
    q6.pipeline: (0.9, 1.1),
    asked: (0.95, 1.05),
    in_order: (0.9, 1.1),
    # The chunk with most rows ends last, and how far it compresses is guessed before a run.
    sent: (0.8, 1.25),
}
"""Predicted over simulated time, of queries whose row counts statistics tell."""


@each_system
@pytest.mark.parametrize("workload", BOUNDS, ids=lambda w: f"{w.__module__[-2:]}.{w.__name__}")
def test_predictions_are_near_the_simulator(workload, name, tables, counts) -> None:
    system, taken = load_system(name), counts(workload)
    costs = Costs(taken.query, system)
    found = [
        (costs.of(placement).time.ns, replay(system, placement, taken).time.ns)
        for placement, _ in spread(workload(tables), system)
    ]
    low, high = BOUNDS[workload]
    for predicted, simulated in found:
        assert low <= predicted / simulated <= high
    best = min(simulated for _, simulated in found)
    assert min(found)[1] <= 1.05 * best


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Give a table that is stored compressed."""
    path = tmp_path_factory.mktemp("packed") / "packed.arrow"
    table = pa.table(
        {"a": pa.array(range(40_000), pa.int64()), "b": [i % 7 for i in range(40_000)]}
    )
    options = ipc.IpcWriteOptions(compression="lz4")
    with ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=5000)
    return scan(path)


def test_an_engine_decompresses_what_is_stored(packed: Pipeline) -> None:
    """bf2-offload-decision-*: whether a codec pays depends on the engine that does it."""
    engine = d.engine("decompress-lz4", rate=10.0, start=1.0)
    plain = small(d.cpu(cores=2))
    helped = small(d.changed(d.cpu(cores=2), engine=(engine,)))
    query = packed.filter(col("b") == 3).agg(n=count())
    without, beside = query.run(plain), query.run(helped)
    assert without.table.equals(beside.table)
    jobs = [s for s in beside.timeline.spans if s.resource == "engine host decompress-lz4"]
    assert len(jobs) == 8
    assert beside.time < without.time
    assert beside.usage is not None
    assert 0 < beside.usage.busy["engine host decompress-lz4"] < 1
    # The planner knows of the engine.
    one, other = (system_cost(query, system) for system in (plain, helped))
    assert one > other


def small(host: object) -> System:
    return d.system(
        {"host": host, "ssd": d.drive()}, d.link("ssd", "host"), d.link("client", "host"), on="ssd"
    )


def system_cost(query: Pipeline, system: System) -> int:
    return query.explain(system).chosen.modelled_ns


def test_memory_that_is_too_small_for_what_meets_is_refused_by_name(packed: Pipeline) -> None:
    tight = d.changed(d.cpu(cores=2), memory=d.memory(400_000))
    query = packed.filter(col("b") < 6).sort("a")
    with pytest.raises(Refused, match=r"no device of small can run the query") as caught:
        query.run(small(tight))
    assert "host (cpu) has 391 KiB of memory" in str(caught.value.reasons)


def test_a_device_that_fetches_on_demand_runs_it_slowly(packed: Pipeline) -> None:
    """v100-um-oversub: what does not fit is not refused where it can be fetched; it is a cliff."""
    query = packed.filter(col("b") < 6).sort("a")
    tight = d.changed(d.cpu(cores=2), memory=d.memory(400_000, beyond=0.001))
    roomy = query.run(small(d.cpu(cores=2)))
    slow = query.run(small(tight))
    assert slow.table.equals(roomy.table)
    assert slow.time.ns > 10 * roomy.time.ns


def test_a_device_without_programs_is_no_site_but_stores_and_passes_on(packed: Pipeline) -> None:
    system = d.system(
        {"host": d.cpu(), "nic": nic(), "ssd": d.drive()},
        d.link("client", "nic"), d.link("nic", "host"), d.link("ssd", "host"), on="ssd",
    )  # fmt: skip
    query = packed.agg(n=count())
    result = query.run(system)
    assert {"media ssd", "link nic->client"} <= set(result.timeline.busy_ns())
    for site in ("ssd", "nic"):
        with pytest.raises(Refused) as caught:
            query.run(system, placement={"near": site})
        assert any("runs no programs" in reason for reason in caught.value.reasons), site
    with pytest.raises(Refused) as caught:
        query.run(system, placement={"near": "home"})
    assert any("ssd (drive) is a drive and runs no programs" in r for r in caught.value.reasons)


def nic() -> object:
    return d.changed(
        d.drive(), device=d.changed(d.drive().device, name="nic", kind="nic"), media=None
    )


def test_energy_and_money_are_of_what_profiles_know(packed: Pipeline) -> None:
    host = d.changed(d.cpu(cores=2), power=d.power(100.0, 40.0), price=d.price(3.6, 9000.0))
    result = packed.agg(n=count()).run(small(host))
    assert result.usage is not None
    spent, seconds = result.usage.expense, result.time.ns / 1e9
    busy = result.usage.busy["cores host"]
    assert spent.energy["host"].busy_j == pytest.approx(100 * busy * seconds)
    assert spent.energy["host"].idle_j == pytest.approx(40 * (1 - busy) * seconds)
    assert spent.power_unknown == spent.price_unknown == ("ssd",)
    assert spent.money_usd == {"host": pytest.approx(3.6 * seconds / 3600)}
    assert spent.capital_usd == {"host": 9000.0}
    assert packed.agg(n=count()).run().usage is None


def test_a_gpu_that_is_emulated_runs_programs(tables) -> None:
    result = q6.pipeline(tables).run(
        "gpu-direct-host", placement={"near": "gpu0", "partial": "gpu0"}
    )
    assert {e.device for e in result.evidence if e.chunk >= 0} == {"gpu0"}
    host = q6.pipeline(tables).run("gpu-direct-host", placement=HOST_ONLY)
    assert result.table.equals(host.table)
    # A GPU runs one program at a time.
    runs = sorted(s[3:5] for s in result.timeline.spans if s.resource == "cores gpu0")
    assert all(one[1] <= other[0] for one, other in pairwise(runs))


def test_pieces_that_wait_for_each_other_are_an_error(packed: Pipeline) -> None:
    """v100-um-oversub: a bounded memory that nothing leaves is no slope, and no endless wait."""
    taken = record(packed.filter(col("b") < 6).sort("a"))
    placement = Placement(("host", "host", "host", "host"))
    roomy, tight = (
        small(d.changed(d.cpu(cores=1), memory=d.memory(size))) for size in (10**6, 200_000)
    )
    assert replay(roomy, placement, taken).time.ns > 0
    with pytest.raises(InputError, match=r"pieces wait for room in the memory of host, and"):
        replay(tight, placement, taken)


def test_pieces_larger_than_a_memory_are_an_error(packed: Pipeline) -> None:
    tiny = d.changed(d.cpu(cores=1), memory=d.memory(1000))
    with pytest.raises((Refused, InputError), match=r"memory|no device"):
        packed.agg(n=count()).run(small(tiny))
