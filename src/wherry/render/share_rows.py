"""The rows of a share that passed: counted first, then written, each chunk's to its own place.

Plain columns (of a fixed width, stored, without nulls) of neighbouring chunks become one column,
written by all threads at once and in step. Others are made chunk by chunk: bits of two chunks may
lie in one byte, and where a text goes depends on the texts before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from wherry.data.chunk import column_bytes
from wherry.data.segment import SegmentPool
from wherry.ir.expr import Column
from wherry.kernels.layout import BLOCK, INDEX_BYTES, STAGE_BYTES
from wherry.kernels.skeletons import skeletons
from wherry.render.gather import Several
from wherry.render.ledger import account
from wherry.render.output import Selection, compute_column, keep_rows
from wherry.render.passes import PassPlan
from wherry.render.share import Array, Bound, width_of
from wherry.render.team import AT_ONCE, Team, alone, each

_share, _compact = skeletons("share"), skeletons("compact")
_LINE: Final = 64
_STREAMED: Final = 1 << 22
"""From this many bytes on, what is written goes past the caches: nothing would be left there."""


@dataclass(frozen=True, slots=True)
class Written:
    """Rows of a share, in order, with the bytes that are the chunks' own and those that are new."""

    rows: Several
    referenced: int
    copied: int


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which rows of a share passed.

    Attributes
    ----------
    table, contexts : numpy.ndarray
        As `Bound.table` gave them; the last column of the table says how many rows passed.
    words : pyarrow.Buffer or None
        What the table's targets point into: the selections; None if every row passed.
    """

    table: Array
    contexts: Array
    words: pa.Buffer | None

    @property
    def counts(self) -> Array:
        """How many rows of each chunk passed."""
        found: Array = self.table[:, 5]
        return found

    def selection(self, bound: Bound, chunk: int) -> Selection:
        """Give the selection of one chunk."""
        rows, count = int(bound.rows[chunk]), int(self.counts[chunk])
        if self.words is None:
            return Selection(rows, count)
        first = int(self.table[chunk, 4]) - self.words.address
        words = np.frombuffer(self.words, np.int64, -(-rows // BLOCK), first)
        return Selection(rows, count, words)


def rows_of(
    plan: PassPlan, bound: Bound, literals: Array, pool: SegmentPool, team: Team
) -> Written:
    """Give the rows that passed; columns of chunks that keep all rows are references."""
    chosen = _choose(plan, bound, literals, pool, team)
    written = (chosen.counts > 0) & (chosen.counts < bound.rows)
    runs = _runs(chosen.counts, bound.rows)
    columns = _compacted(plan, bound, chosen, written, runs, pool=pool, team=team)
    if len(bound.plain) == len(plan.outputs):
        return _joined(plan, bound, chosen, runs, columns)
    return _one_by_one(plan, bound, chosen, runs, columns, pool=pool, team=team)


def _choose(
    plan: PassPlan, bound: Bound, literals: Array, pool: SegmentPool, team: Team
) -> _Chosen:
    if plan.predicate is None:
        table, contexts = bound.table(literals, np.zeros(len(bound.rows), np.int64))
        table[:, 5] = bound.rows
        return _Chosen(table, contexts, None)
    # Whole lines for each chunk, because threads that write to one line wait for each other.
    ends = np.cumsum(-(-bound.rows // (BLOCK * 8)) * _LINE)
    words = pool.allocate(int(ends[-1]) + _LINE)
    targets = words.address + np.concatenate([[0], ends[:-1]])
    table, contexts = bound.table(literals, targets)
    mask, place, count = bound.code.addresses["mask"], int(table.ctypes.data), len(table)

    def work(counter: int) -> None:
        while _share.select_each(mask, place, count, counter, AT_ONCE):
            pass

    (team if count > 1 else alone)(work)
    return _Chosen(table, contexts, words)


def _runs(counts: Array, rows: Array) -> list[tuple[int, int]]:
    """Give the chunks, as ranges, that make a batch: whole ones alone, those between together."""
    found: list[tuple[int, int]] = []
    first = 0
    for chunk in [*np.flatnonzero((counts == rows) & (rows > 0)).tolist(), len(rows)]:
        kept = np.flatnonzero(counts[first:chunk])
        if len(kept):
            found.append((first + int(kept[0]), chunk))
        if chunk < len(rows):
            found.append((chunk, chunk + 1))
        first = chunk + 1
    return found


def _compacted(
    plan: PassPlan,
    bound: Bound,
    chosen: _Chosen,
    written: Array,
    runs: list[tuple[int, int]],
    *,
    pool: SegmentPool,
    team: Team,
) -> dict[int, list[pa.Array]]:
    """Give the plain columns of each run that is written, by the run's first chunk."""
    types = [plan.out_schema.types[number] for number in bound.plain]
    widths = [width_of(t) for t in types]
    pairs = np.zeros((len(bound.rows), len(types), 2), np.int64)
    pairs[:, :, 0] = bound.sources
    made: dict[int, list[pa.Array]] = {}
    for first, last in runs:
        if not written[first] or not types:
            continue
        counts = chosen.counts[first:last]
        ends = np.cumsum(counts)
        rows = int(ends[-1])
        buffers = [pool.allocate(rows * width) for width in widths]
        for number, (buffer, width) in enumerate(zip(buffers, widths, strict=True)):
            pairs[first:last, number, 1] = buffer.address + (ends - counts) * width
        made[first] = [
            pa.Array.from_buffers(t, rows, [None, buffer], 0)
            for t, buffer in zip(types, buffers, strict=True)
        ]
    if made:
        _write(widths, chosen.table, written, pairs, team)
    return made


def _write(widths: list[int], table: Array, written: Array, pairs: Array, team: Team) -> None:
    jobs = np.ascontiguousarray(np.stack([table[:, 1], table[:, 3], table[:, 4], written], axis=1))
    order = sorted(range(len(widths)), key=lambda number: -widths[number])
    pairs, widths = np.ascontiguousarray(pairs[:, order]), [widths[number] for number in order]
    counts = np.array([widths.count(width) for width in (16, 8, 4, 2, 1)], np.int64)
    streamed = int(int(table[written, 5].sum()) * sum(widths) >= _STREAMED)
    count = len(widths)

    def work(counter: int) -> None:
        area = np.empty(count * STAGE_BYTES + INDEX_BYTES + _LINE, np.uint8)
        stage = -(-area.ctypes.data // _LINE) * _LINE
        columns = np.zeros((count, 6), np.int64)
        columns[:, 0] = widths
        columns[:, 3] = stage + STAGE_BYTES * np.arange(count)
        while _compact.compact_each(
            jobs.ctypes.data, len(jobs), pairs.ctypes.data, columns.ctypes.data,
            counts.ctypes.data, count,
            stage + STAGE_BYTES * count, streamed, counter, AT_ONCE,
        ):  # fmt: skip
            pass

    (team if len(jobs) > 1 else alone)(work)


def _joined(
    plan: PassPlan,
    bound: Bound,
    chosen: _Chosen,
    runs: list[tuple[int, int]],
    columns: dict[int, list[pa.Array]],
) -> Written:
    """Give a batch for each run, all of whose columns are plain."""
    parts: list[pa.RecordBatch] = []
    referenced = copied = 0
    width = sum(map(width_of, plan.out_schema.types))
    for first, _ in runs:
        whole = first not in columns
        made = [_stored(plan, bound, first, n) for n in bound.plain] if whole else columns[first]
        parts.append(pa.RecordBatch.from_arrays(made, names=plan.out_schema.names))
        if whole:
            referenced += sum(map(column_bytes, made))
        else:
            copied += parts[-1].num_rows * width
    rows = int(chosen.counts.sum())
    return Written(Several(tuple(parts), rows, referenced + copied), referenced, copied)


def _stored(plan: PassPlan, bound: Bound, chunk: int, number: int) -> pa.Array:
    node = plan.outputs[number]
    assert isinstance(node, Column)
    return bound.ready[chunk].chunk.columns[node.name]


def _one_by_one(
    plan: PassPlan,
    bound: Bound,
    chosen: _Chosen,
    runs: list[tuple[int, int]],
    columns: dict[int, list[pa.Array]],
    *,
    pool: SegmentPool,
    team: Team,
) -> Written:
    """Give a batch for each chunk: plain columns are cut from their run's, others are made now."""
    jobs: list[tuple[int, list[pa.Array]]] = []
    for first, last in runs:
        start = 0
        for chunk in range(first, last):
            count = int(chosen.counts[chunk])
            if count:
                jobs.append((chunk, [c.slice(start, count) for c in columns.get(first, [])]))
            start += count

    def make(number: int) -> tuple[pa.RecordBatch, int, int]:
        chunk, cut = jobs[number]
        return _batch(plan, bound, chosen, chunk, cut, pool=pool)

    made = each(team, len(jobs), make)
    referenced, copied = (sum(m[place] for m in made) for place in (1, 2))
    rows = int(chosen.counts.sum())
    parts = tuple(m[0] for m in made)
    return Written(Several(parts, rows, referenced + copied), referenced, copied)


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
    place = int(chosen.table[chunk, 0]), int(chosen.table[chunk, 2])
    arrays: dict[int, pa.Array] = dict(zip(bound.plain, cut, strict=True)) if cut else {}
    for number, node in enumerate(plan.outputs):
        if number in arrays:
            continue
        if isinstance(node, Column):
            arrays[number] = keep_rows(_stored(plan, bound, chunk, number), selection, pool)
        else:
            arrays[number] = compute_column(
                plan.out_schema.types[number], bound.code.addresses[f"values{number}"], place,
                bound.ready[chunk].chunk, selection, pool=pool,
            )  # fmt: skip
    made = pa.RecordBatch.from_arrays(
        [arrays[number] for number in range(len(arrays))], names=plan.out_schema.names
    )
    return made, *account(made, bound.batches[chunk])
