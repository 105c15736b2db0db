"""A share of chunks gives what its chunks give one by one, whatever thread did which."""

from __future__ import annotations

import gc
import os
import threading
from decimal import Decimal
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

import wherry as wh
from wherry import InputError, col
from wherry.data.segment import SegmentPool
from wherry.ir.builder import count
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call, resolve_condition
from wherry.ir.stage import Groups, Pass, Rows, Stage, Totals
from wherry.render.gather import batches_of
from wherry.render.outcome import together
from wherry.render.program import render
from wherry.render.team import alone, each
from wherry.run.crew import Crew
from wherry.run.shares import cut
from wherry.session.journey import segments

CORES = sorted(os.sched_getaffinity(0))
TEAMS = {"alone": alone, "three": Crew((CORES * 3)[:3]).run, "five": Crew((CORES * 5)[:5]).run}
SIZES = (0, 1, 63, 64, 65, 700, 4096, 5003)
FIXED = {
    "i8": pa.int8(),
    "i16": pa.int16(),
    "i32": pa.int32(),
    "i64": pa.int64(),
    "f64": pa.float64(),
    "day": pa.date32(),
    "money": pa.decimal128(15, 2),
}
OTHER = {"n": pa.int32(), "flag": pa.bool_(), "text": pa.utf8(), "view": pa.string_view()}
FEW = {"few": pa.utf8(), "code": pa.dictionary(pa.int8(), pa.utf8()), "long": pa.utf8()}
SCHEMA = pa.schema([*FIXED.items(), *OTHER.items(), *FEW.items()])
CALLS = (
    ("rows", count()),
    ("sum", col("f64").sum()),
    ("least", col("n").min()),
    ("exact", (col("money") * col("money")).sum()),
    ("known", col("n").count()),
)


def chunk(rng: np.random.Generator, rows: int, *, nulls: bool) -> pa.RecordBatch:
    numbers = rng.integers(0, 100, rows)
    columns = {name: pa.array(numbers).cast(t, safe=False) for name, t in FIXED.items()
               if name not in {"f64", "day", "money"}}  # fmt: skip
    columns["f64"] = pa.array(rng.normal(size=rows) * 10.0 ** rng.integers(-9, 9, rows))
    columns["day"] = pa.array(numbers.astype(np.int32)).view(pa.date32())
    columns["money"] = pa.array([Decimal(int(n)) / 4 for n in numbers], FIXED["money"])
    gone = rng.random(rows) < 0.3 if nulls else None
    columns["n"] = pa.array(numbers.astype(np.int32), mask=gone)
    columns["flag"] = pa.array(numbers % 3 == 0, mask=gone)
    texts = [f"{n} " * (n % 7) for n in numbers]
    columns["text"], columns["view"] = (
        pa.array(texts, OTHER[t], mask=gone) for t in ("text", "view")
    )
    names = ["one", "two", "", "four"]
    order = rng.permutation(4) if rng.integers(3) else np.arange(4)
    columns["few"] = pa.array([names[n % 3] for n in numbers], mask=gone)
    columns["code"] = pa.DictionaryArray.from_arrays(
        pa.array((numbers % 4).astype(np.int8), mask=gone), pa.array([names[n] for n in order])
    )
    columns["long"] = pa.array(["x" * 40 if n > 95 else names[n % 2] for n in numbers])
    offset = int(rng.integers(0, 5))
    made = pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    return made.slice(min(offset, rows))


def stage_of(kind: str, least: int) -> Any:
    where = resolve_condition(((col("i64") >= least) & (col("n").is_null() | (col("n") < 99))).node,
                              SCHEMA)  # fmt: skip
    if kind in {"rows", "any rows"}:
        outputs = {name: col(name) for name in FIXED}
        if kind == "any rows":
            computed = {"y": col("f64") * 2, "z": col("n") + col("i8"), "b": ~col("flag")}
            outputs |= {name: col(name) for name in OTHER} | computed
            where = where if least else None
        named = tuple((name, resolve(e.node, SCHEMA)) for name, e in outputs.items())
        return lift(Stage((Pass(where, Rows(named)),)))
    calls = tuple((name, resolve_call(call.call, SCHEMA)) for name, call in CALLS)
    if kind == "totals":
        return lift(Stage((Pass(where if least else None, Totals(calls)),)))
    keys = tuple((name, resolve(col(name).node, SCHEMA)) for name in kind.split())
    return lift(Stage((Pass(where if least else None, Groups(keys, calls)),)))


GROUPED = ("flag", "few", "code", "few code flag", "i8", "text", "n flag", "long")
"""Keys of few groups and of many, texts that are short, of one byte, and too long for words."""


@given(
    sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=9),
    least=st.sampled_from((0, 1, 50, 99, 1000)),
    kind=st.sampled_from(("rows", "any rows", "totals")),
    team=st.sampled_from(sorted(TEAMS)),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_a_share_gives_what_its_chunks_give(sizes, least, kind, team, seed):
    rng = np.random.default_rng(seed)
    batches = [chunk(rng, rows, nulls=bool(rng.integers(2))) for rows in sizes]
    stage, literals = stage_of(kind, least)
    program, pool = render(stage, SCHEMA, {}), SegmentPool()
    bound = program.bind(batches, literals)
    made = program.run_bound(bound, literals, pool, TEAMS[team])
    wanted = together([program.run(batch, literals, pool) for batch in batches])
    assert made.rows_in == wanted.rows_in
    assert made.rows_selected == wanted.rows_selected
    assert made.referenced_bytes == wanted.referenced_bytes
    if kind != "totals":  # They differ by a bitmap's last byte.
        assert made.copied_bytes == wanted.copied_bytes
    # Bits of a bitmap are counted as bytes, once for each chunk or once for all.
    assert 0 <= made.work.scan_bytes - wanted.work.scan_bytes <= len(sizes)
    one, other = (replace(m.work, write_bytes=0, scan_bytes=0) for m in (made, wanted))
    assert one == other
    schema = batches_of(wanted.batch)[0].schema
    tables = [pa.Table.from_batches(batches_of(m.batch), schema) for m in (made, wanted)]
    # Bit for bit: sums of floats too are added in one order.
    assert tables[0].combine_chunks().equals(tables[1].combine_chunks())
    for batch in batches_of(made.batch):
        batch.validate(full=True)


@given(
    share=st.sampled_from((0.0, 0.001, 0.02, 0.03, 0.035, 0.2, 0.999, 1.0)),
    rows=st.lists(st.sampled_from((1, 64, 5000, 40_000)), min_size=1, max_size=4),
    burst=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_few_rows_are_fetched_and_many_compacted_to_the_same_places(share, rows, burst, seed):
    rng, first = np.random.default_rng(seed), 0
    batches = []
    for count_ in rows:
        # In a burst, a chunk begins with few rows that pass and ends with many.
        bound = share * np.linspace(0, 3, count_) if burst else share
        passes = pa.array(rng.random(count_) < bound)
        numbers = np.arange(first, first + count_)
        columns = {name: pa.array(numbers).cast(t, safe=False) for name, t in FIXED.items()
                   if name not in {"day", "money"}}  # fmt: skip
        columns["day"] = pa.array(numbers.astype(np.int32)).view(pa.date32())
        columns["money"] = pa.array([Decimal(int(n)) for n in numbers], FIXED["money"])
        batches.append(pa.record_batch([passes, *columns.values()], names=["passes", *columns]))
        first += count_
    table = pa.Table.from_batches(batches)
    made = wh.scan(table).filter(col("passes")).collect()
    wanted = table.filter(table["passes"])
    assert made.combine_chunks().equals(wanted.combine_chunks())


@pytest.mark.parametrize("descending", [False, True])
def test_the_first_rows_of_a_share_are_the_same_whatever_threads_did(descending):
    rng = np.random.default_rng(3)
    values = pa.array(rng.integers(-50, 50, 60_000), mask=rng.random(60_000) < 0.1)
    whole = pa.table({"x": values, "row": pa.array(range(len(values)))})
    table = pa.Table.from_batches(whole.to_batches(7000))
    query = wh.scan(table).top_k(300, by="x", descending=descending)
    results = [query.run() for _ in range(5)]
    order = "descending" if descending else "ascending"
    wanted = whole.take(pc.sort_indices(whole, [("x", order)])[:300])
    for result in results:
        assert result.table.combine_chunks().equals(wanted.combine_chunks())
        near, merged = result.evidence
        assert near.rows_in == len(values)
        assert near.rows_out == merged.rows_in == 300
        first = results[0].evidence[0]
        assert (near.work, near.nbytes) == (first.work, first.nbytes)


@given(
    sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=9),
    least=st.sampled_from((0, 1, 50, 99, 1000)),
    keys=st.sampled_from(GROUPED),
    team=st.sampled_from(sorted(TEAMS)),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=80)
def test_a_share_gives_the_groups_that_its_chunks_give(sizes, least, keys, team, seed):
    rng = np.random.default_rng(seed)
    batches = [chunk(rng, rows, nulls=bool(rng.integers(2))) for rows in sizes]
    stage, literals = stage_of(keys, least)
    program, pool = render(stage, SCHEMA, {}), SegmentPool()
    bound = program.bind(batches, literals)
    if bound is None:
        assert keys == "long"
        return
    made = program.run_bound(bound, literals, pool, TEAMS[team])
    wanted = together([program.run(batch, literals, pool) for batch in batches])
    assert (made.rows_in, made.rows_selected) == (wanted.rows_in, wanted.rows_selected)
    one, other = (replace(m.work, write_bytes=0, scan_bytes=0) for m in (made, wanted))
    assert one == other
    # A dictionary is referred to once for all chunks that have it.
    assert made.referenced_bytes <= wanted.referenced_bytes
    assert (made.referenced_bytes > 0) == (wanted.referenced_bytes > 0)
    # Bit for bit: sums of floats too are added in one order.
    rows = [[repr(r) for b in batches_of(m.batch) for r in b.to_pylist()] for m in (made, wanted)]
    assert rows[0] == rows[1]
    for batch in batches_of(made.batch):
        batch.validate(full=True)


def test_bound_chunks_serve_other_constants():
    batches = [chunk(np.random.default_rng(i), 1000, nulls=False) for i in range(3)]
    stage, first = stage_of("rows", 40)
    second = stage_of("rows", 70)[1]
    program, pool = render(stage, SCHEMA, {}), SegmentPool()
    bound = program.bind(batches, first)
    rows = [program.run_bound(bound, v, pool, alone).batch.num_rows for v in (first, second, first)]
    assert rows[0] == rows[2] > rows[1] > 0


@pytest.mark.parametrize("team", TEAMS)
def test_the_first_error_in_order_is_raised(team):
    def task(number: int) -> int:
        if number in {7, 11, 30}:
            raise InputError(f"chunk {number}")
        return number

    for _ in range(20):
        with pytest.raises(InputError, match="chunk 7"):
            each(TEAMS[team], 40, task)
    assert each(TEAMS[team], 5, lambda number: number) == list(range(5))


def test_nobody_begins_anything_after_an_interrupt():
    begun: list[int] = []

    def task(number: int) -> None:
        begun.append(number)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    crew = Crew((CORES * 3)[:3])
    with pytest.raises(KeyboardInterrupt):
        each(crew.run, 10**9, task)
    seen = len(begun)
    assert each(crew.run, 3, lambda number: number) == [0, 1, 2]
    assert len(begun) == seen


def test_the_callers_own_thread_is_not_pinned():
    before = os.sched_getaffinity(0)
    table = pa.table({"x": np.arange(2_000_000)})
    assert wh.scan(table).filter(col("x") > 5).collect().num_rows == 1_999_994
    assert os.sched_getaffinity(0) == before


def test_shares_keep_order_and_bounds():
    chunks = tuple(wh.scan(pa.table({"x": np.arange(3_000_000)})).source.chunks())
    assert cut(chunks) == (chunks,)
    assert cut(()) == ()
    for most in (1, 300_000, 600_000):
        shares = cut(chunks, most)
        assert sum(shares, ()) == chunks
        assert all(sum(r.rows for r in s) <= max(most, s[0].rows) for s in shares)
    sizes = [len(share) for share in cut(chunks, first=1)]
    assert sum(sizes) == len(chunks)
    assert all(b == 2 * a for a, b in pairwise(sizes[:-1]))


def test_a_stream_holds_little_at_a_time():
    rows = 12_000_000
    table = pa.table({"x": np.arange(rows) % 2, "y": np.arange(rows)})
    gc.collect()
    pool, most, seen = segments(), 0, 0
    held = pool.bytes_in_use  # by answers of other tests that are still known
    others = pool.bytes_in_use  # what earlier tests left to the collector, and it keeps
    for batch in wh.scan(table).filter(col("x") == 0).stream():
        most, seen = max(most, pool.bytes_in_use - others), seen + batch.num_rows
        del batch
    assert seen == rows // 2
    # 96 MB are made in all, 32 MB of each share; regions are given back as a whole.
    assert most - held <= 64 << 20
