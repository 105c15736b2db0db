"""Split four columns into 16 partitions by order.

The peers have no such operator that gives tables: each is asked in every way it has, and may use
the cheapest function of the key that spreads it, four of its bits (orders come eight at a time in
every 32 numbers, so the lowest bits would not do).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wherry.benchmarks.kernels.answers import same_parts
from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.question import Ask, Question, Scan

_OUT = ("l_orderkey", "l_partkey", "l_extendedprice", "l_shipdate")
_KEY = "l_orderkey"
_PARTS = 16
_BITS = 0b1_1110_0000
_VALUES = range(0, _BITS + 1, 0b10_0000)


def questions(_: Data) -> dict[str, Question]:
    """Give the question."""
    out = ", ".join(_OUT)
    queries = [f"select {out} from t where {_KEY} & {_BITS} = {value}" for value in _VALUES]
    return {
        "partition-16": Question(
            tables={"t": "float64"},
            columns=_OUT,
            wherry=_wherry,
            sql=queries,
            polars=_polars,
            arrow=_arrow,
            differs=same_parts(_KEY),
            reads=_OUT,
            limit="copy",
            eager_polars=_partition_by,
        )
    }


def _wherry(scan: Scan) -> Ask:
    chosen: Any = scan("t").select(*_OUT)
    return chosen.route(_KEY, shards=_PARTS).collect_shards


def _polars(pl: Any, tables: Mapping[str, Any]) -> Any:
    chosen = tables["t"].select(*_OUT)
    return [chosen.filter(pl.col(_KEY) & _BITS == value) for value in _VALUES]


def _partition_by(pl: Any, frame: Any) -> Ask:
    chosen = frame.select(*_OUT)

    def ask() -> Any:
        marked = chosen.with_columns(part=pl.col(_KEY) & _BITS)
        return marked.partition_by("part", include_key=False, maintain_order=False)

    return ask


def _arrow(tables: Mapping[str, Any]) -> Mapping[str, Ask]:
    table = tables["t"].select(list(_OUT))

    def filters() -> list[pa.Table]:
        bits = pc.bit_wise_and(table[_KEY], _BITS)
        return [table.filter(pc.equal(bits, value)) for value in _VALUES]

    def sort_and_take() -> list[pa.Table]:
        bits = pc.bit_wise_and(table[_KEY], _BITS).cast(pa.int16())
        ordered = table.take(pc.sort_indices(bits))
        counts = {e["values"]: e["counts"] for e in pc.value_counts(bits).to_pylist()}
        ends = list(accumulate(counts.get(value, 0) for value in _VALUES))
        starts = [0, *ends[:-1]]
        return [ordered.slice(a, b - a) for a, b in zip(starts, ends, strict=True)]

    return {"pyarrow.compute": filters, "pyarrow sorted": sort_and_take}
