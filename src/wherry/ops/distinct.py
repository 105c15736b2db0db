"""distinct: every different combination of some columns once."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.ir.codec import register
from wherry.ir.expr import Node
from wherry.ir.stage import Step
from wherry.ops.estimate import Estimate
from wherry.ops.group_by import GroupBy


@register
class Distinct(Struct, frozen=True):
    """Give each combination of `keys`, pairs of name and resolved expression, once.

    It is a group_by without aggregates: null is a value like others, -0.0 is 0.0, all NaN are one.
    """

    name: ClassVar[str] = "distinct"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("group_by",)
    gathers: ClassVar[bool] = True

    keys: tuple[tuple[str, Node], ...]

    def _groups(self) -> GroupBy:
        return GroupBy(self.keys, ())

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the keys' fields."""
        return self._groups().schema(given)

    def near(self, given: pa.Schema) -> tuple[Step, ...]:
        """Give the combinations of a chunk."""
        return self._groups().near(given)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:
        """Give each combination of all chunks once."""
        return self._groups().gather(given)

    def estimate(self, given: Estimate) -> Estimate:
        """Give at most one row a combination; what is known of the columns stays true."""
        made = self._groups().estimate(given)
        names = {name for name, _ in self.keys}
        known = {name: found for name, found in given.columns.items() if name in names}
        return replace(made, columns=known)

    def reference(self, rows: pa.Table) -> pa.Table:
        """Group, and keep the keys."""
        return self._groups().reference(rows)

    def describe(self) -> str:
        """Give the columns as text."""
        return f"distinct {', '.join(name for name, _ in self.keys)}"
