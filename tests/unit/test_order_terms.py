"""In which order a predicate's terms are tested."""

from datetime import date

import numpy as np
import pyarrow as pa

import wherry as wh
from wherry import col
from wherry.ir.expr import columns_of, conjuncts
from wherry.plan.query import prepare

DAYS = pa.array(np.arange(8000, 10_500).astype("datetime64[D]"))
ROWS = pa.table(
    {
        "day": DAYS,
        "quantity": np.arange(len(DAYS)) % 50 + 1.0,
        "rate": np.arange(len(DAYS)) % 11 / 100,
    }
)
YEAR = (col("day") >= date(1994, 1, 1), col("day") < date(1995, 1, 1))
RATES = (col("rate") >= 0.05, col("rate") <= 0.07)


def order_of(*terms):
    """Give the columns of each term, in the order that a plan has them in."""
    made = wh.scan(ROWS).filter(*terms).agg(n=wh.count())
    query = prepare(made.source, made.operators, made.schema)
    steps = [step for segment in query.plan.segments for step in segment.steps]
    predicate = next(p for step in steps if (p := getattr(step, "predicate", None)) is not None)
    return [next(iter(columns_of(term))) for term in conjuncts(predicate)]


def test_both_ends_of_a_range_are_tested_together_and_rank_as_one():
    """Each end of the year leaves more rows than the quantity, both leave fewer."""
    few = col("quantity") < 20.0
    wanted = ["day", "day", "quantity"]
    assert order_of(few, *YEAR) == wanted
    assert order_of(YEAR[1], few, YEAR[0]) == wanted


def test_terms_that_leave_fewer_rows_come_first():
    assert order_of(col("quantity") < 40.0, col("rate") < 0.01) == ["rate", "quantity"]
    found = order_of(RATES[0], col("quantity") < 24.0, *YEAR, RATES[1])
    assert found == ["day", "day", "rate", "rate", "quantity"]
