"""Rows dealt into partitions as records: by hash of their key, or by the slot of a known domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.segment import SegmentPool
from wherry.ir.expr import Call, Column
from wherry.ir.stage import Groups, Pass, Step
from wherry.kernels.layout import BLOCK, PAGE, STAGE
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Chunk, Context, bind_slots
from wherry.render.passes import PassPlan
from wherry.render.records import Layout, write_record, write_slot_record
from wherry.render.room import scratch
from wherry.render.split import is_fixed

_filter, _deal = skeletons("filter"), skeletons("deal")

BITS: Final = 6
"""log2 of the partitions: with 64 the staged records fit the first-level cache."""
_MERGES: Final = {"sum": "sum", "count": "sum", "min": "min", "max": "max"}


class Dealt(Struct, frozen=True, eq=False):
    """The rows of a chunk that passed, as records in pages.

    Attributes
    ----------
    num_rows, span : int
        How many rows, and how many the chunk had: row numbers are below.
    layout : Layout
        Of the records.
    pages, numbers : pyarrow.Buffer
        The records, and the int32 row number of each; None if it is in the record.
    following, first, counts : numpy.ndarray
        As `kernels.numba.deal` fills them.
    """

    num_rows: int
    span: int
    layout: Layout
    pages: pa.Buffer
    numbers: pa.Buffer | None
    following: np.ndarray[Any, Any]
    first: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]

    @property
    def nbytes(self) -> int:
        """The bytes of the records and row numbers."""
        return self.num_rows * (8 * self.layout.words + (0 if self.numbers is None else 4))

    def piece(self, fold: int, base: int) -> tuple[int, ...]:
        """Give the PIECE_WORDS that tell skeletons where the records are.

        Parameters
        ----------
        fold : int
            Address of the block function that adds them to states.
        base : int
            The number of the chunk's first row.
        """
        return (
            self.pages.address, 0 if self.numbers is None else self.numbers.address,
            self.following.ctypes.data, self.first.ctypes.data, self.counts.ctypes.data,
            8 * self.layout.words, self.layout.key_words, fold, base,
        )  # fmt: skip


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
    context = bind_slots(reader.slots, chunk, literals)
    room = _Room(layout, selection[1], BITS, pool)
    numbers = pool.allocate(room.pages * PAGE * 4)
    hashes = scratch("hashes", 8 * BLOCK)
    used = _deal.deal(
        reader.address, *_blocks(context, chunk, selection), layout.key_words, layout.words, BITS,
        room.block, hashes.ctypes.data, room.stage, room.fill.ctypes.data,
        room.current.ctypes.data, room.records.address, numbers.address, *room.lists, room.pages,
    )  # fmt: skip
    assert used >= 0, "a partition's last page may be in part empty, and no other"
    return room.dealt(layout, chunk.rows, numbers)


def deal_slots(
    plan: PassPlan,
    chunk: Chunk,
    nullable: frozenset[str],
    literals: np.ndarray[Any, Any],
    selection: tuple[np.ndarray[Any, Any] | None, int],
    *,
    slots: int,
    shift: int,
    pool: SegmentPool,
) -> Dealt | None:
    """Give a chunk's rows by partition of the slots of their keys; None if one's is not below.

    Parameters
    ----------
    chunk : Chunk
        With the numbers of its keys' domains.
    slots, shift : int
        How many there are; how many low bits of one do not tell its partition.
    """
    reader = plan.function(
        "slot_record", nullable, lambda w: write_slot_record(w, plan.keys, plan.calls)
    )
    layout: Layout = reader.made
    context = bind_slots(reader.slots, chunk, literals)
    bits = ((slots - 1) >> shift).bit_length()
    room = _Room(layout, selection[1], bits, pool)
    used = _deal.deal_slots(
        reader.address, *_blocks(context, chunk, selection), slots, layout.words, bits, shift,
        room.block, room.stage, room.fill.ctypes.data, room.current.ctypes.data,
        room.records.address, *room.lists, room.pages,
    )  # fmt: skip
    assert used != -1, "a partition's last page may be in part empty, and no other"
    return None if used < 0 else room.dealt(layout, chunk.rows, None)


def _blocks(
    context: Context, chunk: Chunk, selection: tuple[np.ndarray[Any, Any] | None, int]
) -> tuple[int, int, int, int, int]:
    """Give what skeletons take to go through the chosen rows of a chunk."""
    whole, padded = context.addresses
    chosen = 0 if selection[0] is None else selection[0].ctypes.data
    return whole, chunk.blocks, padded, chunk.rest, chosen


class _Room:
    """Room for the records of a chunk, and for what is gathered until it is written."""

    def __init__(self, layout: Layout, rows: int, bits: int, pool: SegmentPool) -> None:
        parts, width = 1 << bits, 8 * layout.words
        self.rows, self.pages = rows, rows // PAGE + parts
        self.records = pool.allocate(self.pages * PAGE * width)
        self.following, self.first = np.empty(self.pages, np.int32), np.empty(parts, np.int32)
        self.counts, self.fill = np.empty(parts, np.int64), np.zeros(parts, np.int64)
        self.current = np.full(parts, -1, np.int64)
        self.stage = scratch("stage", parts * STAGE * (width + 4)).ctypes.data
        self.block = scratch("records", BLOCK * width).ctypes.data

    @property
    def lists(self) -> tuple[int, int, int]:
        """Give the addresses of the lists of pages and of the counts."""
        return self.following.ctypes.data, self.first.ctypes.data, self.counts.ctypes.data

    def dealt(self, layout: Layout, span: int, numbers: pa.Buffer | None) -> Dealt:
        """Give what was written."""
        lists = self.following, self.first, self.counts
        return Dealt(self.rows, span, layout, self.records, numbers, *lists)


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
