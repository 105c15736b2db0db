"""Many groups of one chunk: by runs as long as keys ascend, then by hash; or its rows wait."""

from __future__ import annotations

from math import expm1
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.segment import SegmentPool
from wherry.ir.resolve import type_of
from wherry.kernels.layout import BLOCK, SLACK
from wherry.kernels.skeletons import skeletons
from wherry.render.ascending import by_runs
from wherry.render.bind import Chunk
from wherry.render.columns import Strided, key_columns
from wherry.render.dealt import select
from wherry.render.grouped import Found, Start, Task, taken_over, with_texts
from wherry.render.room import scratch
from wherry.render.state import stride
from wherry.render.textkeys import TextKey
from wherry.render.waiting import Waiting

_group_by = skeletons("group_by")

_FIRST_GROUPS: Final = 1024
MANY_GROUPS: Final = 1 << 13
"""Groups of a chunk whose table and states still fit the second-level cache."""
_SHARE: Final = 0.05
"""Groups a row from which grouping a chunk by itself saves less than it costs."""
_HALVINGS: Final = 50
_GROWTH: Final = 4
"""Growing by 16 made grouping by order key 1.6 to 1.8 times slower than by 4 (measured)."""


class _Room(Struct):
    """Room of this thread for groups: their keys and states; what was written stays as it grows."""

    words: int
    stride: int
    capacity: int = 0
    seen: int = 0
    states: int = 0
    _kept: tuple[Any, ...] = ()

    def enter(self, keys: np.ndarray[Any, Any], states: Any) -> None:
        """Let the first groups be those of `keys`, with `states`; room was made for them."""
        self.keys(len(keys))[:] = keys
        if states is not None:
            size = self.stride * len(keys)
            self._kept[1][self.stride : self.stride + size] = states.reshape(-1)

    def keys(self, groups: int) -> np.ndarray[Any, Any]:
        """Give the keys of the first groups: int64, a row each."""
        flat = self._kept[0][: 8 * self.words * groups].view(np.int64)
        return flat.reshape(groups, self.words)

    def grow(self, capacity: int, groups: int) -> None:
        """Make room for so many groups, of which `groups` are there."""
        seen = scratch("seen", 8 * self.words * capacity + SLACK)
        # A state in front of the first lets runs read one before there is any.
        states = scratch("states", self.stride * (capacity + 1))
        if groups:
            old_seen, old_states = self._kept
            used = self.stride * (groups + 1)
            for new, old, size in (
                (seen, old_seen, 8 * self.words * groups),
                (states, old_states, used),
            ):
                if new.ctypes.data != old.ctypes.data:
                    new[:size] = old[:size]
        self._kept, self.capacity = (seen, states), capacity
        self.seen, self.states = seen.ctypes.data, states.ctypes.data + self.stride


def group_many(
    task: Task, start: Start | None, literals: Any, pool: SegmentPool, *, waits: bool
) -> Found | Waiting:
    """Give the groups of a chunk, by runs as long as keys ascend, then by hash; or its rows.

    Parameters
    ----------
    waits : bool
        Whether rows may wait if they hardly share keys.
    """
    words, cells, chunk = task.code.key_words, task.code.cells, task.chunk
    progress, room = np.zeros(3, np.int64), _Room(words, stride(cells))
    known = taken_over(task, words, start, progress)
    states = None if start is None else start.states
    runs = by_runs(task, (known, states), progress, literals, pool)
    counted = (True,) * len(cells) if runs is None else runs.runs.counted
    if runs is not None and progress[0] == chunk.blocks + bool(chunk.rest):
        keys = with_texts(task, _keys(task, runs.key_fields))
        return Found(keys, runs, int(progress[2]), cells, counted=counted)
    if runs is not None:
        known, states = runs.keys, runs.states(room.stride)
    # Tables have twice as many slots, and those are a power of two.
    room.grow(1 << (max(_FIRST_GROUPS, len(known) + BLOCK) - 1).bit_length(), 0)
    room.enter(known, states)
    if not _by_hash(task, room, progress, waits=waits):
        passed = select(task.address("mask"), task.contexts, chunk)
        return Waiting(task.plan, chunk, task.prepared.nullable, literals, *passed)
    groups = int(progress[1])
    keys = with_texts(task, _keys(task, Strided(room.seen, 8 * words, groups, pool)))
    found = Strided(room.states, room.stride, groups, pool)
    return Found(keys, found, int(progress[2]), cells, counted=counted)


def _keys(task: Task, fields: Strided) -> list[pa.Array]:
    keys = task.plan.text_keys(task.forms)
    types = tuple(key if isinstance(key, TextKey) else type_of(key) for key in keys)
    return key_columns(types, task.code.key_widths, task.code.key_words, fields)


def _by_hash(task: Task, room: _Room, progress: np.ndarray[Any, Any], *, waits: bool) -> bool:
    """Group the rest of the chunk; give up if its rows may wait and hardly share keys."""
    chunk, capacity = task.chunk, room.capacity
    begin = np.frombuffer(task.code.begin or b"\0", np.uint8)
    space = np.empty((room.words + 1) * BLOCK, np.int64)
    whole, padded = task.contexts
    while True:
        table = np.full(2 * capacity, -1, np.int32)
        groups = int(progress[1])
        _group_by.rehash(table.ctypes.data, len(table), room.seen, room.words, groups)
        if _group_by.hashed(
            task.address("mask"), task.address("keys"), task.address("scatter"), whole,
            chunk.blocks, padded, chunk.rest, room.words, table.ctypes.data,
            len(table), room.seen, capacity, room.states, room.stride,
            begin.ctypes.data, space.ctypes.data, progress.ctypes.data,
        ):  # fmt: skip
            return True
        if waits and _hardly_shared(progress, chunk):
            return False
        capacity *= _GROWTH
        room.grow(capacity, int(progress[1]))


def _hardly_shared(progress: np.ndarray[Any, Any], chunk: Chunk) -> bool:
    """Tell whether the chunk will have more groups than is good for one table, and few rows each.

    As many different keys as were met, drawn evenly, tell how many there are in all.
    """
    blocks, groups, rows = (int(n) for n in progress)
    expected = rows * chunk.rows / (blocks * BLOCK)
    if groups >= rows:
        return expected >= MANY_GROUPS
    low, high = float(groups), float(rows) ** 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fewer = -middle * expm1(-rows / middle) < groups
        low, high = (middle, high) if fewer else (low, middle)
    found = -low * expm1(-expected / low)
    return found >= max(MANY_GROUPS, expected * _SHARE)
