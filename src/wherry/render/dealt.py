"""Rows that are not grouped yet: dealt into partitions by hash of their key, as records.

A chunk whose rows hardly share keys gains nothing from being grouped by itself: every row would be
hashed again where chunks meet. If they meet on the same device, the chunk is only dealt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.data.segment import SegmentPool
from wherry.ir.expr import Call, Column
from wherry.ir.stage import Groups, Pass, Step
from wherry.kernels.layout import BLOCK, PAGE, STAGE, STAGE_SLACK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Chunk, bind_slots
from wherry.render.passes import PassPlan
from wherry.render.records import Layout, write_record
from wherry.render.room import scratch
from wherry.render.split import is_fixed

_filter, _radix = skeletons("filter"), skeletons("radix")

BITS: Final = 6
"""log2 of the partitions: with 64 the staged records fit the first-level cache."""
_MERGES: Final = {"sum": "sum", "count": "sum", "min": "min", "max": "max"}


@dataclass(frozen=True, eq=False)
class Dealt:
    """The rows of a chunk that passed, as records in pages.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the partial rows that they stand for, each a group of its own.
    num_rows, span : int
        How many rows, and how many the chunk had: row numbers are below.
    layout : Layout
        Of the records.
    pages, numbers : pyarrow.Buffer
        The records, and the int32 row number of each.
    following, first, counts : numpy.ndarray
        As `kernels.numba.radix.deal` fills them.
    """

    schema: pa.Schema
    num_rows: int
    span: int
    layout: Layout
    pages: pa.Buffer
    numbers: pa.Buffer
    following: np.ndarray[Any, Any]
    first: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]

    @property
    def nbytes(self) -> int:
        """The bytes of the records and row numbers."""
        return self.num_rows * (8 * self.layout.words + 4)


def deal(
    plan: PassPlan,
    chunk: Chunk,
    nullable: frozenset[str],
    literals: np.ndarray[Any, Any],
    selection: tuple[np.ndarray[Any, Any] | None, int],
    *,
    pool: SegmentPool,
) -> Dealt:
    """Give a chunk's rows by partition.

    Parameters
    ----------
    plan : PassPlan
        A pass that groups, of which `can_deal` is true.
    nullable : frozenset of str
        Columns with nulls.
    selection : tuple
        int64 words of bits of the rows that passed, None for all; and how many they are.
    """
    reader = plan.function("record", nullable, lambda w: write_record(w, plan.keys, plan.calls))
    layout: Layout = reader.made
    chosen, rows = selection
    context = bind_slots(reader.slots, chunk, literals)
    whole, padded = context.addresses
    width, parts = 8 * layout.words, 1 << BITS
    room = rows // PAGE + parts
    pages, numbers = pool.allocate(room * PAGE * width), pool.allocate(room * PAGE * 4)
    following, first = np.empty(room, np.int32), np.empty(parts, np.int32)
    counts, fill = np.empty(parts, np.int64), np.zeros(parts, np.int64)
    current = np.full(parts, -1, np.int64)
    stage = scratch("stage", parts * (STAGE * (width + 4) + STAGE_SLACK))
    block = scratch("records", BLOCK * width + STAGE_SLACK)
    used = _radix.deal(
        reader.address, whole, chunk.blocks, padded, chunk.rest,
        0 if chosen is None else chosen.ctypes.data, layout.key_words, width, BITS,
        block.ctypes.data, stage.ctypes.data, fill.ctypes.data, current.ctypes.data,
        pages.address, numbers.address, following.ctypes.data, first.ctypes.data,
        counts.ctypes.data, room,
    )  # fmt: skip
    assert used >= 0, "a partition's last page may be in part empty, and no other"
    schema = plan.out_schema
    return Dealt(schema, rows, chunk.rows, layout, pages, numbers, following, first, counts)


def select(
    mask: int, contexts: tuple[int, int], chunk: Chunk
) -> tuple[np.ndarray[Any, Any] | None, int]:
    """Give the rows that pass the block function `mask`, as words of bits; None if it is 0."""
    if not mask:
        return None, chunk.rows
    words = np.empty(chunk.blocks + bool(chunk.rest), np.int64)
    whole, padded = contexts
    count = _filter.select(mask, whole, chunk.blocks, padded, chunk.rest, words.ctypes.data)
    return words, int(count)


def can_deal(plan: PassPlan) -> bool:
    """Tell whether rows of a pass can be dealt.

    Their keys have fixed sizes, and what is aggregated is a value of a row that sums, minima or
    maxima are made of: no text, no number of a row in its chunk, no moments.
    """
    if plan.spreads or plan.picks:
        return False
    if not isinstance(plan.step.sink, Groups) or plan.encoded or not plan.keys:
        return False
    named = plan.step.sink.keys
    return all(is_fixed(t) for t in plan.out_schema.types[: len(named)])


def continues(near: Step | None, merge: Step) -> bool:
    """Tell whether `merge` merges the groups of `near` and nothing else, so that rows will do."""
    if not isinstance(near, Pass) or not isinstance(merge, Pass) or merge.predicate is not None:
        return False
    if not isinstance(near.sink, Groups) or not isinstance(merge.sink, Groups):
        return False
    return _same_names(near.sink, merge.sink) and _merges(near.sink.calls, merge.sink.calls)


def _same_names(near: Groups, merge: Groups) -> bool:
    names = [name for name, _ in near.keys]
    read = [node.name for _, node in merge.keys if isinstance(node, Column)]
    return names == read == [name for name, _ in merge.keys]


def _merges(near: Sequence[tuple[str, Call]], merge: Sequence[tuple[str, Call]]) -> bool:
    if len(near) != len(merge):
        return False
    return all(
        isinstance(second.argument, Column)
        and second.argument.name == name
        and second.kind == _MERGES.get(first.kind)
        for (name, first), (_, second) in zip(near, merge, strict=True)
    )
