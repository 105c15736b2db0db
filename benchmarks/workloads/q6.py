"""TPC-H Q6: one number from 2 % of the rows. The work is the scan, the answer is 16 bytes."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa

from wherry.benchmarks.second_opinion import ask
from wherry.benchmarks.workload import Tables, Workload, on_drives
from wherry.ir.builder import col
from wherry.pipeline import Pipeline, scan

SQL = """
select sum(l_extendedprice * l_discount) as revenue
from lineitem
where l_shipdate >= date '1994-01-01' and l_shipdate < date '1995-01-01'
  and l_discount between 0.05 and 0.07 and l_quantity < 24
"""


def pipeline(tables: Tables) -> Pipeline:
    """Give Q6 as a pipeline."""
    return (
        scan(tables["lineitem"])
        .filter(
            col("l_shipdate") >= date(1994, 1, 1),
            col("l_shipdate") < date(1995, 1, 1),
            col("l_discount") >= Decimal("0.05"),
            col("l_discount") <= Decimal("0.07"),
            col("l_quantity") < 24,
        )
        .agg(revenue=(col("l_extendedprice") * col("l_discount")).sum())
    )


def reference(tables: Tables) -> list[pa.Table]:
    """Give DuckDB's answer."""
    return [ask(SQL, {"lineitem": tables["lineitem"]})]


WORKLOAD = Workload(
    name="q6",
    title="TPC-H Q6, the revenue of small discounted orders shipped in 1994",
    pipelines=lambda tables: [pipeline(tables)],
    reference=reference,
    ordered=True,
    near=on_drives,
)
