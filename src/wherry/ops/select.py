"""select and with_columns: compute columns, with or without keeping those that are there."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.ir.codec import register
from wherry.ir.expr import Column, Node
from wherry.ir.reference import evaluate
from wherry.ir.resolve import type_of
from wherry.ir.stage import Pass, Rows, Step
from wherry.ir.text import to_text
from wherry.ops.estimate import Estimate
from wherry.ops.operator import one_batch

TEXT_BYTES = 16
"""Assumed bytes of a text value where nothing is measured; it sizes estimates only."""


@register
class Select(Struct, frozen=True):
    """Give exactly the columns `outputs`: pairs of name and resolved expression."""

    name: ClassVar[str] = "select"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("select",)
    gathers: ClassVar[bool] = False

    outputs: tuple[tuple[str, Node], ...]

    def schema(self, given: pa.Schema) -> pa.Schema:  # noqa: ARG002
        """Give the fields of the outputs."""
        return pa.schema([pa.field(name, type_of(node)) for name, node in self.outputs])

    def near(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Compute the outputs chunk by chunk."""
        return (Pass(None, Rows(self.outputs)),)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Do nothing: chunks stay apart."""
        return ()

    def estimate(self, given: Estimate) -> Estimate:
        """Give as many rows, of the outputs' width; renamed columns keep their statistics."""
        passed = {name: n.name for name, n in self.outputs if isinstance(n, Column)}
        width = sum(type_bytes(type_of(node)) for _, node in self.outputs)
        return replace(
            given,
            row_bytes=width,
            columns={k: given.columns[v] for k, v in passed.items() if v in given.columns},
            distinct={k: given.distinct[v] for k, v in passed.items() if v in given.distinct},
        )

    def reference(self, rows: pa.Table) -> pa.Table:
        """Evaluate each output."""
        batch = one_batch(rows)
        arrays = [evaluate(node, batch) for _, node in self.outputs]
        return pa.Table.from_arrays(arrays, schema=self.schema(rows.schema))

    def describe(self) -> str:
        """Give the outputs as text."""
        return f"select {', '.join(output_text(name, node) for name, node in self.outputs)}"


def output_text(name: str, node: Node) -> str:
    """Give one output as `name` or `name = expression`."""
    same = isinstance(node, Column) and node.name == name
    return name if same else f"{name} = {to_text(node)}"


def type_bytes(t: pa.DataType) -> float:
    """Give the bytes one value of a type takes; text is assumed to take 16."""
    if pa.types.is_dictionary(t):
        return t.index_type.bit_width / 8
    if pa.types.is_struct(t):
        return sum(type_bytes(field.type) for field in t)
    try:
        return t.bit_width / 8
    except ValueError:
        return TEXT_BYTES
