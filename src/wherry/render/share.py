"""Many chunks bound at once, for skeletons that take chunk after chunk.

Python is needed once a share and not once a chunk: contexts are rows of one matrix, targets are
computed for all chunks together, and what is written for neighbouring chunks lies side by side.
What was bound stays good while the chunks are where they are, so it serves the next query too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.data.chunk import column_bytes
from wherry.data.segment import SegmentPool
from wherry.ir.expr import Column, Literal
from wherry.ir.stage import Rows, Totals
from wherry.ir.work import Costs
from wherry.kernels.layout import INDEX_BYTES, STAGE_BYTES
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import LITERALS, bind_slots, values_address
from wherry.render.gather import Several
from wherry.render.passes import Compiled, PassPlan
from wherry.render.prepare import Preparer
from wherry.render.state import stride
from wherry.render.team import Team, alone

_share, _compact = skeletons("share"), skeletons("compact")
_LINE: Final = 64
_AT_ONCE: Final = 16
"""Chunks of a call, about 10 ms: so long Ctrl-C waits."""
_STREAMED: Final = 1 << 22
"""From this many bytes on, what is written goes past the caches: nothing would be left there."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Bound:
    """Chunks of a share, bound to one variant of a pass.

    Attributes
    ----------
    batches : tuple of RecordBatch
        The chunks as stored.
    rows : numpy.ndarray
        int64, of each chunk.
    contexts : numpy.ndarray
        int64 of shape (chunks, 2, slots): for the whole blocks and for the padded rest. The entry
        of the literals is set for each run.
    sources : numpy.ndarray
        int64 of shape (chunks, outputs): where the values of each output column lie.
    texts : int
        Bytes of text that the pass's terms read.
    keep : list
        What contexts point to besides the columns.
    """

    batches: tuple[pa.RecordBatch, ...]
    rows: Array
    code: Compiled
    contexts: Array
    sources: Array
    texts: int
    keep: list[Any]

    def table(self, literals: Array, targets: Array) -> tuple[Array, Array]:
        """Give the rows that the skeletons take, and the contexts they point to."""
        contexts = self.contexts.copy()
        slot = self.code.slots.get(LITERALS)
        if slot is not None:
            contexts[:, :, slot] = literals.ctypes.data
        made = np.zeros((len(self.rows), 6), np.int64)
        first, step = int(contexts.ctypes.data), contexts.strides[0]
        made[:, 0] = first + step * np.arange(len(made))
        made[:, 1], made[:, 3] = np.divmod(self.rows, _LINE)
        made[:, 2] = made[:, 0] + contexts.strides[1]
        made[:, 4] = targets
        return made, contexts


def binds_together(plan: PassPlan) -> bool:
    """Tell whether chunks of a pass can be bound together: nothing is computed for each before."""
    sink = plan.step.sink
    if plan.residuals or plan.encoded or plan.lookups:
        return False
    if isinstance(sink, Rows):
        bare = all(isinstance(node, Column) and _width(node.type) for node in plan.outputs)
        return plan.predicate is not None and bare and bool(plan.outputs)
    return isinstance(sink, Totals)


def _width(t: pa.DataType | None) -> int:
    """Give the bytes of a type whose values have a fixed width, 0 for others."""
    if t is None or pa.types.is_boolean(t) or pa.types.is_dictionary(t):
        return 0
    return t.bit_width // 8 if pa.types.is_primitive(t) or pa.types.is_decimal(t) else 0


def bind_together(
    plan: PassPlan,
    preparer: Preparer,
    costs: Costs,
    batches: Sequence[pa.RecordBatch],
    literals: tuple[Literal, ...],
) -> Bound | None:
    """Give chunks of a pass that `binds_together`, bound; None if their rows must go one by one.

    That is so if an output has nulls: bits of neighbouring chunks may share a byte.
    """
    ready = [preparer.prepare(batch, literals) for batch in batches]
    chunks = [prepared.chunk for prepared in ready]
    names = [node.name for node in plan.outputs if isinstance(node, Column)]
    if any(chunk.columns[name].null_count for chunk in chunks for name in names):
        return None
    code = plan.compiled(frozenset[str]().union(*(prepared.nullable for prepared in ready)))
    keep: list[Any] = []
    contexts = np.empty((len(chunks), 2, max(1, len(code.slots))), np.int64)
    nothing = np.zeros(1, np.int64)
    for number, chunk in enumerate(chunks):
        bound = bind_slots(code.slots, chunk, nothing)
        contexts[number, 0, : len(code.slots)] = bound.whole
        contexts[number, 1, : len(code.slots)] = bound.padded
        keep += bound.keep
    sources = [[values_address(chunk.columns[name]) for name in names] for chunk in chunks]
    texts = sum(column_bytes(b.column(name)) for b in batches for name in costs.texts)
    rows = np.array([chunk.rows for chunk in chunks], np.int64)
    places = np.array(sources, np.int64).reshape(len(chunks), len(names))
    return Bound(tuple(batches), rows, code, contexts, places, texts, keep)


def totals_of(bound: Bound, literals: Array, team: Team) -> tuple[Array, int]:
    """Give the state of each chunk, uint8 rows, and how many rows passed in all."""
    code = bound.code
    size = stride(code.cells)
    # Two threads that write to one cache line wait for each other.
    room = -(-size // (2 * _LINE)) * 2 * _LINE
    states = np.zeros((len(bound.rows), room), np.uint8)
    states[:, :size] = np.frombuffer(code.begin, np.uint8)
    targets = states.ctypes.data + room * np.arange(len(states))
    table, _kept = bound.table(literals, targets)
    mask, accumulate = code.addresses.get("mask", 0), code.addresses["accumulate"]
    place = int(table.ctypes.data)

    def work(counter: int) -> None:
        while _share.totals_each(mask, accumulate, place, len(table), counter, _AT_ONCE):
            pass

    (team if len(table) > 1 else alone)(work)
    return states[:, :size], int(table[:, 5].sum())


def rows_of(
    plan: PassPlan, bound: Bound, literals: Array, pool: SegmentPool, team: Team
) -> tuple[Several, int]:
    """Give the rows that passed, in order, and how many bytes of them were written.

    Chunks that keep all rows are referenced. What is written of the chunks between them is one
    batch: its columns are written by all threads at once, each chunk to its own place.
    """
    count = len(bound.rows)
    lengths = -(-bound.rows // _LINE)
    places = np.concatenate([[0], np.cumsum(-(-lengths // 8) * 8)])
    words = np.empty(int(places[-1]) + 8, np.int64)
    targets = words.ctypes.data + 8 * places[:-1]
    table, _kept = bound.table(literals, targets)
    mask, place = bound.code.addresses["mask"], int(table.ctypes.data)

    def choose(counter: int) -> None:
        while _share.select_each(mask, place, count, counter, _AT_ONCE):
            pass

    (team if count > 1 else alone)(choose)
    selected = table[:, 5]
    written = (selected > 0) & (selected < bound.rows)
    parts, pairs = _laid_out(plan, bound, selected, written, pool)
    widths = [_width(t) for t in plan.out_schema.types]
    if written.any():
        _write(widths, table, written, pairs, team)
    rows, width = int(selected.sum()), sum(widths)
    return Several(tuple(parts), rows, rows * width), int(selected[written].sum()) * width


def _laid_out(
    plan: PassPlan, bound: Bound, selected: Array, written: Array, pool: SegmentPool
) -> tuple[list[pa.RecordBatch], Array]:
    """Give the batches of the answer, not yet filled, and (source, target) of every column."""
    pairs = np.zeros((len(selected), bound.sources.shape[1], 2), np.int64)
    pairs[:, :, 0] = bound.sources
    parts: list[pa.RecordBatch] = []
    for first, last in _runs(selected, bound.rows):
        if not written[first]:
            parts.append(_referenced(plan, bound.batches[first]))
            continue
        ends = np.cumsum(selected[first:last])
        rows, columns = int(ends[-1]), []
        for number, t in enumerate(plan.out_schema.types):
            buffer = pool.allocate(rows * _width(t))
            starts = ends - selected[first:last]
            pairs[first:last, number, 1] = buffer.address + starts * _width(t)
            columns.append(pa.Array.from_buffers(t, rows, [None, buffer], 0))
        parts.append(pa.RecordBatch.from_arrays(columns, schema=plan.out_schema))
    return parts, pairs


def _runs(selected: Array, rows: Array) -> list[tuple[int, int]]:
    """Give the chunks, as ranges, that make a batch: whole ones alone, those between together."""
    found: list[tuple[int, int]] = []
    first = 0
    for chunk in [*np.flatnonzero((selected == rows) & (rows > 0)).tolist(), len(rows)]:
        if selected[first:chunk].any():
            # Chunks that keep nothing may begin a run: their targets are never written to.
            begin = first + int(np.flatnonzero(selected[first:chunk])[0])
            found.append((begin, chunk))
        if chunk < len(rows):
            found.append((chunk, chunk + 1))
        first = chunk + 1
    return found


def _referenced(plan: PassPlan, batch: pa.RecordBatch) -> pa.RecordBatch:
    names = [node.name for node in plan.outputs if isinstance(node, Column)]
    return pa.RecordBatch.from_arrays(
        [batch.column(name) for name in names], schema=plan.out_schema
    )


def _write(widths: list[int], table: Array, written: Array, pairs: Array, team: Team) -> None:
    jobs = np.ascontiguousarray(np.stack([table[:, 1], table[:, 3], table[:, 4], written], axis=1))
    streamed = int(int(table[written, 5].sum()) * sum(widths) >= _STREAMED)
    count = len(widths)

    def work(counter: int) -> None:
        area = np.empty(count * STAGE_BYTES + INDEX_BYTES + _LINE, np.uint8)
        stage = -(-area.ctypes.data // _LINE) * _LINE
        columns = np.zeros((count, 6), np.int64)
        columns[:, 0] = widths
        columns[:, 3] = stage + STAGE_BYTES * np.arange(count)
        while _compact.compact_each(
            jobs.ctypes.data, len(jobs), pairs.ctypes.data, columns.ctypes.data, count,
            stage + STAGE_BYTES * count, streamed, counter, _AT_ONCE,
        ):  # fmt: skip
            pass

    (team if len(jobs) > 1 else alone)(work)
