"""Answers are equal, or differ in a way that is said."""

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from wherry.benchmarks.compare import difference

NAN = float("nan")


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        ([1, None], [1, None]),
        ([1.0, NAN, None], [1.0 + 1e-12, NAN, None]),
        ([date(2024, 1, 1)], [date(2024, 1, 1)]),
        ([Decimal("1.50")], [Decimal("1.5")]),
        ([Decimal(3)], [3]),
        ([True], [True]),
        ([], []),
    ],
)
def test_equal(seen, wanted):
    assert difference(pa.table({"a": seen}), pa.table({"a": wanted}), ordered=True) is None


def test_how_text_is_stored_makes_no_difference():
    text = pa.array(["x", "y"])
    for kind in (pa.dictionary(pa.int8(), pa.utf8()), pa.large_utf8(), pa.string_view()):
        other = pa.table({"a": text.cast(kind)})
        assert difference(other, pa.table({"a": text}), ordered=True) is None


@pytest.mark.parametrize(
    ("seen", "wanted", "said"),
    [
        ([1, 2], [1, 3], "row 1 is (2), not (3)"),
        ([1, None], [1, 0], "row 1 is (None), not (0)"),
        ([1.0], [1.0 + 1e-8], "row 0 is (1.0), not (1.00000001)"),
        ([1.0], [NAN], "row 0 is (1.0), not (nan)"),
        ([Decimal("1.50")], [Decimal("1.51")], "row 0 is (1.50), not (1.51)"),
        (["x"], ["y"], "row 0 is ('x'), not ('y')"),
        ([1], [1, 2], "1 rows, not 2; row 1 is absent, not (2)"),
        ([1, 2], [1], "2 rows, not 1; row 1 is (2), not absent"),
        ([1], [1.0], "column 'a' has type int64, not double"),
        ([1], ["1"], "column 'a' has type int64, not string"),
    ],
)
def test_different(seen, wanted, said):
    assert difference(pa.table({"a": seen}), pa.table({"a": wanted}), ordered=True) == said


def test_names_count():
    said = difference(pa.table({"a": [1]}), pa.table({"b": [1], "c": [1]}), ordered=True)
    assert said == "columns are a, not b, c"


def test_multisets():
    a = pa.table({"k": [2, 1, 1, None], "x": [0.1, 0.3, NAN, None]})
    b = pa.table({"k": [1, None, 2, 1], "x": [NAN, None, 0.1 + 1e-15, 0.3]})
    assert difference(a, b, ordered=False) is None
    assert difference(a, b, ordered=True) == "row 0 is (2, 0.1), not (1, nan)"
    twice = pa.table({"k": [1, 1, 2]})
    once = pa.table({"k": [1, 2, 2]})
    assert difference(twice, once, ordered=False) == "row 1 is (1), not (2)"


def test_rows_pair_by_exact_columns_although_floats_stand_first():
    a = pa.table({"x": [1.0, 1.0 + 1e-14], "k": ["b", "a"]})
    b = pa.table({"x": [1.0 + 1e-14, 1.0], "k": ["b", "a"]})
    assert difference(a, b, ordered=False) is None
