"""DuckDB is the second opinion: 500 generated pipelines, on real and on emulated devices.

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

from itertools import count

import duckdb
import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings
from support.compare import assert_same
from support.pipelines import Relation, drawn_pipeline
from support.tables import ROW, drawn_table, stored
from support.typed import plain_for_duckdb

from wherry import Pipeline, load_system, scan
from wherry.plan.joins import with_builds
from wherry.plan.placement import placements, refusals
from wherry.plan.query import prepare
from wherry.testing import build_side

EXAMPLES = max(500, settings().max_examples)
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


def answer_of(table: pa.Table, sql: str) -> pa.Table:
    # A connection for each query: hypothesis keeps what a test is given, and DuckDB's bindings
    # complain at exit of connections that are kept.
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("stored", plain_for_duckdb(table))
        return connection.sql(sql).to_arrow_table()


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_answers_equal_duckdb(data: st.DataObject, folders: object) -> None:
    table, columns = drawn_table(data.draw)
    source = scan(stored(data.draw, table, next(folders)))
    start = Relation(source, "SELECT * FROM stored", columns, (f'"{ROW}" ASC',))
    made = drawn_pipeline(data.draw, start)
    sql = made.ordered_sql()
    wanted = answer_of(table, sql)
    if data.draw(st.booleans(), label="emulated"):
        pins = pins_of(data.draw, made.pipeline)
        seen = made.pipeline.run(EMULATED, placement=pins).table
    else:
        seen = made.pipeline.collect()
    assert seen.schema == pa.schema([(name, k.type) for name, k in made.columns.items()]), sql
    assert_same(seen, wanted, ordered=made.order is not None)
