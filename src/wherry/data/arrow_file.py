"""An Arrow IPC file whose columns are read into memory at once, only those that are asked for.

A mapping brings pages when they are touched; this brings all there is to bring by a few large
requests, also past the page cache, into the memory that its reader has.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wherry.base.errors import CorruptError, InputError, unknown_name
from wherry.data.arena import Arena, Placed, Read
from wherry.data.extents import plan_extents
from wherry.data.file_reads import Evidence, check_unchanged
from wherry.data.ipc_footer import Blocks, File, open_descriptor, read_footer
from wherry.data.ipc_layout import DICTIONARY, Layout, decode, dictionary_parts, read_metadata
from wherry.data.ipc_nodes import Nodes, nodes_of
from wherry.data.readers import Posix, Reader

_Ints = npt.NDArray[np.int64]


class ArrowFile:
    """An Arrow IPC file, open to be read from. Its metadata are decoded; no body is touched yet.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    schema : pyarrow.Schema
    layout : Layout
        Where the buffers of its record batches lie.
    nodes : Nodes
        What they are buffers of.

    Raises
    ------
    InputError
        When the file is missing, no Arrow IPC file (a stream, say), compressed, big-endian, or has
        a type that Wherry does not read.
    CorruptError
        When it is truncated or its metadata say what cannot be, with the offset.

    Examples
    --------
    >>> with ArrowFile("orders.arrow") as file:
    ...     table = file.read(["price"], reader=Posix("direct")).table()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open_descriptor(Path(path))
        try:
            footer = read_footer(self._file)
            self.schema = footer.schema
            self.nodes = nodes_of(footer.schema.types)
            metadata = read_metadata(self._file, footer.batches)
            self.layout = decode(metadata, footer.batches, self.nodes, self._file.label)
            self._ids = footer.ids
            self._values = _dictionaries(self._file, footer.dictionaries, self.nodes, footer.ids)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was read stays."""
        os.close(self._file.descriptor)

    @property
    def rows(self) -> tuple[int, ...]:
        """How many rows each record batch has."""
        return tuple(self.layout.rows.tolist())

    def read(
        self,
        columns: Sequence[str],
        batches: Sequence[int] | None = None,
        reader: Reader | None = None,
        gap: int | None = None,
    ) -> Arena:
        """Read columns into one block of memory.

        Parameters
        ----------
        columns : sequence of str
        batches : sequence of int, optional
            Numbers of record batches; all of them unless given.
        reader : Reader, optional
            `Posix()`, through the page cache, unless given.
        gap : int, optional
            Most bytes between two buffers that are read rather than skipped; the reader's own
            figure unless given.

        Raises
        ------
        InputError
            When there is no such column or batch, or the file cannot be read or was changed.
        CorruptError
            When it was truncated, or lacks a dictionary.
        """
        numbers = [self._column(name) for name in columns]
        chosen = list(range(len(self.layout.rows)) if batches is None else batches)
        for batch in chosen:
            self._check_batch(batch)
        spans = [self.nodes.spans[number] for number in numbers]
        used = {self._ids[node] for span in spans for node in range(*span)} - {-1}
        names = sorted(used) if chosen else []
        parts = [(self.nodes, self.layout, chosen_buffers(self.layout, chosen, spans))]
        for nodes, layout in map(self._dictionary, names):
            every = chosen_buffers(layout, range(len(layout.rows)), nodes.spans)
            parts.append((nodes, layout, every))
        offsets = np.concatenate([layout.offsets[kept] for _, layout, kept in parts])
        sizes = np.concatenate([layout.sizes[kept] for _, layout, kept in parts])
        reader = reader or Posix()
        extents, places = plan_extents(offsets, sizes, reader.gap if gap is None else gap)
        memory = reader.allocate(extents.size)
        evidence = reader.read(self._file, extents, memory) if len(places) else Evidence()
        check_unchanged(self._file, self._file.descriptor)
        stored, *dictionaries = _placed(parts, places)
        return Arena(
            label=self._file.label,
            memory=memory,
            schema=pa.schema([self.schema.field(number) for number in numbers]),
            starts=[start for start, _ in spans],
            batches=chosen,
            stored=stored,
            ids=self._ids,
            dictionaries=dict(zip(names, dictionaries, strict=True)),
            read=Read(int(sizes.sum()), extents.size, len(extents.offsets), evidence),
        )

    def _column(self, name: str) -> int:
        number = self.schema.get_field_index(name)
        if number < 0:
            raise unknown_name("column", name, self.schema.names)
        return int(number)

    def _check_batch(self, number: int) -> None:
        count = len(self.layout.rows)
        if not 0 <= number < count:
            raise InputError(f"{self._file.label} has no record batch {number}; it has {count}")

    def _dictionary(self, name: int) -> tuple[Nodes, Layout]:
        found = self._values.get(name)
        if found is None:
            raise CorruptError(f"{self._file.label} lacks dictionary {name} of its schema")
        return found


def chosen_buffers(
    layout: Layout, messages: Sequence[int], spans: Sequence[tuple[int, int]]
) -> _Ints:
    """Give the numbers of the buffers of some columns of some messages; empty ones left out.

    Parameters
    ----------
    spans : sequence of (int, int)
        The columns, as their first node and the one behind their last.
    """
    first = layout.first[np.array(messages, np.int64)]
    low = first[:, [start for start, _ in spans]].reshape(-1)
    high = first[:, [end for _, end in spans]].reshape(-1)
    counts = high - low
    begins = np.cumsum(counts) - counts
    found = np.repeat(low - begins, counts) + np.arange(int(counts.sum()))
    return found[layout.sizes[found] > 0]


def _placed(parts: Sequence[tuple[Nodes, Layout, _Ints]], places: _Ints) -> list[Placed]:
    """Give to every part its piece of `places`, which are of the buffers that each keeps."""
    made = []
    for nodes, layout, kept in parts:
        found = np.full(len(layout.offsets), -1, np.int64)
        found[kept], places = places[: len(kept)], places[len(kept) :]
        made.append(Placed(nodes, layout, found))
    return made


def _dictionaries(
    file: File, blocks: Blocks, nodes: Nodes, ids: Sequence[int]
) -> dict[int, tuple[Nodes, Layout]]:
    """Decode the messages of each dictionary that the schema has.

    Fields may share one; pyarrow saw to it that they have one type then.
    """
    metadata = read_metadata(file, blocks)
    parts = dictionary_parts(metadata, blocks, file.label)
    found: dict[int, tuple[Nodes, Layout]] = {}
    for name, t in zip(ids, nodes.types, strict=True):
        if name in parts and name not in found:
            values = nodes_of([t.value_type])
            layout = decode(metadata, blocks, values, file.label, kind=DICTIONARY, only=parts[name])
            found[name] = values, layout
    return found
