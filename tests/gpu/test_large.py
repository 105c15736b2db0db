"""Programs over more rows and bytes than 31 bits count, and over more than one piece, on a card.

The same bodies run on the stand-in over few rows, so that they are right before a card is there.
"""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from support.accelerators import ACCELERATORS, accelerator

from wherry import col, count
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call
from wherry.ir.stage import Groups, Pass, Rows, Stage, Totals
from wherry.render.cuda.bind import Constants
from wherry.render.cuda.columns import facts_of, put_column
from wherry.render.cuda.program import plan_pass
from wherry.render.cuda.share import begin
from wherry.render.cuda.totals import SPAN

SIZES = {"shim": 3 * SPAN + 17, "card": (1 << 31) + 3 * SPAN + 17}
"""Rows of one byte."""
MARK = 100
PIECE = 1 << 24


def pieces(values):
    return (values[at : at + PIECE] for at in range(0, len(values), PIECE))


@pytest.fixture(scope="module", params=ACCELERATORS)
def held(request):
    """Give a device with a column of very many rows of one byte, and the column on the host."""
    rows = SIZES[request.param]
    values, some = np.empty(rows, np.int8), (np.arange(PIECE) * 37 % 90).astype(np.int8)
    for part in pieces(values):
        part[:] = some[: len(part)]
    places = np.array([0, rows // 2, rows - SPAN - 1, rows - 1])
    values[places] = MARK
    device = accelerator(request.param, most_blocks=1 << 30)
    array = pa.array(values)
    return device, array, put_column(device, array), places


def asked(held, made, cuts=()):
    """Give the batches of a pass over the column, in pieces that are cut behind whole spans."""
    device, array, column, _ = held
    schema = pa.schema({"x": array.type})
    stage, literals = lift(Stage((made(schema),)))
    plan = plan_pass(stage.steps[0], schema, {"x": (0, MARK)})
    share = begin(plan, facts_of({"x": array}), literals, Constants(device), [len(array)])
    places = [0, *cuts, len(array)]
    for begin_, end in pairwise(places):
        share.add({"x": column.slice(begin_, end - begin_)}, end - begin_)
    return share.finish()


def where(test, schema):
    return resolve(test.node, schema)


def test_totals(held):
    def made(schema):
        calls = {"n": count(), "s": col("x").cast(pa.int64()).sum(), "most": col("x").max()}
        named = tuple((k, resolve_call(e.call, schema)) for k, e in calls.items())
        return Pass(where(col("x") >= 45, schema), Totals(named))

    kept = [part[part >= 45] for part in pieces(held[1].to_numpy())]
    (found,) = asked(held, made)
    sums = [int(part.sum(dtype=np.int64)) for part in kept]
    wanted = {"n": [sum(map(len, kept))], "s": [sum(sums)]}
    assert found.to_pydict() == wanted | {"most": [MARK]}
    (cut,) = asked(held, made, [SPAN, 3 * SPAN])
    assert cut.equals(found)


def test_rows_that_pass_are_the_last_too(held):
    def made(schema):
        return Pass(where(col("x") == MARK, schema), Rows((("x", where(col("x"), schema)),)))

    (found,) = asked(held, made)
    assert found.to_pydict() == {"x": [MARK] * len(held[3])}


def test_groups(held):
    def made(schema):
        key = (("x", where(col("x"), schema)),)
        return Pass(None, Groups(key, (("n", count().call),)))

    (found,) = asked(held, made)
    counts = sum(np.bincount(part, minlength=MARK + 1) for part in pieces(held[1].to_numpy()))
    seen = dict(zip(found["x"].to_pylist(), found["n"].to_pylist(), strict=True))
    assert seen == {key: n for key, n in enumerate(counts.tolist()) if n}
    assert found["x"][0].as_py() == MARK  # In order of first appearance.


def test_sums_of_floats_are_the_same_bit_for_bit(held):
    """Those of a card equal those of the stand-in, over the rows that both have."""
    device = held[0]
    rng = np.random.default_rng(9)
    batch = pa.RecordBatch.from_pydict({"x": rng.standard_normal(200_000) * 1e9})
    calls = (("s", resolve_call(col("x").sum().call, batch.schema)),)
    stage, literals = lift(Stage((Pass(None, Totals(calls)),)))
    plan = plan_pass(stage.steps[0], batch.schema, {})
    found = []
    for each in (device, accelerator("shim", 1), accelerator("shim", 4)):
        share = begin(plan, facts_of({"x": batch["x"]}), literals, Constants(each), [200_000])
        share.add({"x": put_column(each, batch["x"])}, 200_000)
        found += share.finish()
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])
