"""Sizes from samples: near the truth, exact for few rows, and never a reason to fail."""

from operator import truediv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from support.days import days
from support.runs import query_of

from wherry import col, count, load_system, scan
from wherry.plan.cost import Costs, predict
from wherry.plan.place import place
from wherry.plan.placement import placements, refusals
from wherry.plan.query import near_flow, with_near
from wherry.plan.regret import least_regret
from wherry.plan.sample import SAMPLE_ROWS, sampled
from wherry.plan.split import split

ROWS = 300_000
SYSTEM = load_system("dpu-csd-host")


@pytest.fixture(scope="module")
def table():
    values = np.random.default_rng(3)
    return pa.table(
        {
            "number": np.arange(ROWS),
            "few": values.integers(0, 7, ROWS) * 1_000_003,
            "many": values.integers(0, 50_000, ROWS) * 1_000_003,
            "text": pa.array(np.where(values.random(ROWS) < 0.3, "yes", "no")),
            "one": np.ones(ROWS),
        }
    )


def flow(query, kind):
    return next(f for s, f in zip(query.segments, query.flows, strict=True) if s.kind == kind)


@pytest.mark.parametrize(
    ("predicate", "share"),
    [
        (col("number") < ROWS // 10, 0.1),
        (col("text") == "yes", 0.3),
        (col("text").str.contains("o"), 0.7),
        (col("few") == -1, 0.0),
    ],
)
def test_a_share_is_within_its_interval(table, predicate, share):
    query = sampled(query_of(scan(table).filter(predicate)))
    near = near_flow(query)
    assert query.sampled in (0, SAMPLE_ROWS)
    assert near.rows_low <= share * ROWS <= near.rows_high
    assert near.rows_high - near.rows_low <= 0.15 * ROWS
    assert near.rows_low <= near.rows <= near.rows_high


@pytest.mark.parametrize(("key", "groups", "factor"), [("few", 7, 1.0), ("many", 50_000, 2.5)])
def test_groups_are_counted_or_extrapolated(table, key, groups, factor):
    query = sampled(query_of(scan(table).group_by(key).agg(n=count())))
    assert groups / factor <= flow(query, "merge").rows <= groups * factor
    assert flow(query, "partial").rows >= flow(query, "merge").rows * 0.99


def test_few_rows_are_all_looked_at(table):
    query = sampled(query_of(scan(table.slice(0, 3_000)).filter(col("text") == "yes")))
    near = near_flow(query)
    assert near.exact
    assert near.rows == table.slice(0, 3_000).column("text").to_pylist().count("yes")


def test_what_must_be_decoded_is_not_looked_at(table, tmp_path):
    pq.write_table(table, tmp_path / "rows.parquet")
    query = query_of(scan(tmp_path / "rows.parquet").filter(col("text") == "yes"))
    assert sampled(query) is query


def test_what_cannot_be_computed_is_left_to_the_run(table):
    query = query_of(scan(table).filter(col("few").cast(pa.int8()) > 3))
    assert sampled(query) is query


def test_a_sample_is_taken_once(table):
    query = query_of(scan(table).filter(col("text") == "yes"))
    first = sampled(query)
    assert sampled(query).known is first.known
    assert sampled(first) is first


def test_the_choice_under_doubt_has_the_least_largest_regret(tmp_path):
    rows = days(tmp_path, files=2)
    for pipeline in (
        rows.filter(col("price") * col("flag") < 3_000_000),
        rows.filter(col("price") * col("flag") < 3_000_000).group_by("flag").agg(n=count()),
        rows.filter(col("price") * col("flag") < 3_000_000).respond("zstd"),
    ):
        query = query_of(pipeline)
        near = near_flow(query)
        assert not near.exact
        worlds = [query] + [
            with_near(query, replace(near, rows_low=made, rows=made, rows_high=made))
            for made in (near.rows_low, near.rows_high)
        ]
        for name in ("dpu-csd-host", "nvmeof-dpu", "gpu-direct-host"):
            system = load_system(name)
            choice = place(query, system)
            every = list(placements(query, system, refusals(query, system)))
            # The split that is found is one more placement, which all others are compared with.
            first = min(every, key=lambda one: predict(query, system, one).time)
            columns = zip(*(one.sites for one in every), strict=True)
            sites = [list(dict.fromkeys(column)) for column in columns]
            shares = split(query, Costs(query, system), sites, first)
            every += [] if shares is None else [shares.placement]
            times = [[predict(world, system, one).time.ns for world in worlds] for one in every]
            best = [min(column) for column in zip(*times, strict=True)]
            regrets = [max(map(truediv, row, best)) - 1 for row in times]
            assert choice.regret == min(regrets)
            assert regrets[every.index(choice.chosen.placement)] == choice.regret


def test_without_doubt_the_cheapest_is_chosen(table):
    query = query_of(scan(table).select("number"))
    costs = Costs(query, SYSTEM)
    ranked = list(placements(query, SYSTEM, refusals(query, SYSTEM)))
    assert least_regret(costs, [], ranked).placement == ranked[0]
