"""agg: one row of aggregates over all rows; and how every aggregate is taken apart.

An aggregate is distributive or made of ones that are: each chunk gives partial values, partial
values merge by another aggregate, and a last expression makes the answer of them. mean is the only
one that needs two: a sum and a count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from wherry.data.arrays import countable, restored
from wherry.ir.codec import register
from wherry.ir.expr import Arithmetic, Call, Cast, Column, IsNull, Literal, Node, When
from wherry.ir.reference import evaluate
from wherry.ir.resolve import call_type, type_of
from wherry.ir.stage import Pass, Rows, Step, Totals
from wherry.ir.text import call_text
from wherry.ops.estimate import Estimate, exactly
from wherry.ops.operator import one_batch

Calls = tuple[tuple[str, Call], ...]
"""Pairs of name and resolved aggregate."""

_MERGE = {"sum": "sum", "count": "sum", "min": "min", "max": "max"}


@register
@dataclass(frozen=True, slots=True)
class Aggregate:
    """Aggregate all rows into one; `calls` are pairs of name and resolved aggregate."""

    name: ClassVar[str] = "aggregate"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("aggregate",)
    gathers: ClassVar[bool] = True

    calls: tuple[tuple[str, Call], ...]

    def schema(self, given: pa.Schema) -> pa.Schema:  # noqa: ARG002
        """Give one field a call."""
        return pa.schema([pa.field(name, call_type(call)) for name, call in self.calls])

    def near(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Give one row of partial values a chunk."""
        return (Pass(None, Totals(partial_calls(self.calls))),)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Merge the partial rows and finish."""
        return (
            Pass(None, Totals(merge_calls(self.calls))),
            Pass(None, Rows(tuple(map(_counted, final_outputs(self.calls), self.calls)))),
        )

    def estimate(self, given: Estimate) -> Estimate:  # noqa: ARG002
        """Give one row."""
        return exactly(1, 16.0 * len(self.calls))

    def reference(self, rows: pa.Table) -> pa.Table:
        """Aggregate each argument with `pyarrow.compute`."""
        batch = one_batch(rows)
        values = [scalars([whole(call, batch)], call_type(call)) for _, call in self.calls]
        return pa.Table.from_arrays(values, schema=self.schema(rows.schema))

    def describe(self) -> str:
        """Give the calls as text."""
        return f"agg {calls_text(self.calls)}"


def _counted(output: tuple[str, Node], call: tuple[str, Call]) -> tuple[str, Node]:
    """Let a count be 0, not null, if not one chunk gave a partial count."""
    name, node = output
    if call[1].kind != "count":
        return output
    return name, When(((IsNull(node), Literal(0, pa.int64())),), node)


def calls_text(calls: tuple[tuple[str, Call], ...]) -> str:
    """Give named aggregates as text."""
    return ", ".join(f"{name} = {call_text(call)}" for name, call in calls)


def scalars(values: list[pa.Scalar], t: pa.DataType) -> pa.Array:
    """Give scalars as an array of type `t`."""
    if not values:
        return pa.nulls(0, t)
    whole = pa.concat_arrays([pa.repeat(value, 1) for value in values])
    return restored(whole, t)


def whole(call: Call, batch: pa.RecordBatch) -> pa.Scalar:
    """Give an aggregate over all rows of a batch, by the reference."""
    if call.argument is None:
        return pa.scalar(batch.num_rows)
    values = evaluate(call.argument, batch)
    if call.kind == "count":
        return pc.count(values)
    values = countable(values)
    if call.kind == "mean":
        return pc.mean(values.cast(pa.float64()))
    if call.kind == "sum" and pa.types.is_decimal(values.type):
        values = values.cast(pa.decimal128(38, values.type.scale))
    return {"sum": pc.sum, "min": pc.min, "max": pc.max}[call.kind](values)


def _mark(calls: Calls, keys: tuple[str, ...]) -> str:
    """Give what stands between a mean's name and "sum" or "count" so that no name stands twice."""
    names = {*keys, *(name for name, _ in calls)}
    mark = "."
    while any(f"{name}{mark}{part}" in names for name in names for part in ("sum", "count")):
        mark += "."
    return mark


def _summed(call: Call) -> Call:
    """Give the sum of a mean: 64-bit integers as float64, because their int64 sum could wrap."""
    argument = call.argument
    assert argument is not None
    t = type_of(argument)
    if pa.types.is_integer(t) and t.bit_width == 64:
        return Call("sum", Cast(argument, pa.float64()))
    return Call("sum", argument)


def partial_calls(calls: Calls, keys: tuple[str, ...] = ()) -> Calls:
    """Give the aggregates each chunk computes: means as sums and counts.

    Parameters
    ----------
    keys : tuple of str
        Names that stand beside the aggregates.
    """
    mark = _mark(calls, keys)
    found: list[tuple[str, Call]] = []
    for name, call in calls:
        if call.kind == "mean":
            found.append((f"{name}{mark}sum", _summed(call)))
            found.append((f"{name}{mark}count", Call("count", call.argument)))
        else:
            found.append((name, call))
    return tuple(found)


def merge_calls(calls: Calls, keys: tuple[str, ...] = ()) -> Calls:
    """Give the aggregates that merge partial values, by the names `partial_calls` gave them."""
    return tuple(
        (name, Call(_MERGE[call.kind], Column(name, call_type(call))))
        for name, call in partial_calls(calls, keys)
    )


def final_outputs(calls: Calls, keys: tuple[str, ...] = ()) -> tuple[tuple[str, Node], ...]:
    """Give the expressions that make answers of merged values."""
    mark = _mark(calls, keys)
    return tuple((name, _final(name, call, mark)) for name, call in calls)


def _final(name: str, call: Call, mark: str) -> Node:
    if call.kind != "mean":
        return Column(name, call_type(call))
    total = Column(f"{name}{mark}sum", call_type(_summed(call)))
    count = Column(f"{name}{mark}count", pa.int64())
    as_float = [n if n.type == pa.float64() else Cast(n, pa.float64()) for n in (total, count)]
    return Arithmetic("/", as_float[0], as_float[1], pa.float64())
