"""1,000 requests "orders of customer c since d": each reads one chunk of one shard.

Routed by key on the NIC, filtered and projected on the drive that holds the shard, answered from
there: a request moves some hundred bytes where the host alone would move a chunk of 288 KiB.
"""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from random import Random

import pyarrow as pa
import pyarrow.compute as pc

from wherry.benchmarks.second_opinion import ask
from wherry.benchmarks.workload import Tables, Workload, through_nic
from wherry.data.source import column_bounds, open_source
from wherry.ir.builder import col
from wherry.pipeline import Pipeline, scan

REQUESTS = 1000
SEED = 1
"""Fixed, so that every run asks the same."""

SQL = """
select request, o_orderkey, o_totalprice, o_orderdate
from requests join orders on o_custkey = customer and o_orderdate >= since
"""


def requests(tables: Tables) -> list[tuple[int, date]]:
    """Give customers and days within the bounds of the data; a third of TPC-H's order nothing."""
    customers = column_bounds(open_source(tables["customer"]), ["c_custkey"])["c_custkey"]
    days = column_bounds(open_source(tables["orders"]), ["o_orderdate"])["o_orderdate"]
    first, last, start, end = customers.min, customers.max, days.min, days.max
    assert isinstance(first, int)
    assert isinstance(last, int)
    assert isinstance(start, date)
    assert isinstance(end, date)
    random = Random(SEED)  # noqa: S311  choices of a benchmark, not secrets
    return [
        (random.randint(first, last), start + timedelta(random.randint(0, (end - start).days)))
        for _ in range(REQUESTS)
    ]


def pipelines(tables: Tables) -> list[Pipeline]:
    """Give one pipeline for each request."""
    orders = scan(tables["orders"])
    return [
        orders.route("o_custkey", equals=customer)
        .filter(col("o_orderdate") >= since)
        .select("o_orderkey", "o_totalprice", "o_orderdate")
        for customer, since in requests(tables)
    ]


def reference(tables: Tables) -> list[pa.Table]:
    """Give DuckDB's answer to each request: one join of all requests, taken apart again."""
    asked = requests(tables)
    customers, days = zip(*asked, strict=True)
    table = pa.table({"request": range(len(asked)), "customer": customers, "since": days})
    joined = ask(SQL, {"requests": table, "orders": tables["orders"]})
    found = joined.take(pc.sort_indices(joined["request"]))
    numbers = found["request"].to_numpy()
    starts = numbers.searchsorted(range(len(asked) + 1))
    rows = found.drop_columns("request")
    return [rows.slice(a, b - a) for a, b in pairwise(starts)]


WORKLOAD = Workload(
    name="orders",
    title=f'{REQUESTS:,} requests "orders of customer c since d", 16 in flight',
    pipelines=pipelines,
    reference=reference,
    ordered=False,
    near=through_nic,
    placed_by="pins",
    in_flight=16,
)
