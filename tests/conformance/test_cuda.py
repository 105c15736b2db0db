"""CUDA programs: what they compute, on a CPU and on a card, and that NVRTC compiles them.

Each program runs as it is, on a shim (`support/cuda_shim.hpp`) and where there is one on a card,
against the slow interpreter; and NVRTC compiles each for two architectures. Only a card shows races
and how fast they are.
"""

import math
from decimal import Decimal
from functools import reduce
from operator import and_

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chunks import SCHEMA, batch_of, calls_of, rows_of, same, staged, where
from support.cuda_cases import (
    FILTERS,
    GROUPS,
    NARROW,
    TOTALS,
    by_code,
    by_date,
    every_type,
    extremes,
    forecast,
    numeric,
    totals,
)
from support.cuda_pass import run_pass
from support.cuda_shim import SHARED, ShimDevice
from support.random_expressions import batches, numbers, tests

from wherry import col, count
from wherry.base.errors import CorruptError, InputError
from wherry.benchmarks import tpch
from wherry.benchmarks.workloads import q1, q6
from wherry.data.source import open_source
from wherry.ir.fuse import fuse
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call
from wherry.ir.stage import Groups, Pass, Rows, Stage, Totals
from wherry.plan.query import prepare
from wherry.render.cuda.bind import Constants
from wherry.render.cuda.compile import compile_program
from wherry.render.cuda.program import plan_pass
from wherry.render.cuda.share import render
from wherry.render.reference import run_reference

REGISTERS_MOST = 128
"""Of a thread: with more, fewer than 16 warps fit on a core, and loads do not overlap."""
WIDE = [totals, extremes, by_date]
"""Of very many aggregates, whose states are kept in registers all the same."""
CHUNKS = [(0, 0.0, 0), (1, 0.0, 0), (63, 0.3, 3), (2048, 0.0, 5), (5000, 0.3, 3), (300, 1.0, 0)]


def checked(case, batch, device):
    stage, literals = case()
    plan = plan_pass(stage.steps[0], batch.schema, NARROW)
    found = run_pass(plan, batch, literals, Constants(device))
    same(found, run_reference(stage, batch, literals))
    return found


def name(case):
    return case.__name__


@pytest.mark.parametrize("case", FILTERS, ids=name)
def test_filters(case, new):
    batches = [batch_of(rows, nulls, 3, at) for rows, nulls, at in CHUNKS]
    passed = [checked(case, batch, new()).num_rows for batch in batches]
    assert passed[3] > 0


@pytest.mark.parametrize("case", [*TOTALS, *GROUPS], ids=name)
def test_aggregates(case, new):
    for rows, nulls, at in CHUNKS:
        checked(case, batch_of(rows, nulls, 3, at), new())


def test_the_view_of_a_null_leads_nowhere(new):
    """Arrow leaves it open what stands there; a program that followed it would lose the card."""
    texts = pa.array(["a text of more than twelve bytes", None, "short"] * 50, pa.string_view())
    valid, views, data = texts.buffers()
    words = np.frombuffer(views, np.int32).reshape(-1, 4).copy()
    words[1::3] = (1000, 0x61616161, 1 << 20, 1 << 30)
    held = pa.Array.from_buffers(pa.string_view(), 150, [valid, pa.py_buffer(words), data])
    batch = pa.RecordBatch.from_pydict({"t": held, "i": pa.array(range(150))})
    for begin in (0, 1):
        part = batch.slice(begin)
        asked = col("t").str.contains("more"), col("i")
        test, root = (resolve(e.node, part.schema) for e in asked)
        stage, literals = lift(Stage((Pass(test, Rows((("i", root),))),)))
        plan = plan_pass(stage.steps[0], part.schema, {})
        found = run_pass(plan, part, literals, Constants(new()))
        assert found["i"].to_pylist() == list(range(0, 150, 3))[begin:]


def runnable(make):
    """Give what `make` gives of a pass, or None if it has no type or no CUDA form."""
    try:
        step = lift(Stage((make(),)))[0].steps[0]
        plan_pass(step, SCHEMA, NARROW)
    except InputError:
        return False
    return True


SOAK = settings().max_examples > 1000


@settings(max_examples=settings().max_examples if SOAK else 8, deadline=None)
@given(
    batches,
    st.lists(tests, min_size=1, max_size=2),
    st.lists(st.one_of(tests, numbers), min_size=4, max_size=12),
)
def test_random_expressions(new, batch, conditions, outputs):
    terms = [e for e in conditions if runnable(lambda e=e: Pass(where(e), rows_of(k=col("i8"))))]
    known = [e for e in outputs if runnable(lambda e=e: Pass(None, rows_of(k=e)))]
    predicate = where(reduce(and_, terms)) if terms else None
    named = {f"o{number}": e for number, e in enumerate(known)} or {"k": col("i8")}
    checked(lambda: staged(Pass(predicate, rows_of(**named))), batch, new())
    summed = {n: e.sum() for n, e in named.items() if runnable(lambda e=e: totals_of(e))}
    checked(lambda: staged(Pass(predicate, Totals(calls_of(**summed, n=count())))), batch, new())


def totals_of(expr):
    return Pass(None, Totals(calls_of(x=expr.sum())))


SPECIAL = {
    "x": pa.array([math.nan, -0.0, 0.0, math.inf, -math.inf, 1e308, None, 5e-324], pa.float64()),
    "y": pa.array([0.0, math.nan, -0.0, -math.inf, 3e38, 1e-45, 1.5, None], pa.float32()),
    "i": pa.array([-(2**63), 2**63 - 1, 0, -1, 2**62, 3, None, 7], pa.int64()),
    "b": pa.array([-128, 127, 0, -1, 100, 3, 5, None], pa.int8()),
    "u": pa.array([2**64 - 1, 2**63, 0, 1, 5, None, 2**32, 9], pa.uint64()),
    "d": pa.array([-719162, 2932896, -1, 0, 11016, 19782, -25509, None], pa.date32()),
    "t": pa.array([-(10**17), 10**17, -1, 0, 1, None, -86400000001, 951782400000000]).cast(
        pa.timestamp("us")
    ),
}


def special():
    """Give every pair of the special values, and their schema."""
    ones, others = np.divmod(np.arange(64), 8)
    columns = {n: a.take(pa.array(ones)) for n, a in SPECIAL.items()}
    columns |= {f"{n}2": a.take(pa.array(others)) for n, a in SPECIAL.items()}
    return pa.RecordBatch.from_pydict(columns)


def special_outputs():
    outputs = {}
    for name in "xyibu":
        one, other = col(name), col(f"{name}2")
        tests = {"eq": one == other, "ne": one != other, "lt": one < other, "ge": one >= other}
        sums = {"add": one + other, "sub": one - other, "mul": one * other}
        outputs |= {f"{name} {op}": e for op, e in (tests | sums).items()}
    quotients = {"over": col("x") / col("x2"), "minus": -col("x"), "less": -col("b")}
    parts = {f"{n} {p}": getattr(col(n).dt, p)() for n in "dt" for p in ("year", "month", "day")}
    return outputs | quotients | parts


def test_special_values(new):
    batch = special()
    outputs = special_outputs()
    for names in (list(outputs)[:24], list(outputs)[24:]):
        sink = Rows(tuple((n, resolve(outputs[n].node, batch.schema)) for n in names))
        stage, literals = lift(Stage((Pass(None, sink),)))
        plan = plan_pass(stage.steps[0], batch.schema, {})
        found = run_pass(plan, batch, literals, Constants(new()))
        wanted = run_reference(stage, batch, literals)
        same(found, wanted)
        for name, t in zip(found.schema.names, found.schema.types, strict=True):
            if pa.types.is_floating(t):
                # Equal numbers, and of zeros the sign.
                bits = [np.signbit(b.column(name).fill_null(1.0)) for b in (found, wanted)]
                numbers = ~np.isnan(found.column(name).fill_null(1.0))
                assert (bits[0] == bits[1])[numbers].all(), name


def test_special_extremes(new):
    batch = special()
    kinds = {f"{n} {k}": getattr(col(n), k)() for n in "xyib" for k in ("min", "max", "sum")}
    calls = tuple((n, resolve_call(e.call, batch.schema)) for n, e in kinds.items())
    stage, literals = lift(Stage((Pass(None, Totals(calls)),)))
    plan = plan_pass(stage.steps[0], batch.schema, {})
    same(
        run_pass(plan, batch, literals, Constants(new())),
        run_reference(stage, batch, literals),
    )


@pytest.mark.parametrize("keys", ["x", "yu", "ib", "d"])
def test_special_keys(keys, new):
    """Zeros of both signs are one key, and so are all NaN; groups come as they first appear."""
    batch = special()
    kinds = {f"{n} {k}": getattr(col(f"{n}2"), k)() for n in "xiu" for k in ("min", "max")}
    kinds |= {"sum": col("i2").sum(), "most": col("u2").sum(), "n": count()}
    calls = tuple((n, resolve_call(e.call, batch.schema)) for n, e in kinds.items())
    named = tuple((k, resolve(col(k).node, batch.schema)) for k in keys)
    stage, literals = lift(Stage((Pass(None, Groups(named, calls)),)))
    plan = plan_pass(stage.steps[0], batch.schema, {})
    same(
        run_pass(plan, batch, literals, Constants(new())),
        run_reference(stage, batch, literals),
    )


MOST = 10**38 - 1


@pytest.mark.parametrize("key", [None, "few", "any"])
def test_sums_of_decimals_of_which_nothing_is_known(key, new, tmp_path):
    """Some of their sums on the way need more than 128 bits."""
    values = [MOST, MOST, MOST, -MOST, -MOST, -MOST, None, 7, -(2**64), 2**64 - 1, -1, 2**100]
    columns = {
        "w": pa.array(list(map(whole, values * 3)), pa.decimal128(38, 0)),
        "few": pa.array([0] * 24 + [1] * 12, pa.int8()),
        "any": pa.array([0] * 24 + [1] * 12, pa.int64()),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    calls = (("s", resolve_call(col("w").sum().call, batch.schema)),)
    keys = () if key is None else ((key, resolve(col(key).node, batch.schema)),)
    stage, literals = lift(Stage((Pass(None, Groups(keys, calls) if keys else Totals(calls)),)))
    plan = plan_pass(stage.steps[0], batch.schema, {"few": (0, 1)})
    constants = Constants(new())
    same(run_pass(plan, batch, literals, constants), run_reference(stage, batch, literals))
    compiled(render(plan, frozenset({"w"}), {}, SHARED).program, tmp_path)
    for rows in (2, 3):
        with pytest.raises(InputError, match="38"):
            run_pass(plan, batch.slice(0, rows), literals, constants)
        with pytest.raises(InputError, match="38"):
            run_pass(plan, batch.slice(5 - rows, rows + 1), literals, constants)


def whole(value):
    return None if value is None else Decimal(value)


def floats(rows):
    rng = np.random.default_rng(5)
    columns = [rng.standard_normal(rows), rng.integers(0, 3, rows).astype(np.int8)]
    schema = pa.schema({"x": pa.float64(), "k": pa.int8()})
    return pa.RecordBatch.from_arrays(list(map(pa.array, columns)), schema=schema)


@pytest.mark.parametrize("grouped", [False, True], ids=["totals", "groups"])
def test_sums_are_the_same_bit_for_bit(grouped, new):
    batch = floats(150_000)
    calls = (("s", resolve_call(col("x").sum().call, batch.schema)),)
    keys = (("k", resolve(col("k").node, batch.schema)),)
    stage, literals = lift(Stage((Pass(None, Groups(keys, calls) if grouped else Totals(calls)),)))
    plan = plan_pass(stage.steps[0], batch.schema, {"k": (0, 2)})
    found = [run_pass(plan, batch, literals, Constants(new(blocks))) for blocks in (1, 2, 5)]
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])
    same(found[0], run_reference(stage, batch, literals))


def test_keys_outside_their_bounds_are_found(new):
    batch = floats(100)
    keys = (("k", resolve(col("k").node, batch.schema)),)
    stage, literals = lift(Stage((Pass(None, Groups(keys, ())),)))
    plan = plan_pass(stage.steps[0], batch.schema, {"k": (0, 1)})
    with pytest.raises(CorruptError, match="bounds"):
        run_pass(plan, batch, literals, Constants(new()))


@pytest.fixture(scope="module")
def lineitem(tmp_path_factory):
    return tpch.generate(tmp_path_factory.mktemp("tpch"), 0.001)["lineitem"]


@pytest.mark.parametrize("query", [q1, q6], ids=["q1", "q6"])
def test_tpch(query, lineitem, tmp_path):
    """Decimals, codes and dates as they are stored; the bounds that files give make them narrow."""
    made = query.pipeline({"lineitem": lineitem})
    prepared = prepare(made.source, made.operators, made.schema)
    kinds = {"near", "partial"}
    steps = [
        s for segment in prepared.plan.segments if segment.kind in kinds for s in segment.steps
    ]
    (step,) = fuse(steps)
    source = open_source(lineitem)
    for ref in source.chunks():
        batch = source.read(ref, [name for name, *_ in prepared.plan.fields])
        plan = plan_pass(step, batch.schema, prepared.plan.bounds_map())
        found = run_pass(plan, batch, prepared.literals, Constants(ShimDevice()))
        same(found, run_reference(Stage((step,)), batch, prepared.literals))
    coded = [n for n, t in zip(batch.schema.names, batch.schema.types, strict=True) if is_coded(t)]
    sizes = {name: len(batch.column(name).dictionary) for name in coded}
    compiled(render(plan, frozenset(), sizes, SHARED).program, tmp_path)


def is_coded(t):
    return pa.types.is_dictionary(t)


FULL = [(case, frozenset()) for case in (every_type, numeric, forecast, by_code)]
NULLS = [(case, frozenset(SCHEMA.names)) for case in (*FILTERS, *TOTALS, *GROUPS)]


@pytest.mark.parametrize(("case", "nulls"), FULL + NULLS)
def test_nvrtc_compiles(case, nulls, tmp_path, record_property):
    program = render(plan_pass(case()[0].steps[0], SCHEMA, NARROW), nulls, {"c": 9}, SHARED).program
    most = compiled(program, tmp_path)
    record_property("registers", most)
    assert most <= REGISTERS_MOST or case in WIDE


def compiled(program, folder):
    """Compile for both architectures, without spills; give the most registers of a thread."""
    kernels = {}
    for arch in ("sm_80", "sm_90"):
        for entry, kernel in compile_program(program, arch, folder).kernels.items():
            assert kernel.spilled_bytes == 0, (arch, entry)
            kernels[arch, entry] = kernel.registers
    return max(kernels.values())
