"""TPC-H Q1: eight aggregates of nearly all rows in four groups. The work is the arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pyarrow as pa

from wherry.benchmarks.second_opinion import ask
from wherry.benchmarks.workload import Tables, Workload, on_drives
from wherry.ir.builder import Aggregate, col, count
from wherry.pipeline import Pipeline, scan

KEYS = ("l_returnflag", "l_linestatus")
UNTIL = date(1998, 9, 2)
GROUPED = """
select l_returnflag, l_linestatus,
  sum(l_quantity) as sum_qty,
  sum(l_extendedprice) as sum_base_price,
  sum(l_extendedprice * (1 - l_discount)) as sum_disc_price,
  sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) as sum_charge,
  avg(l_quantity) as avg_qty,
  avg(l_extendedprice) as avg_price,
  avg(l_discount) as avg_disc,
  count(*) as count_order
from lineitem
where l_shipdate <= date '1998-09-02'
group by l_returnflag, l_linestatus
"""
"""Q1 without its order."""
ORDERED = f"{GROUPED} order by {', '.join(KEYS)}"


def aggregates() -> Mapping[str, Aggregate]:
    """Give what Q1 asks of each group, by name."""
    discounted = col("l_extendedprice") * (1 - col("l_discount"))
    return {
        "sum_qty": col("l_quantity").sum(),
        "sum_base_price": col("l_extendedprice").sum(),
        "sum_disc_price": discounted.sum(),
        "sum_charge": (discounted * (1 + col("l_tax"))).sum(),
        "avg_qty": col("l_quantity").mean(),
        "avg_price": col("l_extendedprice").mean(),
        "avg_disc": col("l_discount").mean(),
        "count_order": count(),
    }


def pipeline(tables: Tables) -> Pipeline:
    """Give Q1 as a pipeline."""
    return (
        scan(tables["lineitem"])
        .filter(col("l_shipdate") <= UNTIL)
        .group_by(*KEYS)
        .agg(**aggregates())
        .sort(*KEYS)
    )


def reference(tables: Tables) -> list[pa.Table]:
    """Give DuckDB's answer."""
    return [ask(ORDERED, {"lineitem": tables["lineitem"]})]


WORKLOAD = Workload(
    name="q1",
    title="TPC-H Q1, the pricing summary of what was shipped until 1998-09-02",
    pipelines=lambda tables: [pipeline(tables)],
    reference=reference,
    ordered=True,
    near=on_drives,
)
