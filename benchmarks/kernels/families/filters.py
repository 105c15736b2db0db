"""Filter by a key without order, four columns out (28 bytes a row), at five selectivities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from wherry.benchmarks.kernels.acero_plan import declared
from wherry.benchmarks.kernels.answers import same_rows
from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.question import Ask, Question, Scan
from wherry.ir.builder import col

OUT = ("l_orderkey", "l_suppkey", "l_extendedprice", "l_shipdate")
_PERCENT = (0.1, 1, 10, 50, 90)
_DENSE_PERCENT = 10
"""From here on every cache line of every column holds a row that is kept."""


def questions(data: Data) -> dict[str, Question]:
    """Give one question for each selectivity."""
    return {f"filter-{p:g}%": over("float64", data.parts, p, OUT) for p in _PERCENT}


def over(table: str, parts: int, percent: float, out: tuple[str, ...]) -> Question:
    """Give the filter that keeps `percent` of a table's rows."""
    below = max(1, round(parts * percent / 100)) + 1
    reads = ("l_partkey", *out)

    def wherry(scan: Scan) -> Ask:
        return scan("t").filter(col("l_partkey") < below).select(*out).collect

    def polars(pl: Any, tables: Mapping[str, Any]) -> Any:
        return tables["t"].filter(pl.col("l_partkey") < below).select(*out)

    def arrow(tables: Mapping[str, Any]) -> Mapping[str, Ask]:
        kept, found = pc.field("l_partkey") < below, tables["t"]
        columns = {name: pc.field(name) for name in out}
        ways = {"acero": declared(found, kept, columns=columns, reads=reads)}
        if hasattr(found, "columns"):  # a table; a dataset's own way is Acero's
            chosen = found.select(list(out))
            ways["pyarrow.compute"] = lambda: chosen.filter(pc.less(found["l_partkey"], below))
        return ways

    return Question(
        tables={"t": table},
        columns=reads,
        wherry=wherry,
        sql=f"select {', '.join(out)} from t where l_partkey < {below}",
        polars=polars,
        arrow=arrow,
        differs=same_rows,
        reads=reads if percent >= _DENSE_PERCENT else ("l_partkey",),
    )
