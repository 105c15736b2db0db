"""group_by: one row of aggregates for each distinct key; null keys form one group."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from msgspec import Struct

from wherry.ir.codec import register
from wherry.ir.expr import Call, Column, Node
from wherry.ir.resolve import call_type, type_of
from wherry.ir.stage import Pass, Step
from wherry.ops.aggregate import calls_text, scalars, whole
from wherry.ops.estimate import Estimate
from wherry.ops.group_estimate import groups_estimate, near_estimate
from wherry.ops.images import images, keyed
from wherry.ops.operator import one_batch, take_rows
from wherry.ops.partials import gather_steps, near_sink
from wherry.ops.select import Select, output_text


@register
class GroupBy(Struct, frozen=True):
    """Aggregate by `keys`; keys and `calls` are pairs of name and resolved expression."""

    name: ClassVar[str] = "group_by"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("group_by",)
    gathers: ClassVar[bool] = True

    keys: tuple[tuple[str, Node], ...]
    calls: tuple[tuple[str, Call], ...]

    def schema(self, given: pa.Schema) -> pa.Schema:  # noqa: ARG002
        """Give the keys, then the aggregates."""
        fields = [pa.field(name, type_of(node)) for name, node in self.keys]
        return pa.schema(fields + [pa.field(name, call_type(call)) for name, call in self.calls])

    def near(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Give a row of partial values for each key of a chunk."""
        return (Pass(None, near_sink(self.calls, self.keys)),)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Merge partial rows of equal keys and finish."""
        keys = tuple((name, Column(name, type_of(node))) for name, node in self.keys)
        return gather_steps(self.calls, keys)

    def estimate(self, given: Estimate) -> Estimate:
        """Give at most one row a key; small integer ranges bound the number of keys."""
        return groups_estimate(self.keys, len(self.calls), given)

    def estimate_near(self, given: Estimate) -> Estimate:
        """Give more rows where different values are counted: one a key and value."""
        return near_estimate(self, self.calls, self.keys, given)

    def reference(self, rows: pa.Table) -> pa.Table:
        """Group key tuples in a Python dict: slow, and plainly right."""
        named = Select(self.keys).reference(rows)
        found: dict[tuple[object, ...], list[int]] = {}
        for index, key in enumerate(zip(*map(images, named.columns), strict=True)):
            found.setdefault(tuple(map(keyed, key)), []).append(index)
        first = [indices[0] for indices in found.values()]
        arrays = take_rows(named, pa.array(first, pa.int64())).columns
        groups = [take_rows(rows, pa.array(i, pa.int64())) for i in found.values()]
        parts = [one_batch(group) for group in groups]
        for _, call in self.calls:
            arrays.append(scalars([whole(call, part) for part in parts], call_type(call)))
        return pa.Table.from_arrays(arrays, schema=self.schema(rows.schema))

    def describe(self) -> str:
        """Give keys and calls as text."""
        keys = ", ".join(output_text(name, node) for name, node in self.keys)
        return f"group_by {keys} agg {calls_text(self.calls)}"
