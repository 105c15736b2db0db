"""Every operator means on every device what its reference says; and the kit would notice."""

from itertools import groupby

import pyarrow as pa
import pytest
from hypothesis import settings
from msgspec import Struct
from msgspec.structs import replace

from wherry import Pipeline, col, count, load_system, scan
from wherry.ir.stage import Order, Take
from wherry.ops.estimate import Estimate
from wherry.ops.operator import Case, Operator
from wherry.testing import Mismatch, cases, check_case, check_operator, check_operator_on

CASES = list(cases())
EMULATED = load_system("dpu-csd-host")
TITLES = {key: list(group) for key, group in groupby(CASES, lambda c: str(c.rows.schema.types[0]))}
SOAK = settings().max_examples > 1000


def sampled(type_name: str, found: list[Case], step: int) -> list[Case]:
    """Give every case in a soak, otherwise each step-th, from another one on for each type."""
    return found if SOAK else found[list(TITLES).index(type_name) % step :: step]


@pytest.mark.parametrize("type_name", TITLES)
def test_near_and_gather_give_the_reference(type_name: str) -> None:
    for case in sampled(type_name, TITLES[type_name], 3):
        check_case(case)


@pytest.mark.parametrize("type_name", TITLES)
def test_every_kind_of_device_gives_the_reference(type_name: str) -> None:
    shapes = (f"{type_name} nulls", f"{type_name} no rows")
    found = [case for case in TITLES[type_name] if case.title.endswith(shapes)]
    for case in sampled(type_name, found, 5):
        table = pa.Table.from_batches(case.rows.to_batches(max_chunksize=5), case.rows.schema)
        check_operator_on(EMULATED, case.operator, table)


def test_the_kit_holds_every_operator_and_type() -> None:
    names = {type(case.operator).__name__ for case in CASES}
    assert names == {
        *("Filter", "Select", "WithColumns", "Aggregate", "GroupBy"),
        *("Sort", "TopK", "Limit", "RouteRequest", "RouteRows", "Join", "Distinct"),
    }
    assert len(TITLES) == 51
    assert len({case.title for case in CASES}) == len(CASES)


class Broken(Struct, frozen=True):
    """An operator with one answer replaced."""

    inner: Operator
    near_steps: tuple | None = None
    gather_steps: tuple | None = None
    answer: pa.Table | None = None

    name = "broken"
    ordered = False
    gathers = True
    needs = ()

    def schema(self, given: pa.Schema) -> pa.Schema:
        return self.inner.schema(given)

    def near(self, given: pa.Schema) -> tuple:
        return self.inner.near(given) if self.near_steps is None else self.near_steps

    def gather(self, given: pa.Schema) -> tuple:
        return self.inner.gather(given) if self.gather_steps is None else self.gather_steps

    def estimate(self, given: Estimate) -> Estimate:
        return self.inner.estimate(given)

    def reference(self, rows: pa.Table) -> pa.Table:
        return self.inner.reference(rows) if self.answer is None else self.answer

    def describe(self) -> str:
        return f"broken {self.inner.describe()}"


TABLE = pa.table({"x": [3, 1, None, 2, 3, 1], "y": [1.0, 2.0, 3.0, None, 5.0, 6.0]})


def operator_of(query: Pipeline) -> Operator:
    return query.operators[-1]


def wrong_merge(operator: Operator) -> tuple:
    """Give the gather steps with every merging sum replaced by a maximum."""
    first, last = operator.gather(TABLE.schema)
    calls = tuple((n, replace(c, kind="max")) for n, c in first.sink.calls)
    return (replace(first, sink=replace(first.sink, calls=calls)), last)


AGGREGATE = operator_of(scan(TABLE).agg(n=count(), total=col("y").sum()))
GROUPED = operator_of(scan(TABLE).group_by("x").agg(n=count()))
SORTED = operator_of(scan(TABLE).sort("x"))
FIRST = operator_of(scan(TABLE).limit(2))
BEST = operator_of(scan(TABLE).top_k(3, by="x"))
KEPT = operator_of(scan(TABLE).filter(col("x") > 1))
SWAPPED = TABLE.slice(0, 6).take([1, 0, 2, 3, 4, 5])

BROKEN = {
    "aggregate merges by maximum": Broken(AGGREGATE, gather_steps=wrong_merge(AGGREGATE)),
    "group_by merges by maximum": Broken(GROUPED, gather_steps=wrong_merge(GROUPED)),
    "sort does not gather": Broken(SORTED, gather_steps=()),
    "sort forgets the direction": Broken(
        SORTED, gather_steps=(Order((replace(SORTED.by[0], descending=True),), None),)
    ),
    "limit takes of each chunk only": Broken(FIRST, gather_steps=()),
    "limit takes one too many": Broken(FIRST, near_steps=(Take(3),), gather_steps=(Take(3),)),
    "top_k keeps too few of a chunk": Broken(BEST, near_steps=(Order(BEST.by, 1),)),
    "filter keeps everything": Broken(KEPT, near_steps=()),
    "the reference orders otherwise": Broken(
        operator_of(scan(TABLE).select("x", "y")), answer=SWAPPED
    ),
    "the reference has another type": Broken(
        operator_of(scan(TABLE).select("x")), answer=pa.table({"x": pa.array([1], pa.int32())})
    ),
}


@pytest.mark.parametrize("title", BROKEN)
def test_the_kit_notices(title: str) -> None:
    check_operator(BROKEN[title].inner, TABLE)
    with pytest.raises(Mismatch):
        check_operator(BROKEN[title], TABLE)


def test_the_kit_says_where() -> None:
    with pytest.raises(Mismatch, match=r"broken agg n = count.*cut at .*row 0 of 'n' is 5, not 6"):
        check_operator(Broken(AGGREGATE, gather_steps=wrong_merge(AGGREGATE)), TABLE)


def test_the_kit_notices_on_devices() -> None:
    broken = Broken(AGGREGATE, gather_steps=wrong_merge(AGGREGATE))
    with pytest.raises(Mismatch, match="with routing@"):
        check_operator_on(EMULATED, broken, pa.concat_tables([TABLE, TABLE]))
