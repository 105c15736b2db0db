"""What a chunk that is grouped is bound to, and what grouping it gives."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.ir.resolve import type_of
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Chunk, bind_slots
from wherry.render.encode import decoded, key_arrays
from wherry.render.passes import Compiled, Forms, PassPlan, Way
from wherry.render.prepare import Prepared
from wherry.render.state import Cell, Fields
from wherry.render.textkeys import TextKey

_few = skeletons("few")


class Task(Struct, frozen=True):
    """A chunk to be grouped, with the code that reads it and the addresses of its contexts."""

    plan: PassPlan
    prepared: Prepared
    code: Compiled
    contexts: tuple[int, int]
    forms: Forms
    keep: Any

    @property
    def chunk(self) -> Chunk:
        """Give the chunk."""
        return self.prepared.chunk

    def address(self, name: str) -> int:
        """Give a block function; 0 if there is none."""
        return self.code.addresses.get(name, 0)


class Found(Struct, frozen=True):
    """The groups of a chunk in order of first appearance.

    Parameters
    ----------
    keys : list of pyarrow.Array
        As the stage's schema has them.
    states : Fields
        As `cells` say.
    selected : int
        How many rows passed.
    alike : tuple, optional
        By cell: what is equal for cells whose values are the same in every group.
    counted : tuple of bool, optional
        Which cells count their values; others are known to have one in every group.
    """

    keys: list[pa.Array]
    states: Fields
    selected: int
    cells: Sequence[Cell]
    alike: tuple[Hashable, ...] = ()
    counted: tuple[bool, ...] = ()


class Start(Struct, frozen=True):
    """What is grouped already when a skeleton takes over: the rows before block `block`.

    Parameters
    ----------
    rows : numpy.ndarray
        int64, the number of the first row of each group so far, in order of appearance.
    states : numpy.ndarray
        uint8, a row a group, as `render.state` lays it out.
    selected : int
        How many of the rows before `block` passed.
    """

    block: int
    rows: np.ndarray[Any, Any]
    states: np.ndarray[Any, Any]
    selected: int


def bound(plan: PassPlan, prepared: Prepared, literals: Any, way: Way, forms: Forms = ()) -> Task:
    """Give a chunk bound to the variant of its pass that groups in a certain way."""
    code = plan.compiled(prepared.nullable, way, forms)
    context = bind_slots(code.slots, prepared.chunk, literals)
    return Task(plan, prepared, code, context.addresses, forms, context)


def keys_of(task: Task, words: np.ndarray[Any, Any]) -> list[pa.Array]:
    """Give the keys that words stand for."""
    keys = task.plan.text_keys(task.forms)
    types = tuple(key if isinstance(key, TextKey) else type_of(key) for key in keys)
    nulls = words.shape[1] > sum(task.code.key_widths)
    return with_texts(task, key_arrays(words, types, task.code.key_widths, nulls=nulls))


def with_texts(task: Task, keys: list[pa.Array]) -> list[pa.Array]:
    """Give keys with the texts that codes stand for."""
    found = []
    for node, array, t in zip(task.plan.keys, keys, task.plan.out_schema.types, strict=False):
        texts = task.prepared.texts.get(getattr(node, "name", ""))
        found.append(array if texts is None else decoded(array, texts, t))
    return found


def taken_over(
    task: Task, words: int, start: Start | None, progress: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Give the key words of the groups of `start`, and set `progress` to where it ended."""
    if start is None:
        return np.empty((0, words), np.int64)
    seen = np.empty((len(start.rows), words), np.int64)
    scratch = np.empty((words + 1) * BLOCK, np.int64)
    progress[:] = start.block, len(start.rows), start.selected
    whole, padded = task.contexts
    _few.keys_of_rows(
        task.address("keys"), whole, task.chunk.blocks, padded, words, start.rows.ctypes.data,
        len(start.rows), scratch.ctypes.data, seen.ctypes.data,
    )  # fmt: skip
    return seen
