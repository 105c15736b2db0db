"""Values that cannot be computed: one error that names the expression, and the next query runs."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

import wherry as wh
from wherry import InputError, col

ROWS = 600_000
WIDE = [Decimal(9 * 10**37)] * 100 + [Decimal(1)] * (ROWS - 100)
TABLE = pa.table({"x": np.arange(ROWS), "w": pa.array(WIDE, pa.decimal128(38, 0))})


@pytest.mark.parametrize("system", ["this-machine", "dpu-csd-host"])
@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda q: q.select(y=col("x").cast(pa.int8())), r"cast\(x as int8\)"),
        (lambda q: q.filter(col("x").cast(pa.int16()) > 3), r"cast\(x as int16\) > 3"),
        (lambda q: q.select(y=col("w") * 10), r"w \* 10"),
        (lambda q: q.agg(t=col("w").sum()), r"sum\(w\)"),
        # The cast fails on rows that do not pass, so the interpreter decides; then the sum fails.
        (
            lambda q: q.filter(col("x") < 200).agg(
                u=col("x").cast(pa.int16()).sum(), t=col("w").sum()
            ),
            r"sum\(w\)",
        ),
    ],
)
def test_what_cannot_be_computed_is_named(build, named, system):
    query = wh.scan(TABLE)
    with pytest.raises(InputError, match=named):
        build(query).collect(system)
    assert query.agg(n=wh.count()).collect(system).to_pylist() == [{"n": ROWS}]


def test_a_product_of_wide_decimals_that_fits_is_computed():
    wide = pa.decimal128(38, 0)
    columns = [[Decimal(10**37 - 1), Decimal(-5), None], [Decimal(10), Decimal(3), None]]
    table = pa.table({n: pa.array(c, wide) for n, c in zip("wv", columns, strict=True)})
    made = wh.scan(table).select(a=col("w") * col("v"), b=col("v") * col("w"), c=col("w") * 10)
    product = [Decimal(10**38 - 10), Decimal(-15), None]
    assert made.collect().to_pydict() == {
        "a": product, "b": product, "c": [product[0], Decimal(-50), None],
    }  # fmt: skip
