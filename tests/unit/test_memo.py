"""What is kept beside a source: found again, bounded, gone with it, and never another query's."""

import gc
import weakref
from functools import reduce

import pyarrow as pa
import pytest

import wherry as wh
from wherry import InputError, col
from wherry.base.memo import Memo
from wherry.ir.expr import Literal
from wherry.run import worker
from wherry.session import journey


class Owner:
    pass


def test_a_value_is_made_once_and_the_oldest_goes():
    memo, owner, made = Memo(3), Owner(), []

    def ask(key: int) -> int:
        return memo.get(owner, key, lambda: made.append(key) or key)

    assert [ask(key) for key in (1, 2, 1, 3, 1)] == [1, 2, 1, 3, 1]
    assert made == [1, 2, 3]
    ask(4)
    ask(2)
    assert made == [1, 2, 3, 4]
    ask(1)
    assert made == [1, 2, 3, 4, 1]


def test_nothing_goes_while_there_is_place():
    memo, owner, made = Memo(64), Owner(), []
    for key in [*range(64), *range(64)]:
        memo.get(owner, key, lambda key=key: made.append(key))
    assert made == list(range(64))


def test_values_go_with_their_owner():
    memo, owner = Memo(3), Owner()
    kept = weakref.ref(memo.get(owner, "key", Owner))
    assert kept() is not None
    del owner
    assert kept() is None


def test_a_source_that_was_queried_goes_with_its_last_name():
    query = wh.scan(pa.table({"x": list(range(1000)), "s": ["a"] * 1000}))
    kept = weakref.ref(query.source)
    for _ in range(2):
        assert query.filter(col("x") < 10).select("x").collect().num_rows == 10
        assert query.group_by("s").agg(n=wh.count()).collect().num_rows == 1
        query.explain("dpu-csd-host")
    del query
    assert kept() is None


@pytest.mark.parametrize("system", ["this-machine", "dpu-csd-host"])
def test_zero_and_minus_zero_are_different_constants(system):
    query = wh.scan(pa.table({"x": [1.0, -1.0]}))
    infinite = float("inf")
    for _ in range(2):
        for zero, sign in ((0.0, 1), (-0.0, -1)):
            made = query.select(y=col("x") / zero).collect(system)
            assert made["y"].to_pylist() == [sign * infinite, -sign * infinite]


def test_literals_are_equal_if_written_the_same():
    one, other = Literal(0.0, pa.float64()), Literal(-0.0, pa.float64())
    assert one != other
    assert one == Literal(0.0, pa.float64())
    assert hash(one) == hash(Literal(0.0, pa.float64()))
    assert Literal(1, pa.int64()) != Literal(1, pa.int32())
    assert Literal(float("nan"), pa.float64()) == Literal(float("nan"), pa.float64())


def test_chunks_that_lie_ready_are_bound_once_for_all_constants(monkeypatch):
    bound = []
    bind = worker.Worker._bind
    monkeypatch.setattr(worker.Worker, "_bind", lambda *a: bound.append(1) or bind(*a))
    query = wh.scan(pa.table({"x": list(range(1000))}))
    for most in (100, 500, 100):  # As long as each other: one plan.
        assert query.filter(col("x") < most).agg(n=wh.count()).collect()["n"].to_pylist() == [most]
    assert len(bound) == 1


def test_an_error_is_not_kept():
    query = wh.scan(pa.table({"x": [1, 2, 300]})).select(y=col("x").cast(pa.int8()))
    for _ in range(2):
        with pytest.raises(InputError, match="int8"):
            query.collect()


def test_joins_planned_once_have_the_rows_they_were_asked_for():
    query = wh.scan(pa.table({"x": list(range(10))}))
    kept = weakref.ref(query.source)

    def rows(*keys: list[int], of: wh.Pipeline) -> list[int]:
        sides = [wh.scan(pa.table({"x": some})) for some in keys]
        joined = reduce(lambda left, right: left.join(right, on="x", how="semi"), sides, of)
        found: list[int] = joined.collect()["x"].to_pylist()
        return found

    # As many rows between the same bounds: all that a plan knows of a build.
    for _ in range(2):
        assert rows([1, 3, 9], of=query) == [1, 3, 9]
        assert rows([1, 5, 9], of=query) == [1, 5, 9]
        assert rows([1, 3, 9], [1, 5, 9], of=query) == [1, 9]
        assert rows([1, 3, 9], [1, 2, 3, 5], of=query) == [1, 3]
    del query
    assert kept() is None


def test_a_plan_that_is_kept_does_not_keep_the_rows_of_a_join(monkeypatch):
    builds = []
    make = journey.build_of
    monkeypatch.setattr(
        journey, "build_of", lambda *given: builds.append(make(*given)) or builds[-1]
    )
    query, side = wh.scan(pa.table({"x": [1, 2]})), wh.scan(pa.table({"x": [2]}))
    for _ in range(2):
        assert query.join(side, on="x").collect()["x"].to_pylist() == [2]
    kept = [weakref.ref(build) for build in builds]
    builds.clear()
    gc.collect()
    assert [build() for build in kept] == [None, None]
