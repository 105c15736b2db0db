"""Placements by energy, money and weightings: as good as trying all; splits by linear program."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from support.days import days
from support.devices import power, price
from support.runs import faster_link, query_of

from wherry import InputError, Refused, col, load_system
from wherry.devices.expense import expense
from wherry.plan.cost import Costs, predict
from wherry.plan.linear import least_busy
from wherry.plan.objective import score_of, weights_of
from wherry.plan.place import KEPT, host_only, place
from wherry.plan.placement import placements, possible_sites, refusals
from wherry.plan.sample import sampled
from wherry.plan.search import cheapest
from wherry.session import Options, explain

PIPELINES = {
    "totals": lambda rows: rows.filter(col("day") < 100).agg(total=col("price").sum()),
    "rows": lambda rows: rows.filter(col("day") < 1200),
    "encoded": lambda rows: rows.filter(col("day") < 240).respond("zstd"),
}
OBJECTIVES = ["energy", "money", {"time": 1.0, "energy": 0.2}, {"energy": 1.0, "money": 3.0}]


def priced(system, *, idle=True):
    """Give the system with a draw and a price for every device, drives being frugal."""
    devices = {}
    for number, (name, profile) in enumerate(system.devices.items()):
        watts = (300.0, 60.0, 9.0, 7.0)[min(number, 3)]
        devices[name] = msgspec.structs.replace(
            profile, power=power(watts, watts / 3 if idle else None), price=price(hour=watts / 100)
        )
    return msgspec.structs.replace(system, devices=devices)


SYSTEM = priced(load_system("dpu-csd-host"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return days(tmp_path_factory.mktemp("rows"), rows=100_000, batch=25_000)


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize("title", PIPELINES)
def test_the_search_finds_what_trying_all_finds(rows, title, objective, factor, idle):
    system = faster_link(priced(SYSTEM, idle=idle), 3, factor)
    asked, weights = query_of(PIPELINES[title](rows)), weights_of(objective)
    host = place(asked, system, pins=host_only(asked, system)).chosen.cost
    score, refused = score_of(weights, system, host), refusals(asked, system)
    sites = [
        [site for site in every if site not in no]
        for every, no in zip(possible_sites(asked, system), refused, strict=True)
    ]
    found, _ = cheapest(Costs(asked, system), sites, KEPT, score)
    costs = Costs(asked, system)
    every = [(score.of(costs.of(p)), p) for p in placements(asked, system, refused)]
    wanted = sorted(every, key=lambda pair: pair[0])[:KEPT]
    assert [(one.value, one.placement) for one in found] == wanted


def test_a_score_is_what_the_expense_of_the_placement_says(rows):
    told = explain(PIPELINES["totals"](rows), SYSTEM, Options(objective="energy"))
    asked = sampled(query_of(PIPELINES["totals"](rows)))
    cost = predict(
        asked, SYSTEM, place(asked, SYSTEM, weights=weights_of("energy")).chosen.placement
    )
    for name, known in (("energy", told.expense.energy_j), ("money", told.expense.usd)):
        score = score_of(weights_of(name), SYSTEM, cost)
        assert float(score.of(cost) * score.unit) == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize("name", ["dpu-csd-host", "nvmeof-dpu"])
@pytest.mark.parametrize("title", ["totals", "largest"])
def test_work_where_chunks_meet_draws_too(rows, name, title):
    pipeline = rows.sort("price") if title == "largest" else PIPELINES[title](rows)
    system = priced(load_system(name), idle=False)
    told, ran = explain(pipeline, system, Options()), pipeline.run(system)
    assert told.expense.energy_j == pytest.approx(ran.usage.expense.energy_j, rel=0.02)


def test_no_known_draw_is_no_energy():
    system = load_system("dpu-csd-host")
    known = expense(system, {}, 1_000_000)
    assert known.energy
    assert known.energy_j == 0
    assert known.lines()[0].startswith("energy unknown, without csd0, csd1, whose draw is unknown")
    assert expense(priced(system), {}, 1_000_000).lines()[0].endswith(" J modelled")


def test_what_is_frugal_is_not_what_is_fast(rows):
    asked, system = query_of(PIPELINES["totals"](rows)), priced(SYSTEM, idle=False)
    slow = faster_link(faster_link(system, 3, 0.1), 4, 0.1)
    # Few of the host's cores work for long; the drives' work longer than their watts make up for.
    fast, frugal = (place(asked, slow, weights=weights_of(o)).chosen for o in ("time", "energy"))
    assert fast.placement.sites[1] == "home"
    assert frugal.placement.sites[1] == "host0"
    assert fast.cost.time < frugal.cost.time
    score = place(asked, slow, weights=weights_of("energy")).score
    assert score.of(frugal.cost) < score.of(fast.cost)


def test_a_weighting_counts_shares_of_the_host_alone(rows):
    asked, weights = query_of(PIPELINES["rows"](rows)), weights_of({"time": 2.0, "energy": 0.5})
    host = place(asked, SYSTEM, pins=host_only(asked, SYSTEM)).chosen.cost
    score = score_of(weights, SYSTEM, host)
    assert float(score.of(host) * score.unit) == pytest.approx(2.5)


def test_devices_without_figures_are_named(rows):
    with pytest.raises(Refused, match="energy cannot be the objective") as refused:
        PIPELINES["rows"](rows).run("dpu-csd-host", objective="energy")
    assert refused.value.reasons == (
        "newport has no busy_watts in [power] in its profile: csd0, csd1",
    )
    with pytest.raises(Refused) as refused:
        PIPELINES["rows"](rows).explain("dpu-csd-host", objective={"time": 1, "money": 1})
    assert any("dpu0" in reason for reason in refused.value.reasons)


@pytest.mark.parametrize(
    "objective", ["speed", {"time": -1.0}, {"time": 0.0}, {"time": float("nan")}, {"joy": 1}, 3]
)
def test_objectives_that_are_none_are_refused(objective):
    with pytest.raises(InputError):
        weights_of(objective)


@given(
    st.integers(2, 6).flatmap(
        lambda ways: st.tuples(
            st.lists(
                st.lists(st.integers(0, 1000), min_size=ways, max_size=ways),
                min_size=1,
                max_size=9,
            ),
            st.lists(st.integers(0, 1000), min_size=ways, max_size=ways),
        )
    ),
    st.integers(0, 3),
)
@settings(deadline=None, max_examples=150)
def test_shares_are_those_of_a_linear_program(numbers, height):
    busy, goal = np.array(numbers[0], float), np.array(numbers[1], float)
    shares, value = least_busy(busy, goal, float(height))
    assert shares.min() >= 0
    assert shares.sum() == pytest.approx(1)
    ways = busy.shape[1]
    wanted = linprog(
        [*goal, height],
        A_ub=np.hstack([busy, -np.ones((len(busy), 1))]),
        b_ub=np.zeros(len(busy)),
        A_eq=[[1.0] * ways + [0.0]],
        b_eq=[1.0],
    )
    assert value == pytest.approx(wanted.fun, rel=1e-6, abs=1e-6)
