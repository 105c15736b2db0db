"""A look at rows gives what a run of the same rows gives."""

import numpy as np
import pyarrow as pa
import pytest
from support.runs import query_of

from wherry import col, scan
from wherry.ir.build import build_of
from wherry.ir.literals import bind
from wherry.plan.joins import with_builds
from wherry.plan.looked import look, simple
from wherry.plan.query import near_flow
from wherry.plan.sample import sampled
from wherry.session import run

RANDOM = np.random.default_rng(3)
LINES = pa.table(
    {
        "key": pa.array(RANDOM.integers(0, 200, 3000), mask=RANDOM.random(3000) < 0.1),
        "name": pa.array([f"n{v}" for v in RANDOM.integers(0, 50, 3000)]),
        "x": RANDOM.random(3000),
    }
)
SIDE = pa.table(
    {
        "key": RANDOM.integers(0, 150, 400),
        "name": [f"n{v}" for v in RANDOM.integers(0, 30, 400)],
        "y": range(400),
    }
)
PIPELINES = {
    "inner": lambda lines: lines.join(SIDE, on="key"),
    "left": lambda lines: lines.filter(col("x") < 0.5).join(SIDE, on="key", how="left"),
    "text": lambda lines: lines.join(SIDE, on="name"),
    "both": lambda lines: lines.join(SIDE, on=["key", "name"]).filter(col("y") > col("key")),
    "semi": lambda lines: lines.join(SIDE, on="key", how="semi"),
    "anti": lambda lines: lines.join(SIDE, on="name", how="anti").filter(col("x") > 0.2),
    "twice": lambda lines: lines.join(SIDE, on="key").join(SIDE, on="name", suffix="_2"),
    "computed": lambda lines: lines.filter(col("x") < 0.9).select(z=col("x") * 2),
}


def made(pipeline):
    sides = with_builds(pipeline, lambda side, keys: build_of(run(side).table, keys))
    return query_of(sides)


@pytest.mark.parametrize("title", PIPELINES)
def test_a_look_at_all_rows_is_a_run(title):
    pipeline = PIPELINES[title](scan(LINES))
    query = made(pipeline)
    bound = bind(query.plan.segments, query.literals)
    steps = next(s.steps for s in bound if s.kind == "near")
    assert simple(steps)
    rows = LINES.select(list(query.scan.columns)).combine_chunks().to_batches()[0]
    looked = look(steps, rows)
    answer = pipeline.collect()
    assert len(looked.origin) == looked.rows.num_rows == answer.num_rows
    assert looked.rows.to_pylist() == answer.to_pylist()
    assert list(looked.origin) == sorted(looked.origin)


@pytest.mark.parametrize("title", ["inner", "left", "text", "both", "twice"])
def test_a_sample_of_a_join_is_near_what_comes_of_it(title):
    lines = pa.concat_tables([LINES] * 20).combine_chunks()
    pipeline = PIPELINES[title](scan(lines))
    near, answer = near_flow(sampled(made(pipeline))), pipeline.collect().num_rows
    assert near.rows_low <= near.rows <= near.rows_high
    assert near.rows == pytest.approx(answer, rel=0.15)
    assert near.rows_high < 2 * answer


def test_rows_of_a_join_that_has_not_run_are_not_looked_at():
    lines = PIPELINES["inner"](scan(pa.concat_tables([LINES] * 20)))

    def size_only(side, keys):
        return build_of(run(side).table, keys).known

    assert sampled(query_of(with_builds(lines, size_only))).sampled == 0
    assert sampled(made(lines)).sampled > 0
