"""A prepared pass over one chunk: skeletons called, results read."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.data.segment import SegmentPool
from wherry.ir.expr import Column
from wherry.ir.resolve import type_of
from wherry.ir.stage import Groups, Matches, Order, Rows, Take
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Context, bind_slots
from wherry.render.encode import decoded, key_arrays, slot_arrays
from wherry.render.gather import Arrangement, Deferred, Piece, gather, places_of
from wherry.render.matches import find_pairs
from wherry.render.output import Selection, compute_column, keep_rows
from wherry.render.passes import Compiled, PassPlan
from wherry.render.prepare import Prepared
from wherry.render.state import read, stride

_filter, _aggregate, _group_by = (skeletons(m) for m in ("filter", "aggregate", "group_by"))

_FIRST_GROUPS: Final = 1024
_GROWTH: Final = 4
"""Growing by 16 made grouping by order key 1.6 to 1.8 times slower than by 4 (measured)."""


class Run:
    """One pass over one chunk.

    Parameters
    ----------
    literals : numpy.ndarray
        As `pack_literals` gave them.
    """

    def __init__(
        self, plan: PassPlan, prepared: Prepared, literals: np.ndarray[Any, Any], pool: SegmentPool
    ) -> None:
        self._plan, self._prepared, self._pool = plan, prepared, pool
        self._chunk = prepared.chunk
        direct = prepared.sizes is not None
        self._code: Compiled = plan.compiled(prepared.nullable, direct=direct)
        self._context: Context = bind_slots(self._code.slots, self._chunk, literals)
        self._whole, self._padded = self._context.addresses
        self.selected = self._chunk.rows

    def output(self, after: Arrangement, *, defer: bool = False) -> Piece:
        """Give what the sink makes of the chunk, arranged as the steps `after` say.

        With `defer`, rows are only chosen; whoever gathers them writes them.
        """
        sink = self._plan.step.sink
        if isinstance(sink, Rows):
            return self._rows(after, defer=defer)
        if isinstance(sink, Matches):
            return self._matches(sink, after, defer=defer)
        columns = self._groups() if isinstance(sink, Groups) else self._totals()
        return arrange(self._plan.batch_of(columns), after, self._pool)

    def _address(self, name: str) -> int:
        return self._code.addresses.get(name, 0)

    def _select(self) -> Selection:
        rows = self._chunk.rows
        if self._plan.predicate is None:
            return Selection(rows, rows)
        words = np.empty((rows + BLOCK - 1) // BLOCK, np.int64)
        self.selected = _filter.select(
            self._address("mask"), self._whole, self._chunk.blocks, self._padded, self._chunk.rest,
            words.ctypes.data,
        )  # fmt: skip
        return Selection(rows, self.selected, words)

    def _computed(self, number: int, kept: Selection) -> pa.Array:
        return compute_column(
            self._plan.out_schema.types[number], self._address(f"values{number}"),
            (self._whole, self._padded), self._chunk, kept, pool=self._pool,
        )  # fmt: skip

    def _rows(self, after: Arrangement, *, defer: bool) -> Piece:
        schema, kept = self._plan.out_schema, self._select()
        computed = {
            number: self._computed(number, kept)
            for number, node in enumerate(self._plan.outputs)
            if not isinstance(node, Column)
        }
        places = self._places(after, kept, computed)
        final = kept
        if places is not None:
            final = Selection(kept.rows, len(places), order=kept.numbers[places])
        if defer:
            return self._deferred(final, computed, places)
        columns = []
        for number, node in enumerate(self._plan.outputs):
            if isinstance(node, Column):
                columns.append(keep_rows(self._chunk.columns[node.name], final, self._pool))
            elif places is None:
                columns.append(computed[number])
            else:
                moved = Selection(kept.count, len(places), order=places)
                columns.append(keep_rows(computed[number], moved, self._pool))
        return _batch(columns, schema, final.count)

    def _matches(self, sink: Matches, after: Arrangement, *, defer: bool) -> Piece:
        functions = self._address("mask"), self._address("probe")
        pairs = find_pairs(
            sink, self._prepared.literals, functions, self._context.addresses, self._chunk,
            pool=self._pool,
        )  # fmt: skip
        self.selected = pairs.passed
        left, schema = pairs.left, self._plan.out_schema
        sides = []
        for number, node in enumerate(self._plan.outputs):
            if isinstance(node, Column):
                sides.append((self._chunk.columns[node.name], left))
            else:
                made = self._computed(number, pairs.kept)
                sides.append((made, pairs.repeated()))
        sides += [(array, pairs.right) for array in pairs.added]
        if not (after or defer):
            columns = [keep_rows(array, rows, self._pool) for array, rows in sides]
            return _batch(columns, schema, pairs.count)
        chosen = tuple((array, None if c.whole else c.numbers) for array, c in sides)
        rows = Deferred(schema, chosen, pairs.count)
        return gather([rows], after, self._pool) if after else rows

    def _deferred(
        self, final: Selection, computed: dict[int, pa.Array], places: np.ndarray[Any, Any] | None
    ) -> Deferred:
        numbers = None if final.whole else final.numbers
        columns = [
            (self._chunk.columns[node.name], numbers)
            if isinstance(node, Column)
            else (computed[number], places)
            for number, node in enumerate(self._plan.outputs)
        ]
        return Deferred(self._plan.out_schema, tuple(columns), final.count)

    def _places(
        self, after: Arrangement, kept: Selection, computed: dict[int, pa.Array]
    ) -> np.ndarray[Any, Any] | None:
        """Give which of the kept rows the answer has, in its order; None: all as they are."""
        if not after:
            return None
        names = {key.column for step in after if isinstance(step, Order) for key in step.by}
        schema, keys = self._plan.out_schema, {}
        for number, node in enumerate(self._plan.outputs):
            if schema.names[number] in names:
                column = isinstance(node, Column)
                source = self._chunk.columns[node.name] if column else computed[number]  # type: ignore[attr-defined]
                keys[schema.names[number]] = (
                    keep_rows(source, kept, self._pool) if column else source
                )
        return places_of(keys, kept.count, after)

    def _totals(self) -> list[pa.Array]:
        state = np.frombuffer(bytearray(self._code.begin), np.uint8)
        self.selected = _aggregate.totals(
            self._address("mask"), self._address("accumulate"), self._whole, self._chunk.blocks,
            self._padded, self._chunk.rest, state.ctypes.data,
        )  # fmt: skip
        return self._results(state.reshape(1, -1))

    def _results(self, states: np.ndarray[Any, Any]) -> list[pa.Array]:
        found = []
        types = self._plan.result_types
        for call, cell, t in zip(self._plan.calls, self._code.cells, types, strict=True):
            array = read(cell, states)
            name = getattr(call.argument, "name", "")
            if call.kind != "count" and name in self._prepared.texts:
                array = decoded(array, self._prepared.texts[name], t)
            found.append(array)
        return found

    def _groups(self) -> list[pa.Array]:
        keys, states = self._direct() if self._prepared.sizes is not None else self._hashed()
        found = []
        types = self._plan.out_schema.types
        for node, array, t in zip(self._plan.keys, keys, types, strict=False):
            texts = self._prepared.texts.get(getattr(node, "name", ""))
            found.append(array if texts is None else decoded(array, texts, t))
        return found + self._results(states)

    def _direct(self) -> tuple[list[pa.Array], np.ndarray[Any, Any]]:
        sizes = self._prepared.sizes or ()
        slots = int(np.prod([s + 1 for s in sizes], dtype=np.int64))
        cells = self._code.cells
        table = np.full(slots, -1, np.int32)
        seen, progress = np.empty(slots, np.int64), np.zeros(1, np.int64)
        states = np.empty((slots, stride(cells)), np.uint8)
        begin, scratch = (
            np.frombuffer(self._code.begin or b"\0", np.uint8),
            np.empty(2 * BLOCK, np.int64),
        )
        groups = _group_by.direct(
            self._address("mask"), self._address("keys"), self._address("scatter"), self._whole,
            self._chunk.blocks, self._padded, self._chunk.rest, table.ctypes.data, seen.ctypes.data,
            states.ctypes.data, stride(cells), begin.ctypes.data, scratch.ctypes.data,
            progress.ctypes.data,
        )  # fmt: skip
        self.selected = int(progress[0])
        keys = slot_arrays(seen[:groups], sizes)
        booleans = [
            pa.types.is_boolean(getattr(k, "type", None) or pa.null()) for k in self._plan.keys
        ]
        keys = [k.cast(pa.bool_()) if b else k for k, b in zip(keys, booleans, strict=True)]
        return keys, states[:groups]

    def _hashed(self) -> tuple[list[pa.Array], np.ndarray[Any, Any]]:
        cells, words = self._code.cells, self._code.key_words
        begin = np.frombuffer(self._code.begin or b"\0", np.uint8)
        scratch = np.empty((words + 1) * BLOCK, np.int64)
        progress = np.zeros(3, np.int64)
        capacity = _FIRST_GROUPS
        seen = np.empty((capacity, words), np.int64)
        states = np.empty((capacity, stride(cells)), np.uint8)
        table = np.full(2 * capacity, -1, np.int32)
        while not _group_by.hashed(
            self._address("mask"), self._address("keys"), self._address("scatter"), self._whole,
            self._chunk.blocks, self._padded, self._chunk.rest, words, table.ctypes.data,
            len(table), seen.ctypes.data, capacity, states.ctypes.data, stride(cells),
            begin.ctypes.data, scratch.ctypes.data, progress.ctypes.data,
        ):  # fmt: skip
            capacity *= _GROWTH
            seen, states = _grown(seen, capacity), _grown(states, capacity)
            table = np.full(2 * capacity, -1, np.int32)
            _group_by.rehash(
                table.ctypes.data, len(table), seen.ctypes.data, words, int(progress[1])
            )
        groups, self.selected = int(progress[1]), int(progress[2])
        types = tuple(pa.int32() if _is_text(k) else type_of(k) for k in self._plan.keys)
        nulls = words > sum(self._code.key_widths)
        keys = key_arrays(seen[:groups], types, self._code.key_widths, nulls=nulls)
        return keys, states[:groups]


def _is_text(node: Any) -> bool:
    return getattr(node, "name", "").startswith("$code ")


def _grown(array: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    made = np.empty((rows, array.shape[1]), array.dtype)
    made[: len(array)] = array
    return made


def arrange(batch: pa.RecordBatch, steps: Arrangement, pool: SegmentPool) -> pa.RecordBatch:
    """Give `batch` after orders and takes; what only loses its end is a reference."""
    if not steps:
        return batch
    if all(isinstance(step, Take) for step in steps):
        return batch.slice(0, min(step.count for step in steps if step.count is not None))
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    places = places_of(columns, batch.num_rows, steps)
    kept = Selection(batch.num_rows, len(places), order=places)
    return _batch([keep_rows(c, kept, pool) for c in batch.columns], batch.schema, len(places))


def _batch(columns: list[pa.Array], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(columns, names=schema.names)
