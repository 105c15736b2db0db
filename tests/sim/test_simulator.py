"""Laws of virtual time: determinism, conservation, capacity; and what the planner loses."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc
from support.runs import all_placements, emulated, faster_link, query_of

from wherry import Pipeline, Result, col, count, run_many, scan
from wherry.base.events import Span
from wherry.data.chunk import referenced_bytes
from wherry.data.encoded import ENCODED
from wherry.plan.place import place

SYSTEM = emulated()
FILES, BATCHES, ROWS = 4, 4, 60_000
REGRET_MAX = 0.25
"""How much longer than the best placement the chosen one may take, both simulated."""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Give a table like lineitem: four files on two drives, seeded."""
    folder = tmp_path_factory.mktemp("lines")
    values = np.random.default_rng(7)
    size = ROWS // FILES
    for number in range(FILES):
        table = pa.table(
            {
                "day": values.integers(0, 2500, size).astype("int32"),
                "discount": values.integers(0, 11, size),
                "quantity": values.integers(1, 51, size),
                "price": values.integers(90_000, 10_500_000, size),
                "flag": values.integers(0, 3, size).astype("int8"),
            }
        )
        _write(folder / f"part{number}.arrow", table)
    return scan(folder)


def _write(path: Path, table: pa.Table) -> None:
    with ipc.new_file(path, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=table.num_rows // BATCHES):
            writer.write_batch(batch)


def revenue(lines: Pipeline) -> Pipeline:
    kept = lines.filter(
        col("day").is_between(800, 1165), col("discount").is_between(5, 7), col("quantity") < 24
    )
    return kept.agg(revenue=(col("price") * col("discount")).sum())


def few(lines: Pipeline) -> Pipeline:
    return lines.filter(col("quantity") == 7, col("discount") == 3).select("day", "price")


def most(lines: Pipeline) -> Pipeline:
    return lines.filter(col("quantity") < 46)


def by_flag(lines: Pipeline) -> Pipeline:
    return lines.group_by("flag").agg(n=count(), total=col("price").sum())


def first(lines: Pipeline) -> Pipeline:
    return lines.filter(col("day") > 100).limit(20)


def compressed(lines: Pipeline) -> Pipeline:
    return most(lines).respond("lz4")


def grouped_stream(lines: Pipeline) -> Pipeline:
    return by_flag(lines).respond()


WORKLOADS = (revenue, few, most, by_flag, first, compressed, grouped_stream)
PINS = (
    {"near": "home"},
    {"near": "host0"},
    {"near": "dpu0", "respond": "host0"},
    {"routing": "dpu0", "respond": "dpu0"},
)
each_workload = pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.__name__)
each_pin = pytest.mark.parametrize("pins", PINS, ids=str)


def answer_bytes(result: Result) -> int:
    """Give the bytes that should reach the client: of the rows, or of their encoded parts."""
    if result.encoded is None:
        return referenced_bytes(result.table.to_batches())
    return sum(e.copied_bytes for e in result.ledger.entries if e.why == ENCODED)


def run(query: Pipeline, pins: dict[str, str]) -> Result:
    return query.run(SYSTEM, placement=pins)


@each_workload
@each_pin
def test_two_runs_have_one_timeline(workload, pins, lines) -> None:
    one, other = run(workload(lines), pins), run(workload(lines), pins)
    assert one.timeline.origin == "modelled"
    assert one.timeline.spans == other.timeline.spans
    assert (one.time, one.ledger, one.receipts) == (other.time, other.ledger, other.receipts)
    assert one.table.equals(other.table)


@each_workload
@each_pin
def test_receipts_add_up_to_the_timeline(workload, pins, lines) -> None:
    result = run(workload(lines), pins)
    billed: Counter[str] = Counter()
    for receipt in result.receipts:
        billed.update(receipt.link_bytes)
    sent = result.timeline.link_bytes()
    assert billed == {lane: n for lane, n in sent.items() if lane.split("->")[0] in SYSTEM.devices}
    busy = result.timeline.busy_ns()
    cores = sum(ns for name, ns in busy.items() if name.startswith("cores "))
    assert sum(receipt.core_ns for receipt in result.receipts) == cores


@each_workload
@each_pin
def test_bytes_are_conserved(workload, pins, lines) -> None:
    """A switch sends what it receives, and the client receives the answer."""
    result = run(workload(lines), pins)
    into, out = Counter(), Counter()
    for lane, nbytes in result.timeline.link_bytes().items():
        source, target = lane.split("->")
        out[source] += nbytes
        into[target] += nbytes
    if workload is not first:  # what a limit no longer wants may still be between two lanes
        assert into["pcie0"] == out["pcie0"]
    delivered = [s for s in result.timeline.spans if s.resource == "link dpu0->client"]
    if workload is not first:
        assert sum(s.nbytes for s in delivered) == answer_bytes(result)
    read = [s for s in result.timeline.spans if s.kind == "read"]
    stored = query_of(workload(lines)).chunks
    assert {s.chunk for s in read} <= set(range(len(stored)))
    assert len(read) == len({s.chunk for s in read})


@each_workload
@each_pin
def test_no_resource_does_more_than_it_can(workload, pins, lines) -> None:
    spans = defaultdict(list)
    for span in run(workload(lines), pins).timeline.spans:
        assert 0 <= span.start_ns <= span.end_ns
        spans[span.resource].append(span)
    for resource, used in spans.items():
        kind, _, where = resource.partition(" ")
        if kind != "memory":
            most_at_once = 1
            if kind == "cores":
                most_at_once = SYSTEM.devices[where].cores.count.value
            elif kind == "media":
                most_at_once = SYSTEM.devices[where].media.channels.value
            assert overlap(used) <= most_at_once, resource


def overlap(spans: list[Span]) -> int:
    """Give how many spans are open at once at most; one may begin where another ends."""
    edges = sorted([(s.start_ns, 1) for s in spans] + [(s.end_ns, -1) for s in spans])
    now = highest = 0
    for _, step in edges:
        now += step
        highest = max(highest, now)
    return highest


@pytest.mark.parametrize("number", range(len(SYSTEM.links)))
@pytest.mark.parametrize("workload", [revenue, few, most], ids=lambda w: w.__name__)
def test_a_faster_link_makes_no_chain_slower(workload, number, lines) -> None:
    # What shares a memory's bandwidth is decided when a use begins and holds until it ends, so
    # another order of beginnings may cost a little.
    faster = faster_link(SYSTEM, number, 2.0)
    for pins in PINS:
        before = run(workload(lines), pins).time
        after = workload(lines).run(faster, placement=pins).time
        assert after.ns <= 1.002 * before.ns


def test_a_cold_device_takes_longer_by_its_installation(lines) -> None:
    cold = revenue(lines).run(SYSTEM, placement={"near": "home"}, cold=True)
    assert cold.time > run(revenue(lines), {"near": "home"}).time
    assert {s.kind for s in cold.timeline.spans} >= {"install", "send", "read", "run", "deliver"}


def test_queries_in_flight_queue_for_devices(lines) -> None:
    alone = run_many([few(lines)] * 4, SYSTEM)
    together = run_many([few(lines)] * 4, SYSTEM, in_flight=4)
    assert len({result.time for result in alone}) == 1
    assert max(r.time for r in together) > alone[0].time
    assert all(r.table.equals(alone[0].table) for r in together)


@pytest.mark.parametrize("workload", [revenue, few, most, compressed], ids=lambda w: w.__name__)
def test_the_planner_is_near_the_best_of_all_placements(workload, lines) -> None:
    query = workload(lines)
    times = {}
    for placement, pins in all_placements(query, SYSTEM):
        # The second drive is like the first.
        if "csd1" not in placement.sites:
            times[placement.sites] = run(query, pins).time.ns
    chosen = place(query_of(query), SYSTEM).chosen.placement.sites
    regret = times[chosen] / min(times.values()) - 1
    print(f"{workload.__name__}: regret {regret:.1%} over {len(times)} placements")
    assert len(times) >= 20
    assert regret <= REGRET_MAX
