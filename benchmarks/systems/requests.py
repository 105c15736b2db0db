"""Requests for single orders and for small ranges of them, and when they arrive.

The table `keyed` is the first 128 Ki orders in batches of 1024, sorted by key, so that statistics
leave a lookup one batch and a range one or two. Arrivals are a Poisson process: an open loop, whose
requests do not wait for each other. The seed is fixed: every run asks the same at the same times.
"""

from __future__ import annotations

from random import Random
from typing import Final

from wherry.benchmarks.systems.queries import Question
from wherry.benchmarks.workload import Tables
from wherry.data.source import column_bounds, open_source
from wherry.ir.builder import col
from wherry.pipeline import Pipeline, scan

TABLE: Final = "keyed"
DIFFERENT: Final = 128
"""Requests that differ; a stream draws from them."""
_RANGES: Final = 0.2
"""The share of requests that are ranges."""
_WIDTH: Final = 1000
_SEED: Final = 4
_NS_PER_S: Final = 1_000_000_000
_OUT: Final = ("o_orderkey", "o_custkey", "o_totalprice", "o_orderdate")


def different(tables: Tables) -> list[Pipeline]:
    """Give the requests that a stream draws from."""
    random = Random(_SEED)  # noqa: S311  choices of a benchmark, not secrets
    keys = column_bounds(open_source(tables[TABLE]), ["o_orderkey"])["o_orderkey"]
    assert isinstance(keys.min, int)
    assert isinstance(keys.max, int)
    found = []
    for _ in range(DIFFERENT):
        key, kind = random.randint(keys.min, keys.max), random.random()
        found.append(_range(tables, key) if kind < _RANGES else _lookup(tables, key))
    return found


def stream(count: int, rate_per_s: int) -> tuple[list[int], list[int]]:
    """Give which of the different requests arrive, and when, in nanoseconds; integers only."""
    random = Random(_SEED + rate_per_s)  # noqa: S311  as above
    which, arrivals, now = [], [], 0
    for _ in range(count):
        which.append(random.randrange(DIFFERENT))
        now += round(random.expovariate(rate_per_s) * _NS_PER_S)
        arrivals.append(now)
    return which, arrivals


def _lookup(tables: Tables, key: int) -> Pipeline:
    return scan(tables[TABLE]).filter(col("o_orderkey") == key).select(*_OUT)


def _range(tables: Tables, key: int) -> Pipeline:
    wanted = (col("o_orderkey") >= key, col("o_orderkey") < key + _WIDTH)
    return scan(tables[TABLE]).filter(*wanted).select(*_OUT)


_KEY: Final = 10_017
_SQL: Final = f"select {', '.join(_OUT)} from {TABLE} where o_orderkey"
SINGLE: Final = (
    Question(
        "lookup", "one order by its key", lambda t: _lookup(t, _KEY), f"{_SQL} = {_KEY}", False
    ),
    Question(
        "range",
        "the orders of 1,000 neighbouring keys",
        lambda t: _range(t, _KEY),
        f"{_SQL} >= {_KEY} and o_orderkey < {_KEY + _WIDTH}",
        False,
    ),
)
"""One request of each kind, judged by itself."""
