"""Groups of one chunk: which skeleton numbers its keys, and keys and aggregates as arrays.

`group(task)` gives the keys as the pass reads them (texts as codes) and one state a group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import expm1
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.ir.resolve import type_of
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Chunk
from wherry.render.dealt import Dealt
from wherry.render.encode import decoded, key_arrays, slot_arrays
from wherry.render.passes import Compiled, PassPlan
from wherry.render.prepare import Prepared
from wherry.render.state import stride

_group_by = skeletons("group_by")

_FIRST_GROUPS: Final = 1024
_MANY_GROUPS: Final = 1 << 14
"""Groups of a chunk whose table and states still fit the second-level cache."""
_SHARE: Final = 0.1
"""Groups a row from which grouping a chunk by itself saves less than it costs."""
_HALVINGS: Final = 50
_GROWTH: Final = 4
"""Growing by 16 made grouping by order key 1.6 to 1.8 times slower than by 4 (measured)."""


@dataclass(frozen=True, slots=True)
class Task:
    """A chunk to be grouped, with the code that reads it and the addresses of its contexts.

    `deal` gives its rows dealt into partitions, if whoever merges groups takes rows as well.
    """

    plan: PassPlan
    prepared: Prepared
    code: Compiled
    contexts: tuple[int, int]
    deal: Callable[[], Dealt] | None = None

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
    states : numpy.ndarray
        uint8, a row a group, as `render.state` lays it out.
    selected : int
        How many rows passed.
    """

    keys: list[pa.Array]
    states: np.ndarray[Any, Any]
    selected: int


def group(task: Task) -> Found | Dealt:
    """Give the groups of a chunk, or its rows if grouping them does not pay and `deal` is given."""
    made = _direct(task) if task.prepared.sizes is not None else _hashed(task)
    if isinstance(made, Dealt):
        return made
    keys, states, selected = made
    found = []
    for node, array, t in zip(task.plan.keys, keys, task.plan.out_schema.types, strict=False):
        texts = task.prepared.texts.get(getattr(node, "name", ""))
        found.append(array if texts is None else decoded(array, texts, t))
    return Found(found, states, selected)


def _direct(task: Task) -> tuple[list[pa.Array], np.ndarray[Any, Any], int]:
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
    return keys, states[:groups], int(progress[0])


def _hashed(task: Task) -> tuple[list[pa.Array], np.ndarray[Any, Any], int] | Dealt:
    cells, words, chunk = task.code.cells, task.code.key_words, task.chunk
    begin = np.frombuffer(task.code.begin or b"\0", np.uint8)
    scratch = np.empty((words + 1) * BLOCK, np.int64)
    progress = np.zeros(3, np.int64)
    capacity = _FIRST_GROUPS
    seen = np.empty((capacity, words), np.int64)
    states = np.empty((capacity, stride(cells)), np.uint8)
    table = np.full(2 * capacity, -1, np.int32)
    whole, padded = task.contexts
    while not _group_by.hashed(
        task.address("mask"), task.address("keys"), task.address("scatter"), whole,
        chunk.blocks, padded, chunk.rest, words, table.ctypes.data,
        len(table), seen.ctypes.data, capacity, states.ctypes.data, stride(cells),
        begin.ctypes.data, scratch.ctypes.data, progress.ctypes.data,
    ):  # fmt: skip
        if task.deal is not None and _hardly_shared(progress, chunk):
            return task.deal()
        capacity *= _GROWTH
        seen, states = _grown(seen, capacity), _grown(states, capacity)
        table = np.full(2 * capacity, -1, np.int32)
        _group_by.rehash(table.ctypes.data, len(table), seen.ctypes.data, words, int(progress[1]))
    groups = int(progress[1])
    types = tuple(pa.int32() if _is_text(k) else type_of(k) for k in task.plan.keys)
    nulls = words > sum(task.code.key_widths)
    keys = key_arrays(seen[:groups], types, task.code.key_widths, nulls=nulls)
    return keys, states[:groups], int(progress[2])


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


def _grown(array: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    made = np.empty((rows, array.shape[1]), array.dtype)
    made[: len(array)] = array
    return made
