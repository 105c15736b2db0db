"""Rows that are not grouped yet: they wait where they lie until all chunks meet.

A chunk whose rows hardly share keys gains nothing from being grouped by itself: every row would be
hashed again where chunks meet. If they meet on the same device, the rows are left where they are;
only there it is known how many they are and between what their keys lie.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.chunk import column_bytes
from wherry.data.segment import SegmentPool
from wherry.ir.expr import columns_of
from wherry.render.bind import Chunk
from wherry.render.dealt import Dealt, deal
from wherry.render.passes import PassPlan


class Waiting(Struct, frozen=True, eq=False, dict=True):
    """The rows of a chunk that passed.

    Attributes
    ----------
    plan : PassPlan
        The pass that would group them; `can_deal` is true of it.
    nullable : frozenset of str
        Columns with nulls.
    literals : numpy.ndarray
        As `bind.pack_literals` gave them.
    chosen : numpy.ndarray or None
        int64 words of bits of the rows that passed; None if all did.
    num_rows : int
        How many they are.
    """

    plan: PassPlan
    chunk: Chunk
    nullable: frozenset[str]
    literals: np.ndarray[Any, Any]
    chosen: np.ndarray[Any, Any] | None
    num_rows: int

    @property
    def schema(self) -> pa.Schema:
        """Of the partial rows that they stand for, each a group of its own."""
        return self.plan.out_schema

    @property
    def span(self) -> int:
        """How many rows the chunk has: row numbers are below."""
        return self.chunk.rows

    @cached_property
    def nbytes(self) -> int:
        """The bytes that the rows have in the columns of keys and arguments."""
        plan = self.plan
        nodes = (*plan.keys, *(c.argument for c in plan.calls if c.argument is not None))
        names = {name for node in nodes for name in columns_of(node)}
        stored = sum(column_bytes(self.chunk.columns[name], dictionary=False) for name in names)
        return stored * self.num_rows // max(1, self.chunk.rows)

    def dealt(self, pool: SegmentPool) -> Dealt:
        """Give the rows by partition."""
        rows = self.chosen, self.num_rows
        return deal(self.plan, self.chunk, self.nullable, self.literals, rows, pool=pool)
