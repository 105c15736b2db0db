"""TPC-H Q1: eight aggregates of nearly all rows in four groups. The work is the arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wherry.benchmarks.kernels.acero_plan import declared
from wherry.benchmarks.kernels.answers import by_keys
from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.question import Ask, Question, Scan
from wherry.benchmarks.workloads.q1 import GROUPED, KEYS, UNTIL, aggregates
from wherry.ir.builder import col

_NUMBERS = ("l_quantity", "l_extendedprice", "l_discount", "l_tax")


def questions(_: Data) -> dict[str, Question]:
    """Give Q1 with floats, with flags in dictionaries, and with decimals."""
    return {
        "q1-float64": _over("float64", exact=False),
        "q1-dictionary": _over("dictionary", exact=False),
        "q1-decimal": _over("decimal", exact=True),
    }


def _over(table: str, *, exact: bool) -> Question:
    def polars(pl: Any, tables: Mapping[str, Any]) -> Any:
        return polars_plan(pl, tables, exact=exact)

    def arrow(tables: Mapping[str, Any]) -> Mapping[str, Ask]:
        return {"acero": _acero(tables["t"], exact=exact)}

    columns = ("l_shipdate", *KEYS, *_NUMBERS)
    return Question(
        tables={"t": table},
        columns=columns,
        wherry=_wherry,
        sql=GROUPED.replace("lineitem", "t"),
        polars=polars,
        arrow=arrow,
        differs=by_keys(*KEYS),
        reads=columns,
    )


def _wherry(scan: Scan) -> Ask:
    return scan("t").filter(col("l_shipdate") <= UNTIL).group_by(*KEYS).agg(**aggregates()).collect


def polars_plan(pl: Any, tables: Mapping[str, Any], *, exact: bool) -> Any:
    """Give Q1 over the lazy frame `t`, for amounts that are decimals (`exact`) or floats."""
    price, taxed = pl.col("l_extendedprice"), 1 + pl.col("l_tax")
    discounted = price * (1 - pl.col("l_discount"))
    charge = discounted * taxed
    if exact:  # a product has the larger scale and would be rounded to it
        discounted = price.cast(pl.Decimal(38, 4)) * (1 - pl.col("l_discount"))
        charge = discounted.cast(pl.Decimal(38, 6)) * taxed
    grouped = tables["t"].filter(pl.col("l_shipdate") <= UNTIL).group_by(*KEYS)
    return grouped.agg(
        sum_qty=pl.col("l_quantity").sum(),
        sum_base_price=price.sum(),
        sum_disc_price=discounted.sum(),
        sum_charge=charge.sum(),
        avg_qty=pl.col("l_quantity").mean(),
        avg_price=price.mean(),
        avg_disc=pl.col("l_discount").mean(),
        count_order=pl.len(),
    )


def _acero(table: pa.Table, *, exact: bool) -> Ask:
    price = pc.field("l_extendedprice")
    discounted = price * (_one(exact=exact) - _rate("l_discount", exact=exact))
    charge = discounted * (_one(exact=exact) + _rate("l_tax", exact=exact))
    columns = {
        **{name: pc.field(name) for name in (*KEYS, *_NUMBERS[:3])},
        "discounted": discounted,
        "charge": charge,
    }
    sums = [
        ("l_quantity", "hash_sum", None, "sum_qty"),
        ("l_extendedprice", "hash_sum", None, "sum_base_price"),
        ("discounted", "hash_sum", None, "sum_disc_price"),
        ("charge", "hash_sum", None, "sum_charge"),
        ("l_quantity", "hash_mean", None, "avg_qty"),
        ("l_extendedprice", "hash_mean", None, "avg_price"),
        ("l_discount", "hash_mean", None, "avg_disc"),
        ([], "hash_count_all", None, "count_order"),
    ]
    kept = pc.field("l_shipdate") <= UNTIL
    return declared(table, kept, columns=columns, sums=sums, keys=KEYS)


def _one(*, exact: bool) -> Any:
    return pc.scalar(pa.scalar(Decimal(1), pa.decimal128(1, 0))) if exact else pc.scalar(1.0)


def _rate(name: str, *, exact: bool) -> Any:
    """Give a rate with the digits it needs: products of the stored widths pass 38 digits."""
    return pc.field(name).cast(pa.decimal128(3, 2)) if exact else pc.field(name)
