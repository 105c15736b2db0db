"""TPC-H Q6: one number from 2 % of the rows of four columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow.compute as pc

from wherry.benchmarks.kernels.acero_plan import declared
from wherry.benchmarks.kernels.answers import in_order
from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.question import Ask, Question, Scan
from wherry.ir.builder import col

COLUMNS = ("l_shipdate", "l_discount", "l_quantity", "l_extendedprice")
_FROM, _UNTIL = date(1994, 1, 1), date(1995, 1, 1)


def questions(_: Data) -> dict[str, Question]:
    """Give Q6 with floats and with decimals."""
    return {"q6-float64": over("float64", exact=False), "q6-decimal": over("decimal", exact=True)}


def over(table: str, *, exact: bool) -> Question:
    """Give Q6 over a table whose amounts are decimals (`exact`) or floats."""
    low, high = (Decimal("0.05"), Decimal("0.07")) if exact else (0.05, 0.07)
    most = Decimal(24) if exact else 24.0

    def wherry(scan: Scan) -> Ask:
        kept = scan("t").filter(
            col("l_shipdate") >= _FROM,
            col("l_shipdate") < _UNTIL,
            col("l_discount") >= low,
            col("l_discount") <= high,
            col("l_quantity") < most,
        )
        return kept.agg(revenue=(col("l_extendedprice") * col("l_discount")).sum()).collect

    def polars(pl: Any, tables: Mapping[str, Any]) -> Any:
        kept = tables["t"].filter(
            pl.col("l_shipdate") >= _FROM,
            pl.col("l_shipdate") < _UNTIL,
            pl.col("l_discount") >= low,
            pl.col("l_discount") <= high,
            pl.col("l_quantity") < most,
        )
        price = pl.col("l_extendedprice")
        if exact:  # a product has the larger scale and would be rounded to it
            price = price.cast(pl.Decimal(38, 4))
        return kept.select(revenue=(price * pl.col("l_discount")).sum())

    def arrow(tables: Mapping[str, Any]) -> Mapping[str, Ask]:
        ship, discount = pc.field("l_shipdate"), pc.field("l_discount")
        kept = (
            (ship >= _FROM)
            & (ship < _UNTIL)
            & (discount >= low)
            & (discount <= high)
            & (pc.field("l_quantity") < most)
        )
        revenue = {"revenue": pc.field("l_extendedprice") * discount}
        sums = [("revenue", "sum", None, "revenue")]
        return {"acero": declared(tables["t"], kept, columns=revenue, sums=sums, reads=COLUMNS)}

    bounds = ("cast(0.05 as decimal(15, 2))", "cast(0.07 as decimal(15, 2))")
    sql_low, sql_high = bounds if exact else ("0.05", "0.07")
    return Question(
        tables={"t": table},
        columns=COLUMNS,
        wherry=wherry,
        sql=(
            "select sum(l_extendedprice * l_discount) as revenue from t "
            "where l_shipdate >= date '1994-01-01' and l_shipdate < date '1995-01-01' "
            f"and l_discount >= {sql_low} and l_discount <= {sql_high} and l_quantity < 24"
        ),
        polars=polars,
        arrow=arrow,
        differs=in_order(),
        reads=COLUMNS,
    )
