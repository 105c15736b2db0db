"""Many groups: rows dealt by key, keys that ascend, and chunks that meet in several threads.

What decides between the ways is lowered, so that small tables take each of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import Phase, given, settings
from msgspec import Struct
from support.compare import assert_same

import wherry as wh
from wherry import col
from wherry.data.segment import SegmentPool
from wherry.ir.literals import lift
from wherry.ir.stage import Stage, output_schema
from wherry.ops.operator import one_batch
from wherry.render import ascending, grouping, many, ordered, partitioned, program, slotted
from wherry.render.program import render
from wherry.render.reference import run_reference
from wherry.render.waiting import Waiting
from wherry.run.crew import Crew

KEYS = {
    "int64": pa.int64(),
    "int8": pa.int8(),
    "uint64": pa.uint64(),
    "date": pa.date32(),
    "moment": pa.timestamp("us"),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "narrow": pa.decimal128(9, 2),
    "wide": pa.decimal128(30, 2),
    "bool": pa.bool_(),
}
VALUES = {
    "f64": pa.float64(),
    "f32": pa.float32(),
    "i8": pa.int8(),
    "i16": pa.int16(),
    "u32": pa.uint32(),
    "i64": pa.int64(),
    "dec": pa.decimal128(12, 2),
    "big": pa.decimal128(38, 2),
}


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Nothing is shrunk: each example compiles programs of its own, so that it would take minutes."""


WAYS = {
    "hashed": {"_SLOTS_A_ROW": 0},
    "addressed": {"_SLOTS_A_ROW": 64, "_ROWS_A_SLOT": 0, "_NEAR": 1 << 40},
    "partitioned": {"_SLOTS_A_ROW": 64, "_NEAR": 0, "_PART": 1 << 9},
}
"""How rows that wait are grouped where they meet, if their keys allow it."""


@contextmanager
def lowered(way: str = "hashed", **settings_: int) -> Iterator[None]:
    """Let few rows be many."""
    with (
        patch.multiple(slotted, **WAYS[way]),
        patch.object(program, "MANY", settings_.get("many", 1)),
        patch.object(many, "_FIRST_GROUPS", 64),
        patch.object(many, "MANY_GROUPS", settings_.get("groups", 1)),
        patch.object(grouping, "MANY_GROUPS", settings_.get("groups", 1)),
        patch.object(many, "_SHARE", 0.0),
        patch.object(ascending, "PROBE", settings_.get("probe", 1)),
        patch.object(ascending, "_SPARE", 0),
        patch.object(grouping, "PROBE", settings_.get("probe", 1)),
        patch.object(partitioned, "_FIRST_GROUPS", 1),
        patch.object(ordered, "_RANGE", settings_.get("range", 128)),
    ):
        yield


def keys_of(rng: np.random.Generator, kind: str, rows: int, groups: int) -> list[object]:
    numbers = rng.integers(-groups // 2, groups - groups // 2, rows).tolist()
    match kind:
        case "bool":
            return [n > 0 for n in numbers]
        case "int8":
            return [n % 251 - 125 for n in numbers]
        case "uint64":
            return [n % (1 << 64) for n in numbers]
        case "float64" | "float32":
            special = [0.0, -0.0, float("nan"), -float("nan"), float("inf")]
            return [special[n % 7] if n % 7 < 5 else n / 4 for n in numbers]
        case "narrow":
            return [Decimal(n).scaleb(-2) for n in numbers]
        case "wide":
            return [Decimal(n * 10**19 + n).scaleb(-2) for n in numbers]
    return numbers


def values_of(rng: np.random.Generator, kind: str, rows: int) -> list[object]:
    if kind in {"f64", "f32"}:
        found = (rng.random(rows) * 64 // 1 / 8).tolist()
        return [float("nan") if i % 97 == 96 else v for i, v in enumerate(found)]
    numbers = rng.integers(0 if kind == "u32" else -1000, 1000, rows).tolist()
    if kind == "i8":
        return [n % 251 - 125 for n in numbers]
    if kind == "dec":
        return [Decimal(n).scaleb(-2) for n in numbers]
    if kind == "big":
        return [Decimal(n * 10**30 + n).scaleb(-2) for n in numbers]
    return numbers


class Shape(Struct, frozen=True):
    """What a table looks like: rows, kinds of keys and values, how keys lie, which have nulls."""

    seed: int
    rows: int
    groups: int
    keys: tuple[str, ...]
    values: tuple[str, ...]
    order: str
    key_nulls: bool
    value_nulls: str
    chunk: int

    def table(self) -> pa.Table:
        rng = np.random.default_rng(self.seed)
        columns = {}
        for number, kind in enumerate(self.keys):
            found = keys_of(rng, kind, self.rows, self.groups)
            if self.key_nulls:
                found = [None if rng.random() < 0.1 else v for v in found]
            columns[f"k{number}"] = pa.array(found, KEYS[kind])
        for number, kind in enumerate(self.values):
            found = values_of(rng, kind, self.rows)
            gone = {"none": 0, "some": self.rows, "late": self.rows // 2}[self.value_nulls]
            found = [None if i < gone and rng.random() < 0.3 else v for i, v in enumerate(found)]
            columns[f"v{number}"] = pa.array(found, VALUES[kind])
        table = pa.table(columns)
        if self.order == "random":
            return pa.Table.from_batches(table.to_batches(max_chunksize=self.chunk))
        by = [(f"k{number}", "ascending") for number in range(len(self.keys))]
        table = table.sort_by(by)
        if self.order == "clustered":
            table = pa.concat_tables([table.slice(self.rows // 2), table.slice(0, self.rows // 2)])
        if self.order == "late":
            places = np.arange(self.rows)
            places[self.rows // 2 :] = rng.permutation(places[self.rows // 2 :])
            table = table.take(pa.array(places))
        return pa.Table.from_batches(table.combine_chunks().to_batches(max_chunksize=self.chunk))


SHAPES = st.builds(
    Shape,
    seed=st.integers(0, 1 << 30),
    rows=st.sampled_from((1, 63, 65, 500, 2000)),
    groups=st.sampled_from((1, 3, 70, 700, 1 << 20)),
    keys=st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3).map(tuple),
    values=st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=2).map(tuple),
    order=st.sampled_from(("random", "sorted", "clustered", "late")),
    key_nulls=st.booleans(),
    value_nulls=st.sampled_from(("none", "some", "late")),
    chunk=st.sampled_from((1, 64, 100, 333, 5000)),
).filter(lambda shape: shape.rows // shape.chunk <= 100)


def query_of(table: pa.Table) -> wh.Pipeline:
    calls = {"n": wh.count()}
    for name in table.column_names:
        if name.startswith("v"):
            x = col(name)
            calls |= {f"s{name}": x.sum(), f"l{name}": x.min()}
            if name == "v0":
                calls |= {f"h{name}": x.max(), f"c{name}": x.count(), f"m{name}": x.mean()}
    keys = [name for name in table.column_names if name.startswith("k")]
    return wh.scan(table).group_by(*keys).agg(**calls)


def expected(query: wh.Pipeline, table: pa.Table) -> pa.Table:
    (operator,) = query.operators
    stage, literals = lift(Stage((*operator.near(table.schema), *operator.gather(table.schema))))
    return pa.Table.from_batches([run_reference(stage, one_batch(table), literals)])


def same(seen: pa.Table, wanted: pa.Table) -> None:
    """Compare in order, every NaN being the same number."""
    assert_same(numbered(seen), numbered(wanted), ordered=True)


def numbered(table: pa.Table) -> pa.Table:
    columns = [
        pc.if_else(pc.is_nan(c), pa.scalar(1e30, c.type), c) if pa.types.is_floating(c.type) else c
        for c in table.columns
    ]
    return pa.table(columns, names=table.column_names)


def bytes_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    whole = table.combine_chunks()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return sink.getvalue().to_pybytes()


def near_program(table: pa.Table):
    (operator,) = query_of(table).operators
    return render(lift(Stage(operator.near(table.schema)))[0], table.schema, {})


def merge_program(table: pa.Table, schema: pa.Schema):
    (operator,) = query_of(table).operators
    return render(lift(Stage(operator.gather(table.schema)))[0], schema, {})


CORES = sorted(os.sched_getaffinity(0))
CREWS = {count: Crew((CORES * 4)[:count]) for count in (1, 2, 3, 4)}


def collected(table: pa.Table, cores: int) -> pa.Table:
    """Give the groups of a table, merged by so many threads."""
    pool, near = SegmentPool(), near_program(table)
    pieces = [near.run(batch, (), pool, defer=True).batch for batch in table.to_batches()]
    merge = merge_program(table, near_schema(table))
    crew = CREWS[cores]
    found = merge.run_gathered(pieces, (), pool, crew.run).batch
    return found if isinstance(found, pa.Table) else pa.Table.from_batches([found])


def near_schema(table: pa.Table) -> pa.Schema:
    (operator,) = query_of(table).operators
    (step,) = operator.near(table.schema)
    return output_schema(step, table.schema)


@settings(max_examples=8, deadline=None, phases=PHASES)
@given(SHAPES, st.integers(2, 4))
def test_rows_by_hash_give_the_groups_of_the_reference(shape, cores):
    every_thread_gives_the_groups(shape.table(), "hashed", cores)


NUMBERED = st.builds(
    Shape,
    seed=st.integers(0, 1 << 30),
    rows=st.sampled_from((500, 2000, 2047)),
    groups=st.sampled_from((70, 700, 2000)),
    keys=st.sampled_from((("int64",), ("date",), ("moment",), ("int8", "bool"), ("int64", "bool"))),
    values=st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=2).map(tuple),
    order=st.sampled_from(("random", "late")),
    key_nulls=st.booleans(),
    value_nulls=st.sampled_from(("none", "some", "late")),
    chunk=st.sampled_from((333, 500, 5000)),
)


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(NUMBERED, st.sampled_from(("addressed", "partitioned")), st.integers(2, 4))
def test_rows_by_slot_give_the_groups_of_the_reference(shape, way, cores):
    every_thread_gives_the_groups(shape.table(), way, cores)


def every_thread_gives_the_groups(table: pa.Table, way: str, cores: int) -> None:
    wanted = expected(query_of(table), table)
    with lowered(way):
        one, more = collected(table, 1), collected(table, cores)
    same(one, wanted)
    assert bytes_of(one) == bytes_of(more)


@settings(max_examples=4, deadline=None, phases=PHASES)
@given(SHAPES)
def test_chunks_that_were_grouped_meet_in_partitions(shape):
    table = shape.table()
    with lowered(groups=1 << 40):
        same(collected(table, 2), expected(query_of(table), table))


def table_of(keys: np.ndarray, chunk: int) -> pa.Table:
    table = pa.table({"k0": keys, "v0": np.arange(len(keys)) / 4})
    return pa.Table.from_batches(table.to_batches(max_chunksize=chunk))


def test_rows_that_hardly_share_keys_wait_only_if_asked():
    table = table_of(np.random.default_rng(3).permutation(40_000), 40_000)
    program_, pool = near_program(table), SegmentPool()
    (batch,) = table.to_batches()
    asked = program_.run(batch, (), pool, defer=True)
    assert isinstance(asked.batch, Waiting)
    assert asked.copied_bytes == 0
    assert asked.referenced_bytes == asked.nbytes == asked.batch.num_rows * 16
    assert program_.run(batch, (), pool).batch.num_rows == 40_000


def spread_table(rows: int = 3000) -> pa.Table:
    rng = np.random.default_rng(8)
    keys = rng.integers(-500, 500, rows)
    gone = rng.random(rows) < 0.1
    table = pa.table({"k0": pa.array(keys, mask=gone), "v0": rng.integers(0, 99, rows) / 4})
    return pa.Table.from_batches(table.to_batches(max_chunksize=700))


@pytest.mark.parametrize("way", ["addressed", "partitioned"])
@pytest.mark.parametrize("bounds", [{}, {"k0": (-500, 499)}, {"k0": (3, 9)}, {"k0": (0, 1 << 40)}])
def test_statistics_that_lie_change_nothing(way, bounds):
    table = spread_table()
    (operator,) = query_of(table).operators
    near = render(lift(Stage(operator.near(table.schema)))[0], table.schema, bounds)
    pool = SegmentPool()
    with lowered(way):
        pieces = [near.run(b, (), pool, defer=True).batch for b in table.to_batches()]
        assert all(isinstance(piece, Waiting) for piece in pieces)
        made = merge_program(table, near_schema(table)).run_gathered(pieces, (), pool)
    same(made.batch, expected(query_of(table), table))


@pytest.mark.parametrize("way", ["hashed", "addressed", "partitioned"])
def test_only_rows_that_passed_are_grouped(way):
    table = spread_table()
    query = (
        wh.scan(table).filter(col("v0") < 15.0).group_by("k0").agg(n=wh.count(), s=col("v0").sum())
    )
    rows = table.filter(pc.less(table["v0"], 15.0))
    with lowered(way):
        made = query.collect("this-machine")
    wanted = rows.group_by("k0").aggregate([([], "count_all"), ("v0", "sum")])

    columns = wanted.select(["k0", "count_all", "v0_sum"]).rename_columns(["k0", "n", "s"])
    assert_same(made.sort_by("k0"), columns.sort_by("k0"), ordered=True)


@pytest.mark.parametrize("way", sorted(WAYS))
def test_the_way_is_taken(way):
    table = spread_table()
    taken = {"hashed": "merge_hashed", "addressed": "_addressed", "partitioned": "_partitioned"}
    with (
        lowered(way),
        patch.object(slotted, taken[way], side_effect=getattr(slotted, taken[way])) as called,
    ):
        query_of(table).collect("this-machine")
    assert called.call_count == 1


def test_rows_that_share_keys_are_grouped():
    table = table_of(np.random.default_rng(3).integers(0, 3000, 100_000), 100_000)
    (batch,) = table.to_batches()
    made = near_program(table).run(batch, (), SegmentPool(), defer=True)
    assert isinstance(made.batch, pa.RecordBatch)


def test_one_frequent_key_needs_no_more_room():
    keys = np.where(np.arange(50_000) % 2 == 0, 7, np.random.default_rng(1).permutation(50_000))
    table = table_of(keys, 20_000)
    query = query_of(table)
    same(query.collect("this-machine"), expected(query, table))


@pytest.mark.parametrize("t", [pa.bool_(), pa.int8(), pa.uint8(), pa.int16()], ids=str)
def test_extremes_of_narrow_values_by_a_key_that_ascends(t: pa.DataType) -> None:
    """Eight lanes of a byte, compressed, are what LLVM ends the process over."""
    rows = 3000
    numbers = pa.array(np.arange(rows) * 7919 % 100).cast(t)
    mask = pa.array(np.arange(rows) % 3 == 0)
    values = pc.if_else(mask, pa.scalar(None, t), numbers)
    table = pa.table({"k": np.arange(rows) // 4, "v": values})
    seen = wh.scan(table).group_by("k").agg(l=col("v").min(), h=col("v").max()).collect()
    wanted = table.group_by("k", use_threads=False).aggregate([("v", "min"), ("v", "max")])
    assert seen.to_pydict() == dict(zip("klh", wanted.to_pydict().values(), strict=True))


def test_ascending_chunks_are_joined_by_reference():
    table = table_of(np.repeat(np.arange(30_000), 4), 50_001)
    pool = SegmentPool()
    near = near_program(table)
    pieces = [near.run(batch, (), pool, defer=True).batch for batch in table.to_batches()]
    merge = merge_program(table, pieces[0].schema)
    with lowered():
        made = merge.run_gathered(pieces, (), pool)
    same(made.batch, expected(query_of(table), table))
    assert made.referenced_bytes > 30_000 * 8
    assert 30_000 * 8 <= made.copied_bytes < made.nbytes / 2  # the means


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_a_group_over_many_chunks_is_one(chunk):
    table = table_of(np.array([1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 9]), chunk)
    query = query_of(table)
    with lowered():
        same(query.collect("this-machine"), expected(query, table))


@pytest.mark.parametrize("order", ["sorted", "random"])
def test_what_follows_the_groups_follows(order):
    rng = np.random.default_rng(5)
    keys = rng.integers(0, 9000, 20_000)
    table = table_of(np.sort(keys) if order == "sorted" else keys, 3000)
    query = query_of(table)
    with lowered():
        top = query.top_k(5, by="sv0").collect("this-machine")
        few = query.filter(col("n") > 3).limit(7).collect("this-machine")
    wanted = expected(query, table)
    assert top["sv0"].to_pylist() == sorted(wanted["sv0"].to_pylist(), reverse=True)[:5]
    assert few["k0"].to_pylist() == [row["k0"] for row in wanted.to_pylist() if row["n"] > 3][:7]


@pytest.mark.parametrize("order", ["sorted", "random"])
def test_groups_of_groups_are_made_of_their_own_keys_and_values(order):
    keys = np.arange(9000) if order == "sorted" else np.random.default_rng(6).permutation(9000)
    table = pa.table({"a": keys, "f": keys * 0.5})
    once = wh.scan(pa.Table.from_batches(table.to_batches(max_chunksize=2000))).distinct("a", "f")
    a = table["a"].to_pylist()
    with lowered():
        twice = once.group_by("a").agg(f=(col("f") * 2).sum()).collect()
        some = once.filter(col("f") > 5).group_by("a").agg(f=col("f").sum()).collect()
        counted = once.group_by("a").agg(n=wh.count()).distinct("n").collect()
        moved = once.select(b=col("a") + 1).distinct("b").collect()
    assert twice.to_pydict() == {"a": a, "f": a}
    assert some.to_pydict() == {"a": [n for n in a if n > 10], "f": [n / 2 for n in a if n > 10]}
    assert counted.to_pydict() == {"n": [1]}
    assert moved["b"].to_pylist() == [n + 1 for n in a]


def test_the_emulator_counts_dealing_the_same_each_time():
    table = table_of(np.random.default_rng(2).permutation(60_000), 20_000)
    query = query_of(table)
    first, second = query.run("dpu-csd-host"), query.run("dpu-csd-host")
    assert [e.work for e in first.evidence] == [e.work for e in second.evidence]
    assert first.table.equals(second.table)
