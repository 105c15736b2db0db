"""Many chunks bound at once, for skeletons that take chunk after chunk.

Python is needed once a share and not once a chunk: contexts are rows of one matrix, targets are
computed for all chunks together, and what is written for neighbouring chunks lies side by side.
What was bound stays good while the chunks are where they are, so it serves the next query too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.chunk import column_bytes
from wherry.ir.expr import Column, Literal, Node
from wherry.ir.stage import Groups, Rows, Totals
from wherry.ir.work import Costs
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import LITERALS, Chunk, bind_slots, values_address
from wherry.render.grouping import common_forms
from wherry.render.passes import Compiled, Forms, PassPlan
from wherry.render.prepare import Prepared, Preparer
from wherry.render.share_layout import Layout, layout_of
from wherry.render.state import stride
from wherry.render.team import APART, AT_ONCE, Team, alone

_share = skeletons("share")
Array = np.ndarray[Any, Any]


class Bound(Struct, frozen=True):
    """Chunks of a share, bound to one variant of a pass.

    Attributes
    ----------
    batches : tuple of RecordBatch
        The chunks as stored.
    ready : tuple of Prepared
        The same as passes read them, with the literals that they were bound with.
    rows : numpy.ndarray
        int64, of each chunk.
    contexts : numpy.ndarray
        int64 of shape (chunks, 2, slots): for the whole blocks and for the padded rest. The entry
        of the literals is set for each run.
    plain : tuple of int
        Outputs that are stored columns of a fixed width and without nulls in any chunk, the widest
        first.
    layout : Layout
        Where the rows of these lie, and the room that those chosen need.
    texts : numpy.ndarray
        int64, of each chunk: bytes of text that the pass's terms read.
    keep : list
        What contexts point to besides the columns.
    forms : Forms
        How texts of keys are compared.
    texts_of : numpy.ndarray
        int64, of each chunk; equal for those whose keys have the same texts by code.
    """

    batches: tuple[pa.RecordBatch, ...]
    ready: tuple[Prepared, ...]
    rows: Array
    code: Compiled
    contexts: Array
    plain: tuple[int, ...]
    layout: Layout
    texts: Array
    keep: list[Any]
    forms: Forms
    texts_of: Array

    def contexts_with(self, literals: Array) -> Array:
        """Give the contexts of a run, which has these literals."""
        contexts = self.contexts.copy()
        slot = self.code.slots.get(LITERALS)
        if slot is not None:
            contexts[:, :, slot] = literals.ctypes.data
        return contexts

    def table(self, literals: Array, targets: Array) -> tuple[Array, Array]:
        """Give the rows that the skeletons take, and the contexts they point to."""
        contexts = self.contexts_with(literals)
        made = np.zeros((len(self.rows), 6), np.int64)
        first, step = int(contexts.ctypes.data), contexts.strides[0]
        made[:, 0] = first + step * np.arange(len(made))
        made[:, 1], made[:, 3] = np.divmod(self.rows, BLOCK)
        made[:, 2] = made[:, 0] + contexts.strides[1]
        made[:, 4] = targets
        return made, contexts


def binds_together(plan: PassPlan) -> bool:
    """Tell whether chunks of a pass can be bound together: nothing is computed for each before."""
    sink = plan.step.sink
    if plan.residuals or plan.picks:
        return False
    if isinstance(sink, Groups):
        return not plan.spreads and all(item.plain or item.stored for item in plan.encoded)
    if plan.encoded:
        return False
    if isinstance(sink, Rows):
        # Without a predicate and a value to compute, nothing is left to do in threads.
        bare = all(isinstance(node, Column) for node in plan.outputs)
        return bool(plan.outputs) and not (bare and plan.predicate is None)
    return isinstance(sink, Totals)


def width_of(t: pa.DataType | None) -> int:
    """Give the bytes of a type whose values have a fixed width, 0 for others."""
    if t is None or pa.types.is_boolean(t) or pa.types.is_dictionary(t):
        return 0
    return t.bit_width // 8 if pa.types.is_primitive(t) or pa.types.is_decimal(t) else 0


def bind_together(
    plan: PassPlan,
    preparer: Preparer,
    costs: Costs,
    batches: Sequence[pa.RecordBatch],
    literals: tuple[Literal, ...],
) -> Bound | None:
    """Give chunks of a pass that `binds_together`, bound; None if one variant does not suit all."""
    ready = [preparer.prepare(batch, literals) for batch in batches]
    chunks = [prepared.chunk for prepared in ready]
    types = plan.out_schema.types
    outputs = [n for n, node in enumerate(plan.outputs) if _is_plain(node, chunks)]
    plain = tuple(sorted(outputs, key=lambda number: -width_of(types[number])))
    nullable = frozenset[str]().union(*(prepared.nullable for prepared in ready))
    groups = isinstance(plan.step.sink, Groups)
    forms = common_forms(plan, ready) if groups else ()
    if forms is None:
        return None
    code = plan.compiled(nullable, "few" if groups else "rows", forms)
    keep: list[Any] = []
    contexts = np.empty((len(chunks), 2, max(1, len(code.slots))), np.int64)
    nothing = np.zeros(1, np.int64)
    for number, chunk in enumerate(chunks):
        bound = bind_slots(code.slots, chunk, nothing)
        contexts[number, 0, : len(code.slots)] = bound.whole
        contexts[number, 1, : len(code.slots)] = bound.padded
        keep += bound.keep
    names = [plan.outputs[number].name for number in plain]  # type: ignore[attr-defined]
    sources = [[values_address(chunk.columns[name]) for name in names] for chunk in chunks]
    texts = [sum(column_bytes(batch.column(name)) for name in costs.texts) for batch in batches]
    rows = np.array([chunk.rows for chunk in chunks], np.int64)
    layout = layout_of(rows, [width_of(types[number]) for number in plain], sources)
    return Bound(
        tuple(batches), tuple(ready), rows, code, contexts, plain, layout,
        np.array(texts, np.int64), keep, forms, _numbered([prepared.texts for prepared in ready]),
    )  # fmt: skip


def _numbered(texts: Sequence[Mapping[str, pa.Array]]) -> Array:
    """Give a number for each chunk, another one where a key's texts are other objects."""
    numbers: dict[tuple[int, ...], int] = {}
    found = (tuple(map(id, by_name.values())) for by_name in texts)
    return np.array([numbers.setdefault(ids, len(numbers)) for ids in found], np.int64)


def _is_plain(node: Node, chunks: Sequence[Chunk]) -> bool:
    if not isinstance(node, Column) or not width_of(node.type):
        return False
    return not any(chunk.columns[node.name].null_count for chunk in chunks)


def totals_of(bound: Bound, literals: Array, team: Team) -> tuple[Array, int]:
    """Give the state of each chunk, uint8 rows, and how many rows passed in all."""
    code = bound.code
    size = stride(code.cells)
    # Two threads that write to one cache line wait for each other.
    room = -(-size // APART) * APART
    states = np.zeros((len(bound.rows), room), np.uint8)
    states[:, :size] = np.frombuffer(code.begin, np.uint8)
    targets = states.ctypes.data + room * np.arange(len(states))
    table, _kept = bound.table(literals, targets)
    mask, accumulate = code.addresses.get("mask", 0), code.addresses["accumulate"]
    place = int(table.ctypes.data)

    def work(counter: int) -> None:
        while _share.totals_each(mask, accumulate, place, len(table), counter, AT_ONCE):
            pass

    (team if len(table) > 1 else alone)(work)
    return states[:, :size], int(table[:, 5].sum())
