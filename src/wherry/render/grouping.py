"""Groups of one chunk: which skeleton numbers its keys, and keys and aggregates as arrays.

`group(task)` gives the keys as the pass reads them (texts as codes) and one state a group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import expm1
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.data.segment import SegmentPool
from wherry.ir.resolve import type_of
from wherry.kernels.layout import BLOCK, SLACK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Chunk, bind_slots
from wherry.render.columns import Strided, key_columns
from wherry.render.dealt import Dealt, deal, select
from wherry.render.encode import decoded, slot_arrays
from wherry.render.passes import Compiled, PassPlan
from wherry.render.prepare import Prepared
from wherry.render.runs import PROBE, room_for, write_runs
from wherry.render.state import Fields, Matrix, stride
from wherry.render.threads import scratch

_runs = skeletons("runs")
_group_by = skeletons("group_by")

_FIRST_GROUPS: Final = 1024
_MANY_GROUPS: Final = 1 << 13
"""Groups of a chunk whose table and states still fit the second-level cache."""
_SHARE: Final = 0.05
"""Groups a row from which grouping a chunk by itself saves less than it costs."""
_HALVINGS: Final = 50
_GROWTH: Final = 4
"""Growing by 16 made grouping by order key 1.6 to 1.8 times slower than by 4 (measured)."""


@dataclass(frozen=True, slots=True)
class Task:
    """A chunk to be grouped, with the code that reads it and the addresses of its contexts.

    `deals` says that whoever merges its groups takes rows that are dealt into partitions as well.
    """

    plan: PassPlan
    prepared: Prepared
    code: Compiled
    contexts: tuple[int, int]
    literals: np.ndarray[Any, Any]
    pool: SegmentPool
    deals: bool

    @property
    def chunk(self) -> Chunk:
        """Give the chunk."""
        return self.prepared.chunk

    def address(self, name: str) -> int:
        """Give a block function; 0 if there is none."""
        return self.code.addresses.get(name, 0)


@dataclass(frozen=True, slots=True)
class Found:
    """The groups of a chunk in order of first appearance.

    Parameters
    ----------
    keys : list of pyarrow.Array
        As the stage's schema has them.
    states : Fields
        As `render.state` lays them out.
    selected : int
        How many rows passed.
    counted : tuple of bool
        Which aggregates count their values; others are known to have one in every group.
    """

    keys: list[pa.Array]
    states: Fields
    selected: int
    counted: tuple[bool, ...]


def group(task: Task) -> Found | Dealt:
    """Give the groups of a chunk, or its rows if grouping them does not pay and the task deals."""
    made = _direct(task) if task.prepared.sizes is not None else _hashed(task)
    if isinstance(made, Dealt):
        return made
    found = []
    for node, array, t in zip(task.plan.keys, made.keys, task.plan.out_schema.types, strict=False):
        texts = task.prepared.texts.get(getattr(node, "name", ""))
        found.append(array if texts is None else decoded(array, texts, t))
    return replace(made, keys=found)


def _direct(task: Task) -> Found:
    sizes, chunk = task.prepared.sizes or (), task.chunk
    slots = int(np.prod([s + 1 for s in sizes], dtype=np.int64))
    cells = task.code.cells
    table = np.full(slots, -1, np.int32)
    seen, progress = np.empty(slots, np.int64), np.zeros(1, np.int64)
    states = np.empty((slots, stride(cells)), np.uint8)
    begin, scratch = (
        np.frombuffer(task.code.begin or b"\0", np.uint8),
        np.empty(2 * BLOCK, np.int64),
    )
    whole, padded = task.contexts
    groups = _group_by.direct(
        task.address("mask"), task.address("keys"), task.address("scatter"), whole,
        chunk.blocks, padded, chunk.rest, table.ctypes.data, seen.ctypes.data,
        states.ctypes.data, stride(cells), begin.ctypes.data, scratch.ctypes.data,
        progress.ctypes.data,
    )  # fmt: skip
    keys = slot_arrays(seen[:groups], sizes)
    booleans = [pa.types.is_boolean(getattr(k, "type", None) or pa.null()) for k in task.plan.keys]
    keys = [k.cast(pa.bool_()) if b else k for k, b in zip(keys, booleans, strict=True)]
    counted = (True,) * len(cells)
    return Found(keys, Matrix(states[:groups]), int(progress[0]), counted)


@dataclass
class _Room:
    """Room of this thread for groups: their keys and states; what was written stays as it grows."""

    words: int
    stride: int
    capacity: int = 0
    seen: int = 0
    states: int = 0
    _kept: tuple[Any, ...] = ()

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


def _hashed(task: Task) -> Found | Dealt:
    """Group by runs as long as keys ascend, then by hash."""
    words, width, chunk = task.code.key_words, stride(task.code.cells), task.chunk
    progress, room = np.zeros(3, np.int64), _Room(words, width)
    room.grow(_FIRST_GROUPS, 0)
    counted = _by_runs(task, room, progress)
    if progress[0] < chunk.blocks + bool(chunk.rest) and not _by_hash(task, room, progress):
        passed = select(task.address("mask"), task.contexts, chunk)
        nullable = task.prepared.nullable
        return deal(task.plan, chunk, nullable, task.literals, passed, pool=task.pool)
    groups = int(progress[1])
    types = tuple(pa.int32() if _is_text(k) else type_of(k) for k in task.plan.keys)
    keys = Strided(room.seen, 8 * words, groups, task.pool)
    states = Strided(room.states, width, groups, task.pool)
    columns = key_columns(types, task.code.key_widths, words, keys)
    return Found(columns, states, int(progress[2]), counted)


def _by_runs(task: Task, room: _Room, progress: np.ndarray[Any, Any]) -> tuple[bool, ...]:
    """Group the blocks at the beginning of the chunk whose keys ascend; give `Found.counted`."""
    chunk, cells = task.chunk, task.code.cells
    probed = min(PROBE, chunk.blocks)
    _run(task, room, progress, (0, *task.contexts, probed, 0))
    ascend = progress[0] == probed and progress[1] > 0
    progress[:] = 0
    if not ascend:
        return (True,) * len(cells)
    nullable = task.prepared.nullable
    runs = task.plan.function("runs", nullable, lambda w: write_runs(w, cells), task.code)
    context = bind_slots(runs.slots, chunk, task.literals)
    given = (runs.address, *context.addresses, chunk.blocks, chunk.rest)
    while not _run(task, room, progress, given):
        room.grow(room.capacity * _GROWTH, int(progress[1]))
    counted: tuple[bool, ...] = runs.made
    return counted


def _run(
    task: Task, room: _Room, progress: np.ndarray[Any, Any], given: tuple[int, int, int, int, int]
) -> bool:
    """Group with (runs, context, padded context, blocks, rest); tell if there was room."""
    runs, whole, padded, blocks, rest = given
    return bool(
        _runs.group_runs(
            task.address("mask"), task.address("keys"), runs, whole, blocks, padded, rest,
            room.words, room.seen, room.capacity, room.states, room.stride,
            room_for(room.words).ctypes.data, progress.ctypes.data,
        )
    )  # fmt: skip


def _by_hash(task: Task, room: _Room, progress: np.ndarray[Any, Any]) -> bool:
    """Group the rest of the chunk; give up if its rows may be dealt and hardly share keys."""
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
        if task.deals and _hardly_shared(progress, chunk):
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
        return expected >= _MANY_GROUPS
    low, high = float(groups), float(rows) ** 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fewer = -middle * expm1(-rows / middle) < groups
        low, high = (middle, high) if fewer else (low, middle)
    found = -low * expm1(-expected / low)
    return found >= max(_MANY_GROUPS, expected * _SHARE)


def _is_text(node: Any) -> bool:
    return getattr(node, "name", "").startswith("$code ")
