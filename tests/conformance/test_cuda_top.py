"""The first rows in key order by CUDA programs, against the slow interpreter."""

import numpy as np
import pyarrow as pa
import pytest
from support.chunks import SCHEMA, batch_of, rows_of, same, staged, where
from support.cuda_cases import NARROW
from support.cuda_pass import run_pass
from support.cuda_shim import SHARED, ShimDevice

from wherry import col
from wherry.base.errors import Refused
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call
from wherry.ir.stage import Groups, Order, Pass, Rows, SortKey, Stage
from wherry.render.cuda.bind import Constants
from wherry.render.cuda.columns import facts_of, put_column
from wherry.render.cuda.compile import compile_program
from wherry.render.cuda.program import plan_pass
from wherry.render.cuda.room import room_bytes
from wherry.render.cuda.share import begin, render
from wherry.render.reference import run_reference

CHUNKS = [(0, 0.0, 0), (1, 0.0, 0), (63, 0.3, 3), (2048, 0.0, 5), (5000, 0.3, 3), (300, 1.0, 0)]


def by(text):
    """Give an order: names of columns, those that descend behind a minus."""
    return tuple(SortKey(name.lstrip("-"), name[0] == "-") for name in text.split())


def first(batch, keys, count, predicate=None):
    """Give a stage with the first rows of the keys, a truth, a code and a number, and its plan."""
    names = dict.fromkeys(
        [k.column for k in by(keys)] + [n for n in "bcn" if n in batch.schema.names]
    )
    sink = Rows(tuple((n, resolve(col(n).node, batch.schema)) for n in names))
    stage, literals = lift(Stage((Pass(predicate, sink), Order(by(keys), count))))
    bounds = NARROW if batch.schema.equals(SCHEMA) else {}
    return stage, literals, plan_pass(stage.steps[0], batch.schema, bounds, stage.steps[1])


def checked(device, batch, keys, count, predicate=None):
    stage, literals, plan = first(batch, keys, count, predicate)
    found = run_pass(plan, batch, literals, Constants(device))
    same(found, run_reference(stage, batch, literals))
    return found


KEYS = ["i64", "-f64 i8", "w -d", "f32", "-t b", "m -u16"]


@pytest.mark.parametrize("keys", KEYS)
def test_first_rows(keys, new):
    """Few and many, ties in the order of rows, and more than there are."""
    for rows, nulls, at in CHUNKS:
        batch = batch_of(rows, nulls, 3, at)
        for count in (1, 7, 1000):
            found = checked(new(), batch, keys, count, where(col("i64") != 0))
            assert found.num_rows <= count


FLOATS = [np.nan, -0.0, 0.0, np.inf, -np.inf, 1e308, None, 5e-324, -1.5, np.nan, None, 0.0]
WHOLE = [-(2**63), 2**63 - 1, 0, -1, 2**62, 3, None, 7, 2**63 - 1, -(2**63), None, 0]
SMALL = [-128, 127, 0, -1, 100, 3, None, 7, 127, -128, None, 0]
COUNTS = [2**64 - 1, 2**63, 0, 1, 5, None, 2**32, 9, 2**64 - 1, 0, None, 3]
BYTES = [255, 0, 1, None, 128, 127, 255, 0, 9, None, 3, 4]
WIDE = [10**37, -(10**37), None, 1, 0, -1, 10**37, 2**64, -(2**64), None, 2**64 + 1, 5]


@pytest.mark.parametrize("sign", ["", "-"])
def test_extreme_keys(sign, new):
    columns = {
        "x": pa.array(FLOATS, pa.float64()),
        "i": pa.array(WHOLE, pa.int64()),
        "n": pa.array(range(len(WHOLE)), pa.int64()),
        "b": pa.array(SMALL, pa.int8()),
        "u": pa.array(COUNTS, pa.uint64()),
        "c": pa.array(BYTES, pa.uint8()),
        "w": pa.array(WIDE, pa.decimal128(38, 0)),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    for name in columns:
        for count in (3, 11, 12):
            checked(new(), batch, f"{sign}{name}", count)
    checked(new(), batch, f"{sign}b -x {sign}u", 12)


@pytest.mark.parametrize("keys", ["n", "-n", "few", "-few n"])
def test_more_than_a_block_has_room_for(keys, new):
    """Rows that come in order, or against it, are taken in until there is no more room, often."""
    rows = 20_000
    batch = pa.RecordBatch.from_pydict({"n": np.arange(rows), "few": np.arange(rows) // 5000})
    for count in (3, 1024):
        checked(new(), batch, keys, count)


def test_pieces_give_what_may_be_among_the_first():
    """They meet on the host; a later one says nothing of what is behind enough of earlier ones."""
    rng = np.random.default_rng(11)
    rows, piece = 80_000, 32_768
    columns = {"n": rng.integers(0, 10**6, rows), "k": rng.integers(0, 5, rows)}
    batch = pa.RecordBatch.from_pydict(columns)
    stage, literals, plan = first(batch, "-n k", 100)
    device = ShimDevice()
    share = begin(plan, facts_of(columns_of(batch)), literals, Constants(device), (rows,))
    parts = [batch.slice(at, piece) for at in range(0, rows, piece)]
    for part in parts:
        put = {n: put_column(device, a) for n, a in columns_of(part).items()}
        share.add(put, part.num_rows)
    found = share.finish()
    counts = [b.num_rows for b in found]
    assert counts[0] == 100
    assert sum(counts) < 300
    together = pa.Table.from_batches(found).combine_chunks().to_batches()[0]
    same(
        run_reference(Stage((stage.steps[1],)), together, ()), run_reference(stage, batch, literals)
    )


def columns_of(batch):
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def test_room_is_enough():
    batch = batch_of(5000, 0.3, 3)
    stage, literals, plan = first(batch, "-f64 i8", 20)
    facts = facts_of({n: batch.column(n) for n in plan.columns})
    device = ShimDevice()
    constants = Constants(device)
    share = begin(plan, facts, literals, constants, (5000,))
    columns = {n: put_column(device, batch.column(n), kinds) for n, kinds in share.uses.items()}
    del share
    before = device.taken
    device.memory_bytes = before + room_bytes(plan, facts, (5000,), 5000, SHARED)
    share = begin(plan, facts, literals, constants, (5000,))
    share.add(columns, 5000)
    (found,) = share.finish()
    same(found, run_reference(stage, batch, literals))


@pytest.mark.parametrize(
    ("keys", "count", "why"),
    [("i64", 1025, "1024 at most"), ("c", 5, "order by dictionary"), ("i64", None, "all rows")],
)
def test_refusals_say_why(keys, count, why):
    with pytest.raises(Refused) as refused:
        first(batch_of(1, 0.0, 3), keys, count)
    assert why in str(refused.value)


def test_groups_are_not_ordered():
    keys = (("i8", resolve(col("i8").node, SCHEMA)),)
    calls = (("n", resolve_call(col("i64").sum().call, SCHEMA)),)
    with pytest.raises(Refused, match="of groups"):
        plan_pass(Pass(None, Groups(keys, calls)), SCHEMA, {}, Order(by("n"), 3))


def test_keys_that_do_not_fit_on_chip_are_refused():
    names = ["w", "t", "i64", "f64", "m", "d"]
    stage, _ = staged(
        Pass(None, rows_of(**{n: col(n) for n in names})), Order(by(" ".join(names)), 3)
    )
    plan = plan_pass(stage.steps[0], SCHEMA, {}, stage.steps[1])
    with pytest.raises(Refused, match="bytes on chip"):
        render(plan, frozenset(SCHEMA.names), {}, 99 << 10)


@pytest.mark.parametrize("nulls", [False, True])
def test_nvrtc_compiles(nulls, tmp_path):
    plan = first(batch_of(1, 0.0, 3), "-f64 t w", 10)[2]
    program = render(plan, frozenset(SCHEMA.names if nulls else ()), {}, SHARED).program
    for arch in ("sm_80", "sm_90"):
        for kernel in compile_program(program, arch, tmp_path).kernels.values():
            assert kernel.spilled_bytes == 0
            assert kernel.registers <= 80
