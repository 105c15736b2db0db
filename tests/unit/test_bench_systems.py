"""What `wherry bench systems` is made of: the oracle, the stream, answers, the page."""

import re
from xml.etree import ElementTree as ET

import msgspec
import pytest

from wherry import load_system
from wherry.benchmarks.compare import difference
from wherry.benchmarks.second_opinion import ask
from wherry.benchmarks.systems import data, maps, requests
from wherry.benchmarks.systems.cell import cell_of
from wherry.benchmarks.systems.informed import Informed
from wherry.benchmarks.systems.judge import ORACLE, judge
from wherry.benchmarks.systems.page.document import document
from wherry.benchmarks.systems.run import run, steps
from wherry.benchmarks.systems.workloads import WORKLOADS
from wherry.cli.output import plain
from wherry.plan.placement import placements, refusals
from wherry.session import record
from wherry.sim.replay import replay

NAMES = ["q6", "q12", "lookup", "serve", "mixed", "maps"]
SYSTEMS = ("dpu-csd-host", "nvmeof-dpu")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return data.generate(tmp_path_factory.mktemp("systems") / "systems-0.01", 0.01)


@pytest.fixture(scope="module")
def report(tables):
    said = []
    systems = [load_system(name) for name in SYSTEMS]
    found = run(tables, 0.01, NAMES, systems, asked=40, begin=said.append)
    assert len(said) == steps(NAMES, systems)
    return found


@pytest.mark.parametrize("name", WORKLOADS)
def test_answers_are_duckdbs(name, tables):
    question = WORKLOADS[name]
    wanted = ask(question.sql, tables)
    assert wanted.num_rows
    found = question.pipeline(tables).collect()
    assert difference(found, wanted, ordered=question.ordered) is None


@pytest.mark.parametrize("system", ["dpu-csd-host", "gpu-direct-host", "csd-36-host"])
@pytest.mark.parametrize("name", ["q1", "q12", "q14", "sweep-50%-4", "range"])
def test_the_oracle_is_the_best_of_all_placements(name, system, tables):
    found, counts = load_system(system), record(WORKLOADS[name].pipeline(tables))
    judged, costs = judge(found, counts), Informed(counts.query, found, counts=counts)
    best = judged.run(ORACLE).time.ns
    every = list(placements(counts.query, found, refusals(counts.query, found)))
    assert judged.possible == len(every)
    for placement in every:
        ns = replay(found, placement, counts).time.ns
        assert ns >= best
        assert costs.bound_ns(placement) <= ns


def test_the_oracle_is_no_worse_than_anybody(report):
    for row in report.rows:
        assert row.oracle_s <= min(row.modelled_s, row.host_only_s)
        assert row.regret >= 0
        assert all(regret >= 0 for regret in row.rules.values())
        assert row.regret == row.modelled_s / row.oracle_s - 1 or row.regret < 1e-9
        assert row.energy_j > 0
        assert sum(row.bytes_by_link.values()) > 0


def test_the_sides_of_joins_are_in_the_time(tables):
    system, counts = load_system("dpu-csd-host"), record(WORKLOADS["q3"].pipeline(tables))
    orders = counts.before[0]
    assert orders.before
    alone = [judge(system, one).run(ORACLE).time.ns for one in (orders.before[0], orders, counts)]
    assert cell_of("q3", system, counts).row.oracle_s == sum(alone) / 1e9


def test_json_says_the_same_twice_and_has_what_was_promised(report, tables):
    again = run(tables, 0.01, NAMES, [load_system(name) for name in SYSTEMS], asked=40)
    first, second = (msgspec.json.encode(plain(one.plain())) for one in (report, again))
    assert first == second
    found = msgspec.json.decode(first)
    assert isinstance(found["machine"], str)
    promised = {
        "workload", "system", "placement", "modelled_s", "host_only_s", "oracle_s", "regret",
        "rules", "bytes_by_link", "energy_j",
    }  # fmt: skip
    assert len(found["rows"]) == 6
    assert all(promised <= set(row) for row in found["rows"])
    assert set(found["summary"]) == {"planner", *found["rows"][0]["rules"]}


def test_tenants_take_longer_beside_each_other(report):
    for one in report.tenants:
        assert one.modelled_s == max(one.shared_s)
        assert one.best_s <= min(one.modelled_s, one.host_only_s)
        assert all(b >= a for a, b in zip(one.alone_s, one.shared_s, strict=True))


def test_a_stream_is_answered_more_slowly_as_it_grows(report):
    for one in report.serve:
        for rates in one.rates.values():
            assert all(rate.p50_s <= rate.p99_s <= rate.p999_s for rate in rates)
            assert rates[-1].p99_s >= rates[0].p99_s
            assert rates[-1].host_cores >= rates[0].host_cores


def test_arrivals_are_the_same_every_time_and_as_many_as_asked():
    which, arrivals = requests.stream(2000, 100_000)
    assert (which, arrivals) == requests.stream(2000, 100_000)
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] == pytest.approx(2000 / 100_000 * 1e9, rel=0.1)
    assert len(set(which)) == requests.DIFFERENT


def test_a_wider_link_makes_nothing_slower(report):
    assert [one.system for one in report.maps] == ["dpu-csd-host", "nvmeof-dpu"]
    for one in report.maps:
        for share in {point.share for point in one.points}:
            alone = [point.host_only_s for point in one.points if point.share == share]
            assert len(alone) == len(maps.BANDWIDTHS)
            assert alone[-1] < alone[0]


def test_the_page_is_well_formed_and_needs_no_network(report):
    page = document(report)
    root = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert not re.search(r"(https?:)?//|@import|url\(|<script|<link|src=", page)
    assert "prefers-color-scheme: dark" in page
    assert len(list(root.iter("svg"))) > len(report.rows)
    for picture in root.iter("svg"):
        said = "".join(picture.itertext())
        assert "modelled" in said
        assert "modelled" in picture.attrib["aria-label"]
    for table in root.iter("table"):
        rows = [len(list(row)) for row in table.iter("tr")]
        assert len(set(rows)) == 1


def test_tables_lie_in_as_many_files_as_drives_share(tables):
    for rows, files in ((1_500_000, 72), (100_000, 4), (20_000, 1)):
        assert data.files_of(rows) == files
    assert len(list(tables[data.KEYED].glob("*.arrow"))) == 32
