"""Keep the rows whose part is among 1 % of all parts, four columns out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc
from pyarrow import acero

from wherry.benchmarks.kernels.answers import same_rows
from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.families.filters import OUT
from wherry.benchmarks.kernels.question import Absent, Ask, Question, Scan

_KEY = "l_partkey"


def questions(_: Data) -> dict[str, Question]:
    """Give the question."""
    out = ", ".join(OUT)
    return {
        "semi-join-1%": Question(
            tables={"t": "float64", "keys": "keys"},
            columns=(_KEY, *OUT),
            wherry=_wherry,
            sql=f"select {out} from t where {_KEY} in (select {_KEY} from keys)",
            polars=_polars,
            arrow=_arrow,
            differs=same_rows,
            reads=(_KEY,),
        )
    }


def _wherry(scan: Scan) -> Ask:
    lines: Any = scan("t")
    if not hasattr(lines, "join"):
        raise Absent("pipelines have no join")
    return lines.join(scan("keys"), on=_KEY, how="semi").select(*OUT).collect


def _polars(_: Any, tables: Mapping[str, Any]) -> Any:
    return tables["t"].join(tables["keys"], on=_KEY, how="semi").select(*OUT)


def _arrow(tables: Mapping[str, Any]) -> Mapping[str, Ask]:
    table, keys = tables["t"], tables["keys"]
    columns, wanted = table.select(list(OUT)), keys[_KEY].combine_chunks()
    sides = [
        acero.Declaration("table_source", acero.TableSourceNodeOptions(t)) for t in (table, keys)
    ]
    on, out = [_KEY], list(OUT)
    options = acero.HashJoinNodeOptions("left semi", on, on, left_output=out, right_output=[])
    join = acero.Declaration("hashjoin", options, inputs=sides)
    return {
        "acero": lambda: join.to_table(use_threads=True),
        "pyarrow.compute": lambda: columns.filter(pc.is_in(table[_KEY], wanted)),
    }
