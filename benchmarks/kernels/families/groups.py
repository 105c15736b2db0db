"""Sums of many groups: by part (0.2 M at scale factor 1), by order (1.5 M), sorted and not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from wherry.benchmarks.kernels.acero_plan import declared
from wherry.benchmarks.kernels.answers import by_keys
from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.question import Ask, Question, Scan
from wherry.ir.builder import col


def questions(_: Data) -> dict[str, Question]:
    """Give the group-bys; lineitem is stored in the order of its orders."""
    return {
        "group-partkey": _over("float64", "l_partkey"),
        "group-orderkey": _over("float64", "l_orderkey"),
        "group-orderkey-shuffled": _over("shuffled", "l_orderkey"),
    }


def _over(table: str, key: str) -> Question:
    def wherry(scan: Scan) -> Ask:
        return scan("t").group_by(key).agg(total=col("l_quantity").sum()).collect

    def polars(pl: Any, tables: Mapping[str, Any]) -> Any:
        return tables["t"].group_by(key).agg(total=pl.col("l_quantity").sum())

    def arrow(tables: Mapping[str, Any]) -> Mapping[str, Ask]:
        columns = {name: pc.field(name) for name in (key, "l_quantity")}
        sums = [("l_quantity", "hash_sum", None, "total")]
        return {"acero": declared(tables["t"], columns=columns, sums=sums, keys=(key,))}

    return Question(
        tables={"t": table},
        columns=(key, "l_quantity"),
        wherry=wherry,
        sql=f"select {key}, sum(l_quantity) as total from t group by {key}",
        polars=polars,
        arrow=arrow,
        differs=by_keys(key),
        reads=(key, "l_quantity"),
    )
