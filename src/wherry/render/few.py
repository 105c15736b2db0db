"""Groups of a chunk as long as they are few: see `kernels/numba/few.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.grouped import Found, Start, Task, keys_of
from wherry.render.state import Matrix, stride

_few = skeletons("few")

MOST_FEW: Final = 16
"""Groups whose rows are added by mask: each costs a pass over a block's sums, present or not."""


def group_few(task: Task) -> Found | Start:
    """Give the groups of the chunk; a start for others if they are not few, or a text is long."""
    code, chunk = task.code, task.chunk
    images, lanes = code.images, code.lanes
    assert images is not None
    assert lanes is not None
    step = stride(code.cells)
    begin = np.frombuffer(code.begin or b"\0", np.uint8)
    parts = (
        MOST_FEW * lanes.stride, MOST_FEW * 8 + images.nbytes, MOST_FEW * 8 * images.words,
        MOST_FEW * 8, MOST_FEW * step, 24,
    )  # fmt: skip
    room, places = _room(parts)
    lanes_at, scratch, seen, rows, states, progress = (room.ctypes.data + p for p in places)
    whole, padded = task.contexts
    done = _few.few(
        task.address("mask"), task.address("images"), task.address("match"), task.address("learn"),
        task.address("spread"), task.address("fold"), whole, chunk.blocks, padded, chunk.rest,
        MOST_FEW, images.words, seen, rows, states, step, begin.ctypes.data, lanes_at,
        lanes.stride, scratch, lanes.period, progress,
    )  # fmt: skip
    block, groups, selected = room[places[5] : places[5] + 24].view(np.int64).tolist()
    made = room[places[4] : places[4] + groups * step].reshape(groups, step)
    if not done:
        first = room[places[3] : places[3] + 8 * groups].view(np.int64)
        return Start(block, first, made, selected)
    words = room[places[2] : places[2] + 8 * groups * images.words].view(np.int64)
    keys = keys_of(task, words.reshape(groups, images.words))
    return Found(keys, Matrix(made), selected, code.cells, tuple(lanes.of))


def _room(parts: Sequence[int]) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Give one piece of memory for several parts, and where each begins: at a line of the cache."""
    places, at = [], 0
    for nbytes in parts:
        places.append(at)
        at += -(-nbytes // BLOCK) * BLOCK
    room = np.empty(at + BLOCK, np.uint8)
    return room[-room.ctypes.data % BLOCK :], places
