"""First, last, variances and distinct values: what their partial rows could get wrong."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from wherry import InputError, col, count, lit, load_system, scan
from wherry.data.segment import SegmentPool
from wherry.ir.expr import Call, Column
from wherry.ir.literals import lift
from wherry.ir.stage import Groups, Pass, Stage, Totals
from wherry.ir.types import MOMENTS
from wherry.ops.estimate import Estimate
from wherry.ops.operator import estimate_near
from wherry.render.program import render
from wherry.render.reference import run_reference
from wherry.testing import check_operator_on

ROWS = 10_007
EMULATED = load_system("dpu-csd-host")


def chunked(table: pa.Table, rows: int) -> pa.Table:
    return pa.Table.from_batches(table.to_batches(max_chunksize=rows), table.schema)


def exact(values: np.ndarray, ddof: int = 1) -> float:
    """Give the variance in twice the digits: two passes over values moved near 0."""
    moved = (values - values[0]).astype(np.longdouble)
    return float(((moved - moved.mean()) ** 2).sum() / (len(moved) - ddof))


def hard() -> Iterator[tuple[str, np.ndarray]]:
    noise = np.random.default_rng(7).standard_normal(ROWS)
    yield "plain", noise
    yield "far", 1e9 + 1e-3 * noise
    yield "farther", 1e15 + noise
    yield "outlier first", np.concatenate([[1e9], 1e-3 * noise])
    yield "outlier last", np.concatenate([1e-3 * noise, [-1e9]])
    yield "large", 1e150 * noise
    yield "drift", 1e9 + 1e-3 * noise + np.arange(ROWS) * 1e-2


@pytest.mark.parametrize(("title", "x"), list(hard()), ids=[t for t, _ in hard()])
@pytest.mark.parametrize("rows", [ROWS * 2, 1000, 63])
def test_variances_of_ill_conditioned_numbers_keep_their_digits(
    title: str, x: np.ndarray, rows: int
) -> None:
    del title
    table = chunked(pa.table({"x": x, "k": np.arange(len(x)) % 5}), rows)
    calls = {"var": col("x").var(), "std": col("x").std(), "pop": col("x").var(ddof=0)}
    (made,) = scan(table).agg(**calls).collect().to_pylist()
    assert made["var"] == pytest.approx(exact(x), rel=1e-12, abs=0)
    assert made["std"] == pytest.approx(exact(x) ** 0.5, rel=1e-12, abs=0)
    assert made["pop"] == pytest.approx(exact(x, 0), rel=1e-12, abs=0)
    for made in scan(table).group_by("k").agg(**calls).collect().to_pylist():
        assert made["var"] == pytest.approx(exact(x[made["k"] :: 5]), rel=1e-12, abs=0)


def test_variances_of_equal_numbers_are_nothing_and_of_infinite_ones_unknown() -> None:
    table = chunked(pa.table({"x": [1e300] * 100, "y": [1.0] * 99 + [float("inf")]}), 30)
    made = scan(table).agg(x=col("x").std(), y=col("y").std()).collect()
    assert made["x"].to_pylist() == [0.0]
    assert np.isnan(made["y"][0].as_py())


def test_too_few_values_have_no_variance() -> None:
    table = pa.table({"k": [1, 1, 2, 3], "x": pa.array([5.0, None, None, 1.0])})
    calls = {"sample": col("x").var(), "whole": col("x").std(ddof=0)}
    made = scan(table).group_by("k").agg(**calls).collect().to_pylist()
    assert made == [
        {"k": 1, "sample": None, "whole": 0.0},
        {"k": 2, "sample": None, "whole": None},
        {"k": 3, "sample": None, "whole": 0.0},
    ]
    none = scan(table).filter(col("k") > 9).agg(**calls).collect().to_pylist()
    assert none == [{"sample": None, "whole": None}]


def ends_table(groups: int, *, ascending: bool = False) -> pa.Table:
    numbers = np.arange(ROWS)
    keys = numbers * groups // ROWS if ascending else numbers * 7919 % groups
    texts = [None if n % 3 == 0 else f"text {n}, of more than twelve bytes" for n in numbers]
    columns = {"k": keys, "n": numbers, "s": texts, "v": pa.array(texts, pa.string_view())}
    return pa.table(columns).append_column("c", pa.array(texts).dictionary_encode())


@pytest.mark.parametrize("rows", [ROWS * 2, 2048, 100])
@pytest.mark.parametrize("groups", [3, 500, ROWS])
@pytest.mark.parametrize("ascending", [False, True])
def test_first_and_last_are_values_of_one_row(rows: int, groups: int, *, ascending: bool) -> None:
    table = ends_table(groups, ascending=ascending)
    kept = [row for row in table.to_pylist() if row["n"] % 11 > 1]
    named = {f"{end}_{c}": getattr(col(c), end)() for end in ("first", "last") for c in "nsvc"}
    test = col("n").is_in([*range(0, ROWS, 11), *range(1, ROWS, 11)])
    chosen = scan(chunked(table, rows)).with_columns(odd=test).filter(~col("odd"))
    ends = {}
    for row in kept:
        ends.setdefault(row["k"], [row, row])[1] = row
    wanted = [
        {"k": k} | {f"{e}_{c}": row[c] for e, row in zip(("first", "last"), both) for c in "nsvc"}  # noqa: B905
        for k, both in ends.items()
    ]
    assert chosen.group_by("k").agg(**named).collect().to_pylist() == wanted
    (total,) = chosen.agg(**named).collect().to_pylist()
    assert total["first_s"] == kept[0]["s"]
    assert total["last_v"] == kept[-1]["v"]
    assert total["last_n"] == kept[-1]["n"]


def test_a_chunk_without_rows_has_no_first_value() -> None:
    table = chunked(pa.table({"x": [*[None] * 200, 7, None]}), 50)
    found = scan(table).filter(col("x").is_not_null()).agg(a=col("x").first(), z=col("x").last())
    assert found.collect().to_pylist() == [{"a": 7, "z": 7}]
    whole = scan(table).agg(a=col("x").first(), z=col("x").last(), n=count())
    assert whole.collect().to_pylist() == [{"a": None, "z": None, "n": 202}]


def test_first_follows_the_order_that_was_asked_for() -> None:
    table = chunked(pa.table({"x": [3, 1, 2], "k": ["a", "a", "b"]}), 2)
    made = scan(table).sort("x", descending=True).group_by("k").agg(x=col("x").first()).collect()
    assert made.to_pylist() == [{"k": "a", "x": 3}, {"k": "b", "x": 2}]


def test_expressions_of_rows_found_are_computed() -> None:
    table = pa.table({"x": [1, 2, 3], "s": ["x", "yy", None]})
    made = scan(table).agg(
        a=(col("x") * 2 + 1).last(), b=lit(5).first(), c=col("s").str.starts_with("x").first()
    )
    assert made.collect().to_pylist() == [{"a": 7, "b": 5, "c": True}]


@pytest.mark.parametrize("rows", [ROWS * 2, 1000])
def test_different_values_are_counted_beside_other_aggregates(rows: int) -> None:
    table = ends_table(97).append_column("m", pa.array(np.arange(ROWS) % 1003 / 7))
    query = scan(chunked(table, rows))
    calls = {
        "different": col("m").count_distinct(),
        "again": col("m").count_distinct(),
        "first": col("s").first(),
        "mean": col("n").mean(),
        "var": col("n").var(),
        "n": count(),
    }
    for operator in (query.agg(**calls), query.group_by("k").agg(**calls)):
        check_operator_on(EMULATED, operator.operators[-1], chunked(table, rows))
    (made,) = query.agg(**calls).collect().to_pylist()
    assert (made["different"], made["again"], made["n"]) == (1003, 1003, ROWS)


def test_nulls_are_not_counted_and_all_nan_are_one_value() -> None:
    values = pa.array([0.0, -0.0, None, float("nan"), float("nan"), 1.0])
    made = scan(pa.table({"x": values})).agg(n=col("x").count_distinct()).collect()
    assert made.to_pylist() == [{"n": 3}]


def test_names_of_parts_do_not_meet_those_of_columns() -> None:
    table = pa.table({".value": [1, 1, 2], "v.sum": [1.0, 2.0, 4.0]})
    calls = {".rows": col("v.sum").first(), "v": col("v.sum").mean(), "v.count": count()}
    made = scan(table).group_by(".value").agg(**calls, d=col("v.sum").count_distinct())
    assert made.collect().to_pylist() == [
        {".value": 1, ".rows": 1.0, "v": 1.5, "v.count": 2, "d": 2},
        {".value": 2, ".rows": 4.0, "v": 4.0, "v.count": 1, "d": 1},
    ]


def test_what_cannot_stand_together_is_refused() -> None:
    query = scan(pa.table({"x": [1], "y": [2], "s": ["t"]}))
    with pytest.raises(InputError, match=r"count_distinct\(x\) and count_distinct\(y\) cannot"):
        query.agg(a=col("x").count_distinct(), b=col("y").count_distinct())
    with pytest.raises(InputError, match=r"count_distinct\(x\) and last\(y\) cannot stand"):
        query.group_by("s").agg(a=col("x").count_distinct(), b=col("y").last())
    with pytest.raises(InputError, match=r"var\(s\) does not apply to string"):
        query.agg(a=col("s").var())
    with pytest.raises(InputError, match="std takes ddof 1"):
        col("x").std(ddof=2)


def test_a_column_that_looks_like_moments_is_still_a_struct() -> None:
    value = {"count": 1, "pivot": 1.0, "shift": 0.0, "m2": 0.0}
    query = scan(pa.table({"x": pa.array([value], MOMENTS)}))
    with pytest.raises(InputError, match=r"var\(x\) does not apply"):
        query.agg(a=col("x").var())
    assert query.agg(a=col("x").first()).collect()["a"].to_pylist() == [value]


def test_programs_merge_moments_as_the_reference_does() -> None:
    noise = np.random.default_rng(3).standard_normal(1000) + 1e6
    numbers = pa.record_batch({"k": np.arange(1000) % 130, "x": noise})
    key, x = Column("k", pa.int64()), Column("x", pa.float64())
    moments = Pass(None, Groups((("k", key),), (("m", Call("moments", x)),)))
    merge = Call("moments", Column("m", MOMENTS)), Call("std", Column("m", MOMENTS))
    calls = tuple((f"c{n}", call) for n, call in enumerate(merge))
    for sink in (Totals(calls), Groups((("k", key),), calls)):
        stage, literals = lift(Stage((moments, Pass(None, sink))))
        made = render(stage, numbers.schema, {}).run(numbers, literals, SegmentPool()).batch
        wanted = run_reference(stage, numbers, literals)
        assert made.schema == wanted.schema
        for one, other in zip(made.to_pylist(), wanted.to_pylist(), strict=True):
            for state in (one["c0"], other["c0"]):
                state["mean"] = state.pop("pivot") + state.pop("shift")
            assert one["c0"] == pytest.approx(other["c0"], rel=1e-9)
            assert one["c1"] == pytest.approx(other["c1"], rel=1e-9)


def test_partial_rows_of_distinct_values_are_many() -> None:
    query = scan(pa.table({"x": np.arange(1000)}))
    given = Estimate(1000.0, 1000.0, 1000.0, 8.0, {})
    distinct = query.agg(n=col("x").count_distinct()).operators[-1]
    total = query.agg(n=col("x").count()).operators[-1]
    assert estimate_near(distinct, given).rows == 100.0
    assert estimate_near(total, given).rows == distinct.estimate(given).rows == 1.0
