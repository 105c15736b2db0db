"""Rows whose keys ascend, grouped without hashing: what a chunk begins with, as far as it goes."""

from __future__ import annotations

import itertools
from typing import Any, Final

import numpy as np
from msgspec import Struct, field

from wherry.data.segment import SegmentPool
from wherry.kernels.layout import BLOCK, RUN_ROOM, SLACK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import bind_slots
from wherry.render.columns import Strided
from wherry.render.grouped import Task
from wherry.render.room import scratch
from wherry.render.run_code import Runs, write_runs

_runs = skeletons("runs")

PROBE: Final = 16
"""Blocks whose keys must ascend before code for runs is compiled."""
_SPARE: Final = 1024
"""Groups that there is room for beyond those expected."""
_GROWTH: Final = 2


class Columns(Struct):
    """Groups so far: keys of `words` words, and the fields of their states, a column each."""

    pool: SegmentPool
    words: int
    runs: Runs
    groups: int = 0
    capacity: int = 0
    _seen: Any = None
    _rooms: list[Any] = field(default_factory=list)

    def grow(self, capacity: int) -> None:
        """Make room for so many groups; those that are there stay."""
        self._seen = self._moved(self._seen, 8 * self.words, capacity)
        before = self._rooms or [None] * len(self.runs.tracks)
        self._rooms = [
            self._moved(old, track.nbytes, capacity)
            for old, track in zip(before, self.runs.tracks, strict=True)
        ]
        self.capacity = capacity

    def _moved(self, old: Any, size: int, capacity: int) -> np.ndarray[Any, Any]:
        # A value in front of the first lets runs read one before there is any.
        room = np.frombuffer(self.pool.allocate(SLACK + size * capacity + SLACK), np.uint8)
        if old is not None and self.groups:
            end = SLACK + size * self.groups
            room[SLACK:end] = old[SLACK:end]
        return room

    def enter(self, keys: np.ndarray[Any, Any], states: np.ndarray[Any, Any] | None) -> None:
        """Let the first groups be those of `keys`, with rows of `states`; there is room."""
        self.groups = len(keys)
        self.keys[:] = keys
        for track, room in zip(self.runs.tracks, self._rooms, strict=True):
            if states is not None and self.groups:
                size = track.nbytes
                values = states[:, track.offset : track.offset + size]
                room[SLACK : SLACK + size * self.groups].reshape(-1, size)[:] = values

    def states(self, stride: int) -> np.ndarray[Any, Any]:
        """Give the states, a row a group; what is not counted may be anything."""
        made = np.zeros((self.groups, stride), np.uint8)
        for track, room in zip(self.runs.tracks, self._rooms, strict=True):
            size = track.nbytes
            values = room[SLACK : SLACK + size * self.groups].reshape(-1, size)
            made[:, track.offset : track.offset + size] = values
        return made

    @property
    def keys(self) -> np.ndarray[Any, Any]:
        """Give the keys: int64, a row a group."""
        words = self._seen[SLACK : SLACK + 8 * self.words * self.groups].view(np.int64)
        return words.reshape(self.groups, self.words)

    @property
    def key_fields(self) -> Strided:
        """Give the keys as fields."""
        return self._strided(self._seen, 8 * self.words)

    @property
    def addresses(self) -> tuple[int, np.ndarray[Any, Any]]:
        """Give where the keys lie, and what `runs` is given."""
        places = [room.ctypes.data + SLACK for room in self._rooms]
        return self._seen.ctypes.data + SLACK, np.array([self.groups, *places], np.int64)

    def field(self, offset: int, dtype: Any) -> np.ndarray[Any, Any]:
        """Give the field at a byte of a state, of all groups, side by side."""
        for track, room in zip(self.runs.tracks, self._rooms, strict=True):
            if track.offset == offset:
                return self._strided(room, track.nbytes).field(0, dtype)
        raise KeyError(offset)

    def _strided(self, room: np.ndarray[Any, Any], step: int) -> Strided:
        return Strided(room.ctypes.data + SLACK, step, self.groups, self.pool, room[SLACK:])


def room_for(words: int) -> np.ndarray[Any, Any]:
    """Give the scratch that the skeletons of runs need."""
    return scratch("runs", words * (BLOCK * 8 + RUN_ROOM) + RUN_ROOM)


def by_runs(
    task: Task,
    begun: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None],
    progress: np.ndarray[Any, Any],
    literals: Any,
    pool: SegmentPool,
) -> Columns | None:
    """Group the blocks at the beginning of the chunk whose keys ascend; None if they do not.

    Parameters
    ----------
    task : Task
        Of the way "hashed".
    begun : tuple
        Keys and states of the groups so far, a row each; no states if there are none.
    progress : numpy.ndarray
        As the skeletons take it: where those end. Is set to where these do.
    """
    chunk, cells, words = task.chunk, task.code.cells, task.code.key_words
    known, states = begun
    if task.plan.spreads:
        return None
    probed = min(PROBE, chunk.blocks)
    tried, seen = progress.copy(), np.empty((len(known) + probed * BLOCK + BLOCK, words), np.int64)
    seen[: len(known)] = known
    _run(task, tried, (0, *task.contexts, probed, 0), (seen.ctypes.data, len(seen), 0))
    groups = int(tried[1])
    if tried[0] != probed or groups <= 1 or not _ascend(seen[:groups]):
        return None
    made = task.plan.function(
        "runs", task.prepared.nullable, lambda w: write_runs(w, cells), task.code
    )
    context = bind_slots(made.slots, chunk, literals)
    given = (made.address, *context.addresses, chunk.blocks, chunk.rest)
    columns = Columns(pool, words, made.made)
    # What the first blocks tell of the others is not far off, as a rule.
    expected = groups * (chunk.blocks + 1) // max(1, probed)
    expected = min(expected + expected // 8 + _SPARE, chunk.rows + BLOCK)
    columns.grow(len(known) + BLOCK + expected)
    columns.enter(known, states)
    while True:
        keys, places = columns.addresses
        done = _run(task, progress, given, (keys, columns.capacity, places.ctypes.data))
        columns.groups = int(progress[1])
        if done:
            return columns
        columns.grow(columns.capacity * _GROWTH)


def _ascend(words: np.ndarray[Any, Any]) -> bool:
    """Tell whether keys ascend."""
    if words.shape[1] == 1:
        return bool((words[1:] > words[:-1]).all())
    return all(a < b for a, b in itertools.pairwise(words.tolist()))


def _run(
    task: Task,
    progress: np.ndarray[Any, Any],
    given: tuple[int, int, int, int, int],
    room: tuple[int, int, int],
) -> bool:
    """Group (runs, context, padded context, blocks, rest) into (keys, capacity, columns).

    Tells whether there was room.
    """
    runs, whole, padded, blocks, rest = given
    words = task.code.key_words
    return bool(
        _runs.group_runs(
            task.address("mask"), task.address("keys"), runs, whole, blocks, padded, rest,
            words, *room, room_for(words).ctypes.data, progress.ctypes.data,
        )
    )  # fmt: skip
