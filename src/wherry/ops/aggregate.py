"""agg: one row of aggregates over all rows."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from msgspec import Struct

from wherry.base.compute import pc
from wherry.data.arrays import countable, plain, restored
from wherry.ir.codec import register
from wherry.ir.expr import Call
from wherry.ir.reference import evaluate
from wherry.ir.resolve import call_type
from wherry.ir.stage import Pass, Step
from wherry.ir.text import call_text
from wherry.ir.types import SPREADS
from wherry.ops.estimate import Estimate, exactly
from wherry.ops.group_estimate import near_estimate
from wherry.ops.images import images, keyed
from wherry.ops.operator import one_batch
from wherry.ops.partials import Calls, gather_steps, near_sink


@register
class Aggregate(Struct, frozen=True):
    """Aggregate all rows into one; `calls` are pairs of name and resolved aggregate."""

    name: ClassVar[str] = "aggregate"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("aggregate",)
    gathers: ClassVar[bool] = True

    calls: Calls

    def schema(self, given: pa.Schema) -> pa.Schema:  # noqa: ARG002
        """Give one field a call."""
        return pa.schema([pa.field(name, call_type(call)) for name, call in self.calls])

    def near(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Give one row of partial values a chunk."""
        return (Pass(None, near_sink(self.calls)),)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Merge the partial rows and finish."""
        return gather_steps(self.calls)

    def estimate(self, given: Estimate) -> Estimate:  # noqa: ARG002
        """Give one row."""
        return exactly(1, 16.0 * len(self.calls))

    def estimate_near(self, given: Estimate) -> Estimate:
        """Give more rows where different values are counted: one a value."""
        return near_estimate(self, self.calls, (), given)

    def reference(self, rows: pa.Table) -> pa.Table:
        """Aggregate each argument with `pyarrow.compute`."""
        batch = one_batch(rows)
        values = [scalars([whole(call, batch)], call_type(call)) for _, call in self.calls]
        return pa.Table.from_arrays(values, schema=self.schema(rows.schema))

    def describe(self) -> str:
        """Give the calls as text."""
        return f"agg {calls_text(self.calls)}"


def calls_text(calls: Calls) -> str:
    """Give named aggregates as text."""
    return ", ".join(f"{name} = {call_text(call)}" for name, call in calls)


def scalars(values: list[pa.Scalar], t: pa.DataType) -> pa.Array:
    """Give scalars as an array of type `t`."""
    if not values:
        return pa.nulls(0, t)
    if pa.types.is_struct(t):
        return pa.array([value.as_py() for value in values], t)
    whole = pa.concat_arrays([pa.repeat(value, 1) for value in values])
    return restored(whole, t)


def _picked(values: pa.Array, place: int) -> pa.Scalar:
    """Give the first or last value, null if there is none."""
    values = values if pa.types.is_struct(values.type) else plain(values)
    return values[place] if len(values) else pa.scalar(None, values.type)


def whole(call: Call, batch: pa.RecordBatch) -> pa.Scalar:
    """Give an aggregate over all rows of a batch, by the reference."""
    if call.argument is None:
        return pa.scalar(batch.num_rows)
    values = evaluate(call.argument, batch)
    if call.kind == "count":
        return pc.count(values)
    if call.kind == "count_distinct":
        known = [value for value in images(values) if value is not None]
        return pa.scalar(len(set(map(keyed, known))))
    if call.kind in {"first", "last"}:
        return _picked(values, 0 if call.kind == "first" else -1)
    values = countable(values)
    if call.kind == "mean":
        return pc.mean(values.cast(pa.float64()))
    if call.kind in SPREADS:
        measure = pc.stddev if call.kind.startswith("std") else pc.variance
        known = values.cast(pa.float64()).drop_null()
        # pyarrow's mean of three equal numbers need not be that number, unless it is 0.
        moved = pc.subtract(known, known[0]) if len(known) else known
        return measure(moved, ddof=0 if call.kind.endswith("_pop") else 1)
    if call.kind == "sum" and pa.types.is_decimal(values.type):
        values = values.cast(pa.decimal128(38, values.type.scale))
    return {"sum": pc.sum, "min": pc.min, "max": pc.max}[call.kind](values)
