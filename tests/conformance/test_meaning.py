"""One random expression three ways: in plain Python, over pyarrow, and as a program."""

import math
import struct
from decimal import Decimal
from random import Random

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings
from support.wild import SCHEMA, batch_of, expression, rows_of, values_of

from wherry import col
from wherry.base.errors import InputError
from wherry.data.arrays import take
from wherry.data.segment import SegmentPool
from wherry.ir.build import build_of
from wherry.ir.expr import Code, Column, Literal, Member, Node
from wherry.ir.literals import lift
from wherry.ir.meaning import meaning
from wherry.ir.reference import evaluate
from wherry.ir.resolve import resolve, type_of
from wherry.ir.stage import Pass, Rows, Stage
from wherry.ir.text import to_text
from wherry.ir.types import build_type, is_coded
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


def agree(node: Node, seed: int) -> None:
    """Compare the three, row by row; rows that have no value must fail, and fail no others."""
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


@settings(max_examples=EXAMPLES)
@given(depth=st.integers(1, 4), tree=st.integers(0, 1 << 62), seed=st.integers(0, 5))
def test_programs_and_the_reference_mean_what_the_definition_says(depth, tree, seed) -> None:
    agree(resolve(expression(Random(tree), depth).node, SCHEMA), seed)


KEYS = [
    field.name
    for field in SCHEMA
    if not pa.types.is_struct(field.type)
    and (is_coded(field.type) or not pa.types.is_dictionary(field.type))
]
"""What joins compare: dictionaries but of text are cast to their values before."""


@pytest.mark.parametrize("seed", [1, 5])
@pytest.mark.parametrize("name", KEYS)
def test_keys_are_found_in_a_build_as_the_definition_finds_them(name, seed) -> None:
    names = [name, KEYS[(KEYS.index(name) + 7) % len(KEYS)]]
    valid = [i for i, row in enumerate(rows_of(seed + 1)) if None not in [row[n] for n in names]]
    other = pa.Table.from_batches([taken(batch_of(seed + 1).select(names), valid[:9])])
    build = build_of(other, keys=2)
    constant = Literal(build, build_type(other.schema))
    keys = [Column(n, SCHEMA.field(n).type) for n in names]
    keys = [Code(k, constant, at) if is_coded(k.type) else k for at, k in enumerate(keys)]
    for key in keys:
        if isinstance(key, Code):
            agree(key, seed)
    agree(Member(tuple(keys), constant), seed)


FOUND = {
    "decimals become the nearest float": (
        col("x").cast(pa.float64()),
        pa.array([Decimal("14285.71"), Decimal("-0.07"), None], pa.decimal128(9, 2)),
        [14285.71, -0.07, None],
    ),
    "so do wide ones, and of any scale": (
        col("x").cast(pa.float64()),
        pa.array([Decimal("123456789012345678.901"), Decimal("0.003")], pa.decimal128(38, 20)),
        [123456789012345678.901, 0.003],
    ),
    "the time of a day near the least moment": (
        col("x").cast(pa.time32("s")),
        pa.array([-(1 << 63), -(1 << 63) + 1, -1], pa.int64()).view(pa.timestamp("ns")),
        [763, 763, 86_399],
    ),
}
"""What the comparison has found wrong, once and for all."""


@pytest.mark.parametrize("title", FOUND)
def test_what_was_wrong_stays_right(title) -> None:
    expr, array, wanted = FOUND[title]
    batch = pa.record_batch([array], ["x"])
    node = resolve(expr.node, batch.schema)
    rows = [{"x": value} for value in values_of(array)]
    assert [meaning(node, row) for row in rows] == wanted
    assert values_of(evaluate(node, batch)) == wanted
    assert values_of(ran(node, batch)) == wanted
