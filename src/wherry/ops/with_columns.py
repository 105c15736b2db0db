"""with_columns: keep every column, and add or replace some."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from msgspec import Struct

from wherry.ir.codec import register
from wherry.ir.expr import Node
from wherry.ir.stage import Step
from wherry.ops.estimate import Estimate
from wherry.ops.operator import all_columns
from wherry.ops.select import Select, output_text


@register
class WithColumns(Struct, frozen=True):
    """Add the columns `added`, or replace those of the same name, where they stand."""

    name: ClassVar[str] = "with_columns"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("with_columns",)
    gathers: ClassVar[bool] = False

    added: tuple[tuple[str, Node], ...]
    kept: tuple[tuple[str, Node], ...]

    def _select(self) -> Select:
        added = dict(self.added)
        outputs = [(name, added.pop(name, node)) for name, node in self.kept]
        return Select((*outputs, *added.items()))

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the schema with the added columns."""
        return self._select().schema(given)

    def near(self, given: pa.Schema) -> tuple[Step, ...]:
        """Compute chunk by chunk."""
        return self._select().near(given)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Do nothing: chunks stay apart."""
        return ()

    def estimate(self, given: Estimate) -> Estimate:
        """Give as many rows, wider by the added columns."""
        return self._select().estimate(given)

    def reference(self, rows: pa.Table) -> pa.Table:
        """Evaluate each added column."""
        return self._select().reference(rows)

    def describe(self) -> str:
        """Give the added columns as text."""
        return f"with_columns {', '.join(output_text(name, node) for name, node in self.added)}"


def with_columns(schema: pa.Schema, added: tuple[tuple[str, Node], ...]) -> WithColumns:
    """Give the operator that adds `added` to rows of `schema`."""
    return WithColumns(added, all_columns(schema))
