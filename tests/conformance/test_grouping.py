"""Groups by every way of numbering them: few by mask, small domains by address, others by hash.

Chunks are made so that they begin one way and end another: domains that grow behind some block,
texts that become longer, dictionaries that repeat an entry.
"""

from __future__ import annotations

from decimal import Decimal
from math import isclose, isnan

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wherry as wh
from wherry import col
from wherry.data.segment import SegmentPool
from wherry.ir.builder import count
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call, resolve_condition
from wherry.ir.stage import Groups, Pass, Stage
from wherry.render.program import render
from wherry.render.reference import run_reference

TEXT_TYPES = [
    pa.utf8(),
    pa.large_utf8(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.utf8()),
    pa.dictionary(pa.uint16(), pa.large_utf8()),
    pa.dictionary(pa.int64(), pa.utf8()),
]
NAN = float("nan")


def compare(batch: pa.RecordBatch, keys, calls, test=None, bounds=None) -> None:
    schema = batch.schema
    sink = Groups(
        tuple((k, resolve(col(k).node, schema)) for k in keys),
        tuple((name, resolve_call(call.call, schema)) for name, call in calls.items()),
    )
    condition = None if test is None else resolve_condition(test.node, schema)
    stage, literals = lift(Stage((Pass(condition, sink),)))
    program = render(stage, schema, bounds or {})
    assert not [r for r in program.residuals if "key" in r]
    made = program.run(batch, literals, SegmentPool()).batch
    wanted = run_reference(stage, batch, literals)
    assert made.schema == wanted.schema
    made.validate(full=True)
    assert made.num_rows == wanted.num_rows
    for name in schema_names(wanted):
        seen, right = made.column(name).to_pylist(), wanted.column(name).to_pylist()
        for number, pair in enumerate(zip(seen, right, strict=True)):
            assert same(*pair), (name, number, pair)


def schema_names(batch: pa.RecordBatch) -> list[str]:
    return batch.schema.names


def same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) or (isnan(one) and isnan(other))
    return one == other


def drawn(rng: np.random.Generator, pool: list, rows: int, grows: int, few: int, nulls: float):
    """Give rows that take from the first `few` of the pool, and from row `grows` on from all."""
    picks = rng.integers(0, len(pool), rows)
    picks[:grows] %= min(few, len(pool))
    none = rng.random(rows) < nulls
    return [None if n else pool[p] for n, p in zip(none, picks, strict=True)]


def array_of(values: list, t: pa.DataType, before: int) -> pa.Array:
    """Give an array that begins `before` rows into its buffers."""
    padded = values[:1] * before + values
    if pa.types.is_dictionary(t):
        made = pa.array(padded, t.value_type).dictionary_encode().cast(t)
    else:
        made = pa.array(padded, t)
    return made.slice(before)


texts = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.text(alphabet="ab\0é", max_size=3),
        st.text(alphabet="xyz", min_size=1, max_size=1),
        st.text(alphabet="pq", min_size=6, max_size=9),
        st.text(alphabet="pq", min_size=14, max_size=17),
        st.text(alphabet="pq", min_size=30, max_size=33),
    ),
    min_size=1,
    max_size=40,
    unique=True,
)


@settings(max_examples=60, deadline=None)
@given(
    pool=texts,
    t=st.sampled_from(TEXT_TYPES),
    rows=st.sampled_from([0, 1, 63, 64, 65, 200, 700]),
    grows=st.sampled_from([0, 64, 130, 700]),
    nulls=st.sampled_from([0.0, 0.2]),
    before=st.sampled_from([0, 3, 64]),
    seed=st.integers(0, 100),
    longest=st.sampled_from([1, 7, 15, 31, 40]),
    tested=st.booleans(),
)
def test_texts_of_any_length_group_as_they_should(
    pool, t, rows, grows, nulls, before, seed, longest, tested
):
    rng = np.random.default_rng(seed)
    short = [text for text in pool if len(text.encode()) <= longest]
    values = drawn(rng, short or pool, rows, grows, 4, nulls)
    if len(values) > 300:
        # A text that no form of the first block holds.
        values[rng.integers(300, len(values))] = max(pool, key=len)
    numbers = rng.integers(-50, 50, rows)
    batch = pa.record_batch(
        {"k": array_of(values, t, before), "x": array_of(numbers.tolist(), pa.int64(), before)}
    )
    calls = {"n": count(), "s": col("x").sum(), "hi": col("x").max(), "c": col("k").count()}
    compare(batch, ["k"], calls, col("x") > 0 if tested else None)


VALUES = {
    pa.int8(): [-128, 127, 0, 5],
    pa.uint8(): [0, 255, 7],
    pa.int16(): [-32768, 32767, 3],
    pa.uint32(): [0, 2**32 - 1, 9],
    pa.int64(): [-(2**40), 2**40, 1],
    pa.float32(): [0.5, -1.25, 3.0],
    pa.float64(): [0.1, -1e10, 1e-10, 2.5],
    pa.decimal128(9, 2): [Decimal("1.25"), Decimal("-9999999.99"), Decimal("0.00")],
    pa.decimal128(15, 2): [Decimal("1.25"), Decimal("-9999999999999.99"), Decimal("9.00")],
    pa.decimal128(18, 0): [Decimal(10**18 - 1), Decimal(-(10**18) + 1), Decimal(3)],
    pa.decimal128(25, 3): [Decimal("1.255"), Decimal(10**21), Decimal(-(10**20))],
    pa.decimal128(36, 0): [Decimal(10**35), Decimal(-(10**35)), Decimal(-1)],
}


@pytest.mark.parametrize("nulls", [0.0, 0.3])
@pytest.mark.parametrize("t", VALUES, ids=str)
def test_every_aggregate_of_every_type(t, nulls):
    rng = np.random.default_rng(7)
    rows = 1000
    for few, pool in (
        (3, list("abc")),
        (3, [f"k{i}" for i in range(40)]),
        (16, [*"abcdefghijklmnop"]),
    ):
        keys = drawn(rng, pool, rows, 640, few, nulls)
        batch = pa.record_batch(
            {
                "k": pa.array(keys),
                "v": pa.array(drawn(rng, VALUES[t], rows, 0, 9, nulls), t),
                "w": pa.array(drawn(rng, VALUES[t], rows, 0, 9, 0.0), t),
            }
        )
        calls = {"n": count()}
        for name in "vw":
            column = col(name)
            calls |= {
                f"s{name}": column.sum(),
                f"lo{name}": column.min(),
                f"hi{name}": column.max(),
                f"c{name}": column.count(),
            }
        compare(batch, ["k"], calls)
        compare(batch, ["k"], calls, col("w") > col("w") - col("w"))


@pytest.mark.parametrize("groups", [1, 2, 15, 16, 17, 100, 3000, 20_000])
@pytest.mark.parametrize("nulls", [0.0, 0.1])
def test_integers_of_every_width_and_spread(groups, nulls):
    rng = np.random.default_rng(groups)
    for t, step, low in (
        (pa.int8(), 1, -100),
        (pa.uint8(), 2, 0),
        (pa.int16(), 1, -3000),
        (pa.uint16(), 1, 60_000),
        (pa.int32(), 1, -5),
        (pa.uint32(), 1, 2**32 - 40_000),
        (pa.int64(), 10**12, -(10**15)),
        (pa.uint64(), 1, 2**64 - 40_000),
        (pa.date32(), 1, 9000),
        (pa.timestamp("us"), 10**9, 0),
        (pa.decimal128(12, 2), 1, 0),
        (pa.decimal128(30, 0), 10**24, -(10**28)),
        (pa.float64(), 1, -3),
    ):
        width = 0 if pa.types.is_decimal(t) or pa.types.is_floating(t) else t.bit_width
        most = min(groups, 120) if width == 8 else min(groups, 5000) if width == 16 else groups
        pool = [low + step * i for i in range(most)]
        if pa.types.is_decimal(t):
            pool = [Decimal(v).scaleb(-t.scale) for v in pool]
        rows = min(2 * groups + 70, 3000)
        keys = drawn(rng, pool, rows, rows // 2, 5, nulls)
        numbers = rng.integers(0, 9, rows)
        batch = pa.record_batch({"k": pa.array(keys, t), "x": pa.array(numbers)})
        compare(batch, ["k"], {"n": count(), "s": col("x").sum()})


@pytest.mark.parametrize("nulls", [0.0, 0.2])
def test_several_keys_of_mixed_types(nulls):
    rng = np.random.default_rng(3)
    pools = {
        "b": ([True, False], pa.bool_()),
        "f": ([0.0, -0.0, NAN, -NAN, 1.5], pa.float64()),
        "g": ([0.0, -0.0, NAN, 2.5], pa.float32()),
        "t": (["x", "y"], pa.utf8()),
        "u": (["Fürth", "Köln", ""], pa.large_utf8()),
        "v": (["inline", "not inline at all"], pa.string_view()),
        "d": (["p", "q"], pa.dictionary(pa.int8(), pa.utf8())),
        "i": ([1, -1], pa.int16()),
        "m": ([Decimal("1.5"), Decimal("-1.5")], pa.decimal128(38, 1)),
    }
    rows = 900
    columns = {
        name: array_of(drawn(rng, pool, rows, 400, 1, nulls), t, 5)
        for name, (pool, t) in pools.items()
    }
    batch = pa.record_batch({**columns, "x": pa.array(rng.integers(0, 9, rows))})
    for keys in (
        ["b"],
        ["f"],
        ["g", "b"],
        ["t", "u"],
        ["t", "v", "d"],
        ["d", "b", "i"],
        list(pools),
    ):
        compare(batch, keys, {"n": count(), "s": col("x").sum()})
        compare(batch, keys, {"n": count(), "s": col("x").sum()}, col("x") > 4)


@pytest.mark.parametrize(
    "text", ["a", "seven77", "fifteen bytes 15", "thirty-one bytes are just short"]
)
def test_texts_stand_anywhere_among_the_keys(text):
    rows = 200
    batch = pa.record_batch(
        {
            "i": pa.array([n % 2 for n in range(rows)], pa.int8()),
            "s": pa.array([text if n % 3 else None for n in range(rows)]),
            "f": pa.array([0.5 * (n % 2) for n in range(rows)]),
            "m": pa.array([Decimal(n % 2) for n in range(rows)], pa.decimal128(38, 0)),
            "b": pa.array([n % 2 == 0 for n in range(rows)]),
        }
    )
    for keys in (["i", "s"], ["m", "s", "b"], ["s", "m"], ["f", "i", "s", "b"], ["b", "s"]):
        compare(batch, keys, {"n": count()})


def test_a_dictionary_may_repeat_an_entry_or_hold_a_null():
    codes = pa.array([0, 1, 2, 3, None, 1] * 40, pa.int8())
    for texts in (["a", "b", "a", "c"], ["a", None, "b", "c"]):
        column = pa.DictionaryArray.from_arrays(codes, pa.array(texts))
        compare(pa.record_batch({"k": column}), ["k"], {"n": count()})


@pytest.mark.parametrize("t", TEXT_TYPES, ids=str)
def test_texts_meet_over_chunks_whatever_form_each_chunk_takes(t):
    chunks = [["a", "b"] * 50, ["a", "bb"] * 50, ["a", "x" * 12] * 50, ["b", "y" * 60] * 50]
    chunks.append([f"{i}" for i in range(100)])
    batches = [pa.record_batch({"k": array_of(values, t, 0)}) for values in chunks]
    found = wh.scan(pa.Table.from_batches(batches)).group_by("k").agg(n=wh.count()).collect()
    wanted = {}
    for values in chunks:
        for value in values:
            wanted[value] = wanted.get(value, 0) + 1
    assert dict(zip(*found.to_pydict().values(), strict=True)) == wanted
    assert found.column("k").to_pylist() == list(wanted)


def test_sums_that_64_bits_do_not_hold():
    rows = 64 * 300
    large = Decimal(9 * 10**17)
    batch = pa.record_batch(
        {
            "k": pa.array(["a", "b"] * (rows // 2)),
            "x": pa.array([large, -large] * (rows // 2), pa.decimal128(18, 0)),
        }
    )
    low, high = int(-large), int(large)
    compare(batch, ["k"], {"s": col("x").sum()}, bounds={"x": (low, high)})
    narrow = pa.record_batch(
        {"k": batch.column(0), "x": batch.column(1).cast(pa.decimal128(38, 0))}
    )
    for most in (10**12, 10**15, 10**16, 10**17 - 1):
        values = pa.array([Decimal(most), Decimal(-most)] * (rows // 2), pa.decimal128(38, 0))
        batch = pa.record_batch({"k": narrow.column(0), "x": values})
        compare(batch, ["k"], {"s": col("x").sum()}, bounds={"x": (-most, most)})


def test_floats_are_summed_in_one_order_whatever_the_threads():
    rng = np.random.default_rng(11)
    table = pa.table(
        {
            "k": pa.array([list("ANR")[i] for i in rng.integers(0, 3, 200_000)]),
            "x": pa.array(rng.normal(size=200_000) * 10.0 ** rng.integers(-9, 9, 200_000)),
        }
    )
    query = wh.scan(pa.Table.from_batches(table.to_batches(max_chunksize=9000)))
    query = query.group_by("k").agg(s=col("x").sum(), m=col("x").mean())
    assert len({tuple(query.collect().column("s").to_pylist()) for _ in range(4)}) == 1
