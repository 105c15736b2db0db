"""What is computed once per dictionary entry instead of once per row: lookups, of every type."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

import wherry as wh
from wherry import Expr, col, lit, when

TEXTS = ["a", "b", None, "ab", "c"] * 30
ROWS = len(TEXTS)
CHOSEN = [t is not None and "a" in t for t in TEXTS]


def table() -> pa.Table:
    return pa.table({"c": pa.array(TEXTS).dictionary_encode(), "x": list(range(ROWS))})


def chosen(yes: Expr, no: Expr) -> Expr:
    return when(col("c").str.contains("a")).then(yes).otherwise(no)


@pytest.mark.parametrize(
    ("yes", "no", "t"),
    [
        (1, 0, pa.int64()),
        (1.5, -2.5, pa.float64()),
        (1, None, pa.int8()),
        (Decimal("1.25"), Decimal("0.00"), pa.decimal128(30, 2)),
        (True, None, pa.bool_()),
    ],
)
def test_a_choice_by_dictionary_is_a_value_of_its_own_type(yes, no, t):
    picked = chosen(lit(yes).cast(t), lit(no).cast(t))
    made = wh.scan(table()).select(v=picked).collect().column("v")
    assert made.type == t
    assert made.to_pylist() == [yes if c else no for c in CHOSEN]
    grouped = wh.scan(table()).group_by(k=picked).agg(n=wh.count()).collect()
    counts = dict(zip(*grouped.to_pydict().values(), strict=True))
    assert counts == {yes: sum(CHOSEN), no: ROWS - sum(CHOSEN)}


def test_a_choice_by_dictionary_is_summed():
    flag = chosen(lit(1), lit(0))
    made = wh.scan(table()).agg(s=flag.sum(), hi=flag.max(), x=(flag * col("x")).sum()).collect()
    wanted = sum(x for x, c in enumerate(CHOSEN) if c)
    assert made.to_pylist() == [{"s": sum(CHOSEN), "hi": 1, "x": wanted}]


@pytest.mark.parametrize("t", [pa.int8(), pa.uint8()])
def test_a_dictionary_may_be_longer_than_its_indices_can_number(t):
    texts = pa.array([str(i) for i in range(300)])
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None, 1], t), texts)
    query = wh.scan(pa.table({"c": column}))
    assert query.filter(col("c") == "1").collect().num_rows == 2
    assert query.agg(hi=col("c").max()).collect().to_pylist() == [{"hi": "2"}]
    assert query.group_by("c").agg(n=wh.count()).collect().column("n").to_pylist() == [1, 2, 1, 1]


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("t", [pa.int8(), pa.uint8(), pa.int16(), pa.int32(), pa.int64()], ids=str)
@pytest.mark.parametrize("entries", [1, 2, 17, 100, 300])
def test_few_codes_or_many_pass(entries, t, nulls):
    used = min(entries, 100)
    codes = [None if nulls and i % 5 == 0 else i * 7 % used for i in range(500)]
    texts = pa.array([f"v{i:03}" for i in range(entries)])
    column = pa.DictionaryArray.from_arrays(pa.array(codes, t), texts).slice(3)
    source = wh.scan(pa.table({"c": column, "x": list(range(497))}))
    rows = [None if code is None else f"v{code:03}" for code in codes[3:]]
    for text in ("v000", "v001", "v009", "v099", "v256", "nowhere"):
        asked = {
            "equal": (col("c") == text, lambda v, t=text: v == t),
            "unequal": (col("c") != text, lambda v, t=text: v != t),
            "below": (col("c") < text, lambda v, t=text: v < t),
            "above": (col("c") > text, lambda v, t=text: v > t),
            "in": (col("c").is_in([text, "v003"]), lambda v, t=text: v in {t, "v003"}),
        }
        for name, (asks, passes) in asked.items():
            found = source.filter(asks).select("x").collect()["x"].to_pylist()
            wanted = [x for x, v in enumerate(rows) if v is not None and passes(v)]
            assert found == wanted, (name, text)
    found = source.filter(col("c").is_null()).select("x").collect()["x"].to_pylist()
    assert found == [x for x, v in enumerate(rows) if v is None]
