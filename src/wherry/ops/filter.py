"""filter: keep the rows for which a predicate is true; null is not true."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from msgspec import Struct

from wherry.base.compute import pc
from wherry.ir.codec import register
from wherry.ir.expr import Node
from wherry.ir.reference import evaluate
from wherry.ir.stage import Step
from wherry.ir.text import to_text
from wherry.ops.estimate import Estimate, filtered
from wherry.ops.operator import keep, one_batch, take_rows


@register
class Filter(Struct, frozen=True):
    """Keep the rows for which `predicate` (resolved, of type bool) is true."""

    name: ClassVar[str] = "filter"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("filter",)
    gathers: ClassVar[bool] = False

    predicate: Node

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the schema unchanged."""
        return given

    def near(self, given: pa.Schema) -> tuple[Step, ...]:
        """Keep rows chunk by chunk."""
        return (keep(given, self.predicate),)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Do nothing: chunks stay apart."""
        return ()

    def estimate(self, given: Estimate) -> Estimate:
        """Give the share that statistics leave."""
        return filtered(given, self.predicate)

    def reference(self, rows: pa.Table) -> pa.Table:
        """Keep the rows for which the predicate is true."""
        passed = evaluate(self.predicate, one_batch(rows))
        return take_rows(rows, pc.indices_nonzero(passed))

    def describe(self) -> str:
        """Give the predicate as text."""
        return f"filter {to_text(self.predicate)}"
