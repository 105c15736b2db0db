"""limit: the first rows, in the order they are stored or were brought into."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from msgspec import Struct

from wherry.ir.codec import register
from wherry.ir.stage import Step, Take
from wherry.ops.estimate import Estimate, at_most


@register
class Limit(Struct, frozen=True):
    """Keep the first `count` rows."""

    name: ClassVar[str] = "limit"
    ordered: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("limit",)
    gathers: ClassVar[bool] = True

    count: int

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the schema unchanged."""
        return given

    def near(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Keep the first `count` of each chunk."""
        return (Take(self.count),)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Keep the first `count` of those: chunks arrive in stored order."""
        return (Take(self.count),)

    def estimate(self, given: Estimate) -> Estimate:
        """Give at most `count` rows."""
        return at_most(given, self.count)

    def reference(self, rows: pa.Table) -> pa.Table:
        """Slice."""
        return rows.slice(0, self.count)

    def describe(self) -> str:
        """Give the count as text."""
        return f"limit {self.count}"
