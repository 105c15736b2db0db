"""Groups of one chunk: which skeleton numbers its keys, and keys and aggregates as arrays.

`few` comes first, and costs a block if the groups turn out to be many. Whatever rows it leaves are
grouped by `direct`, if the keys of the chunk are known to lie in small domains, or as many groups
(`render.many`); both begin with the groups that were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from wherry.data.segment import SegmentPool
from wherry.ir.expr import Column
from wherry.ir.resolve import type_of
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.ascending import PROBE
from wherry.render.domains import addresses, seen, slots_in, with_domains
from wherry.render.encode import Domain, slot_arrays
from wherry.render.few import group_few
from wherry.render.grouped import Found, Start, Task, bound, taken_over, with_texts
from wherry.render.many import MANY_GROUPS, group_many
from wherry.render.passes import Forms, PassPlan
from wherry.render.prepare import Prepared
from wherry.render.state import Matrix, stride
from wherry.render.textkeys import longest_text, number_texts, words_for
from wherry.render.waiting import Waiting

_group_by = skeletons("group_by")

_SMALL: Final = 4096
"""Slots that are always addressed directly: their table fits the first-level cache."""


def group(
    plan: PassPlan,
    prepared: Prepared,
    literals: Any,
    pool: SegmentPool,
    start: Start | None = None,
    *,
    waits: bool = False,
) -> Found | Waiting:
    """Give the groups of a chunk.

    Parameters
    ----------
    start : Start, optional
        What is grouped already of a chunk whose groups are not few.
    waits : bool
        Whoever merges groups takes rows that are not grouped as well: those of a chunk that hardly
        share keys.
    """
    forms = None if plan.spreads or start is not None else _forms(plan, prepared, BLOCK)
    if forms is not None:
        found = group_few(bound(plan, prepared, literals, "few", forms))
        if isinstance(found, Found):
            return found
        start = found
    forms = _forms(plan, prepared, None)
    if forms is None:
        prepared, forms = _numbered(plan, prepared, start), ()
    # Where rows may wait, a table for many keys does not tell that they hardly share them.
    most = MANY_GROUPS if waits else max(_SMALL, 2 * prepared.chunk.rows)
    domains = _domains(plan, prepared, most) if _addressable(plan, prepared, most) else None
    if domains is None:
        task = bound(plan, prepared, literals, "hashed", forms)
        return group_many(task, start, literals, pool, waits=waits)
    prepared = replace(prepared, chunk=with_domains(prepared.chunk, domains))
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


def common_forms(plan: PassPlan, ready: Sequence[Prepared]) -> Forms | None:
    """Give how the texts of keys of several chunks are compared, going by their first blocks."""
    some = [prepared for prepared in ready if prepared.chunk.rows] or ready[:1]
    found = [_forms(plan, prepared, BLOCK) for prepared in some]
    if None in found:
        return None
    longest: dict[str, int] = {}
    for name, words in (form for forms in found for form in forms or ()):
        # A byte is no word: where one chunk needs words, all have them.
        longest[name] = max(words, longest.get(name, words))
    return tuple(longest.items())


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
    return replace(prepared, chunk=chunk, nullable=frozenset(nullable), texts=texts)


def _domains(plan: PassPlan, prepared: Prepared, most: int) -> tuple[Domain, ...] | None:
    """Give the domains of the keys if they are small together for a chunk of its rows."""
    found, rows = [], prepared.chunk.rows
    for key in plan.keys:
        t = type_of(key)
        texts = prepared.texts.get(getattr(key, "name", ""))
        if texts is not None:
            found.append(Domain(0, len(texts), t))
        elif pa.types.is_boolean(t):
            found.append(Domain(0, 2, t))
        elif isinstance(key, Column) and key.name in prepared.chunk.columns and addresses(t):
            found.append(seen(prepared.chunk.columns[key.name], rows))
        else:
            return None
        if slots_in(found) > most:
            return None
    return tuple(found) or None


def _first_values(plan: PassPlan, prepared: Prepared) -> np.ndarray[Any, Any] | None:
    """Give the first values of the first key as integers, if it is a column of them and is long."""
    key = plan.keys[0]
    if not isinstance(key, Column) or key.name not in prepared.chunk.columns:
        return None
    column = prepared.chunk.columns[key.name]
    if not addresses(column.type) or column.null_count or len(column) < PROBE * BLOCK:
        return None
    signed = "u" if pa.types.is_unsigned_integer(column.type) else "i"
    width = column.type.bit_width // 8
    values = np.frombuffer(column.buffers()[1], f"{signed}{width}")
    return values[column.offset : column.offset + PROBE * BLOCK].astype(np.int64)


def _addressable(plan: PassPlan, prepared: Prepared, most: int) -> bool:
    """Tell whether keys may lie in at most `most` slots and do not ascend, by the first ones."""
    values = _first_values(plan, prepared)
    if values is None:
        return True
    ascend = bool((values[1:] >= values[:-1]).all()) and values[0] != values[-1]
    return not ascend and int(values.max()) - int(values.min()) <= most


def _direct(task: Task, domains: Sequence[Domain], start: Start | None) -> Found:
    chunk, cells = task.chunk, task.code.cells
    slots = slots_in(domains)
    most = min(slots, chunk.rows)
    table = np.full(slots, -1, np.int32)
    seen, progress = np.empty(most, np.int64), np.zeros(3, np.int64)
    states = np.empty((most, stride(cells)), np.uint8)
    begin = np.frombuffer(task.code.begin or b"\0", np.uint8)
    scratch = np.empty(2 * BLOCK, np.int64)
    known = taken_over(task, 1, start, progress)
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
    return Found(keys, Matrix(states[:groups]), int(progress[2]), cells)
