"""Predicted against actual: actual terms are sums over the run's own spans."""

import json

import msgspec
import pytest
from support.days import days
from support.runs import faster_link

from wherry import col, load_system
from wherry.cli.output import plain

SYSTEM = load_system("dpu-csd-host")
PIPELINES = {
    "totals": lambda rows: rows.filter(col("day") < 100).agg(total=col("price").sum()),
    "rows": lambda rows: rows.filter(col("day") < 1200),
    "top": lambda rows: rows.top_k(9, by="price").respond("lz4"),
    "join": lambda rows: rows.join(rows.filter(col("day") < 3).distinct("day"), on="day").agg(
        total=col("price").sum()
    ),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return days(tmp_path_factory.mktemp("rows"), files=3, rows=60_000, batch=15_000)


def terms(told, kind):
    return {term.name: term for term in told.analysis.terms if term.kind == kind}


@pytest.mark.parametrize("pins", [None, "host-only", {"near": "home"}], ids=str)
@pytest.mark.parametrize("title", PIPELINES)
def test_actual_terms_are_those_of_the_run(rows, title, pins):
    pipeline = PIPELINES[title](rows)
    told, ran = (
        pipeline.explain(SYSTEM, placement=pins, analyze=True),
        pipeline.run(SYSTEM, placement=pins),
    )
    found = told.analysis
    assert found.origin == "modelled"
    assert found.placement == ran.placement
    total, setup, fill, barrier = (
        terms(told, k)[""] for k in ("total", "setup", "fill", "barrier")
    )
    assert total.actual + found.before_ns == ran.time.ns
    assert (found.before_ns > 0) == (title == "join")
    busy = [term.actual for term in terms(told, "busy").values() if term.actual is not None]
    assert setup.actual + max(busy) + fill.actual + barrier.actual == total.actual
    assert min(setup.actual, barrier.actual) >= 0
    sent = {name: term.actual for name, term in terms(told, "link").items() if term.actual}
    assert sent == ran.timeline.link_bytes()
    assert [term.actual for term in terms(told, "rows").values()][-1] == ran.table.num_rows
    for name, share in ran.usage.busy.items():
        assert terms(told, "busy")[name].actual == pytest.approx(share * total.actual, abs=1)
    if title == "totals":
        assert 0.5 < total.ratio < 2


def test_half_duplex_links_are_one_resource_both_ways(rows):
    links = list(SYSTEM.links)
    links = [msgspec.structs.replace(link, duplex="half", both_ways_share=None) for link in links]
    system = faster_link(msgspec.structs.replace(SYSTEM, links=tuple(links)), 3, 0.5)
    told = PIPELINES["rows"](rows).explain(system, placement="host-only", analyze=True)
    busy = terms(told, "busy")
    assert not any("->" in name.replace("<->", "") for name in busy)
    assert busy["link csd0<->pcie0"].actual > 0


def test_this_machine_is_measured(rows):
    told = PIPELINES["totals"](rows).explain(analyze=True)
    assert told.analysis.origin == "measured"
    assert terms(told, "total")[""].actual > 0
    assert [term.actual for term in terms(told, "rows").values()][-1] == 1
    assert "predicted (modelled) against actual (measured)" in str(told)


def test_json_has_ratios(rows):
    told = plain(PIPELINES["totals"](rows).explain(SYSTEM, analyze=True))
    found = {(t["kind"], t["name"]): t for t in json.loads(json.dumps(told["analysis"]["terms"]))}
    total = found["total", ""]
    assert total["ratio"] == pytest.approx(total["actual"] / total["predicted"])
    assert PIPELINES["totals"](rows).explain(SYSTEM).analysis is None
