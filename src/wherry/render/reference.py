"""What a stage means: the slow interpreter over pyarrow that every program is compared with.

It stays for good as the oracle of the tests. Expressions mean what `wherry.ir.reference` says; this
file adds what steps mean: which rows pass, what an aggregate of nothing is, and in which order
groups and rows come.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.base.compute import pc
from wherry.base.errors import InputError
from wherry.data.arrays import countable, plain, restored, take
from wherry.ir.build import rows_held
from wherry.ir.expr import Call, Literal, Node
from wherry.ir.literals import bind
from wherry.ir.reference import evaluate, matching_rows
from wherry.ir.resolve import call_type
from wherry.ir.stage import (
    Groups,
    Matches,
    Order,
    Pass,
    Rows,
    Sink,
    SortKey,
    Stage,
    Step,
    Take,
    Totals,
    output_schema,
)
from wherry.ir.text import call_text
from wherry.ir.types import SPREADS
from wherry.render.moments import read_moments

_WIDE_DIGITS: Final = 76
_ROW: Final = "row"
_APART: Final = SPREADS | {"first", "last"}
"""Aggregates that pyarrow's groups do not have, or not of every type."""


def run_reference(
    stage: Stage, batch: pa.RecordBatch, literals: tuple[Literal, ...]
) -> pa.RecordBatch:
    """Give what `stage` makes of `batch`.

    Parameters
    ----------
    stage : Stage
        Resolved; its parameters are replaced by `literals`.
    batch : pyarrow.RecordBatch
        One chunk, or everything that has arrived.
    literals : tuple of Literal
        The values of the stage's parameters.

    Raises
    ------
    InputError
        If a value cannot be computed.
    """
    for step in bind(stage, literals).steps:
        batch = run_step(step, batch)
    return batch


def run_step(step: Step, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give what one step without parameters makes of `batch`."""
    match step:
        case Pass(predicate, sink):
            rows = batch if predicate is None else _passing(predicate, batch)
            return _sunk(sink, rows)
        case Order(by, count):
            return batch_take(
                batch, order_of(by, batch)[: batch.num_rows if count is None else count]
            )
        case Take(count):
            return batch.slice(0, count)


def batch_take(batch: pa.RecordBatch, rows: pa.Array) -> pa.RecordBatch:
    """Give the rows of `batch` at the positions `rows`, every column in its own type."""
    return _batch([take(c, rows) for c in batch.columns], batch.schema, len(rows))


def order_of(by: tuple[SortKey, ...], batch: pa.RecordBatch) -> pa.Array:
    """Give the positions of `batch`'s rows in key order: stable, nulls last, NaN before nulls."""
    # sort_indices is a stable sort, nulls at the end by default (Arrow C++ compute documentation,
    # "Sorts and partitions").
    keys = pa.table({str(i): plain(batch.column(k.column)) for i, k in enumerate(by)})
    orders = [(str(i), "descending" if k.descending else "ascending") for i, k in enumerate(by)]
    return pc.sort_indices(keys, sort_keys=orders)


def key_image(array: pa.Array) -> pa.Array:
    """Give keys in a form where equal keys have equal bytes: -0.0 is 0.0 and all NaN are one."""
    array = plain(array)
    if not pa.types.is_floating(array.type):
        return array
    array = pc.add(array, pa.scalar(0.0, array.type))
    return pc.if_else(pc.is_nan(array), pa.scalar(float("nan"), array.type), array)


def _passing(predicate: Node, batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch_take(batch, pc.indices_nonzero(pc.fill_null(evaluate(predicate, batch), False)))


def _batch(columns: list[pa.Array], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(columns, names=schema.names)


@singledispatch
def _sunk(sink: Sink, batch: pa.RecordBatch) -> pa.RecordBatch:  # noqa: ARG001
    raise TypeError(f"no reference for {type(sink).__name__}")


@_sunk.register
def _(sink: Rows, batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [evaluate(node, batch) for _, node in sink.outputs]
    return _batch(columns, output_schema(Pass(None, sink), batch.schema), batch.num_rows)


@_sunk.register
def _(sink: Totals, batch: pa.RecordBatch) -> pa.RecordBatch:
    totals = [_total(call, batch) for _, call in sink.calls]
    columns = [
        restored(pa.repeat(total, 1), call_type(call))
        for total, (_, call) in zip(totals, sink.calls, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=[name for name, _ in sink.calls])


def _total(call: Call, batch: pa.RecordBatch) -> pa.Scalar:
    if call.argument is None:
        return pa.scalar(batch.num_rows, pa.int64())
    values = evaluate(call.argument, batch)
    match call.kind:
        case "count":
            return pc.count(values)
        case "sum":
            return _fitting(call, pc.sum(_summand(values)))
        case "first" | "last":
            return _picked(call, values, [range(len(values))])[0]
    if call.kind in SPREADS:
        return _moments(call, values, [range(len(values))])[0]
    return _fitting(call, getattr(pc, call.kind)(countable(values)))


def _picked(call: Call, values: pa.Array, groups: Sequence[Sequence[int]]) -> pa.Array:
    """Give the first or last value of each group of rows, null if there is none."""
    place = 0 if call.kind == "first" else -1
    rows = [group[place] if len(group) else None for group in groups]
    found = take(values, pa.array(rows, pa.int64()))
    return found if pa.types.is_struct(found.type) else plain(found)


def _moments(call: Call, values: pa.Array, groups: Sequence[Sequence[int]]) -> pa.Array:
    """Give moments, or what is made of them, of each group of numbers or of partial moments."""
    items = values.to_pylist()
    states = [_state([items[row] for row in group]) for group in groups]
    counts = np.array([n for n, *_ in states], np.int64)
    parts = [np.array([state[part] for state in states], np.float64) for part in (1, 2, 3)]
    return read_moments(call.kind, counts, parts)


def _state(items: Sequence[Any]) -> tuple[int, float, float, float]:
    """Give the state of `render.moments` for numbers or partial moments, nulls left out."""
    known = [_one(item) for item in items if item is not None]
    pivot = known[0][1] if known else 0.0
    count, total, squares = 0, 0.0, 0.0
    for n, place, shift, m2 in known:
        moved = np.float64(place) - pivot + shift
        count, total, squares = count + n, total + n * moved, squares + m2 + n * moved * moved
    return count, pivot, total, squares


def _one(item: Any) -> tuple[int, float, float, float]:
    if isinstance(item, dict):
        return item["count"], item["pivot"], item["shift"], item["m2"]
    return 1, float(item), 0.0, 0.0


def _fitting(call: Call, sums: Any) -> Any:
    """Give sums, one or many, in the type of the call."""
    try:
        return pc.cast(sums, call_type(call))
    except pa.ArrowInvalid as problem:
        raise InputError(f"{call_text(call)}: {problem}") from None


def _summand(values: pa.Array) -> pa.Array:
    values = countable(values)
    if not pa.types.is_decimal(values.type):
        return values
    # pyarrow adds decimal128 modulo 2**128; with 76 digits an overflow shows in the cast back.
    return values.cast(pa.decimal256(_WIDE_DIGITS, values.type.scale))


@_sunk.register
def _(sink: Groups, batch: pa.RecordBatch) -> pa.RecordBatch:
    schema = output_schema(Pass(None, sink), batch.schema)
    columns = {f"k{i}": key_image(evaluate(n, batch)) for i, (_, n) in enumerate(sink.keys)}
    wanted: list[tuple[Any, str]] = []
    apart: dict[int, pa.Array] = {}
    for i, (_, call) in enumerate(sink.calls):
        if call.argument is None:
            wanted.append(([], "count_all"))
            continue
        values = evaluate(call.argument, batch)
        if call.kind in _APART:
            apart[i] = values
            wanted.append(([], "count_all"))
            continue
        columns[f"c{i}"] = _summand(values) if call.kind == "sum" else countable(values)
        wanted.append((f"c{i}", call.kind))
    keys = [f"k{i}" for i in range(len(sink.keys))]
    # Arrow's hash table numbers new keys of a mini-batch in no order, so the first row decides.
    columns[_ROW] = pa.array(range(batch.num_rows), pa.int64())
    table = pa.table(columns)
    made = pa.TableGroupBy(table, keys, use_threads=False).aggregate(
        [*_each_once(wanted), (_ROW, "min"), (_ROW, "list")]
    )
    made = made.take(pc.sort_indices(made.column(f"{_ROW}_min")))
    names = [*keys, *(f"{n}_{kind}" if n else kind for n, kind in wanted)]
    found = [_whole(made.column(n)) for n in names]
    groups = made.column(f"{_ROW}_list").to_pylist()
    for i, (_, call) in enumerate(sink.calls):
        if i in apart:
            by = _moments if call.kind in SPREADS else _picked
            found[len(keys) + i] = by(call, apart[i], [sorted(group) for group in groups])
        else:
            found[len(keys) + i] = _fitting(call, found[len(keys) + i])
    found = [restored(c, t) for c, t in zip(found, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(found, names=schema.names)


@_sunk.register
def _(sink: Matches, batch: pa.RecordBatch) -> pa.RecordBatch:
    none: tuple[int | None, ...] = (None,) if sink.outer else ()
    found = matching_rows(sink.keys, sink.build, batch)
    pairs = [(row, match) for row, matches in enumerate(found) for match in matches or none]
    left, right = (pa.array([pair[side] for pair in pairs], pa.int64()) for side in (0, 1))
    added = rows_held(sink.build).batch.select([number for _, number, _ in sink.added])
    outputs = _sunk(Rows(sink.outputs), batch)
    columns = [*batch_take(outputs, left).columns, *batch_take(added, right).columns]
    return _batch(columns, output_schema(Pass(None, sink), batch.schema), len(pairs))


def _each_once(wanted: list[tuple[Any, str]]) -> list[tuple[Any, str]]:
    """Count rows once however often it is asked: pyarrow would give two columns of one name."""
    return [w for place, w in enumerate(wanted) if w not in wanted[:place]]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def check_stage(stage: Stage) -> None:
    """Refuse a stage that calls for an aggregate no program has; the planner splits them."""
    for step in stage.steps:
        calls = getattr(getattr(step, "sink", None), "calls", ())
        for name, call in calls:
            if call.kind in {"mean", "count_distinct"}:
                raise InputError(f"{name}: no program computes {call.kind}; plan it as parts")
