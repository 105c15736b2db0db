"""The search for placements: as good as trying all; splits and other people's rules."""

from itertools import pairwise

import pytest
from support.days import days
from support.runs import faster_link, query_of

from wherry import Refused, col, count, load_system
from wherry.benchmarks.planning import two_passes
from wherry.plan.bound import Ways
from wherry.plan.cost import Costs, predict
from wherry.plan.place import KEPT, place
from wherry.plan.placement import Way as ChunksWay
from wherry.plan.placement import placements, possible_sites, refusals
from wherry.plan.rules import RULES
from wherry.plan.search import cheapest

SYSTEM = load_system("dpu-csd-host")
PIPELINES = {
    "totals": lambda rows: rows.filter(col("day") < 100).agg(total=col("price").sum()),
    "heavy": lambda rows: rows.agg(
        **{f"sum{n}": (col("price") * (col("day") + n)).sum() for n in range(4)}
    ),
    "groups": lambda rows: rows.group_by("flag").agg(n=count()),
    "rows": lambda rows: rows.filter(col("day") < 2400),
    "first": lambda rows: rows.top_k(9, by="price"),
    "encoded": lambda rows: rows.filter(col("day") < 240).respond("zstd"),
    "nothing": lambda rows: rows.filter(col("day") < 0),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return days(tmp_path_factory.mktemp("rows"))


def query(rows, title):
    return query_of(PIPELINES[title](rows))


def sites_of(asked, system):
    return [
        [site for site in every if site not in no]
        for every, no in zip(possible_sites(asked, system), refusals(asked, system), strict=True)
    ]


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("title", PIPELINES)
def test_the_search_finds_what_trying_all_finds(rows, title, factor, cold):
    system, asked = faster_link(SYSTEM, 3, factor), query(rows, title)
    refused, sites = refusals(asked, system), sites_of(asked, system)
    found, possible = cheapest(Costs(asked, system, cold=cold), sites, KEPT)
    every = [
        (predict(asked, system, p, cold=cold).time.ns, p)
        for p in placements(asked, system, refused)
    ]
    assert possible == len(every)
    wanted = sorted(every, key=lambda pair: pair[0])[:KEPT]
    assert [(one.value, one.placement) for one in found] == wanted


@pytest.mark.parametrize("name", ["dpu-csd-host", "nvmeof-dpu"])
@pytest.mark.parametrize("title", ["groups", "heavy"])
def test_the_search_finds_what_trying_all_finds_of_six_segments(rows, title, name):
    asked, system = two_passes(query(rows, title)), load_system(name)
    assert len(asked.segments) == 6
    costs = Costs(asked, system)
    found, possible = cheapest(costs, sites_of(asked, system), KEPT)
    refused = refusals(asked, system)
    every = [(costs.of(p).time.ns, p) for p in placements(asked, system, refused)]
    assert possible == len(every)
    wanted = sorted(every, key=lambda pair: pair[0])[:KEPT]
    assert [(one.value, one.placement) for one in found] == wanted


@pytest.mark.parametrize("name", ["dpu-csd-host", "nvmeof-dpu", "rack-16", "gpu-direct-host"])
@pytest.mark.parametrize("title", PIPELINES)
def test_no_way_takes_less_than_its_bound(rows, title, name):
    asked, system = query(rows, title), load_system(name)
    if title != "encoded":
        asked = two_passes(asked)
    costs = Costs(asked, system)
    sites = sites_of(asked, system)
    ways = Ways(costs, sites)
    tail = tuple(every[0] for every in sites[costs.places[-1] + 1 :])
    for way, least in zip(ways.every, ways.least_ns(costs), strict=True):
        whole = ChunksWay((sites[0][0], *way, *tail), 1)
        assert least <= costs.together(costs.chunks((whole,))).time.ns, way


def test_a_split_is_faster_than_its_ways_where_both_have_room(rows):
    asked, system = query(rows, "heavy"), SYSTEM
    choice = place(asked, system)
    chosen = choice.chosen.placement
    assert len(chosen.split) > 1
    assert choice.bound_ns <= max(choice.chosen.cost.busy.values())
    result = PIPELINES["heavy"](rows).run(system)
    assert "%" in result.placement
    assert result.table.equals(PIPELINES["heavy"](rows).collect())
    for way in chosen.split:
        pins = {s.kind: site for s, site in zip(asked.segments, way.sites, strict=True)}
        alone = place(asked, system, pins=pins).chosen.cost.time
        assert choice.chosen.cost.time < alone
    for former, later in pairwise(choice.others):
        assert former.cost.time <= later.cost.time


def test_one_device_has_nothing_to_split(rows):
    for pipeline in PIPELINES.values():
        assert place(query_of(pipeline(rows)), load_system("this-machine")).bound_ns is None


def test_pins_leave_nothing_to_split(rows):
    asked = query(rows, "totals")
    placement = place(asked, SYSTEM, pins={"near": "dpu0", "partial": "dpu0"})
    assert placement.chosen.placement.sites[1:3] == ("dpu0", "dpu0")


def test_what_cannot_be_is_refused_with_reasons(rows):
    with pytest.raises(Refused, match="no device") as refused:
        place(query(rows, "totals"), SYSTEM, pins={"routing": "csd0"})
    assert any("has no route" in reason for reason in refused.value.reasons)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("title", ["totals", "groups", "rows"])
def test_rules_give_placements_that_run(rows, name, title):
    asked = query(rows, title)
    placement = RULES[name](asked, SYSTEM)
    choice = place(asked, SYSTEM)
    # Where it is in doubt how many rows pass, the cheapest at the best guess need not be chosen.
    least = min(one.cost.time for one in (choice.chosen, *choice.others))
    assert predict(asked, SYSTEM, placement).time >= least
