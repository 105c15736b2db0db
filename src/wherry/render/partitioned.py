"""Many groups where chunks meet: every partition is grouped by one thread, in its own table.

Sketch, for 6 million rows and 1.5 million groups of a key, a sum and a count: records are 16 bytes
and 4 of row number; written once past the caches (120 MB) and read once. A partition has 23
thousand groups, its table 1 MB and its states 0.9 MB: both stay in the second-level cache.

Groups come in order of first appearance. Those of one partition are in that order already, so that
the answer is 64 sequences in turn: which one is next follows from their first rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.data.segment import SegmentPool
from wherry.ir.expr import columns_of
from wherry.kernels.engine import engine
from wherry.kernels.layout import BLOCK, PIECE_WORDS
from wherry.kernels.skeletons import skeletons
from wherry.render import functions as fn
from wherry.render.bind import Chunk
from wherry.render.columns import key_columns
from wherry.render.dealt import BITS, Dealt, deal
from wherry.render.loop import Variant
from wherry.render.passes import PassPlan
from wherry.render.records import Layout, key_width, write_fold
from wherry.render.room import scratch
from wherry.render.state import Cell, initial, layout, read
from wherry.render.team import Team, alone, each

_radix = skeletons("radix")

_PARTS: Final = 1 << BITS
_FIRST_GROUPS: Final = 1024
_GROWTH: Final = 4
_RANGE: Final = 1 << 19
"""Rows whose groups are ordered at a time: their bits and ranks fit the second-level cache."""
MANY: Final = 1 << 16
"""Partial rows from which on threads and partitions pay."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What all partitions have in common."""

    pieces: np.ndarray[Any, Any]
    count: int
    words: int
    begin: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    keep: list[Any]


@dataclass(frozen=True, slots=True)
class _Part:
    """The groups of a partition in order of first appearance: keys, first rows and states."""

    groups: int
    seen: np.ndarray[Any, Any]
    firsts: np.ndarray[Any, Any]
    states: np.ndarray[Any, Any]


def merge(
    pieces: Sequence[Dealt | pa.RecordBatch],
    plan: PassPlan,
    pool: SegmentPool,
    team: Team = alone,
) -> pa.RecordBatch:
    """Give the groups of all pieces, in order of first appearance.

    Parameters
    ----------
    pieces : sequence of Dealt or RecordBatch
        Rows, or partial rows; at least one.
    plan : PassPlan
        The pass that merges partial rows; `can_deal` is true of it.
    team : Team
        Who works on it; the answer does not depend on that.
    """

    def dealt(number: int) -> Dealt:
        piece = pieces[number]
        return piece if isinstance(piece, Dealt) else _deal_batch(plan, piece, pool)

    found = each(team, len(pieces), dealt)
    cells = layout(plan.calls, Variant(plan.bounds, frozenset()))
    counted = tuple(
        any(p.layout.sources[n].kind == "value" and p.layout.sources[n].bit >= 0 for p in found)
        for n in range(len(cells))
    )
    cells, begin = _dense(cells, counted)
    job = _job(found, cells, counted, begin, plan.folder)
    hint = [_FIRST_GROUPS]
    parts = each(team, _PARTS, lambda part: _group(part, job, hint, pool))
    span = sum(piece.span for piece in found)
    ordered = _Ordered(parts, span, pool, team)
    types = plan.out_schema.types
    keys = ordered.of([part.seen for part in parts])
    named = types[: len(plan.keys)]
    columns = key_columns(named, tuple(map(key_width, named)), job.words, keys)
    states = ordered.of([part.states for part in parts])
    columns += [
        read(cell, states, counted=count) for cell, count in zip(cells, counted, strict=True)
    ]
    columns = [c if c.type.equals(t) else c.cast(t) for c, t in zip(columns, types, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=plan.out_schema.names)


def _deal_batch(plan: PassPlan, batch: pa.RecordBatch, pool: SegmentPool) -> Dealt:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    read_ = {name for node in plan.roots for name in columns_of(node)}
    nullable = frozenset(name for name in read_ if columns[name].null_count)
    chunk = Chunk(batch.num_rows, columns)
    return deal(plan, chunk, nullable, np.zeros(2, np.int64), (None, batch.num_rows), pool=pool)


def _dense(
    cells: Sequence[Cell], counted: Sequence[bool]
) -> tuple[tuple[Cell, ...], np.ndarray[Any, Any]]:
    """Give cells without counts that are not counted, and the state before any row.

    Such a cell begins 8 bytes before its value, where another's bytes are.
    """
    found, state = [], b""
    for cell, count in zip(cells, counted, strict=True):
        begin = initial([cell])
        if cell.kind != "count" and not count:
            found.append(replace(cell, offset=len(state) - 8))
            begin = begin[8:]
        else:
            found.append(replace(cell, offset=len(state)))
        state += begin
    return tuple(found), np.frombuffer(state or bytes(8), np.uint8)


def _job(
    pieces: Sequence[Dealt],
    cells: tuple[Cell, ...],
    counted: tuple[bool, ...],
    begin: np.ndarray[Any, Any],
    folder: Path,
) -> _Job:
    table = np.zeros((len(pieces), PIECE_WORDS), np.int64)
    keep: list[Any] = [pieces]
    base = 0
    for row, piece in zip(table, pieces, strict=True):
        address, code = _fold(piece.layout, cells, counted, len(begin), folder)
        keep.append(code)
        row[:] = (
            piece.pages.address, piece.numbers.address, piece.following.ctypes.data,
            piece.first.ctypes.data, piece.counts.ctypes.data, 8 * piece.layout.words,
            piece.layout.key_words, address, base,
        )  # fmt: skip
        base += piece.span
    words = max(piece.layout.key_words for piece in pieces)
    rows = np.sum([piece.counts for piece in pieces], axis=0)
    return _Job(table, len(pieces), words, begin, rows, keep)


@lru_cache(maxsize=256)
def _fold(
    layout_: Layout, cells: tuple[Cell, ...], counted: tuple[bool, ...], stride: int, folder: Path
) -> tuple[int, Any]:
    w = fn.writer(Variant({}, frozenset()))
    write_fold(w, layout_, cells, counted, stride)
    code = engine(folder).functions(str(w.module), ("fold",))
    return code.addresses["fold"], code


def _group(part: int, job: _Job, hint: list[int], pool: SegmentPool) -> _Part:
    """Group one partition.

    `hint` is how many groups others had: it sizes tables, and no answer depends on it.
    """
    progress, ids, width = np.zeros(3, np.int64), np.empty(BLOCK, np.int64), len(job.begin)
    expected = min(hint[0] + hint[0] // 16, int(job.rows[part])) + BLOCK
    bits = _table_bits(expected)
    seen, firsts, states = _rooms(pool, expected, job.words, width)
    while True:
        table = scratch("table", 16 << bits)
        if progress[2]:
            _radix.enter(
                table.ctypes.data, bits, BITS, seen.ctypes.data, job.words, int(progress[2])
            )  # fmt: skip
        if _radix.fold_partition(
            part, job.pieces.ctypes.data, job.count, job.words, BITS, table.ctypes.data, bits,
            seen.ctypes.data, firsts.ctypes.data, expected, states.ctypes.data, width,
            job.begin.ctypes.data, ids.ctypes.data, progress.ctypes.data,
        ):  # fmt: skip
            break
        expected *= _GROWTH
        groups, old = int(progress[2]), (seen, firsts, states)
        seen, firsts, states = _rooms(pool, expected, job.words, width)
        for new, before in zip((seen, firsts, states), old, strict=True):
            new[:groups] = before[:groups]
        bits = _table_bits(expected)
    groups = int(progress[2])
    hint[0] = max(hint[0], groups)
    return _Part(groups, seen, firsts, states)


def _table_bits(groups: int) -> int:
    """Give log2 of the slots for so many groups: at most 3 of 4 are taken."""
    return (groups + groups // 3).bit_length()


def _rooms(
    pool: SegmentPool, capacity: int, words: int, width: int
) -> tuple[np.ndarray[Any, Any], ...]:
    def room(nbytes: int, dtype: Any) -> np.ndarray[Any, Any]:
        return np.frombuffer(pool.allocate(capacity * nbytes), dtype)

    seen = room(8 * words, np.int64).reshape(capacity, words)
    states = room(width, np.uint8).reshape(capacity, width)
    return seen, room(8, np.int64), states


class _Ordered:
    """The order of the groups of all partitions: that of their first rows."""

    def __init__(self, parts: Sequence[_Part], span: int, pool: SegmentPool, team: Team) -> None:
        self.pool, self.team = pool, team
        self.groups = sum(part.groups for part in parts)
        edges = np.arange(0, span + _RANGE, _RANGE)
        # Row a: how many groups of each partition begin before edge a.
        self.lows = np.stack(
            [np.searchsorted(p.firsts[: p.groups], edges) for p in parts], axis=1
        ).astype(np.int64)
        self.starts = self.lows.sum(axis=1)
        self.numbers = np.frombuffer(pool.allocate(self.groups), np.uint8)
        firsts = np.array([p.firsts.ctypes.data for p in parts], np.int64)

        def order(number: int) -> None:
            words = _RANGE // BLOCK
            bitmap, ranks = scratch("bitmap", words * 8), scratch("ranks", words * 8)
            _radix.order_range(
                firsts.ctypes.data, self.lows[number].ctypes.data,
                self.lows[number + 1].ctypes.data, len(parts), int(edges[number]),
                bitmap.ctypes.data, words, ranks.ctypes.data,
                self.numbers.ctypes.data + int(self.starts[number]),
            )  # fmt: skip

        each(team, len(edges) - 1, order)

    def of(self, rooms: Sequence[np.ndarray[Any, Any]]) -> _InOrder:
        """Give the fields of what lies a row a group, an array a partition."""
        starts = np.array([room.ctypes.data for room in rooms], np.int64)
        return _InOrder(self, starts, rooms[0].strides[0], rooms)


@dataclass(frozen=True, slots=True)
class _InOrder:
    """Fields of the groups of all partitions, in order of first appearance."""

    order: _Ordered
    addresses: np.ndarray[Any, Any]
    step: int
    keep: Sequence[np.ndarray[Any, Any]]

    def field(self, offset: int, dtype: Any) -> np.ndarray[Any, Any]:
        """Give the field at a byte of the row."""
        order, size = self.order, np.dtype(dtype).itemsize
        target = np.frombuffer(order.pool.allocate(order.groups * size), dtype)

        def take(number: int) -> None:
            low, high = int(order.starts[number]), int(order.starts[number + 1])
            cursors = self.addresses + offset + order.lows[number] * self.step
            _radix.take_ordered(
                order.numbers.ctypes.data + low, high - low, cursors.ctypes.data, self.step, size,
                target.ctypes.data + low * size,
            )  # fmt: skip

        each(order.team, len(order.starts) - 1, take)
        return target
