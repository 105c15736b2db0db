"""One random expression three ways: in plain Python, over pyarrow, and as a program."""

import math
import struct
from random import Random

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import given, settings
from support.wild import SCHEMA, batch_of, expression, rows_of, values_of

from wherry.base.errors import InputError
from wherry.data.arrays import take
from wherry.data.segment import SegmentPool
from wherry.ir.expr import Node
from wherry.ir.literals import lift
from wherry.ir.meaning import meaning
from wherry.ir.reference import evaluate
from wherry.ir.resolve import resolve, type_of
from wherry.ir.stage import Pass, Rows, Stage
from wherry.ir.text import to_text
from wherry.render.program import render

POOL = SegmentPool()
EXAMPLES = max(600, settings().max_examples)


def image(value: object) -> object:
    """Give a value by which it is compared: -0.0 is not 0.0, and any NaN is any other."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    return {k: image(v) for k, v in value.items()} if isinstance(value, dict) else value


def ran(node: Node, batch: pa.RecordBatch) -> pa.Array:
    stage, literals = lift(Stage((Pass(None, Rows((("value", node),))),)))
    made = render(stage, batch.schema, {}).run(batch, literals, POOL)
    return made.batch.column("value")


def taken(batch: pa.RecordBatch, rows: list[int]) -> pa.RecordBatch:
    columns = [take(c, pa.array(rows, pa.int64())) for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def fails(act: object, node: Node, batch: pa.RecordBatch) -> bool:
    try:
        act(node, batch)
    except InputError:
        return True
    return False


@settings(max_examples=EXAMPLES)
@given(depth=st.integers(1, 4), tree=st.integers(0, 1 << 62), seed=st.integers(0, 5))
def test_programs_and_the_reference_mean_what_the_definition_says(depth, tree, seed) -> None:
    node = resolve(expression(Random(tree), depth).node, SCHEMA)
    batch, wanted, good = batch_of(seed), [], []
    for number, row in enumerate(rows_of(seed)):
        try:
            wanted.append(meaning(node, row))
        except InputError:
            continue
        good.append(number)
    whole = len(good) == batch.num_rows
    kept = batch if whole else taken(batch, good)
    for act in (evaluate, ran):
        assert whole or fails(act, node, batch), (act.__name__, to_text(node))
        found = act(node, kept)
        assert found.type.equals(type_of(node))
        for value, right, number in zip(values_of(found), wanted, good, strict=True):
            assert image(value) == image(right), (
                f"{act.__name__}: {to_text(node)} of type {type_of(node)} is {value!r}, "
                f"not {right!r}, in row {number}: {rows_of(seed)[number]}"
            )
