"""Answers of benchmarks: equal ones are equal however stored, and no difference goes unseen."""

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from wherry.benchmarks.kernels.answers import by_keys, in_order, same_parts, same_rows

ROWS = pa.table(
    {
        "k": [3, 1, 2],
        "x": [0.5, -0.0, 2.25],
        "d": [date(1994, 1, 1), date(1992, 2, 2), date(1998, 3, 3)],
        "m": [Decimal("1.50"), Decimal("-2.25"), Decimal("7.00")],
    }
)
SHUFFLED = ROWS.take([2, 0, 1])


def test_order_counts_where_it_is_part_of_the_answer():
    assert in_order()(ROWS, ROWS) is None
    assert in_order()(SHUFFLED, ROWS) == "k is 2, not 3, in row 0"
    assert by_keys("k")(SHUFFLED, ROWS) is None
    assert same_rows(SHUFFLED, ROWS) is None


def test_only_named_columns_are_compared():
    other = ROWS.set_column(0, "k", pa.array([7, 7, 7]))
    assert in_order("x", "d")(other, ROWS) is None
    assert in_order()(other, ROWS) == "k is 7, not 3, in row 0"


@pytest.mark.parametrize(
    "stored",
    [
        ROWS.set_column(0, "k", ROWS["k"].cast(pa.int32())),
        ROWS.set_column(3, "m", ROWS["m"].cast(pa.decimal128(38, 2))),
        pa.concat_tables([ROWS.slice(0, 1), ROWS.slice(1)]),
    ],
    ids=["narrow", "precise", "chunked"],
)
def test_storage_makes_no_difference(stored):
    for differs in (in_order(), by_keys("k"), same_rows):
        assert differs(stored, ROWS) is None
        assert differs(ROWS, stored) is None


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("k", [3, 1, 4]),
        ("x", [0.5, 0.0, 2.2500001]),
        ("d", [date(1994, 1, 1), date(1992, 2, 2), date(1998, 3, 4)]),
        ("m", [Decimal("1.50"), Decimal("-2.25"), Decimal("7.01")]),
    ],
)
def test_one_other_value_is_seen(column, values):
    other = ROWS.set_column(ROWS.schema.get_field_index(column), column, pa.array(values))
    for differs in (in_order(), by_keys("k"), same_rows):
        assert differs(other, ROWS) is not None


def test_values_that_change_places_between_rows_are_seen():
    other = ROWS.set_column(1, "x", ROWS["x"].take([1, 0, 2]))
    assert same_rows(other, ROWS) is not None


def test_rows_and_columns_are_counted():
    for differs in (in_order(), by_keys("k"), same_rows):
        assert differs(ROWS.slice(1), ROWS) == "2 rows, not 3"
        assert differs(ROWS.select(["k"]), ROWS).startswith("columns are ['k'], not ['k', 'x'")


def test_float_sums_may_differ_by_their_order_and_nulls_may_not():
    a = pa.table({"s": [1.0, None]})
    assert in_order()(pa.table({"s": [1.0 + 1e-12, None]}), a) is None
    assert in_order()(pa.table({"s": [1.0 + 1e-6, None]}), a) is not None
    assert in_order()(pa.table({"s": [1.0, 0.0]}), a) is not None
    assert in_order()(pa.table({"s": [1, None]}), pa.table({"s": [1, 2]})) is not None


def test_averages_of_decimals_may_be_rounded_and_sums_may_not():
    average = pa.table({"a": [25.354533]})
    assert in_order()(pa.table({"a": [Decimal("25.35")]}), average) is None
    assert in_order()(pa.table({"a": [Decimal("25.37")]}), average) is not None
    exact = pa.table({"s": [Decimal("12345678901234567890.25")]})
    assert in_order()(pa.table({"s": [Decimal("12345678901234567890.24")]}), exact) is not None


def test_text_in_any_storage():
    text = pa.array(["x", "y"])
    for kind in (pa.dictionary(pa.int8(), pa.utf8()), pa.large_utf8(), pa.string_view()):
        stored = pa.table({"t": text.cast(kind), "n": [1, 2]})
        assert by_keys("t")(stored, pa.table({"t": text, "n": [1, 2]})) is None
        assert by_keys("t")(stored, pa.table({"t": text, "n": [2, 1]})) is not None


def test_partitions_hold_the_same_rows_with_no_key_in_two():
    even, odd = ROWS.slice(2), ROWS.slice(0, 2)
    differs = same_parts("k")
    assert differs([odd, even], [even, odd]) is None
    assert differs([even], [even, odd]) == "there are 1 partitions, not 2"
    assert differs([even, even], [even, odd]) == "a value of k is in two partitions"
    assert differs([even, even.slice(1)], [even, odd]) == "1 rows, not 3"
