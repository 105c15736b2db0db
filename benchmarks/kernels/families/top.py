"""The 100 dearest rows, four columns out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from wherry.benchmarks.kernels.answers import in_order
from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.question import Ask, Question, Scan

_OUT = ("l_orderkey", "l_partkey", "l_extendedprice", "l_shipdate")
_BY = "l_extendedprice"
_ROWS = 100


def questions(_: Data) -> dict[str, Question]:
    """Give the question; rows of equal price may come in any order, so prices are compared."""
    return {
        "top-100": Question(
            tables={"t": "float64"},
            columns=_OUT,
            wherry=_wherry,
            sql=f"select {', '.join(_OUT)} from t order by {_BY} desc limit {_ROWS}",
            polars=_polars,
            arrow=_arrow,
            differs=in_order(_BY),
            reads=(_BY,),
        )
    }


def _wherry(scan: Scan) -> Ask:
    return scan("t").select(*_OUT).top_k(_ROWS, by=_BY).collect


def _polars(_: Any, tables: Mapping[str, Any]) -> Any:
    found = tables["t"].select(*_OUT).top_k(_ROWS, by=_BY)
    return found.sort(_BY, descending=True)  # top_k promises no order; of 100 rows it costs nothing


def _arrow(tables: Mapping[str, Any]) -> Mapping[str, Ask]:
    table = tables["t"].select(list(_OUT))

    def select_k() -> Any:
        return table.take(pc.select_k_unstable(table, _ROWS, [(_BY, "descending")]))

    return {"pyarrow.compute": select_k}
