"""Groups of one chunk: which skeleton numbers its keys, and keys and aggregates as arrays.

`few` comes first, and costs a block if the groups turn out to be many. Whatever rows it leaves are
grouped by `direct`, if the keys of the chunk are known to lie in small domains, or by `hashed`;
both begin with the groups that were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.ir.expr import Column
from wherry.ir.resolve import type_of
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Chunk, values_address
from wherry.render.encode import Domain, slot_arrays
from wherry.render.few import group_few
from wherry.render.grouped import Found, Start, Task, bound, keys_of, with_texts
from wherry.render.loop import Slot
from wherry.render.passes import Forms, PassPlan
from wherry.render.prepare import Prepared
from wherry.render.state import stride
from wherry.render.textkeys import longest_text, number_texts, words_for

_group_by, _few = skeletons("group_by"), skeletons("few")

_SMALL: Final = 4096
"""Slots that are always addressed directly: their table fits the first-level cache."""
_FIRST_GROUPS: Final = 1024
_GROWTH: Final = 4
"""Growing by 16 made grouping by order key 1.6 to 1.8 times slower than by 4 (measured)."""


def group(plan: PassPlan, prepared: Prepared, literals: Any) -> Found:
    """Give the groups of a chunk."""
    forms = None if plan.spreads else _forms(plan, prepared, BLOCK)
    start: Start | None = None
    if forms is not None:
        found = group_few(bound(plan, prepared, literals, "few", forms))
        if isinstance(found, Found):
            return found
        start = found
    forms = _forms(plan, prepared, None)
    if forms is None:
        prepared, forms = _numbered(plan, prepared, start), ()
    domains = _domains(plan, prepared)
    if domains is None:
        return _hashed(bound(plan, prepared, literals, "hashed", forms), start)
    prepared = replace(prepared, chunk=_with_domains(prepared.chunk, domains))
    return _direct(bound(plan, prepared, literals, "direct"), domains, start)


def _forms(plan: PassPlan, prepared: Prepared, rows: int | None) -> Forms | None:
    """Give how the texts of keys are compared, going by the first `rows`; None: by number only."""
    found = []
    for item in plan.encoded:
        if item.plain:
            source = prepared.chunk.columns[item.node.name]  # type: ignore[attr-defined]
            longest = longest_text(source, rows)
            words = words_for(longest)
            if words is None:
                return None
            single = rows is not None and longest == 1 and source.type not in _VIEWS
            found.append((item.column.name, 0 if single else words))
    return tuple(found)


_VIEWS: Final = (pa.string_view(), pa.binary_view())


def _numbered(plan: PassPlan, prepared: Prepared, start: Start | None) -> Prepared:
    """Give a chunk with the texts of its keys numbered."""
    columns, texts = dict(prepared.chunk.columns), dict(prepared.texts)
    nullable = prepared.nullable
    for item in plan.encoded:
        if item.plain:
            source = columns[item.node.name]  # type: ignore[attr-defined]
            first = (0, None) if start is None else (start.block * BLOCK, start.rows)
            name = item.column.name
            columns[name], texts[name] = number_texts(source, *first)
            nullable |= {name} if columns[name].null_count else set()
    chunk = replace(prepared.chunk, columns=columns)
    return Prepared(chunk, frozenset(nullable), texts, prepared.picks)


def _domains(plan: PassPlan, prepared: Prepared) -> tuple[Domain, ...] | None:
    """Give the domains of the keys if they are small together for a chunk of its rows."""
    found, rows = [], prepared.chunk.rows
    for key in plan.keys:
        t = type_of(key)
        texts = prepared.texts.get(getattr(key, "name", ""))
        if texts is not None:
            found.append(Domain(0, len(texts), t))
        elif pa.types.is_boolean(t):
            found.append(Domain(0, 2, t))
        elif isinstance(key, Column) and key.name in prepared.chunk.columns and _addresses(t):
            found.append(_seen(prepared.chunk.columns[key.name], rows))
        else:
            return None
        if prod(d.size + 1 for d in found) > max(_SMALL, 2 * rows):
            return None
    return tuple(found) or None


def _addresses(t: pa.DataType) -> bool:
    """Tell whether values of a type are integers that can address a table."""
    return (pa.types.is_integer(t) or pa.types.is_temporal(t)) and not pa.types.is_uint64(t)


def _seen(column: pa.Array, rows: int) -> Domain:
    if not rows:
        return Domain(0, 0, column.type)
    found, t = np.empty(2, np.int64), column.type
    signed = int(not pa.types.is_unsigned_integer(t))
    width = t.bit_width // 8
    _group_by.bounds(values_address(column), width, signed, rows, found.ctypes.data)
    low, high = found.tolist()
    return Domain(low, high - low + 1, t)


def _with_domains(chunk: Chunk, domains: Sequence[Domain]) -> Chunk:
    numbers: dict[Slot, int] = dict(chunk.numbers)
    step = 1
    for number, domain in enumerate(domains):
        numbers["low", str(number)] = domain.low
        numbers["size", str(number)] = domain.size
        numbers["stride", str(number)] = step
        step *= domain.size + 1
    return replace(chunk, numbers=numbers)


def _taken_over(
    task: Task, words: int, start: Start | None, scratch: int, progress: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Give the key words of the groups of `start`, and set `progress` to where it ended."""
    if start is None:
        return np.empty((0, words), np.int64)
    seen = np.empty((len(start.rows), words), np.int64)
    progress[:] = start.block, len(start.rows), start.selected
    whole, padded = task.contexts
    _few.keys_of_rows(
        task.address("keys"), whole, task.chunk.blocks, padded, words, start.rows.ctypes.data,
        len(start.rows), scratch, seen.ctypes.data,
    )  # fmt: skip
    return seen


def _direct(task: Task, domains: Sequence[Domain], start: Start | None) -> Found:
    chunk, cells = task.chunk, task.code.cells
    slots = prod(d.size + 1 for d in domains)
    most = min(slots, chunk.rows)
    table = np.full(slots, -1, np.int32)
    seen, progress = np.empty(most, np.int64), np.zeros(3, np.int64)
    states = np.empty((most, stride(cells)), np.uint8)
    begin = np.frombuffer(task.code.begin or b"\0", np.uint8)
    scratch = np.empty(2 * BLOCK, np.int64)
    known = _taken_over(task, 1, start, scratch.ctypes.data, progress)
    seen[: len(known)] = known[:, 0]
    if start is not None:
        states[: len(known)] = start.states
    _group_by.enter(table.ctypes.data, seen.ctypes.data, len(known))
    whole, padded = task.contexts
    groups = _group_by.direct(
        task.address("mask"), task.address("keys"), task.address("scatter"), whole,
        chunk.blocks, padded, chunk.rest, table.ctypes.data, seen.ctypes.data,
        states.ctypes.data, stride(cells), begin.ctypes.data, scratch.ctypes.data,
        progress.ctypes.data,
    )  # fmt: skip
    keys = with_texts(task, slot_arrays(seen[:groups], domains))
    return Found(keys, states[:groups], int(progress[2]), cells)


def _hashed(task: Task, start: Start | None) -> Found:
    cells, words, chunk = task.code.cells, task.code.key_words, task.chunk
    begin = np.frombuffer(task.code.begin or b"\0", np.uint8)
    scratch = np.empty((words + 1) * BLOCK, np.int64)
    progress = np.zeros(3, np.int64)
    capacity = _FIRST_GROUPS
    seen = np.empty((capacity, words), np.int64)
    states = np.empty((capacity, stride(cells)), np.uint8)
    table = np.full(2 * capacity, -1, np.int32)
    known = _taken_over(task, words, start, scratch.ctypes.data, progress)
    seen[: len(known)] = known
    if start is not None:
        states[: len(known)] = start.states
    _group_by.rehash(table.ctypes.data, len(table), seen.ctypes.data, words, len(known))
    whole, padded = task.contexts
    while not _group_by.hashed(
        task.address("mask"), task.address("keys"), task.address("scatter"), whole,
        chunk.blocks, padded, chunk.rest, words, table.ctypes.data,
        len(table), seen.ctypes.data, capacity, states.ctypes.data, stride(cells),
        begin.ctypes.data, scratch.ctypes.data, progress.ctypes.data,
    ):  # fmt: skip
        capacity *= _GROWTH
        seen, states = _grown(seen, capacity), _grown(states, capacity)
        table = np.full(2 * capacity, -1, np.int32)
        _group_by.rehash(table.ctypes.data, len(table), seen.ctypes.data, words, int(progress[1]))
    groups = int(progress[1])
    return Found(keys_of(task, seen[:groups]), states[:groups], int(progress[2]), cells)


def _grown(array: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    made = np.empty((rows, array.shape[1]), array.dtype)
    made[: len(array)] = array
    return made
