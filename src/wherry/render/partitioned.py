"""Many groups where chunks meet: every partition is grouped by one thread, in its own table.

Sketch, for 6 million rows and 1.5 million groups of a key, a sum and a count: records are 16 bytes
and 4 of row number; written once past the caches (120 MB) and read once. A partition has 23
thousand groups, its table 1 MB and its states 0.9 MB: both stay in the second-level cache.

Groups come in order of first appearance. Those of one partition are in that order already, so that
the answer is 64 sequences in turn: which one is next follows from their first rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

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
from wherry.render.ordered import Ordered, Part
from wherry.render.passes import PassPlan
from wherry.render.records import Layout, key_width, write_fold
from wherry.render.room import scratch
from wherry.render.state import Cell, dense, layout, read
from wherry.render.team import Team, alone, each
from wherry.render.waiting import Waiting

_radix = skeletons("radix")

_PARTS: Final = 1 << BITS
_FIRST_GROUPS: Final = 1024
_GROWTH: Final = 4
MANY: Final = 1 << 16
"""Partial rows from which on threads and partitions pay."""


class _Job(Struct, frozen=True):
    """What all partitions have in common."""

    pieces: np.ndarray[Any, Any]
    count: int
    words: int
    begin: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    keep: list[Any]


def merge_hashed(
    pieces: Sequence[Dealt | Waiting | pa.RecordBatch],
    plan: PassPlan,
    pool: SegmentPool,
    team: Team = alone,
) -> tuple[pa.RecordBatch, int]:
    """Give the groups of all pieces, in order of first appearance, and the bytes of records made.

    Parameters
    ----------
    pieces : sequence of Dealt, Waiting or RecordBatch
        Rows, or partial rows; at least one.
    plan : PassPlan
        The pass that merges partial rows; `can_deal` is true of it.
    team : Team
        Who works on it; the answer does not depend on that.
    """

    def dealt(number: int) -> Dealt:
        piece = pieces[number]
        if isinstance(piece, Waiting):
            return piece.dealt(pool)
        return piece if isinstance(piece, Dealt) else _deal_batch(plan, piece, pool)

    found = each(team, len(pieces), dealt)
    cells = layout(plan.calls, Variant(plan.bounds, frozenset()))
    counted = tuple(any(p.layout.counts(n) for p in found) for n in range(len(cells)))
    cells, begin = dense(cells, counted)
    job = _job(found, cells, counted, begin or bytes(8), plan.folder)
    hint = [_FIRST_GROUPS]
    parts = each(team, _PARTS, lambda part: _group(part, job, hint, pool))
    ordered = Ordered(parts, sum(piece.span for piece in found), pool, team)
    types = plan.out_schema.types
    named = types[: len(plan.keys)]
    keys = ordered.of([part.seen for part in parts])
    columns = key_columns(named, tuple(map(key_width, named)), job.words, keys)
    states = ordered.of([part.states for part in parts])
    columns += [
        read(cell, states, counted=count) for cell, count in zip(cells, counted, strict=True)
    ]
    made = sum(d.nbytes for d, piece in zip(found, pieces, strict=True) if d is not piece)
    return plan.batch_of(columns), made


def _deal_batch(plan: PassPlan, batch: pa.RecordBatch, pool: SegmentPool) -> Dealt:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    read_ = {name for node in plan.roots for name in columns_of(node)}
    nullable = frozenset(name for name in read_ if columns[name].null_count)
    chunk = Chunk(batch.num_rows, columns)
    return deal(plan, chunk, nullable, np.zeros(2, np.int64), (None, batch.num_rows), pool=pool)


def _job(
    pieces: Sequence[Dealt],
    cells: tuple[Cell, ...],
    counted: tuple[bool, ...],
    begin: bytes,
    folder: Path,
) -> _Job:
    table, keep = piece_table(pieces, cells, counted, len(begin), folder)
    words = max(piece.layout.key_words for piece in pieces)
    rows = np.sum([piece.counts for piece in pieces], axis=0)
    return _Job(table, len(pieces), words, np.frombuffer(begin, np.uint8), rows, keep)


def piece_table(
    pieces: Sequence[Dealt],
    cells: tuple[Cell, ...],
    counted: tuple[bool, ...],
    stride: int,
    folder: Path,
) -> tuple[np.ndarray[Any, Any], list[Any]]:
    """Give where the records of pieces are, as skeletons take it, and what keeps them there.

    Parameters
    ----------
    cells, counted, stride
        The states that records are added to.
    """
    table = np.zeros((len(pieces), PIECE_WORDS), np.int64)
    keep: list[Any] = [pieces]
    base = 0
    for row, piece in zip(table, pieces, strict=True):
        address, code = _fold(piece.layout, cells, counted, stride, folder)
        keep.append(code)
        row[:] = piece.piece(address, base)
        base += piece.span
    return table, keep


@lru_cache(maxsize=256)
def _fold(
    layout_: Layout, cells: tuple[Cell, ...], counted: tuple[bool, ...], stride: int, folder: Path
) -> tuple[int, Any]:
    w = fn.writer(Variant({}, frozenset()))
    write_fold(w, layout_, cells, counted, stride)
    code = engine(folder).functions(str(w.module), ("fold",))
    return code.addresses["fold"], code


def _group(part: int, job: _Job, hint: list[int], pool: SegmentPool) -> Part:
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
    return Part(groups, seen, firsts, states)


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
