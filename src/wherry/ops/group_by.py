"""group_by: one row of aggregates for each distinct key; null keys form one group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import expm1, isinf
from typing import ClassVar

import pyarrow as pa

from wherry.ir.codec import register
from wherry.ir.expr import Call, Column, Node
from wherry.ir.resolve import call_type, type_of
from wherry.ir.stage import Pass, Step
from wherry.ops.aggregate import calls_text, scalars, whole
from wherry.ops.estimate import Estimate
from wherry.ops.images import images, keyed
from wherry.ops.operator import one_batch, take_rows
from wherry.ops.partials import gather_steps, near_sink
from wherry.ops.select import Select, output_text, type_bytes

_GROUP_SHARE = 0.1
"""Guessed groups a row where nothing bounds them; a wrong guess costs a worse placement."""


@register
@dataclass(frozen=True, slots=True)
class GroupBy:
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
        domain = 1.0
        for _, node in self.keys:
            domain *= _domain(node, given)
        width = sum(type_bytes(type_of(node)) for _, node in self.keys) + 16.0 * len(self.calls)
        return replace(
            given,
            rows_low=min(1.0, given.rows_low),
            rows=_distinct(given.rows, domain),
            rows_high=min(given.rows_high, domain),
            row_bytes=width,
            columns={},
            distinct={},
        )

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


def _distinct(rows: float, domain: float) -> float:
    """Give the expected number of different values among `rows` drawn evenly from a domain."""
    if isinf(domain):
        return max(min(1.0, rows), rows * _GROUP_SHARE)
    return min(rows, -domain * expm1(-rows / domain))


def _domain(node: Node, given: Estimate) -> float:
    if isinstance(node, Column) and node.name in given.columns:
        known = given.columns[node.name]
        if isinstance(known.min, int) and isinstance(known.max, int):
            return known.max - known.min + 2.0
        if isinstance(known.min, str) and known.min == known.max:
            return 2.0
    if isinstance(node, Column) and node.name in given.distinct:
        return given.distinct[node.name] + 1.0
    return float("inf")
