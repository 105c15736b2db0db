"""The rows of a share that passed: counted first, then written, each chunk's to its own place.

Plain columns (of a fixed width, stored, without nulls) of neighbouring chunks become one column,
written by all threads at once and in step. Others are made chunk by chunk: bits of two chunks may
lie in one byte, and where a text goes depends on the texts before it.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.arrays import empty_batch
from wherry.data.chunk import column_bytes
from wherry.data.segment import SegmentPool
from wherry.ir.expr import Column
from wherry.kernels.layout import BLOCK, COLUMN_WORDS, FOUND_WORDS, INDEX_BYTES, STAGE_BYTES
from wherry.kernels.skeletons import skeletons
from wherry.render.gather import Piece, Several
from wherry.render.ledger import account
from wherry.render.output import Selection, compute_column, keep_rows
from wherry.render.passes import PassPlan
from wherry.render.room import scratch
from wherry.render.share import Array, Bound
from wherry.render.team import AT_ONCE, Team, alone, each

_keep, _compact = skeletons("keep"), skeletons("compact")
_LINE: Final = 64
_STREAMED: Final = 1 << 22
"""From this many bytes on, what is written goes past the caches: nothing would be left there."""
_TOGETHER: Final = 1 << 20
"""Up to so many bytes, a buffer of their own or another thread costs more than the bytes."""


class Written(Struct, frozen=True):
    """Rows of a share, in order, with the bytes that are the chunks' own and those that are new."""

    rows: Piece
    referenced: int
    copied: int


class _Chosen(Struct, frozen=True):
    """Which rows of a share passed.

    Attributes
    ----------
    contexts : numpy.ndarray
        As `Bound.contexts_with` gave them.
    found : numpy.ndarray
        int64 of shape (chunks + 1, FOUND_WORDS), as `keep.line_up` leaves it.
    written : int
        Rows of chunks that do not keep all of theirs.
    words, room : numpy.ndarray or None
        uint8, the selections, and rows that were fetched at once; None if every row passed.
    """

    contexts: Array
    found: Array
    written: int
    words: Array | None = None
    room: Array | None = None

    def selection(self, bound: Bound, chunk: int) -> Selection:
        """Give the selection of one chunk."""
        rows, count = int(bound.rows[chunk]), int(self.found[chunk, 0])
        if self.words is None:
            return Selection(rows, count)
        first = int(bound.layout.share[chunk, 2])
        words = self.words[first : first + -(-rows // BLOCK) * 8].view(np.int64)
        return Selection(rows, count, words)

    def place(self, chunk: int) -> tuple[int, int]:
        """Give where the two contexts of a chunk lie."""
        first = int(self.contexts.ctypes.data) + chunk * self.contexts.strides[0]
        return first, first + self.contexts.strides[1]


_Run = tuple[int, int, int, int]
"""Chunks that make a batch, as a range, and which of the rows that are written are theirs."""


def rows_of(
    plan: PassPlan, bound: Bound, literals: Array, pool: SegmentPool, team: Team
) -> Written:
    """Give the rows that passed; columns of chunks that keep all rows are references."""
    chosen = _choose(plan, bound, literals, team)
    columns = _placed(plan, bound, chosen, pool=pool, team=team)
    runs = _runs(bound, chosen)
    if len(bound.plain) == len(plan.outputs):
        return _joined(plan, bound, runs, columns)
    return _one_by_one(plan, bound, chosen, runs, columns, pool=pool, team=team)


def _choose(plan: PassPlan, bound: Bound, literals: Array, team: Team) -> _Chosen:
    contexts, layout = bound.contexts_with(literals), bound.layout
    found = np.empty((layout.chunks + 1, FOUND_WORDS), np.int64)
    share, at = layout.addresses[0], int(found.ctypes.data)
    if plan.predicate is None:
        found[:-1, 0] = bound.rows
        return _Chosen(contexts, found, _keep.line_up(share, at, layout.chunks))
    # What is needed until the rows are written is this thread's own, for the next query again.
    words, room = scratch("selections", layout.words), scratch("fetched", layout.room)
    mask, slots, first = bound.code.addresses["mask"], contexts.shape[2], int(contexts.ctypes.data)
    here, there = int(words.ctypes.data), int(room.ctypes.data)
    _, shape, sources = layout.addresses

    def work(counter: int) -> None:
        waiting = int(scratch("waiting", 2 * BLOCK * 8).ctypes.data)
        while _keep.keep_each(
            mask, first, slots, share, at, layout.chunks, shape, sources, here, there,
            layout.shift, waiting, counter, AT_ONCE,
        ):  # fmt: skip
            pass

    (team if layout.chunks > 1 else alone)(work)
    return _Chosen(contexts, found, _keep.line_up(share, at, layout.chunks), words, room)


def _runs(bound: Bound, chosen: _Chosen) -> list[_Run]:
    """Give what makes a batch: whole chunks alone, those between them together."""
    count, counts = bound.layout.chunks, chosen.found[:-1, 0]
    if not chosen.found[count, 0]:
        return [(0, count, 0, chosen.written)] if chosen.written else []
    found: list[_Run] = []
    first = done = 0
    for chunk in [*np.flatnonzero((counts == bound.rows) & (counts > 0)).tolist(), count]:
        end = int(chosen.found[chunk, 2]) if chunk < count else chosen.written
        if end > done:
            found.append((first, chunk, done, end))
        if chunk < count:
            found.append((chunk, chunk + 1, end, end))
        first, done = chunk + 1, end
    return found


def _placed(
    plan: PassPlan, bound: Bound, chosen: _Chosen, *, pool: SegmentPool, team: Team
) -> list[pa.Array]:
    """Give the plain columns of all rows that are written."""
    layout, rows = bound.layout, chosen.written
    if not rows or not layout.widths:
        return []
    assert chosen.words is not None
    assert chosen.room is not None
    buffers = _buffers([rows * width for width in layout.widths], pool)
    targets = np.array([buffer.address for buffer in buffers], np.int64)
    share, shape, sources = layout.addresses
    found, words, room, places = (
        int(a.ctypes.data) for a in (chosen.found, chosen.words, chosen.room, targets)
    )
    streamed = int(rows * sum(layout.widths) >= _STREAMED)
    own = INDEX_BYTES + len(layout.widths) * (STAGE_BYTES + COLUMN_WORDS * 8)

    def work(counter: int) -> None:
        area = int(scratch("stages", own).ctypes.data)
        while _compact.place_each(
            share, found, layout.chunks, shape, sources, words, room, places, area, streamed,
            counter, AT_ONCE,
        ):  # fmt: skip
            pass

    # What was fetched is copied before another thread would be awake.
    (team if chosen.found[layout.chunks, 1] and layout.chunks > 1 else alone)(work)
    types = plan.out_schema.types
    return [
        pa.Array.from_buffers(types[number], rows, [None, buffer], 0)
        for number, buffer in zip(bound.plain, buffers, strict=True)
    ]


def _buffers(sizes: list[int], pool: SegmentPool) -> list[pa.Buffer]:
    """Give a buffer for each size; small ones share memory, which costs less than their own."""
    if sum(sizes) > _TOGETHER:
        return [pool.allocate(size) for size in sizes]
    places = [0, *accumulate(-(-size // _LINE) * _LINE for size in sizes)]
    whole = pool.allocate(places[-1])
    return [whole.slice(place, size) for place, size in zip(places, sizes, strict=False)]


def _joined(
    plan: PassPlan,
    bound: Bound,
    runs: list[_Run],
    columns: list[pa.Array],
) -> Written:
    """Give a batch for each run, all of whose columns are plain."""
    parts: list[pa.RecordBatch] = []
    referenced = copied = 0
    width = sum(bound.layout.widths)
    for first, _, start, end in runs:
        if end == start:
            made = [_stored(plan, bound, first, number) for number in range(len(plan.outputs))]
            referenced += sum(map(column_bytes, made))
        else:
            cut = columns if len(runs) == 1 else [c.slice(start, end - start) for c in columns]
            by_number = dict(zip(bound.plain, cut, strict=True))
            made = [by_number[number] for number in range(len(cut))]
            copied += (end - start) * width
        parts.append(pa.RecordBatch.from_arrays(made, schema=plan.out_schema))
    return Written(_several(parts, plan, referenced + copied), referenced, copied)


def _stored(plan: PassPlan, bound: Bound, chunk: int, number: int) -> pa.Array:
    node = plan.outputs[number]
    assert isinstance(node, Column)
    return bound.ready[chunk].chunk.columns[node.name]


def _one_by_one(
    plan: PassPlan,
    bound: Bound,
    chosen: _Chosen,
    runs: list[_Run],
    columns: list[pa.Array],
    *,
    pool: SegmentPool,
    team: Team,
) -> Written:
    """Give a batch for each chunk: plain columns are cut from all rows', others are made now."""
    jobs: list[tuple[int, list[pa.Array]]] = []
    for first, last, start, end in runs:
        at = start
        for chunk in range(first, last):
            count = int(chosen.found[chunk, 0])
            if count:
                jobs.append((chunk, [c.slice(at, count) for c in columns if end > start]))
            at += count

    def make(number: int) -> tuple[pa.RecordBatch, int, int]:
        chunk, cut = jobs[number]
        return _batch(plan, bound, chosen, chunk, cut, pool=pool)

    made = each(team, len(jobs), make)
    referenced, copied = (sum(m[place] for m in made) for place in (1, 2))
    parts = [m[0] for m in made]
    return Written(_several(parts, plan, referenced + copied), referenced, copied)


def _several(parts: list[pa.RecordBatch], plan: PassPlan, nbytes: int) -> Several:
    """Give batches as one piece, which tells its schema also if no row passed."""
    rows = sum(part.num_rows for part in parts)
    return Several(tuple(parts) or (empty_batch(plan.out_schema),), rows, nbytes)


def _batch(
    plan: PassPlan,
    bound: Bound,
    chosen: _Chosen,
    chunk: int,
    cut: list[pa.Array],
    *,
    pool: SegmentPool,
) -> tuple[pa.RecordBatch, int, int]:
    selection = chosen.selection(bound, chunk)
    place = chosen.place(chunk)
    arrays: dict[int, pa.Array] = dict(zip(bound.plain, cut, strict=True)) if cut else {}
    for number, node in enumerate(plan.outputs):
        if number in arrays:
            continue
        if isinstance(node, Column):
            arrays[number] = keep_rows(_stored(plan, bound, chunk, number), selection, pool)
        else:
            arrays[number] = compute_column(
                plan.out_schema.field(number).type, bound.code.addresses[f"values{number}"], place,
                bound.ready[chunk].chunk, selection, pool=pool,
            )  # fmt: skip
    made = pa.RecordBatch.from_arrays(
        [arrays[number] for number in range(len(arrays))], names=plan.out_schema.names
    )
    return made, *account(made, bound.batches[chunk])
