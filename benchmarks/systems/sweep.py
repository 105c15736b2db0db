"""Rows of lineitem by share and columns by number: where a filter near the data pays.

l_partkey is spread evenly and in no order, so `l_partkey <= s * parts` lets a share s of the rows
of every chunk pass, and no statistics prune anything. The first six columns are integers and days;
the last two are decimals, which an XDP card does not handle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wherry.benchmarks.workload import Tables
from wherry.data.source import column_bounds, open_source
from wherry.ir.builder import col
from wherry.pipeline import Pipeline, scan

SHARES: Final = (0.0001, 0.01, 0.1, 0.5, 1.0)
WIDTHS: Final = (1, 4, 8)
COLUMNS: Final = (
    "l_orderkey", "l_linenumber", "l_suppkey", "l_shipdate", "l_commitdate", "l_receiptdate",
    "l_extendedprice", "l_quantity",
)  # fmt: skip


def name_of(share: float, width: int) -> str:
    """Give the name of a workload of the sweep.

    >>> name_of(0.0001, 4)
    'sweep-0.01%-4'
    """
    return f"sweep-{100 * share:g}%-{width}"


def title_of(share: float, width: int) -> str:
    """Say what a workload of the sweep asks for."""
    columns = "1 column" if width == 1 else f"{width} columns"
    return f"{100 * share:g} % of the rows, {columns}"


def pipeline_of(share: float, width: int) -> Callable[[Tables], Pipeline]:
    """Give what makes the pipeline."""

    def made(tables: Tables) -> Pipeline:
        parts = column_bounds(open_source(tables["part"]), ["p_partkey"])["p_partkey"].max
        assert isinstance(parts, int)
        lines = scan(tables["lineitem"])
        return lines.filter(col("l_partkey") <= max(1, round(parts * share))).select(
            *COLUMNS[:width]
        )

    return made


def sql_of(share: float, width: int) -> str:
    """Give the same question in SQL; DuckDB keeps the order of insertion, as we do."""
    columns = ", ".join(COLUMNS[:width])
    least = f"greatest(1, round_even({share!r} * (select max(p_partkey) from part), 0))"
    return f"select {columns} from lineitem where l_partkey <= {least}"
