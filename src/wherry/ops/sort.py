"""sort and top_k: rows in key order, all of them or the first k. Stable; nulls come last."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from msgspec import Struct

from wherry.base.compute import pc
from wherry.data.arrays import plain
from wherry.ir.codec import register
from wherry.ir.stage import Order, SortKey, Step
from wherry.ops.estimate import Estimate, at_most
from wherry.ops.operator import take_rows


@register
class Sort(Struct, frozen=True):
    """Bring all rows into the order of `by`."""

    name: ClassVar[str] = "sort"
    ordered: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("sort",)
    gathers: ClassVar[bool] = True

    by: tuple[SortKey, ...]

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the schema unchanged."""
        return given

    def near(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Do nothing: order is made where the rows meet."""
        return ()

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Order everything."""
        return (Order(self.by, None),)

    def estimate(self, given: Estimate) -> Estimate:
        """Give as many rows."""
        return given

    def reference(self, rows: pa.Table) -> pa.Table:
        """Sort by `pyarrow.compute.sort_indices`, with the row number as the last key."""
        return take_rows(rows, ordered_indices(rows, self.by))

    def describe(self) -> str:
        """Give the keys as text."""
        return f"sort by {keys_text(self.by)}"


@register
class TopK(Struct, frozen=True):
    """Keep the first `count` rows in the order of `by`."""

    name: ClassVar[str] = "top_k"
    ordered: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("top_k",)
    gathers: ClassVar[bool] = True

    count: int
    by: tuple[SortKey, ...]

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the schema unchanged."""
        return given

    def near(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Keep the first `count` of each chunk: no other row of it can be in the answer."""
        return (Order(self.by, self.count),)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Keep the first `count` of those."""
        return (Order(self.by, self.count),)

    def estimate(self, given: Estimate) -> Estimate:
        """Give at most `count` rows."""
        return at_most(given, self.count)

    def reference(self, rows: pa.Table) -> pa.Table:
        """Sort and cut."""
        return take_rows(rows, ordered_indices(rows, self.by)[: self.count])

    def describe(self) -> str:
        """Give count and keys as text."""
        return f"top_k {self.count} by {keys_text(self.by)}"


def keys_text(by: tuple[SortKey, ...]) -> str:
    """Give sort keys as text."""
    return ", ".join(f"{key.column}{' desc' if key.descending else ''}" for key in by)


def ordered_indices(rows: pa.Table, by: tuple[SortKey, ...]) -> pa.Array:
    """Give the row numbers in key order: stable, nulls last whichever way a key runs."""
    keys = {f"{i}": plain(rows.column(key.column)) for i, key in enumerate(by)}
    keys["row"] = pa.array(range(rows.num_rows), pa.int64())
    order = [(f"{i}", "descending" if k.descending else "ascending") for i, k in enumerate(by)]
    order.append(("row", "ascending"))
    return pc.sort_indices(pa.table(keys), sort_keys=order)  # nulls at the end: the default
