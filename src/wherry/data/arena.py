"""Columns that were read into one block of memory, as Arrow arrays whose buffers are its slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

from wherry.data.arrays import empty_batch
from wherry.data.file_reads import Evidence
from wherry.data.ipc_layout import Layout
from wherry.data.ipc_nodes import Nodes
from wherry.data.mapping import reading
from wherry.data.types import layout_of
from wherry.data.validate import check_column

_Ints = npt.NDArray[np.int64]
_EMPTY = pa.py_buffer(b"")


class Placed(Struct, frozen=True, eq=False):
    """Messages of one schema, and where their buffers lie in an arena.

    Attributes
    ----------
    places : int64 [k]
        Bytes from the arena's beginning, of every buffer of `layout`; -1 of those not read.
    """

    nodes: Nodes
    layout: Layout
    places: _Ints


class Read(Struct, frozen=True):
    """What was read for an arena.

    Attributes
    ----------
    needed : int
        Bytes of the buffers asked for, those of dictionaries included.
    read : int
        Bytes of the extents that hold them: whole pages.
    extents : int
        How many.
    evidence : Evidence
        Which way they took.
    """

    needed: int
    read: int
    extents: int
    evidence: Evidence


class Arena:
    """Columns of some record batches of a file, in one block of memory.

    Attributes
    ----------
    memory : pyarrow.Buffer
        It lives as long as anything that refers to it.
    schema : pyarrow.Schema
        Of the columns, in the order they were asked for.
    batches : tuple of int
        The numbers that the record batches have in the file.
    read : Read
    """

    def __init__(
        self,
        *,
        label: str,
        memory: pa.Buffer,
        schema: pa.Schema,
        starts: Sequence[int],
        batches: Sequence[int],
        stored: Placed,
        ids: Sequence[int],
        dictionaries: Mapping[int, Placed],
        read: Read,
    ) -> None:
        self.memory = memory
        self.schema = schema
        self.batches = tuple(batches)
        self.read = read
        self._label = label
        self._starts = tuple(starts)
        self._stored = stored
        self._ids = ids
        self._values = dictionaries
        self._dictionaries: dict[int, pa.Array] = {}

    def batch(self, position: int) -> pa.RecordBatch:
        """Give the record batch `batches[position]`; nothing is copied.

        The values that programs trust are looked at: offsets, indices, text, views.

        Raises
        ------
        CorruptError
            When the buffers do not hold what their types promise.
        """
        number = self.batches[position]
        name = f"{self._label}, record batch {number}"
        with reading(name):
            arrays = [self._array(self._stored, number, node, name)[0] for node in self._starts]
        for field, array in zip(self.schema, arrays, strict=True):
            check_column(field, array, name)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def table(self) -> pa.Table:
        """Give all record batches, in the order they were asked for."""
        batches = [self.batch(position) for position in range(len(self.batches))]
        return pa.Table.from_batches(batches or [empty_batch(self.schema)])

    def _array(self, placed: Placed, message: int, node: int, name: str) -> tuple[pa.Array, int]:
        """Give the array of a node and what is below it, and the number of the node behind."""
        t, layout = placed.nodes.types[node], placed.layout
        length, nulls = int(layout.lengths[message, node]), int(layout.nulls[message, node])
        first, end = layout.first[message, node : node + 2].tolist()
        # Where nothing is null, Arrow takes no bitmap, whatever stands first.
        buffers = [self._buffer(placed, buffer) for buffer in range(first, end)]
        node += 1
        kind = layout_of(t)
        if kind == "struct":
            children = []
            for _ in range(t.num_fields):
                child, node = self._array(placed, message, node, name)
                children.append(child)
            return pa.Array.from_buffers(t, length, buffers, nulls, children=children), node
        if kind == "dictionary":
            indices = pa.Array.from_buffers(t.index_type, length, buffers, nulls)
            values = self._dictionary(self._ids[node - 1], name)
            whole = pa.DictionaryArray.from_arrays(indices, values, ordered=t.ordered, safe=False)
            return whole, node
        return pa.Array.from_buffers(t, length, buffers, nulls), node

    def _buffer(self, placed: Placed, buffer: int) -> pa.Buffer:
        place, size = int(placed.places[buffer]), int(placed.layout.sizes[buffer])
        return self.memory.slice(place, size) if size else _EMPTY

    def _dictionary(self, name: int, label: str) -> pa.Array:
        """Give a dictionary; one that grew while the file was written is put together here."""
        if name not in self._dictionaries:
            placed = self._values[name]
            count = len(placed.layout.rows)
            parts = [self._array(placed, i, 0, label)[0] for i in range(count)]
            for part in parts:
                part.validate(full=True)  # or concatenating them might read beyond them
            self._dictionaries[name] = parts[0] if count == 1 else pa.concat_arrays(parts)
        return self._dictionaries[name]
