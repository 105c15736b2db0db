"""Once a query is over nobody maps what it took, whatever programs have learned from it."""

from __future__ import annotations

import gc
import time

import pyarrow as pa
import pytest
from support.clusters import DRIVES, Cluster, cluster, handed_over, store

import wherry as wh
from wherry import col, count
from wherry.serve.connection import MAPPINGS

KINDS = [f"kind {number}" for number in range(7)]
ROWS = 20_000
TABLE = pa.table(
    {
        "x": range(ROWS),
        "kind": pa.array([KINDS[n % 7] for n in range(ROWS)]).dictionary_encode(),
        "text": [f"text {n % 5}" for n in range(ROWS)],
    }
)
QUERIES = {
    "codes as they are": lambda rows: rows.group_by("kind").agg(n=count()),
    "a table by code": lambda rows: rows.filter(col("kind").str.ends_with("3")),
    "a table and its codes": lambda rows: (
        rows.filter(col("kind") > "kind 2").group_by("kind").agg(n=col("x").sum())
    ),
    "texts": lambda rows: rows.filter(col("text") != "text 1").group_by("text").agg(n=count()),
    "rows": lambda rows: rows.filter(col("x") > 7).sort("x", descending=True).limit(10),
}


SITES = {"taken as stored": {"near": "dpu0"}, "taken as made": {"near": "home", "merge": "dpu0"}}
FORMS = {"arrow": ("arrow", None), "lz4": ("arrow", "lz4"), "parquet": ("parquet", "zstd")}


@pytest.fixture(scope="module", params=[False, True], ids=["real", "emulated"])
def there(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("g")
    for name, (form, compression) in FORMS.items():
        store(folder, TABLE, name, rows=5_000, form=form, compression=compression)
    with cluster(folder, *DRIVES, "dpu0", emulate=request.param) as found:
        yield found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("sites", SITES)
def test_what_was_taken_is_let_go_when_the_query_is_over(there, sites, query, form):
    asked = QUERIES[query](wh.scan(form, system=there.system))
    # What only filters has nothing to merge: its rows go to the DPU to be put in order.
    placement = SITES[sites] if "group" in str(asked.operators[-1]).lower() else {"near": "dpu0"}
    for _ in range(2):
        result = asked.run(there.system, placement=placement)
        assert handed_over(result)
        del result
    until = time.monotonic() + 5
    while (kept := (len(MAPPINGS), used(there))) != (0, 0) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    assert kept == (0, 0), "mappings of others' memory, and bytes of segments"


def used(there: Cluster) -> int:
    """Give the bytes of segments that agents keep for somebody."""
    return sum(sum(agent.station.memory().values()) for agent in there.agents.values())
