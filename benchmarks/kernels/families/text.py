"""Filter by text: equality, prefix and contains, on utf8 and on dictionaries; three columns out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow.compute as pc
from msgspec import Struct

from wherry.benchmarks.kernels.acero_plan import declared
from wherry.benchmarks.kernels.answers import same_rows
from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.question import Ask, Question, Scan
from wherry.ir.builder import Expr, col

_OUT = ("l_orderkey", "l_extendedprice", "l_shipdate")


class _Test(Struct, frozen=True):
    """One predicate in every engine's words."""

    column: str
    sql: str
    wherry: Callable[[Expr], Expr]
    polars: Callable[[Any], Any]
    arrow: Callable[[Any], Any]
    dense: bool
    """Whether nearly every cache line of the columns out holds a row that is kept."""


def questions(_: Data) -> dict[str, Question]:
    """Give all text questions."""
    short = _equal("l_shipmode", "MAIL")
    long = _equal("l_shipinstruct", "DELIVER IN PERSON")
    return {
        "text-equal": _over("float64", short),
        "text-equal-long": _over("float64", long),
        "text-equal-dictionary": _over("dictionary", short),
        "text-equal-long-dictionary": _over("dictionary", long),
        "text-prefix": _over("float64", _PREFIX),
        "text-contains": _over("float64", _CONTAINS),
    }


def _equal(column: str, value: str) -> _Test:
    return _Test(
        column=column,
        sql=f"{column} = '{value}'",
        wherry=lambda c: c == value,
        polars=lambda c: c == value,
        arrow=lambda c: pc.equal(c, value),
        dense=True,
    )


_PREFIX = _Test(
    column="l_comment",
    sql="l_comment like 'furiously%'",
    wherry=lambda c: c.str.starts_with("furiously"),
    polars=lambda c: c.str.starts_with("furiously"),
    arrow=lambda c: pc.starts_with(c, "furiously"),
    dense=False,
)
_CONTAINS = _Test(
    column="l_comment",
    sql="l_comment like '%special%'",
    wherry=lambda c: c.str.contains("special"),
    polars=lambda c: c.str.contains("special", literal=True),
    arrow=lambda c: pc.match_substring(c, "special"),
    dense=False,
)


def _over(table: str, test: _Test) -> Question:
    def wherry(scan: Scan) -> Ask:
        return scan("t").filter(test.wherry(col(test.column))).select(*_OUT).collect

    def polars(pl: Any, tables: Mapping[str, Any]) -> Any:
        return tables["t"].filter(test.polars(pl.col(test.column))).select(*_OUT)

    def arrow(tables: Mapping[str, Any]) -> Mapping[str, Ask]:
        found = tables["t"]
        columns = found.select(list(_OUT))
        kept = test.arrow(pc.field(test.column))
        return {
            "acero": declared(found, kept, columns={name: pc.field(name) for name in _OUT}),
            "pyarrow.compute": lambda: columns.filter(test.arrow(found[test.column])),
        }

    return Question(
        tables={"t": table},
        columns=(test.column, *_OUT),
        wherry=wherry,
        sql=f"select {', '.join(_OUT)} from t where {test.sql}",
        polars=polars,
        arrow=arrow,
        differs=same_rows,
        reads=(test.column, *_OUT) if test.dense else (test.column,),
    )
