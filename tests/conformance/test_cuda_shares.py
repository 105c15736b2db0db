"""Shares of a source on a device: however runs are cut into pieces, the answer is the same."""

from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.chunks import SCHEMA, batch_of, same
from support.cuda_cases import (
    FILTERS,
    GROUPS,
    NARROW,
    TOTALS,
    by_anything,
    by_code,
    every_type,
    texts,
    totals,
    unfiltered,
)
from support.cuda_shim import SHARED, ShimDevice

from wherry import col, count
from wherry.base.errors import Retryable, WherryError
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call
from wherry.ir.stage import Groups, Pass, Stage, Totals
from wherry.render.cuda import hashed
from wherry.render.cuda.bind import Constants
from wherry.render.cuda.columns import ColumnFacts, facts_of, put_column
from wherry.render.cuda.program import plan_pass
from wherry.render.cuda.room import room_bytes
from wherry.render.cuda.share import begin, rendered_for
from wherry.render.cuda.totals import SPAN
from wherry.render.reference import run_reference

ROWS = 5 * SPAN + 321


@cache
def table():
    rng = np.random.default_rng(7)
    columns = {
        "x": pa.array(rng.standard_normal(ROWS), mask=rng.random(ROWS) < 0.1),
        "y": pa.array(rng.standard_normal(ROWS).astype(np.float32)),
        # Later keys are new, so that order of first appearance spans pieces.
        "k": pa.array((np.arange(ROWS) // 30_000 + rng.integers(0, 2, ROWS)).astype(np.int8)),
    }
    return pa.RecordBatch.from_pydict(columns)


def summed(*keys):
    schema = table().schema
    kinds = {"x": col("x").sum(), "xy": (col("x") * col("y")).sum(), "n": count()}
    calls = tuple((n, resolve_call(e.call, schema)) for n, e in kinds.items())
    named = tuple((k, resolve(col(k).node, schema)) for k in keys)
    test = resolve((col("y") > -1.0).node, schema)
    stage, literals = lift(Stage((Pass(test, Groups(named, calls) if keys else Totals(calls)),)))
    return stage, literals, plan_pass(stage.steps[0], schema, {"k": (0, 9)})


def shared(plan, literals, pieces, runs, device, facts=None):
    """Give what a share gives of pieces, which are batches; each is put and let go of."""
    constants = Constants(device)
    arrays = [{n: p.column(n) for n in plan.columns} for p in pieces]
    share = begin(plan, facts or facts_of(arrays[0]), literals, constants, runs)
    for piece in arrays:
        columns = {n: put_column(device, piece[n], u) for n, u in share.uses.items()}
        share.add(columns, len(next(iter(piece.values()))))
    return share.finish()


def cut(batch, runs, cuts):
    """Give the pieces of runs of a batch, cut behind whole spans."""
    at = 0
    for rows in runs:
        places = [0, *sorted(c * SPAN for c in cuts if 0 < c * SPAN < rows), rows]
        for begin_, end in pairwise(places):
            yield batch.slice(at + begin_, end - begin_)
        at += rows


RUNS = st.sampled_from([(ROWS,), (SPAN + 5, ROWS - SPAN - 5), (7, 2 * SPAN, ROWS - 2 * SPAN - 7)])


@settings(max_examples=6, deadline=None)
@given(RUNS, st.sets(st.integers(1, 5)), st.sampled_from([(), ("k",)]), st.integers(1, 4))
def test_sums_are_the_same_however_runs_are_cut(new, runs, cuts, keys, blocks):
    stage, literals, plan = summed(*keys)
    facts = facts_of({n: table().column(n) for n in plan.columns})
    (found,) = shared(plan, literals, cut(table(), runs, cuts), runs, new(blocks), facts)
    assert found.equals(whole(runs, keys))
    same(found, run_reference(stage, table(), literals))


@cache
def whole(runs, keys):
    """Give the answer of one piece a run."""
    _, literals, plan = summed(*keys)
    (found,) = shared(plan, literals, cut(table(), runs, ()), runs, ShimDevice())
    return found


def resident(batch, uses, device):
    """Give columns of a whole batch on a device."""
    return {n: put_column(device, batch.column(n), u) for n, u in uses.items()}


@pytest.mark.parametrize("keys", [(), ("k",)], ids=["totals", "groups"])
def test_resident_columns_are_sliced(keys, new):
    _, literals, plan = summed(*keys)
    device, runs = new(), (SPAN + 5, ROWS - SPAN - 5)
    share = begin(
        plan,
        facts_of({n: table().column(n) for n in plan.columns}),
        literals,
        Constants(device),
        runs,
    )
    columns, at = resident(table(), share.uses, device), 0
    for rows in (SPAN, 5, 2 * SPAN, ROWS - 3 * SPAN - 5):
        share.add({n: c.slice(at, rows) for n, c in columns.items()}, rows)
        at += rows
    (found,) = share.finish()
    assert found.equals(whole(runs, keys))


CASES = [*FILTERS, *TOTALS, *GROUPS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@settings(max_examples=3, deadline=None)
@given(start=st.integers(0, 90), runs=st.lists(st.integers(0, 200), max_size=3))
@example(start=50, runs=[130, 1, 369])
def test_slices_of_resident_columns(case, start, runs):
    """Runs begin anywhere: bits and codes, texts and views of a slice are those of its rows."""
    batch = batch_of(700, 0.3, 3, 3)
    stage, literals = case()
    plan = plan_pass(stage.steps[0], SCHEMA, NARROW)
    device = ShimDevice()
    facts = facts_of({n: batch.column(n) for n in plan.columns})
    share = begin(plan, facts, literals, Constants(device), runs)
    columns, at, parts = resident(batch, share.uses, device), start, []
    for rows in runs:
        share.add({n: c.slice(at, rows) for n, c in columns.items()}, rows)
        parts.append(batch.slice(at, rows))
        at += rows
    found = share.finish()
    if len(found) != len(parts):
        # All of it is one answer.
        parts = [batch.slice(start, sum(runs))]
    for one, part in zip(found, parts, strict=True):
        same(one, run_reference(stage, part, literals))


def test_a_piece_without_nulls_in_a_share_with_them():
    pieces = [batch_of(SPAN, 0.0, 5), batch_of(100, 0.3, 3)]
    stage, literals = totals()
    plan = plan_pass(stage.steps[0], SCHEMA, NARROW)
    # The dictionaries differ: only whether codes are null is asked.
    facts = {n: ColumnFacts(nulls=True) for n in plan.columns}
    facts["c"] = ColumnFacts(nulls=True, dictionary=pieces[0].column("c").dictionary)
    (found,) = shared(plan, literals, pieces, (SPAN + 100,), ShimDevice(), facts)
    joined = pa.Table.from_batches(pieces).unify_dictionaries().combine_chunks()
    same(found, run_reference(stage, joined.to_batches()[0], literals))


@pytest.mark.parametrize(
    ("rows", "why"),
    [(5, "multiple"), (2 * SPAN + 8, "left"), (2 * SPAN, "left")],
)
def test_pieces_are_whole_spans_of_runs(rows, why):
    _, literals, plan = summed()
    device = ShimDevice()
    share = begin(
        plan,
        facts_of({n: table().column(n) for n in plan.columns}),
        literals,
        Constants(device),
        (SPAN + 7, 9),
    )
    columns = resident(table().slice(0, rows), share.uses, device)
    with pytest.raises(WherryError, match=why):
        share.add(columns, rows)
    with pytest.raises(WherryError, match=f"{SPAN + 16} rows"):
        share.finish()


def test_columns_must_be_what_the_share_was_begun_for():
    device = ShimDevice()
    stage, literals = by_code()
    plan = plan_pass(stage.steps[0], SCHEMA, NARROW)
    batch = batch_of(20, 0.3, 3)
    known = facts_of({n: batch.column(n) for n in plan.columns})

    def refused(facts, piece):
        share = begin(plan, facts, literals, Constants(device), (20,))
        with pytest.raises(WherryError) as refusal:
            share.add(resident(piece, share.uses, device), 20)
        return str(refusal.value)

    other = pa.array(["b", "a"] * 10).dictionary_encode().cast(SCHEMA.field("c").type)
    swapped = batch.set_column(SCHEMA.get_field_index("c"), "c", other)
    assert "'c' has a dictionary" in refused(known, swapped)
    without = known | {"f64": ColumnFacts(nulls=False)}
    assert "'f64' has nulls" in refused(without, batch)
    assert "rows in a piece of 20" in refused(known, batch.slice(1))
    share = begin(plan, known, literals, Constants(device), (20,))
    columns = resident(batch, share.uses | {"f64": ["valid"]}, device)
    with pytest.raises(WherryError, match="values of column 'f64' are not on the device"):
        share.add(columns, 20)


@pytest.mark.parametrize("keys", [(), ("k",)], ids=["totals", "groups"])
def test_pieces_are_not_kept(keys):
    """However many pieces there are, the device has room for two and for states."""
    _, literals, plan = summed(*keys)
    device, runs = ShimDevice(), (ROWS,)
    facts = facts_of({n: table().column(n) for n in plan.columns})
    # x, its validity, y and k, of a piece that is put while another is not let go of yet.
    most = 2 * (SPAN * (8 + 4 + 1) + SPAN // 8) + room_bytes(
        plan, facts, runs, SPAN, device.shared_bytes
    )
    (found,) = shared(plan, literals, cut(table(), runs, range(6)), runs, device, facts)
    assert found.equals(whole(runs, keys))
    assert device.most_taken <= most


def test_memory_is_given_back_and_bounded():
    _, literals, plan = summed("k")
    device = ShimDevice(memory_bytes=64 << 20)
    constants = Constants(device)
    for _ in range(3):
        share = begin(
            plan,
            facts_of({n: table().column(n) for n in plan.columns}),
            literals,
            constants,
            (ROWS,),
        )
        columns = resident(table(), share.uses, device)
        share.add(columns, ROWS)
        share.finish()
        del share, columns
        assert device.taken == 0
    small = ShimDevice(memory_bytes=1 << 20)
    with pytest.raises(Retryable):
        resident(table(), {"x": ["values"]}, small)
    assert small.taken == 0


def test_constants_are_kept_by_content():
    device = ShimDevice()
    constants = Constants(device, most_bytes=3000)
    data = np.arange(1000, dtype=np.uint64).view(np.uint8)[:2000]
    block = constants.block(data)
    assert constants.block(data.copy()).address == block.address
    del block
    assert device.taken == 2000
    constants.block(np.zeros(2500, np.uint8))
    assert device.taken == 2500


FEW = [(totals, 300, 1), (by_code, 300, 1), (texts, 300, 1), (by_anything, 300, 1)]
# Of many rows their number comes first.
MANY = [(every_type, 300, 1), (every_type, 5000, 2), (unfiltered, 5000, 1)]


@pytest.mark.parametrize(("case", "rows", "gets"), FEW + MANY)
def test_results_leave_in_few_copies(case, rows, gets):
    batch = batch_of(rows, 0.3, 3)
    stage, literals = case()
    plan = plan_pass(stage.steps[0], SCHEMA, NARROW)
    device = ShimDevice()
    (found,) = shared(plan, literals, [batch], (rows,), device)
    same(found, run_reference(stage, batch, literals))
    assert len(device.gets) == gets


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("rows", [1, 300, 5000])
def test_room_is_enough(case, rows):
    """A device that has just what was said it takes has enough."""
    batch = batch_of(rows, 0.3, 3)
    stage, literals = case()
    plan = plan_pass(stage.steps[0], SCHEMA, NARROW)
    facts = facts_of({n: batch.column(n) for n in plan.columns})
    device = ShimDevice()
    constants = Constants(device)
    share = begin(plan, facts, literals, constants, (rows,))
    columns = resident(batch, share.uses, device)
    del share
    before, room = device.taken, room_bytes(plan, facts, (rows,), rows, SHARED)
    device.memory_bytes, device.most_taken = before + room, before
    share = begin(plan, facts, literals, constants, (rows,))
    share.add(columns, rows)
    (found,) = share.finish()
    same(found, run_reference(stage, batch, literals))
    if case is unfiltered and rows == 5000:
        # All rows are kept.
        assert device.most_taken - before > 0.9 * room


def distinct(rows):
    """Give rows whose keys are all different, and a pass that groups by them."""
    numbers = np.random.default_rng(3).permutation(rows).astype(np.int64) * 977
    batch = pa.RecordBatch.from_pydict({"k": numbers, "x": np.arange(rows)})
    calls = (("x", resolve_call(col("x").sum().call, batch.schema)), ("n", count().call))
    keys = (("k", resolve(col("k").node, batch.schema)),)
    stage, literals = lift(Stage((Pass(None, Groups(keys, calls)),)))
    return batch, stage, literals, plan_pass(stage.steps[0], batch.schema, {})


def test_tables_grow_as_far_as_groups_need(monkeypatch):
    monkeypatch.setattr(hashed, "_BEGIN", 64)
    batch, stage, literals, plan = distinct(4000)
    device = ShimDevice()
    constants = Constants(device)
    facts = facts_of({n: batch.column(n) for n in plan.columns})

    def inserts(rows):
        device.launches.clear()
        share = begin(plan, facts, literals, constants, (len(rows),))
        share.add(resident(rows, share.uses, device), len(rows))
        (found,) = share.finish()
        same(found, run_reference(stage, rows, literals))
        return device.launches.count("insert_pass")

    assert inserts(batch.slice(0, 50)) == 1
    # 64, 512, 4096 and 8192 places; the last is known to do.
    assert inserts(batch) == 4
    assert inserts(batch) == 1
    # Many rows of few keys need no more.
    few = pa.concat_batches([batch.slice(0, 30)] * 100)
    assert inserts(few) == 1


def test_tables_are_not_larger_than_keys_can_be():
    batch = batch_of(5000, 0.0, 3)
    keys = tuple((k, resolve(col(k).node, SCHEMA)) for k in ("i8", "i64", "u16", "c"))
    stage, literals = lift(Stage((Pass(None, Groups(keys, ())),)))
    plan = plan_pass(stage.steps[0], SCHEMA, {"i8": (-9, 9), "i64": (-9, 9), "u16": (0, 2)})
    facts = facts_of({n: batch.column(n) for n in plan.columns})
    assert rendered_for(plan, facts, SHARED).most == 19 * 19 * 3 * 9
    (found,) = shared(plan, literals, [batch], (5000,), ShimDevice())
    same(found, run_reference(stage, batch, literals))
