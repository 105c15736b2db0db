"""DuckDB is the second opinion: 1,000 generated pipelines, on real and on emulated devices.

`make soak` draws 10,000 new ones.

What SQL, or DuckDB, defines otherwise is left out on purpose:

    what                      Wherry                      DuckDB            how it is avoided
    integer overflow          wraps                       raises            bounds are tracked
    division by zero          inf or NaN                  null or inf       divisors are constants
    NaN                       IEEE; last in a sort        equals itself     no NaN in tables
    float32 arithmetic        float64                     float32           SQL casts to DOUBLE
    decimal rounding          refused or error            rounds            no lossy decimal casts
    floats as shard keys      refused                     would do          not generated
    float to integer          error if not whole          rounds            not generated
    LIKE escapes              backslash                   none by default   no backslash
    uint64 beside negative    error above 2**63 - 1       HUGEINT           not generated
    moments of two units      finer of the two            varies            SQL casts to nanoseconds
    order of groups           first appearance            none              compared as multisets
    parts of zoned moments    local time                  session's zone    not generated
"""

import os
from collections.abc import Iterator
from functools import cache
from itertools import count
from typing import Any
from unittest.mock import patch

import duckdb
import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings
from support.compare import assert_same
from support.pipelines import Relation, drawn_pipeline
from support.tables import ROW, drawn_table, stored
from support.typed import plain_for_duckdb

from wherry import Pipeline, load_system, scan, session
from wherry.plan.joins import with_builds
from wherry.plan.placement import placements, refusals
from wherry.plan.query import prepare
from wherry.run.crew import Crew
from wherry.testing import build_side

EXAMPLES = max(1000, settings().max_examples)
EMULATED = load_system("dpu-csd-host")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> object:
    root = tmp_path_factory.mktemp("stored")
    return (root / str(number) for number in count())


def pins_of(draw: object, pipeline: Pipeline) -> dict[str, str]:
    """Give a site for every segment: one of all placements that nothing refuses."""
    ready = with_builds(pipeline, build_side)
    query = prepare(ready.source, ready.operators, ready.schema)
    possible = list(placements(query, EMULATED, refusals(query, EMULATED)))
    sites = draw(st.sampled_from(possible)).sites
    return {segment.kind: site for segment, site in zip(query.segments, sites, strict=True)}


@pytest.fixture(scope="module")
def duck() -> Iterator[list[Any]]:
    """Give one connection for all queries: to connect takes as long as to run a pipeline.

    It is taken out of the list again, because hypothesis keeps what a test is given, and DuckDB's
    bindings complain at exit of connections that are kept.
    """
    held = [duckdb.connect(config={"threads": 1})]
    held[0].execute("SET TimeZone = 'UTC'")
    yield held
    held.pop().close()


@cache
def crew_of(threads: int) -> Crew:
    cores = sorted(os.sched_getaffinity(0))
    return Crew((cores * threads)[:threads])


def answer_of(duck: list[Any], table: pa.Table, sql: str) -> pa.Table:
    duck[0].register("stored", plain_for_duckdb(table))
    try:
        return duck[0].sql(sql).to_arrow_table()
    finally:
        duck[0].unregister("stored")


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_answers_equal_duckdb(data: st.DataObject, folders: object, duck: list[Any]) -> None:
    table, columns = drawn_table(data.draw)
    source = scan(stored(data.draw, table, next(folders)))
    start = Relation(source, "SELECT * FROM stored", columns, (f'"{ROW}" ASC',))
    made = drawn_pipeline(data.draw, start)
    sql = made.ordered_sql()
    wanted = answer_of(duck, table, sql)
    if data.draw(st.booleans(), label="emulated"):
        pins = pins_of(data.draw, made.pipeline)
        seen = made.pipeline.run(EMULATED, placement=pins).table
    else:
        threads = data.draw(st.sampled_from((1, 2, 5)), label="threads")
        with patch.object(session, "running", lambda: crew_of(threads)):
            seen = made.pipeline.collect()
    assert seen.schema == pa.schema([(name, k.type) for name, k in made.columns.items()]), sql
    assert_same(seen, wanted, ordered=made.order is not None)
