"""Straight from Parquet: Q6, a filter, and a question that one of 50 row groups can answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow.compute as pc
from msgspec.structs import replace
from pyarrow import parquet

from wherry.base.errors import InputError
from wherry.benchmarks.kernels.acero_plan import declared
from wherry.benchmarks.kernels.answers import in_order
from wherry.benchmarks.kernels.data import ROW_GROUPS, Data
from wherry.benchmarks.kernels.families import filters, q6
from wherry.benchmarks.kernels.question import Absent, Ask, Question, Scan
from wherry.ir.builder import col

_LINEITEM = "lineitem.parquet"
_GROUPS = "groups.parquet"


def questions(data: Data) -> dict[str, Question]:
    """Give the questions; the generator's files are compressed with snappy."""
    found = {
        "parquet-q6": q6.over(_LINEITEM, exact=True),
        "parquet-filter-1%": filters.over(_LINEITEM, data.parts, 1, filters.OUT),
        "parquet-1-of-50-row-groups": _one_group(data),
    }
    return {
        name: replace(question, wherry=_if_parquet(question.wherry))
        for name, question in found.items()
    }


def _if_parquet(build: Callable[[Scan], Ask]) -> Callable[[Scan], Ask]:
    def wherry(scan: Scan) -> Ask:
        try:
            scan("t")
        except InputError as error:
            raise Absent(str(error)) from error
        return build(scan)

    return wherry


def _one_group(data: Data) -> Question:
    """Ask for orders that lie in the middle row group alone; the file is in their order."""
    reads = ("l_orderkey", "l_extendedprice")
    metadata = parquet.read_metadata(data.path(_GROUPS))
    group = min(ROW_GROUPS, metadata.num_row_groups) // 2
    place = metadata.schema.to_arrow_schema().get_field_index("l_orderkey")
    statistics = metadata.row_group(group).column(place).statistics
    low, high = statistics.min + 1, statistics.max - 1  # orders on an edge may be in two groups

    def wherry(scan: Scan) -> Ask:
        kept = scan("t").filter(col("l_orderkey") >= low, col("l_orderkey") <= high)
        return kept.agg(total=col("l_extendedprice").sum()).collect

    def polars(pl: Any, tables: Mapping[str, Any]) -> Any:
        kept = tables["t"].filter(pl.col("l_orderkey") >= low, pl.col("l_orderkey") <= high)
        return kept.select(total=pl.col("l_extendedprice").sum())

    def arrow(tables: Mapping[str, Any]) -> Mapping[str, Ask]:
        kept = (pc.field("l_orderkey") >= low) & (pc.field("l_orderkey") <= high)
        price = {"price": pc.field("l_extendedprice")}
        sums = [("price", "sum", None, "total")]
        return {"acero": declared(tables["t"], kept, columns=price, sums=sums, reads=reads)}

    return Question(
        tables={"t": _GROUPS},
        columns=reads,
        wherry=wherry,
        sql=(
            "select sum(l_extendedprice) as total from t "
            f"where l_orderkey >= {low} and l_orderkey <= {high}"
        ),
        polars=polars,
        arrow=arrow,
        differs=in_order(),
        reads=reads,
        row_groups=(group,),
    )
