"""route: send a request to the shard that holds its key, or split rows into shards by a key."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from msgspec import Struct

from wherry.ir.codec import register
from wherry.ir.expr import Column, Compare, Node, Shard
from wherry.ir.stage import Order, SortKey, Step
from wherry.ir.text import to_text
from wherry.ops.estimate import Estimate
from wherry.ops.filter import Filter
from wherry.ops.operator import all_columns
from wherry.ops.sort import Sort
from wherry.ops.with_columns import WithColumns

SHARD_COLUMN = "shard"


@register
class RouteRequest(Struct, frozen=True):
    """Keep the rows whose `key` equals `value`, and ask only the shard that can hold them.

    If the data is sharded by this key, planning drops every other shard; if not, all are asked.
    """

    name: ClassVar[str] = "route"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("filter",)
    gathers: ClassVar[bool] = False

    key: Column
    value: Node

    def _filter(self) -> Filter:
        return Filter(Compare("==", self.key, self.value))

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the schema unchanged."""
        return given

    def near(self, given: pa.Schema) -> tuple[Step, ...]:
        """Keep rows chunk by chunk."""
        return self._filter().near(given)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Do nothing: chunks stay apart."""
        return ()

    def estimate(self, given: Estimate) -> Estimate:
        """Give the share that statistics leave."""
        return self._filter().estimate(given)

    def reference(self, rows: pa.Table) -> pa.Table:
        """Filter by equality."""
        return self._filter().reference(rows)

    def describe(self) -> str:
        """Give key and value as text."""
        return f"route {self.key.name} = {to_text(self.value)}"


@register
class RouteRows(Struct, frozen=True):
    """Bring rows into shard order and add the int32 column `shard`."""

    name: ClassVar[str] = "route"
    ordered: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("with_columns", "sort")
    gathers: ClassVar[bool] = True

    shard: Shard
    kept: tuple[tuple[str, Node], ...]

    def _with_shard(self) -> WithColumns:
        return WithColumns(((SHARD_COLUMN, self.shard),), self.kept)

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the schema with the shard column."""
        return self._with_shard().schema(given)

    def near(self, given: pa.Schema) -> tuple[Step, ...]:
        """Compute shards chunk by chunk, and bring each chunk into their order."""
        return (*self._with_shard().near(given), self._order())

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Order by shard, stored order within."""
        return (self._order(),)

    def _order(self) -> Order:
        return Order((SortKey(SHARD_COLUMN, descending=False),), None, self.shard.count)

    def estimate(self, given: Estimate) -> Estimate:
        """Give as many rows, four bytes wider."""
        return self._with_shard().estimate(given)

    def reference(self, rows: pa.Table) -> pa.Table:
        """Compute shards, then sort by them."""
        sharded = self._with_shard().reference(rows)
        return Sort((SortKey(SHARD_COLUMN, descending=False),)).reference(sharded)

    def describe(self) -> str:
        """Give key and shards as text."""
        return f"route by {to_text(self.shard)}"


def route_rows(schema: pa.Schema, shard: Shard) -> RouteRows:
    """Give the operator that splits rows of `schema` into shards."""
    return RouteRows(shard, all_columns(schema))
