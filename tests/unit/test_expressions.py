"""What expressions may be, what type they have, and what is said of those that may not be."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from math import inf, nan

import pyarrow as pa
import pytest
from msgspec.structs import replace

from wherry import InputError, col, lit, scan, when
from wherry.data.statistics import ColumnStatistics
from wherry.ir import literals
from wherry.ir.expr import Cast, Column, Compare, Literal
from wherry.ir.reference import evaluate
from wherry.ir.resolve import resolve, type_of
from wherry.ops.estimate import exactly, selectivity

SCHEMA = pa.schema(
    {
        **{str(t): t for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
        **{str(t): t for t in (pa.uint8(), pa.uint32(), pa.uint64())},
        "f32": pa.float32(),
        "f64": pa.float64(),
        "flag": pa.bool_(),
        "d52": pa.decimal128(5, 2),
        "d124": pa.decimal128(12, 4),
        "d386": pa.decimal128(38, 6),
        "d380": pa.decimal128(38, 0),
        "day": pa.date32(),
        "utc": pa.timestamp("us", "UTC"),
        **{unit: pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")},
        "text": pa.utf8(),
        "large": pa.large_utf8(),
        "view": pa.string_view(),
        "kind": pa.dictionary(pa.int8(), pa.utf8()),
    }
)


def type_name(expr: object) -> str:
    return str(type_of(resolve(expr.node, SCHEMA)))


TYPES = {
    "int8 + int8": (col("int8") + col("int8"), "int8"),
    "int8 + int32": (col("int8") + col("int32"), "int32"),
    "int8 + uint8": (col("int8") + col("uint8"), "int16"),
    "uint32 + int8": (col("uint32") + col("int8"), "int64"),
    "uint64 + int64": (col("uint64") + col("int64"), "int64"),
    "int8 + 5": (col("int8") + 5, "int8"),
    "int8 + 300": (col("int8") + 300, "int64"),
    "5 - int8": (5 - col("int8"), "int8"),
    "int8 / int8": (col("int8") / col("int8"), "double"),
    "f32 * f32": (col("f32") * col("f32"), "double"),
    "d52 + d124": (col("d52") + col("d124"), "decimal128(13, 4)"),
    "d52 * d124": (col("d52") * col("d124"), "decimal128(18, 6)"),
    "d52 + int32": (col("d52") + col("int32"), "decimal128(13, 2)"),
    "d386 + d386": (col("d386") + col("d386"), "decimal128(38, 6)"),
    "d52 / 2": (col("d52") / 2, "double"),
    "d52 * f64": (col("d52") * col("f64"), "double"),
    "1 - d52": (1 - col("d52"), "decimal128(6, 2)"),
    "d52 * 0.05": (col("d52") * 0.05, "decimal128(11, 4)"),
    "negative": (-col("int16"), "int16"),
    "year": (col("day").dt.year(), "int64"),
    "case": (when(col("flag")).then(1).otherwise(2.5), "double"),
    "case of text": (when(col("flag")).then(col("kind")).otherwise("z"), "string"),
    "case of null": (when(col("flag")).then(None).otherwise(col("int8")), "int8"),
    "literal": (lit(2**63), "uint64"),
    "decimal literal": (lit(Decimal("1.250")), "decimal128(4, 3)"),
    "moment": (lit(datetime(2020, 1, 1)), "timestamp[us]"),
    "moment elsewhere": (
        lit(datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
        "timestamp[us, tz=+02:00]",
    ),
    "null": (lit(None).cast(pa.int32()), "int32"),
    "test": (col("day") >= date(2020, 1, 1), "bool"),
}


@pytest.mark.parametrize("title", TYPES)
def test_types_follow_the_rules(title: str) -> None:
    expr, wanted = TYPES[title]
    assert type_name(expr) == wanted


SIDES = {
    "a literal takes the column's type": (col("int8") < 5, pa.int8()),
    "a literal that does not fit widens": (col("int8") < 300, pa.int64()),
    "float32 rounds its literal": (col("f32") < 0.1, pa.float32()),
    "float32 meets what it cannot hold": (col("f32") < 1e300, pa.float64()),
    "a decimal reads a float as written": (col("d52") < 0.05, pa.decimal128(5, 2)),
    "a decimal meets finer ones": (col("d52") < Decimal("0.005"), pa.decimal128(6, 3)),
    "text meets large text": (col("text") == col("large"), pa.large_utf8()),
    "a dictionary meets text": (col("kind") == col("text"), pa.utf8()),
    "a dictionary keeps its type beside a literal": (col("kind") == "a", SCHEMA.field("kind").type),
    "a date meets a moment": (col("day") < col("us"), pa.timestamp("us")),
    "seconds take whole seconds": (col("s") < datetime(2020, 1, 1), pa.timestamp("s")),
    "seconds meet finer moments": (col("s") < datetime(2020, 1, 1, 0, 0, 0, 5), pa.timestamp("us")),
    "the finer unit wins": (col("ms") < col("ns"), pa.timestamp("ns")),
    "a zone takes any zone": (
        col("utc") < datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        pa.timestamp("us", "UTC"),
    ),
    "signed meets unsigned": (col("uint32") < col("int8"), pa.int64()),
}


@pytest.mark.parametrize("title", SIDES)
def test_both_sides_of_a_comparison_have_one_type(title: str) -> None:
    expr, wanted = SIDES[title]
    node = resolve(expr.node, SCHEMA)
    assert isinstance(node, Compare)
    assert type_of(node.left) == type_of(node.right) == wanted


def test_a_float32_literal_holds_what_is_compared() -> None:
    node = resolve((col("f32") == 0.1).node, SCHEMA)
    assert node.right == Literal(0.10000000149011612, pa.float32())
    assert isinstance(resolve((col("f32") < 1e300).node, SCHEMA).left, Cast)


REFUSED = {
    "no column": (lambda: col("texd") == "a", "no column 'texd'; did you mean 'text'? columns: "),
    "text and number": (
        lambda: col("text") < 5,
        "'<' does not apply to string and int64",
    ),
    "date as text": (lambda: col("day") < "1994-01-01", "; write a date as date(1994, 1, 1)"),
    "zone and none": (
        lambda: col("utc") < datetime(2020, 1, 1),
        "'<' does not apply to timestamp[us, tz=UTC] and timestamp[us]",
    ),
    "two wide decimals": (lambda: col("d386") < col("d380"), "does not apply to decimal128(38, 6)"),
    "adding text": (lambda: col("text") + "x", "'+' does not apply to string and string"),
    "negative unsigned": (lambda: -col("uint8"), "-uint8 does not apply to uint8"),
    "not of a number": (lambda: ~col("int8"), "'~' needs a truth value; int8 has type int8"),
    "and of a number": (lambda: col("flag") & col("int8"), "'&' needs a truth value"),
    "or of a number": (lambda: col("flag") | 1, "'|' needs a truth value; 1 has type int64"),
    "when of a number": (
        lambda: when(col("int8")).then(1).otherwise(2),
        "when() needs a truth value",
    ),
    "arms that differ": (
        lambda: when(col("flag")).then(1).otherwise("x"),
        "'when' does not apply to int64 and string",
    ),
    "null in a list": (
        lambda: col("int8").is_in([1, None]),
        "is_in of a null matches nothing; use is_null()",
    ),
    "another type in a list": (lambda: col("int8").is_in(["x"]), "'==' does not apply to int8"),
    "a column in a list": (
        lambda: col("int8").is_in([col("int16")]),
        "a constant is needed here; got int16",
    ),
    "like of a number": (lambda: col("int8").str.like("a%"), "like needs text; int8 has type int8"),
    "a pattern that is a column": (
        lambda: col("text").str.contains(col("large")),
        "contains needs a constant text as its pattern",
    ),
    "a pattern that is a number": (
        lambda: col("text").str.starts_with(5),
        "starts_with needs a constant text as its pattern",
    ),
    "year of text": (col("text").dt.year, "year needs a date; text has type string"),
    "cast to text": (lambda: col("int8").cast(pa.utf8()), "cannot cast int8 from int8 to string"),
    "cast to a list": (lambda: col("int8").cast(pa.list_(pa.int8())), "Wherry does not read type"),
    "cast to a name": (
        lambda: col("int8").cast("int64"),
        "cast needs a pyarrow type such as pa.int64(); got 'int64'",
    ),
    "a list as a literal": (lambda: lit([1]), "a literal of Python type list has no Wherry type"),
    "too long an integer": (lambda: lit(2**64), "does not fit in 64 bits; use Decimal("),
    "an infinite decimal": (lambda: lit(Decimal("inf")), "the decimal Infinity is not finite"),
    "too long a decimal": (lambda: lit(Decimal(10) ** 38), "has more than 38 digits"),
    "half a character": (lambda: lit("\ud800"), "holds half a surrogate pair, no character"),
    "a moment ns cannot hold": (
        lambda: col("ns") < date(9999, 12, 31),
        "lies outside what timestamp[ns] holds, 1677-09-22 to 2262-04-10; cast the column",
    ),
    "nanoseconds as a constant": (
        lambda: lit(pa.scalar(1500, pa.timestamp("ns"))),
        "constants of time are whole microseconds",
    ),
    "a column named by a number": (lambda: col(5), "a column is named by text; got int"),
    "no end": (
        lambda: col("flag") & when(col("flag")).then(True),
        "when(...).then(...).otherwise(",
    ),
    "an aggregate inside": (lambda: col("int8") + col("int8").sum(), "it belongs in agg(...)"),
    "too deep": (
        lambda: sum([col("int8")] * 200, start=col("int8")),
        "an expression is nested more than 100 levels deep",
    ),
}


@pytest.mark.parametrize("title", REFUSED)
def test_refusals_say_what_to_do(title: str) -> None:
    build, message = REFUSED[title]
    with pytest.raises(InputError) as refused:
        resolve(build().node, SCHEMA)
    assert message in str(refused.value)


HELD = {
    "truth": (lambda: bool(col("a") > 1), "has no truth value before it runs; use & for 'and'"),
    "chained": (lambda: 1 < col("a") < 3, "is_between for a < b < c"),
    "iteration": (lambda: list(col("a")), "a cannot be iterated; it stands for one value a row"),
    "length": (lambda: len(col("a")), "wherry.count() counts rows"),
    "in": (lambda: 1 in col("a"), "use .is_in([...])"),
}


@pytest.mark.parametrize("title", HELD)
def test_python_that_cannot_wait_is_refused(title: str) -> None:
    act, message = HELD[title]
    with pytest.raises(InputError) as refused:
        act()
    assert message in str(refused.value)


TRUTH = (True, False, None)


def table_of(expr: object, columns: dict[str, list[object]]) -> list[object]:
    types = [(name, pa.bool_()) for name in columns]
    batch = pa.RecordBatch.from_pydict(columns, pa.schema(types))
    return evaluate(resolve(expr.node, batch.schema), batch).to_pylist()


def test_logic_has_three_values() -> None:
    pairs = {"a": [x for x in TRUTH for _ in TRUTH], "b": [y for _ in TRUTH for y in TRUTH]}
    both, either = table_of(col("a") & col("b"), pairs), table_of(col("a") | col("b"), pairs)
    # In the order of pairs: TT TF TN FT FF FN NT NF NN.
    assert both == [True, False, None, False, False, False, None, False, None]
    assert either == [True, True, True, True, False, None, True, None, None]
    assert table_of(~col("a"), {"a": list(TRUTH)}) == [False, True, None]


def test_nulls_are_null_but_for_is_null() -> None:
    rows = {"a": list(TRUTH)}
    assert table_of(col("a") == lit(None), rows) == [None, None, None]
    assert table_of(col("a").is_null(), rows) == [False, False, True]
    assert table_of(col("a").is_in([True]), rows) == [True, False, None]
    assert table_of(when(col("a")).then(True).otherwise(False), rows) == [True, False, False]


def test_a_filter_keeps_only_what_is_true() -> None:
    rows = pa.table({"a": TRUTH})
    assert scan(rows).filter(col("a")).collect().to_pydict() == {"a": [True]}
    assert scan(rows).filter(~col("a")).collect().to_pydict() == {"a": [False]}


def test_integers_wrap_and_the_least_has_no_opposite() -> None:
    rows = pa.table({"a": pa.array([127, -128], pa.int8())})
    seen = scan(rows).select(up=col("a") + 1, other=-col("a"), least=-lit(-(2**63))).collect()
    assert seen.to_pydict() == {"up": [-128, -127], "other": [-127, -128], "least": [-(2**63)] * 2}


def test_moments_keep_their_instant() -> None:
    noon = datetime(2020, 1, 1, 12, tzinfo=UTC)
    rows = pa.table({"t": pa.array([noon], pa.timestamp("us", "UTC"))})
    later = noon.astimezone(timezone(timedelta(hours=5)))
    assert scan(rows).filter(col("t") == later).collect().num_rows == 1
    assert scan(rows).route("t", bounds=[later]).collect()["shard"].to_pylist() == [1]


@pytest.mark.parametrize("system", ["this-machine", "dpu-csd-host"])
def test_membership_compares_floats_as_equality_does(system: str) -> None:
    nan = float("nan")
    rows = pa.table({"x": [nan, 0.0, -0.0, 1.0]})
    query = scan(rows)
    # By a program, and by the reference.
    for found in (
        query.filter(col("x").is_in([nan, -0.0])).collect(system)["x"].to_pylist(),
        rows.filter(
            evaluate(resolve(col("x").is_in([nan, -0.0]).node, rows.schema), rows.to_batches()[0])
        )["x"].to_pylist(),
    ):
        assert [str(x) for x in found] == ["0.0", "-0.0"]


def test_zero_needs_no_digit_before_the_point() -> None:
    rows = pa.table({"d": pa.array([Decimal("0.5"), Decimal(0), None], pa.decimal128(38, 38))})
    assert scan(rows).filter(col("d") > 0).collect().num_rows == 1
    assert scan(rows).filter(col("d").is_in([0])).collect().num_rows == 1
    with pytest.raises(InputError, match="does not apply"):
        scan(rows).filter(col("d") < 1)


def test_a_long_list_is_lifted_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def is_build(t: pa.DataType) -> bool:
        asked.append(t)
        return False

    monkeypatch.setattr(literals, "is_build", is_build)
    schema = pa.schema({"int64": pa.int64()})
    _, values = literals.lift(resolve(col("int64").is_in(range(1000)).node, schema))
    assert len(values) == 1000
    assert len(asked) <= 2000


@pytest.mark.parametrize("op", ["==", "!=", "<", ">="])
@pytest.mark.parametrize("nans", [False, True])
def test_shares_of_infinite_columns_are_numbers(op: str, *, nans: bool) -> None:
    for low, high in ((inf, inf), (-inf, inf), (-inf, -inf), (0.0, inf), (-1.7e308, 1.7e308)):
        bounds = ColumnStatistics(low, high, nulls=0, nans=nans)
        given = replace(exactly(100, 8.0), columns={"f64": bounds})
        for value in (inf, -inf, 0.0, nan):
            test = Compare(op, Column("f64", pa.float64()), Literal(value, pa.float64()))
            share = selectivity(test, given)
            assert 0 <= share.low <= share.guess <= share.high <= 1
