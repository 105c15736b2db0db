"""Rows joined with the rows of a build: found once, then both sides written in pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.base.units import format_bytes
from wherry.data.segment import SegmentPool
from wherry.ir.build import rows_held
from wherry.ir.expr import Literal
from wherry.ir.literals import bind
from wherry.ir.stage import Matches, Pass, Stage
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Chunk
from wherry.render.join_table import Chains, table_of
from wherry.render.output import Selection

_join = skeletons("join")
_PAIR_BYTES = 16


class Pairs(Struct, frozen=True):
    """Which rows of a chunk and of a build stand side by side.

    Attributes
    ----------
    kept : Selection
        Rows of the chunk that stand in some pair.
    repeats : numpy.ndarray, optional
        For each pair which of the kept rows it has; None: each once.
    right : Selection
        Rows of the build, in step; behind its last row stands one of nulls.
    passed : int
        How many rows passed the predicate.
    added : tuple of pyarrow.Array
        The columns of the build that the join adds.
    """

    kept: Selection
    repeats: np.ndarray[Any, Any] | None
    right: Selection
    passed: int
    added: tuple[pa.Array, ...]

    @property
    def count(self) -> int:
        """Give the number of pairs."""
        return self.right.count

    @property
    def left(self) -> Selection:
        """Give the chunk's rows of the pairs."""
        if self.repeats is None:
            return self.kept
        return Selection(self.kept.rows, self.count, order=self.kept.numbers[self.repeats])

    def repeated(self) -> Selection:
        """Give the rows of the pairs among columns that have the kept rows only."""
        return Selection(self.kept.count, self.count, order=self.repeats)


def find_pairs(
    sink: Matches,
    literals: tuple[Literal, ...],
    functions: tuple[int, int],
    contexts: tuple[int, int],
    chunk: Chunk,
    *,
    pool: SegmentPool,
) -> Pairs:
    """Give the pairs that a join makes of a chunk.

    Parameters
    ----------
    functions : tuple of int
        Addresses of the block functions `mask` (0: every row passes) and `probe`.
    contexts : tuple of int
        Addresses of the contexts of whole blocks and of the padded rest.

    Raises
    ------
    InputError
        If there are more pairs than memory for them.
    """
    table = table_of(rows_held(bind(sink.build, literals)))
    chains = table.chains()
    words = np.empty(chunk.blocks + (1 if chunk.rest else 0), np.int64)
    firsts = np.empty(chunk.rows, np.int64)
    scratch = np.empty(BLOCK * table.words, np.int64)
    progress = np.zeros(1, np.int64)
    count = _join.find(
        *functions, contexts[0], chunk.blocks, contexts[1], chunk.rest, table.address,
        chains.rows if sink.outer else -1, words.ctypes.data, firsts.ctypes.data,
        scratch.ctypes.data, progress.ctypes.data,
    )  # fmt: skip
    kept, firsts = Selection(chunk.rows, count, words), firsts[:count]
    repeats = None
    if not chains.unique:
        repeats, firsts = _expanded(firsts, chains, chunk.rows, pool)
    right = Selection(chains.rows + 1, len(firsts), order=firsts)
    added = tuple(table.column(number, outer=sink.outer) for _, number, _ in sink.added)
    return Pairs(kept, repeats, right, int(progress[0]), added)


def _expanded(firsts: Any, chains: Chains, rows: int, pool: SegmentPool) -> tuple[Any, Any]:
    """Give one pair for every row of the build that has a kept row's key; None: one each."""
    pairs = _join.count_pairs(firsts.ctypes.data, len(firsts), chains.counts.ctypes.data)
    if pairs == len(firsts):
        return None, firsts
    if pairs * _PAIR_BYTES > pool.cap:
        raise InputError(
            f"join: {rows:,} rows of a chunk make {pairs:,} pairs, too many for "
            f"{format_bytes(pool.cap)} of memory; aggregate the side whose keys repeat first"
        )
    made = np.empty((2, pairs), np.int64)
    _join.expand(
        firsts.ctypes.data, len(firsts), chains.following.ctypes.data,
        made[0].ctypes.data, made[1].ctypes.data,
    )  # fmt: skip
    return made[0], made[1]


def builds_read(stage: Stage, literals: tuple[Literal, ...]) -> list[pa.RecordBatch]:
    """Give the rows of builds that the outputs of a stage may refer to."""
    sinks = [step.sink for step in stage.steps if isinstance(step, Pass)]
    joins = [sink.build for sink in sinks if isinstance(sink, Matches)]
    return [rows_held(bind(build, literals)).batch for build in joins]
