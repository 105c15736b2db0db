"""Groups of chunks as long as they are few: see `kernels/numba/few.py`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from msgspec import Struct

from wherry.kernels.layout import BLOCK, FEW_HEAD
from wherry.kernels.skeletons import skeletons
from wherry.render.grouped import Found, Start, Task, keys_of
from wherry.render.passes import Compiled
from wherry.render.room import scratch
from wherry.render.state import Matrix, stride
from wherry.render.team import APART, AT_ONCE, Team, alone

_few = skeletons("few")

MOST_FEW: Final = 16
"""Groups whose rows are added by mask: each costs a pass over a block's sums, present or not."""

Array = np.ndarray[Any, Any]


class Few(Struct, frozen=True):
    """What `few_each` found in chunks, a row a chunk.

    Attributes
    ----------
    progress : numpy.ndarray
        int64: the first block that is not grouped, groups so far, rows that passed so far.
    words, rows, states : numpy.ndarray
        Of MOST_FEW groups each, of which the first are there: int64 words of keys, int64 numbers of
        first rows, uint8 states.
    """

    progress: Array
    words: Array
    rows: Array
    states: Array

    def start(self, chunk: int) -> Start:
        """Give what others begin a chunk with that has more groups."""
        block, groups, selected = self.progress[chunk].tolist()
        rows, states = self.rows[chunk, :groups].copy(), self.states[chunk, :groups]
        return Start(block, rows, states, selected)

    def together(self, task: Task, chunks: slice) -> Found:
        """Give the groups of chunks that are wholly grouped, one chunk's behind another's.

        Parameters
        ----------
        task : Task
            Of the first of them; the texts of all have the same codes.
        """
        lanes = task.code.lanes
        assert lanes is not None
        there = np.arange(MOST_FEW) < self.progress[chunks, 1:2]
        keys = keys_of(task, self.words[chunks][there])
        selected = int(self.progress[chunks, 2].sum())
        states = Matrix(self.states[chunks][there])
        return Found(keys, states, selected, task.code.cells, tuple(lanes.of))


def find_few(code: Compiled, table: Array, team: Team) -> Few:
    """Group chunks as far as their groups are few.

    Parameters
    ----------
    code : Compiled
        Of the way "few".
    table : numpy.ndarray
        int64, a row a chunk, as `kernels/numba/share.py` says; targets and counts are written.
    """
    images, lanes, step = code.images, code.lanes, stride(code.cells)
    assert images is not None
    assert lanes is not None
    sizes = (FEW_HEAD, MOST_FEW * 8 * images.words, MOST_FEW * 8, MOST_FEW * step)
    seen, rows, states, end = np.cumsum(sizes).tolist()
    made = np.empty((len(table), -(-end // APART) * APART), np.uint8)
    table[:, 4] = made.ctypes.data + made.shape[1] * np.arange(len(table))
    begin = np.frombuffer(code.begin or b"\0", np.uint8)
    names = ("mask", "images", "match", "learn", "spread", "fold")
    task = np.array(
        [*(code.addresses.get(name, 0) for name in names), MOST_FEW, images.words, step,
         begin.ctypes.data, lanes.stride, lanes.period, rows, states],
        np.int64,
    )  # fmt: skip
    vectors = -(-MOST_FEW * lanes.stride // BLOCK) * BLOCK

    def work(counter: int) -> None:
        room = scratch("few", vectors + MOST_FEW * 8 + images.nbytes).ctypes.data
        given = task.ctypes.data, table.ctypes.data, len(table), counter, AT_ONCE
        while _few.few_each(*given, room, room + vectors):
            pass

    (team if len(table) > 1 else alone)(work)

    shape = len(made), MOST_FEW
    return Few(
        made[:, :24].view(np.int64),
        made[:, seen:rows].view(np.int64).reshape(*shape, images.words),
        made[:, rows:states].view(np.int64),
        made[:, states:end].reshape(*shape, step),
    )


def group_few(task: Task) -> Found | Start:
    """Give the groups of a chunk; a start for others if they are not few, or a text is long."""
    chunk, (whole, padded) = task.chunk, task.contexts
    table = np.array([[whole, chunk.blocks, padded, chunk.rest, 0, 0]], np.int64)
    few = find_few(task.code, table, alone)
    if few.progress[0, 0] < chunk.blocks + bool(chunk.rest):
        return few.start(0)
    return few.together(task, slice(0, 1))
