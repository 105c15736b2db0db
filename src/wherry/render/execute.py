"""A prepared pass over one chunk: skeletons called, results read."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.data.segment import SegmentPool
from wherry.ir.expr import Column
from wherry.ir.literals import bind
from wherry.ir.stage import Groups, Matches, Order, Rows, Take
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Context, bind_slots, values_address
from wherry.render.buckets import bucket_column, dealt, into_buckets, number_rows
from wherry.render.dealt import can_deal
from wherry.render.encode import decoded
from wherry.render.gather import Arrangement, Deferred, Piece, gather, places_of
from wherry.render.grouped import Found, Start
from wherry.render.grouping import group
from wherry.render.matches import find_pairs
from wherry.render.output import Selection, compute_column, keep_rows
from wherry.render.passes import Compiled, PassPlan
from wherry.render.picks import picked
from wherry.render.prepare import Prepared
from wherry.render.state import Cell, Fields, Matrix, read
from wherry.render.waiting import Waiting

_filter, _aggregate = (skeletons(m) for m in ("filter", "aggregate"))
_MANY: Final = 0.25
"""From this share of rows on all are read in step: gathering some takes as long."""


class Run:
    """One pass over one chunk.

    Parameters
    ----------
    literals : numpy.ndarray
        As `pack_literals` gave them.
    start : Start, optional
        What is grouped already of the chunk.
    """

    def __init__(
        self,
        plan: PassPlan,
        prepared: Prepared,
        literals: np.ndarray[Any, Any],
        pool: SegmentPool,
        start: Start | None = None,
    ) -> None:
        self._plan, self._prepared, self._pool = plan, prepared, pool
        self._start = start
        self._chunk, self._literals = prepared.chunk, literals
        self.selected = self._chunk.rows
        self.groups = 0
        if not isinstance(plan.step.sink, Groups):
            self._code: Compiled = plan.compiled(prepared.nullable)
            self._context: Context = bind_slots(self._code.slots, self._chunk, literals)
            self._whole, self._padded = self._context.addresses

    def output(self, after: Arrangement, *, defer: bool = False) -> Piece:
        """Give what the sink makes of the chunk, arranged as the steps `after` say.

        With `defer`, rows are only chosen; whoever gathers them writes them.
        """
        sink = self._plan.step.sink
        if isinstance(sink, Rows):
            return self._rows(after, defer=defer)
        if isinstance(sink, Matches):
            return self._matches(sink, after, defer=defer)
        columns = self._groups(defer=defer) if isinstance(sink, Groups) else self._totals()
        if isinstance(columns, Waiting):
            return columns
        self.groups = len(columns[0]) if isinstance(sink, Groups) else 0
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
        buckets = None if defer else into_buckets(after)
        if buckets is not None and kept.count >= _MANY * kept.rows:
            return self._bucketed(buckets, kept)
        computed = {
            number: self._computed(number, kept)
            for number, node in enumerate(self._plan.outputs)
            if not isinstance(node, Column)
        }
        places = self._places(after, kept, computed)
        final = kept
        if places is not None:
            order = places if kept.whole else kept.numbers[places]
            final = Selection(kept.rows, len(places), order=order)
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

    def _bucketed(self, step: Order, kept: Selection) -> pa.RecordBatch:
        """Give the kept rows in the order of their buckets, whose number is not moved but made."""
        schema, outputs = self._plan.out_schema, self._plan.outputs
        key = schema.names.index(step.by[0].column)
        node, function, addresses = outputs[key], 0, (self._whole, self._padded)
        if isinstance(node, Column):
            addresses = (values_address(self._chunk.columns[node.name]),) * 2
        else:
            function = self._address(f"values{key}")
        assert step.buckets is not None
        words = None if kept.whole else kept.words
        numbered = number_rows(
            function, addresses, self._chunk, words, step.buckets, pool=self._pool
        )
        every = Selection(kept.rows, kept.rows)
        others = [
            self._chunk.columns[node.name]
            if isinstance(node, Column)
            else self._computed(number, every)
            for number, node in enumerate(outputs)
            if number != key
        ]
        columns = dealt(others, numbered, self._pool)
        columns.insert(key, bucket_column(numbered.counts[:-1], self._pool))
        return _batch(columns, schema, numbered.kept)

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

    def summed(self) -> tuple[Compiled, np.ndarray[Any, Any]]:
        """Give the state of totals over the chunk, and the variant that says what lies in it."""
        state = np.frombuffer(bytearray(self._code.begin), np.uint8)
        self.selected = _aggregate.totals(
            self._address("mask"), self._address("accumulate"), self._whole, self._chunk.blocks,
            self._padded, self._chunk.rest, state.ctypes.data,
        )  # fmt: skip
        return self._code, state

    def _totals(self) -> list[pa.Array]:
        code, state = self.summed()
        return self._results(code.cells, Matrix(state.reshape(1, -1)), (), ())

    def _results(
        self,
        cells: Sequence[Cell],
        found: Fields,
        alike: Sequence[Hashable],
        counted: Sequence[bool],
    ) -> list[pa.Array]:
        arrays: list[pa.Array] = []
        # Means come with sums and counts that others may have asked for: each is read once.
        seen: dict[Hashable, pa.Array] = {}
        types = self._plan.result_types
        for number, (call, cell, t) in enumerate(zip(self._plan.calls, cells, types, strict=True)):
            pick = self._plan.picks.get(number)
            key = (alike[number] if alike else number, t, pick)
            if key not in seen:
                array = read(cell, found, counted=counted[number] if counted else True)
                if pick is not None:
                    node = bind(pick, self._prepared.literals)
                    array = picked(node, t, array, self._chunk, self._pool)
                name = getattr(call.argument, "name", "")
                if call.kind != "count" and name in self._prepared.texts:
                    array = decoded(array, self._prepared.texts[name], t)
                seen[key] = array
            arrays.append(seen[key])
        return arrays

    def _groups(self, *, defer: bool) -> list[pa.Array] | Waiting:
        waits = defer and can_deal(self._plan)
        found = group(
            self._plan, self._prepared, self._literals, self._pool, self._start, waits=waits
        )
        if isinstance(found, Waiting):
            self.selected = found.num_rows
            return found
        self.selected = found.selected
        return self.columns(found)

    def columns(self, found: Found) -> list[pa.Array]:
        """Give the keys and aggregates of groups as columns."""
        results = self._results(found.cells, found.states, found.alike, found.counted)
        return found.keys + results


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
