"""Programs against the slow interpreter: every sink, type, kind of expression, nulls, slices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chunks import SCHEMA, TYPES, batch_of, calls_of, rows_of, same, staged, where
from support.random_expressions import batches, numbers, tests

from wherry.base.errors import InputError
from wherry.data.chunk import buffer_addresses, referenced_bytes
from wherry.data.segment import SegmentPool
from wherry.ir.builder import col, count
from wherry.ir.expr import Call
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call, resolve_condition
from wherry.ir.stage import Groups, Order, Pass, Rows, SortKey, Stage, Take, Totals
from wherry.kernels.engine import Engine
from wherry.render import program
from wherry.render.program import render
from wherry.render.reference import run_reference

POOL = SegmentPool()


def checked(stage, literals, batch, bounds=None):
    made = render(stage, batch.schema, bounds or {})
    try:
        wanted = run_reference(stage, batch, literals)
    except InputError:
        with pytest.raises(InputError):
            made.run(batch, literals, POOL)
        return None
    found = made.run(batch, literals, POOL)
    same(found.batch, wanted)
    assert found.rows_in == batch.num_rows
    return found


def resolved(make):
    """Give what `make` gives, or None if the random expression has no type."""
    try:
        return make()
    except InputError:
        return None


SOAK = settings().max_examples > 1000
few = settings(max_examples=settings().max_examples if SOAK else 60)


@few
@given(batches, tests)
def test_filters_pass_every_type_through(batch, test):
    predicate = resolved(lambda: where(test))
    if predicate is not None:
        checked(*staged(Pass(predicate, rows_of(**{n: col(n) for n in TYPES}))), batch)


@few
@given(batches, st.none() | tests, numbers, tests)
def test_computed_columns(batch, test, number, truth):
    step = resolved(
        lambda: Pass(where(test) if test is not None else None, rows_of(n=number, t=truth))
    )
    if step is not None:
        checked(*staged(step), batch)


@few
@given(batches, st.none() | tests, numbers)
def test_totals(batch, test, number):
    calls = {"sum": number.sum(), "min": number.min(), "max": number.max(), "n": number.count()}
    step = resolved(
        lambda: Pass(
            where(test) if test is not None else None,
            Totals(calls_of(**calls, rows=count(), text=col("v").min(), code=col("c").max())),
        )
    )
    if step is not None:
        checked(*staged(step), batch)


@few
@given(
    batches,
    st.none() | tests,
    st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=3, unique=True),
    numbers,
)
def test_groups(batch, test, keys, number):
    calls = {"sum": number.sum(), "min": number.min(), "n": number.count()}
    step = resolved(
        lambda: Pass(
            where(test) if test is not None else None,
            Groups(
                tuple((k, resolve(col(k).node, SCHEMA)) for k in keys),
                calls_of(**calls, rows=count(), late=col("d").max()),
            ),
        )
    )
    if step is not None:
        checked(*staged(step), batch)


@few
@given(
    batches,
    st.none() | tests,
    st.lists(st.tuples(st.sampled_from(list(TYPES)), st.booleans()), min_size=1, max_size=2),
    st.none() | st.integers(0, 70),
    st.none() | st.integers(0, 70),
)
def test_orders_and_takes(batch, test, keys, first, most):
    predicate = resolved(lambda: where(test)) if test is not None else None
    outputs = {name: col(name) for name in TYPES}
    steps = [Pass(predicate, rows_of(**outputs, more=col("i64") * 2))]
    steps.append(Order(tuple(SortKey(*k) for k in keys), first))
    steps += [] if most is None else [Take(most)]
    checked(*staged(*steps), batch)


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("offset", [0, 1, 5, 8])
def test_chunk_sizes_and_offsets(rows, offset):
    batch = batch_of(rows, 0.2, 7, offset)
    test = where((col("i64") > 0) | col("b"))
    checked(*staged(Pass(test, rows_of(**{n: col(n) for n in TYPES}))), batch)
    checked(*staged(Pass(test, Totals(calls_of(s=col("m").sum(), n=count())))), batch)


def test_kleene_tables():
    values = [True, False, None]
    schema = pa.schema({"p": pa.bool_(), "q": pa.bool_()})
    pairs = [(p, q) for p in values for q in values]
    batch = pa.record_batch([[p for p, _ in pairs], [q for _, q in pairs]], schema=schema)
    p, q = col("p"), col("q")
    outputs = {"a": p & q, "o": p | q, "n": ~p, "e": p == q, "l": p < q, "i": (p & q).is_null()}
    sink = Rows(tuple((n, resolve(e.node, schema)) for n, e in outputs.items()))
    checked(*lift(Stage((Pass(None, sink),))), batch)


@pytest.mark.parametrize("bounds", [{}, {"m": (-100, 100), "w": (-(10**30), 10**30)}])
def test_decimals_narrow_and_wide(bounds):
    t = {"m": pa.decimal128(15, 2), "w": pa.decimal128(38, 2)}
    schema = pa.schema(t)
    big = [Decimal(10) ** 26 + i for i in range(200)]
    columns = [[Decimal(i % 7 - 3).scaleb(-2) for i in range(200)], big]
    batch = pa.record_batch(
        [pa.array(c, x) for c, x in zip(columns, t.values(), strict=True)], schema=schema
    )
    sums = [
        (f"s{i}", resolve_call(e.sum().call, schema))
        for i, e in enumerate([col("m"), col("w"), col("m") * col("m")])
    ]
    checked(*lift(Stage((Pass(None, Totals(tuple(sums))),))), batch, bounds)
    keys = (("k", resolve(col("m").node, schema)),)
    checked(*lift(Stage((Pass(None, Groups(keys, tuple(sums))),))), batch, bounds)


def test_a_sum_of_too_many_digits_is_an_error():
    schema = pa.schema({"w": pa.decimal128(38, 0)})
    batch = pa.record_batch([pa.array([Decimal(9 * 10**37)] * 3, schema.types[0])], schema=schema)
    stage, literals = lift(
        Stage((Pass(None, Totals((("s", resolve_call(col("w").sum().call, schema)),))),))
    )
    with pytest.raises(InputError):
        render(stage, schema, {}).run(batch, literals, POOL)


def test_integers_wrap():
    schema = pa.schema({"x": pa.int64(), "y": pa.int8()})
    batch = pa.record_batch([[2**63 - 1, -(2**63), 5], [127, -128, 3]], schema=schema)
    outputs = {"a": col("x") + 1, "b": -col("x"), "c": col("y") * col("y"), "d": -col("y")}
    sink = Rows(tuple((n, resolve(e.node, schema)) for n, e in outputs.items()))
    checked(*lift(Stage((Pass(None, sink),))), batch)
    checked(
        *lift(Stage((Pass(None, Totals((("s", resolve_call(col("x").sum().call, schema)),))),))),
        batch,
    )


def test_floats_that_are_no_numbers():
    schema = pa.schema({"x": pa.float64(), "k": pa.float64()})
    nan, inf = float("nan"), float("inf")
    batch = pa.record_batch(
        [[nan, 1.0, inf, -inf, nan], [0.0, -0.0, nan, nan, None]], schema=schema
    )
    calls = tuple(
        (k, resolve_call(Call(k, col("x").node), schema)) for k in ("min", "max", "count")
    )
    checked(*lift(Stage((Pass(None, Totals(calls)),))), batch)
    keys = (("k", resolve(col("k").node, schema)),)
    checked(*lift(Stage((Pass(None, Groups(keys, calls)),))), batch)
    outputs = {"e": col("x") == col("x"), "n": col("x") != 1.0, "l": col("x") < 2.0}
    sink = Rows(tuple((n, resolve(e.node, schema)) for n, e in outputs.items()))
    checked(*lift(Stage((Pass(None, sink),))), batch)


def test_groups_outgrow_their_room():
    rng = np.random.default_rng(1)
    schema = pa.schema({"k": pa.int64(), "j": pa.int32(), "x": pa.float64()})
    columns = [
        rng.integers(0, 9000, 20_000),
        rng.integers(0, 3, 20_000).astype(np.int32),
        rng.random(20_000),
    ]
    batch = pa.record_batch([pa.array(c) for c in columns], schema=schema)
    keys = tuple((n, resolve(col(n).node, schema)) for n in "kj")
    calls = (("s", resolve_call(col("x").sum().call, schema)),)
    checked(*lift(Stage((Pass(None, Groups(keys, calls)),))), batch)


def test_partial_groups_merge_through_the_same_code():
    batch = batch_of(300, 0.2, 3)
    keys = (("c", resolve(col("c").node, SCHEMA)),)
    first = Pass(None, Groups(keys, calls_of(s=col("m").sum(), n=count(), lo=col("f64").min())))
    stage, literals = staged(first)
    parts = [
        render(stage, SCHEMA, {}).run(batch.slice(i, 100), literals, POOL).batch
        for i in (0, 100, 200)
    ]
    whole = pa.Table.from_batches(parts).unify_dictionaries().combine_chunks().to_batches()[0]
    schema = whole.schema
    calls = tuple(
        (n, resolve_call(c, schema))
        for n, c in [
            ("s", col("s").sum().call),
            ("n", col("n").sum().call),
            ("lo", col("lo").min().call),
        ]
    )
    merge = lift(Stage((Pass(None, Groups((("c", resolve(col("c").node, schema)),), calls)),)))
    merged = checked(*merge, whole).batch
    wanted = run_reference(stage, batch, literals)
    assert sorted(map(str, merged.to_pylist())) == sorted(map(str, wanted.to_pylist()))


def test_ledger_follows_addresses():
    batch = batch_of(1000, 0.1, 5)
    names = {n: col(n) for n in TYPES}
    passing = checked(*staged(Pass(None, rows_of(**names))), batch)
    assert passing.copied_bytes == 0
    assert passing.referenced_bytes == referenced_bytes([batch])
    everything = checked(
        *staged(Pass(where(col("i64").is_null() | col("i64").is_not_null()), rows_of(**names))),
        batch,
    )
    assert everything.copied_bytes == 0
    some = checked(
        *staged(Pass(where(col("i64") > 0), rows_of(i64=col("i64"), v=col("v"), c=col("c")))), batch
    )
    own = {address for address, _ in buffer_addresses(batch)}
    made = [
        b
        for c in (some.batch.column("i64"), some.batch.column("v"))
        for b in c.buffers()
        if b is not None
    ]
    assert some.batch.column("c").dictionary.buffers()[2].address in own
    assert [b.address in own for b in made][:1] == [False]
    fixed = some.batch.num_rows * (8 + 16 + 1)
    bitmaps = sum((some.batch.num_rows + 7) // 8 for c in some.batch.columns if c.null_count)
    assert some.copied_bytes == fixed + bitmaps
    assert some.work.write_bytes == some.copied_bytes


def test_work_does_not_depend_on_what_is_native():
    batch = batch_of(300, 0.1, 5)
    stage, literals = staged(Pass(where(col("i64") + 1 > 2), rows_of(m=col("m") * 2)))
    work = render(stage, SCHEMA, {}).run(batch, literals, POOL).work
    assert (work.filter_terms, work.arithmetic_values > 300) == (300, True)


def test_residuals_say_why():
    zoned = pa.schema({"z": pa.timestamp("us", tz="UTC"), "x": pa.float64(), "s": pa.utf8()})
    outputs = {"y": col("z").dt.year(), "i": col("x").cast(pa.int64())}
    sink = Rows(tuple((n, resolve(e.node, zoned)) for n, e in outputs.items()))
    made = render(lift(Stage((Pass(None, sink),)))[0], zoned, {})
    assert len(made.residuals) == 2
    assert "time zone" in made.residuals[0]
    native = render(staged(Pass(where(col("i64") > 0), rows_of(v=col("v"))))[0], SCHEMA, {})
    assert native.residuals == ()


def test_a_residual_may_fail_on_rows_that_do_not_pass():
    schema = pa.schema({"x": pa.float64()})
    batch = pa.record_batch([[1.5, 2.0, 3.0]], schema=schema)
    test = resolve_condition((col("x") > 1.75).node, schema)
    sink = Rows((("i", resolve(col("x").cast(pa.int64()).node, schema)),))
    checked(*lift(Stage((Pass(test, sink),))), batch)


def test_objects_are_kept_and_checked(tmp_path):
    text = 'define i64 @"mask"(i64 %".1", i64 %".2")\n{\nentry:\n  ret i64 7\n}\n'
    assert not Engine(tmp_path).functions(text, ("mask",)).cached
    assert Engine(tmp_path).functions(text, ("mask",)).cached
    file = Engine(tmp_path).path(Engine(tmp_path).key(text))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not Engine(tmp_path).functions(text, ("mask",)).cached
    assert file.read_bytes() == whole


def test_text_is_stable():
    stage, _ = staged(Pass(where(col("i64") > 1), rows_of(x=col("f64") * 2, c=col("c") == "a")))
    first = render(stage, SCHEMA, {}).text
    program._rendered.cache_clear()
    again = render(stage, SCHEMA, {})
    assert again.text == first
    assert (
        again.listing
        == """\
pass (filter.select, filter.compact)
  mask: i64 > $0
  x: f64 * $1 (values)
  c: c == $2 (values)
  lookup 0 by code of c: c == $2
"""
    )


def test_threads_share_a_program():
    stage, literals = staged(
        Pass(
            where(col("i64") > 0),
            Groups((("c", resolve(col("c").node, SCHEMA)),), calls_of(s=col("m").sum())),
        )
    )
    program._rendered.cache_clear()
    made = render(stage, SCHEMA, {})
    chunks = [batch_of(1000, nulls, seed) for seed in range(4) for nulls in (0.0, 0.3)] * 4
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda b: made.run(b, literals, POOL).batch, chunks))
    for batch, chunk in zip(found, chunks, strict=True):
        same(batch, run_reference(stage, chunk, literals))
