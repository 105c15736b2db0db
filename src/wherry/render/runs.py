"""Pieces whose keys ascend, put in a row: their groups are not merged, but for those that meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.chunk import referenced_bytes
from wherry.kernels.skeletons import skeletons
from wherry.render import functions as fn
from wherry.render.ascending import room_for
from wherry.render.bind import Chunk, bind_slots
from wherry.render.passes import PassPlan
from wherry.render.team import Team, alone, each

_runs = skeletons("runs")


def joints(
    plan: PassPlan, pieces: Sequence[pa.RecordBatch], team: Team = alone
) -> list[bool] | None:
    """Tell of each piece but the last whether its last key is the next one's first.

    Parameters
    ----------
    plan : PassPlan
        A pass that merges rows; it reads its keys as they are.
    pieces : sequence of RecordBatch
        None empty.

    Returns
    -------
    list of bool or None
        None if some key does not ascend, or can be null.
    """
    keys = plan.function("keys", frozenset(), lambda w: fn.write_keys(w, plan.keys))
    words: int = keys.made
    edges = np.empty((len(pieces), 2, words), np.int64)
    names = {name for kind, name in keys.slots if kind in {"values", "bits"}}

    def ascends(number: int) -> bool:
        piece = pieces[number]
        columns = {name: piece.column(name) for name in names}
        if any(column.null_count for column in columns.values()):
            return False
        chunk = Chunk(piece.num_rows, columns)
        context = bind_slots(keys.slots, chunk, np.zeros(2, np.int64))
        whole, padded = context.addresses
        return bool(
            _runs.ascending(
                keys.address, whole, chunk.blocks, padded, chunk.rest, words,
                room_for(words).ctypes.data, edges[number].ctypes.data,
            )
        )  # fmt: skip

    if not ascends(0) or not all(each(team, len(pieces), ascends)):
        return None
    lasts, firsts = edges[:-1, 1].tolist(), edges[1:, 0].tolist()
    if any(last > first for last, first in zip(lasts, firsts, strict=True)):
        return None
    return [last == first for last, first in zip(lasts, firsts, strict=True)]


class Chain(Struct, frozen=True):
    """Pieces in a row: what lies between joints, and the rows that meet there.

    Attributes
    ----------
    between : list of RecordBatch or None
        In order; None stands for the next group of `meeting`.
    meeting : list of RecordBatch
        The rows of groups that begin in one piece and end in another.
    """

    between: list[pa.RecordBatch | None]
    meeting: list[pa.RecordBatch]


def chain(pieces: Sequence[pa.RecordBatch], joints: Sequence[bool]) -> Chain:
    """Give pieces cut at their joints; nothing is copied."""
    between: list[pa.RecordBatch | None] = []
    meeting: list[pa.RecordBatch] = []
    for piece, before, after in zip(pieces, [False, *joints], [*joints, False], strict=True):
        first, last = int(before), piece.num_rows - int(after)
        if before:
            meeting.append(piece.slice(0, 1))
        if last > first:
            between.append(piece.slice(first, last - first))
        if after and not (before and piece.num_rows == 1):
            between.append(None)
            meeting.append(piece.slice(piece.num_rows - 1))
    return Chain(between, meeting)


def in_a_row(
    plan: PassPlan,
    pieces: Sequence[Any],
    group: Callable[[pa.RecordBatch], pa.RecordBatch],
    team: Team = alone,
) -> tuple[list[pa.RecordBatch], int] | None:
    """Give the groups of pieces by reference if their keys ascend, and how many bytes are new.

    Parameters
    ----------
    plan, pieces
        As for `joints`; None as well if a piece is not written.
    group : callable
        Gives the groups of few rows: those that begin in one piece and end in another.
    """
    if not all(isinstance(piece, pa.RecordBatch) for piece in pieces):
        return None
    joined = joints(plan, pieces, team)
    if joined is None:
        return None
    found = chain(pieces, joined)
    if not found.meeting:
        return list(pieces), 0
    met = group(pa.concat_batches(found.meeting))
    groups = iter(range(met.num_rows))
    row = [met.slice(next(groups), 1) if b is None else b for b in found.between]
    return row, referenced_bytes([met])
