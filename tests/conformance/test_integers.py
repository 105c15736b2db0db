"""Integers at the edges of their types: compared exactly, whatever the signs."""

import pyarrow as pa
import pytest

import wherry as wh
from wherry import col

TABLE = pa.table(
    {
        "u": pa.array([0, 2**64 - 1, 5, None], pa.uint64()),
        "i": pa.array([-1, 5, 5, 2**63 - 1], pa.int64()),
    }
)


@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        (col("i") == 2**63, [False, False, False, False]),
        (col("i") < 2**63, [True, True, True, True]),
        (col("u") > -1, [True, True, True, None]),
        (col("u") > col("i"), [True, True, False, None]),
        (col("u") == 2**64 - 1, [False, True, False, None]),
        (col("i").is_in([2**63, 5]), [False, True, True, False]),
        (col("u").is_in([-1, 5]), [False, False, True, None]),
    ],
    ids=str,
)
def test_signed_and_unsigned_are_compared_exactly(test: wh.Expr, wanted: list[bool | None]) -> None:
    query = wh.scan(TABLE).select(found=test)
    assert query.collect()["found"].to_pylist() == wanted
    assert query.explain().stages[0].residuals == ()


def test_sums_wrap_as_documented() -> None:
    table = pa.table({"i": pa.array([2**63 - 1, 1], pa.int64())})
    assert wh.scan(table).agg(s=col("i").sum()).collect()["s"].to_pylist() == [-(2**63)]
