"""The shapes of TPC-H Q1, Q3, Q6, Q12, Q14 and Q19, and what DuckDB is asked to check them.

Each join has the smaller side as its build side, filtered before it travels.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Final

from msgspec import Struct

from wherry.benchmarks.workload import Tables
from wherry.benchmarks.workloads import q1, q6
from wherry.ir.builder import Expr, col, when
from wherry.pipeline import Pipeline, scan


class Question(Struct, frozen=True):
    """A pipeline over the tables, and the same in SQL.

    Attributes
    ----------
    ordered : bool
        Whether the order of the answer's rows is part of it.
    """

    name: str
    title: str
    pipeline: Callable[[Tables], Pipeline]
    sql: str
    ordered: bool = True


def _revenue() -> Expr:
    return col("l_extendedprice") * (1 - col("l_discount"))


_Q3_DAY: Final = date(1995, 3, 15)
_Q3_SQL: Final = """
select l_orderkey, o_orderdate, sum(l_extendedprice * (1 - l_discount)) as revenue
from lineitem join orders on l_orderkey = o_orderkey join customer on o_custkey = c_custkey
where c_mktsegment = 'BUILDING' and o_orderdate < date '1995-03-15'
  and l_shipdate > date '1995-03-15'
group by l_orderkey, o_orderdate
order by revenue desc, o_orderdate, l_orderkey limit 10
"""


def _q3(tables: Tables) -> Pipeline:
    buyers = scan(tables["customer"]).filter(col("c_mktsegment") == "BUILDING").select("c_custkey")
    early = (
        scan(tables["orders"])
        .filter(col("o_orderdate") < _Q3_DAY)
        .join(buyers, left_on="o_custkey", right_on="c_custkey", how="semi")
        .select("o_orderkey", "o_orderdate")
    )
    return (
        scan(tables["lineitem"])
        .filter(col("l_shipdate") > _Q3_DAY)
        .join(early, left_on="l_orderkey", right_on="o_orderkey")
        .group_by("l_orderkey", "o_orderdate")
        .agg(revenue=_revenue().sum())
        .top_k(10, by=("revenue", "o_orderdate", "l_orderkey"), descending=(True, False, False))
    )


_Q12_SQL: Final = """
select l_shipmode,
  sum(case when o_orderpriority in ('1-URGENT', '2-HIGH') then 1 else 0 end) as high,
  sum(case when o_orderpriority in ('1-URGENT', '2-HIGH') then 0 else 1 end) as low
from orders join lineitem on o_orderkey = l_orderkey
where l_shipmode in ('MAIL', 'SHIP') and l_commitdate < l_receiptdate
  and l_shipdate < l_commitdate and l_receiptdate >= date '1994-01-01'
  and l_receiptdate < date '1995-01-01'
group by l_shipmode order by l_shipmode
"""


def _q12(tables: Tables) -> Pipeline:
    late = (
        scan(tables["lineitem"])
        .filter(
            col("l_receiptdate") >= date(1994, 1, 1),
            col("l_receiptdate") < date(1995, 1, 1),
            col("l_commitdate") < col("l_receiptdate"),
            col("l_shipdate") < col("l_commitdate"),
            col("l_shipmode").is_in(["MAIL", "SHIP"]),
        )
        .select("l_orderkey", "l_shipmode")
    )
    urgent = col("o_orderpriority").is_in(["1-URGENT", "2-HIGH"])
    return (
        scan(tables["orders"])
        .select("o_orderkey", high=when(urgent).then(1).otherwise(0))
        .join(late, left_on="o_orderkey", right_on="l_orderkey")
        .group_by("l_shipmode")
        .agg(high=col("high").sum(), low=(1 - col("high")).sum())
        .sort("l_shipmode")
    )


_Q14_SQL: Final = """
select sum(case when p_type like 'PROMO%' then l_extendedprice * (1 - l_discount) else 0 end)
  as promo, sum(l_extendedprice * (1 - l_discount)) as revenue
from lineitem join part on l_partkey = p_partkey
where l_shipdate >= date '1995-09-01' and l_shipdate < date '1995-10-01'
"""


def _q14(tables: Tables) -> Pipeline:
    promoted = col("p_type").str.starts_with("PROMO")
    parts = scan(tables["part"]).select("p_partkey", promo=when(promoted).then(1).otherwise(0))
    return (
        scan(tables["lineitem"])
        .filter(col("l_shipdate") >= date(1995, 9, 1), col("l_shipdate") < date(1995, 10, 1))
        .join(parts, left_on="l_partkey", right_on="p_partkey")
        .agg(promo=(_revenue() * col("promo")).sum(), revenue=_revenue().sum())
    )


_KINDS: Final = (
    ("Brand#12", ("SM CASE", "SM BOX", "SM PACK", "SM PKG"), 1, 5),
    ("Brand#23", ("MED BAG", "MED BOX", "MED PKG", "MED PACK"), 10, 10),
    ("Brand#34", ("LG CASE", "LG BOX", "LG PACK", "LG PKG"), 20, 15),
)
"""Of Q19: a brand, its containers, the least quantity (ten more is the most), the largest size."""
_Q19_SQL: Final = f"""
select sum(l_extendedprice * (1 - l_discount)) as revenue
from lineitem join part on l_partkey = p_partkey
where l_shipmode in ('AIR', 'REG AIR') and l_shipinstruct = 'DELIVER IN PERSON' and (
{
    " or ".join(
        f"(p_brand = '{brand}' and p_container in {containers} and l_quantity >= {least}"
        f" and l_quantity <= {least + 10} and p_size between 1 and {size})"
        for brand, containers, least, size in _KINDS
    )
})
"""


def _q19(tables: Tables) -> Pipeline:
    kinds = [
        (col("p_brand") == brand)
        & col("p_container").is_in(containers)
        & (col("p_size") >= 1)
        & (col("p_size") <= size)
        for brand, containers, _, size in _KINDS
    ]
    least = when(kinds[0]).then(_KINDS[0][2]).when(kinds[1]).then(_KINDS[1][2])
    parts = (
        scan(tables["part"])
        .filter(kinds[0] | kinds[1] | kinds[2])
        .select("p_partkey", least=least.otherwise(_KINDS[2][2]))
    )
    return (
        scan(tables["lineitem"])
        .filter(
            col("l_shipmode").is_in(["AIR", "REG AIR"]),
            col("l_shipinstruct") == "DELIVER IN PERSON",
            col("l_quantity") <= 30,
        )
        .join(parts, left_on="l_partkey", right_on="p_partkey")
        .filter(col("l_quantity") >= col("least"), col("l_quantity") <= col("least") + 10)
        .agg(revenue=_revenue().sum())
    )


QUESTIONS: Final = (
    Question("q1", "Q1: nearly all rows in four groups", q1.pipeline, q1.ORDERED),
    Question("q3", "Q3: two joins, many groups, the ten best", _q3, _Q3_SQL),
    Question("q6", "Q6: one number from 2 % of the rows", q6.pipeline, q6.SQL),
    Question("q12", "Q12: orders joined with few lines, two groups", _q12, _Q12_SQL),
    Question("q14", "Q14: a month of lines joined with all parts", _q14, _Q14_SQL),
    Question("q19", "Q19: lines joined with few parts, three cases", _q19, _Q19_SQL),
)
