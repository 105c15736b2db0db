"""Rows of a source brought to a device, cell by cell, while it runs over those that are there.

What fits is kept for the next query, all cells of a column in one block, so that neighbours can be
run over at once. What does not fit goes through a few windows, each used anew when what ran over
it has ended: memory bounds how much is kept, never whether there is an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import Retryable
from wherry.base.units import format_bytes
from wherry.data.assemble import (
    Extent,
    Spans,
    assembled,
    can_assemble,
    extent_of,
    of_bytes,
    own_views,
    validity_of,
)
from wherry.data.chunk import column_bytes
from wherry.data.source import Source
from wherry.data.types import layout_of
from wherry.devices.accelerator import ALIGNED, Accelerator, Block
from wherry.devices.loading import DeviceReader, Evidence, Loading
from wherry.render.cuda.columns import ColumnFacts, DeviceColumn, put_column
from wherry.run.cells import Cell
from wherry.run.fetch import Copy, begin_copies
from wherry.run.held import Held, Wanted

Arrays = Mapping[str, Sequence[pa.Array]]
"""The rows of a cell by column, of each one array at least; codes are those of the device."""

Columns = dict[str, DeviceColumn]

_MORE: Final = 8
"""A window has room for an eighth more than was asked for first: texts differ."""


class Rows(Struct, frozen=True):
    """Rows of neighbouring cells that lie on the device."""

    columns: Columns
    cells: tuple[Cell, ...]

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.cells[-1].end - self.cells[0].begin


class _Begun(Struct, frozen=True):
    """A cell on its way."""

    cell: Cell
    columns: Columns
    loads: list[Loading]


class Feed(Struct):
    """Rows of a source that a program is to be run over, and how they come to its device.

    Attributes
    ----------
    facts : mapping
        What is so of the columns in all cells.
    read : callable
        Gives what a cell has on the host.
    spare : callable
        Gives the bytes of the device that are left to programs.
    keeps : bool
        Whether what fits is to be kept.
    ahead : int
        Cells that are loaded while another is run over.
    """

    held: Held
    reader: DeviceReader
    source: Source
    wanted: tuple[Wanted, ...]
    cells: tuple[Cell, ...]
    facts: Mapping[str, ColumnFacts]
    read: Callable[[Cell], Arrays]
    spare: Callable[[], int]
    keeps: bool
    ahead: int
    _loads: list[Loading] = field(default_factory=list)
    _put_bytes: int = 0

    def rows(self, most_rows: Callable[[], int]) -> Generator[Rows]:
        """Give the rows in order; whoever runs over them has queued that before asking for more.

        Parameters
        ----------
        most_rows : callable
            How many are given at a time, if they lie there already; a cell at least.
        """
        texts = tuple(id(self.facts[each.name].dictionary) for each in self.wanted)
        key = (id(self.source), self.wanted, id(self.cells), texts)
        rows = self.held.together(key)
        if rows is None and self.held.has(self.source, self.wanted, self.cells):
            rows = list(together(self._there(), most_rows()))
            self.held.found_together(key, rows, (self.cells, self.facts))
        if rows is None:
            yield from self._loaded(self._rooms())
            return
        for each in self.wanted:
            self.held.of(self.source, each)
        yield from rows

    def evidence(self) -> Evidence:
        """Give which ways bytes took, once all are there."""
        put = Evidence(staged=self._put_bytes)
        return sum((load.wait() for load in self._loads), put)

    def _there(self) -> list[tuple[Cell, Columns]]:
        """Give the cells with their columns, all of which are kept."""
        kept = {each.name: self.held.of(self.source, each) for each in self.wanted}
        found = []
        for cell in self.cells:
            columns = {name: one.find(cell) for name, one in kept.items()}
            known = {n: self._known(n, c) for n, c in columns.items() if c is not None}
            found.append((cell, known))
        return found

    def _known(self, name: str, column: DeviceColumn) -> DeviceColumn:
        """Give a column as what is so of it now: codes stay what they are, and so do other rows."""
        words, nulls = self.facts[name].dictionary, column.nulls and self.facts[name].nulls
        if column.dictionary is words and column.nulls == nulls:
            return column
        return replace(column, dictionary=words, nulls=nulls)

    def keep(self) -> None:
        """Load what is not there yet, all of it to be kept.

        Raises
        ------
        Retryable
            If there is no room for it.
        """
        for _ in self._loaded(self._reserved()):
            pass

    def _rooms(self) -> _Kept | _Windows:
        windows = _Windows(self.held.device, self.ahead + 1)
        if not self.keeps or self.source.decodes:
            return windows
        try:
            return self._reserved()
        except Retryable:
            return windows

    def _loaded(self, rooms: _Kept | _Windows) -> Iterator[Rows]:
        """Load cell after cell, `ahead` of those that are run over."""
        begun: deque[_Begun] = deque()
        try:
            for number in range(len(self.cells) + self.ahead):
                if number < len(self.cells):
                    begun.append(self._begin(number, rooms))
                if number >= self.ahead:
                    next_one = begun[0]
                    for load in next_one.loads:
                        self.held.device.after(load.event())
                    self._loads += begun.popleft().loads
                    rooms.loaded(next_one.cell, next_one.columns)
                    yield Rows(next_one.columns, (next_one.cell,))
        finally:
            for load in (load for one in begun for load in one.loads):
                load.close()

    def _begin(self, number: int, rooms: _Kept | _Windows) -> _Begun:
        cell = self.cells[number]
        given, columns, copies = self.read(cell), Columns(), list[Copy]()
        for each in self.wanted:
            arrays, facts = given[each.name], self.facts[each.name]
            kept = self.held.of(self.source, each).find(cell)
            if kept is not None:
                columns[each.name] = self._known(each.name, kept)
            elif each.whole and not can_assemble(arrays[0].type):
                columns[each.name] = self._put(pa.concat_arrays(list(map(own_views, arrays))))
            else:
                place = rooms.place(number, each, _extent(arrays, facts, each))
                t = self.source.schema.field(each.name).type
                columns[each.name], more = _column(t, arrays, facts, each, place)
                copies += more
        return _Begun(cell, columns, begin_copies(self.reader, self.source, copies))

    def _put(self, array: pa.Array) -> DeviceColumn:
        """Give a column that goes to the device as it is, without being read ahead."""
        column = put_column(self.held.device, array)
        self._put_bytes += sum(block.nbytes for block in column.blocks)
        return column

    def _reserved(self) -> _Kept:
        """Give room for all that is not there yet, to be kept; `Retryable` if there is none."""
        sizes: dict[Wanted, dict[int, Extent]] = {each: {} for each in self.wanted}
        needed = self.spare()
        for number, cell in enumerate(self.cells):
            given = self.read(cell)
            for each in self.wanted:
                arrays = given[each.name]
                if self.held.of(self.source, each).find(cell) is not None:
                    continue
                if each.whole and not can_assemble(arrays[0].type):
                    needed += sum(map(column_bytes, arrays))
                else:
                    sizes[each][number] = _extent(arrays, self.facts[each.name], each)
        needed += sum(_laid_out(list(found.values()))[1] for found in sizes.values())
        if not self.held.make_room(needed, self.source, self.wanted):
            device = self.held.device
            raise Retryable(
                f"{device.name} has {format_bytes(device.free_bytes())} free of "
                f"{format_bytes(device.memory_bytes)}; columns of {self.source.name} and what runs "
                f"over them need {format_bytes(needed)}"
            )
        return _Kept(self, sizes)


class _Place(Struct, frozen=True):
    """Where the bytes of a cell's column go, and what keeps them there."""

    values: int
    valid: int
    data: int
    block: Block


class _Kept:
    """Room that is kept: of each column one block for all cells."""

    def __init__(self, feed: Feed, sizes: Mapping[Wanted, Mapping[int, Extent]]) -> None:
        self._feed = feed
        self._places: dict[tuple[int, Wanted], _Place] = {}
        for each, extents in sizes.items():
            places, nbytes = _laid_out(list(extents.values()))
            if not places:
                continue
            block = feed.held.device.room(nbytes)
            for number, offsets in zip(extents, places, strict=True):
                self._places[number, each] = _at(block, offsets)

    def place(self, number: int, wanted: Wanted, extent: Extent) -> _Place:
        """Give where a cell's column goes."""
        del extent
        return self._places[number, wanted]

    def loaded(self, cell: Cell, columns: Mapping[str, DeviceColumn]) -> None:
        """Keep the columns of a cell."""
        for each in self._feed.wanted:
            kept = self._feed.held.of(self._feed.source, each)
            if kept.find(cell) is None:
                kept.put(cell, columns[each.name])


class _Windows:
    """A few rooms that cells use in turns."""

    def __init__(self, device: Accelerator, count: int) -> None:
        self._device, self._count = device, count
        self._blocks: dict[tuple[int, Wanted], Block] = {}

    def place(self, number: int, wanted: Wanted, extent: Extent) -> _Place:
        """Give where a cell's column goes: where that lay of which all is queued by now."""
        self._device.after_launches()
        (offsets,), nbytes = _laid_out([extent])
        key = number % self._count, wanted
        block = self._blocks.get(key)
        if block is None or block.nbytes < nbytes:
            self._blocks.pop(key, None)
            block = self._blocks[key] = self._device.room(nbytes + nbytes // _MORE)
        return _at(block, offsets)

    def loaded(self, cell: Cell, columns: Mapping[str, DeviceColumn]) -> None:
        """Do nothing: the next cell comes here."""


def together(cells: Sequence[tuple[Cell, Columns]], most_rows: int) -> Iterator[Rows]:
    """Give cells as rows, neighbours that lie one behind the other at once."""
    begin = 0
    for end in range(1, len(cells) + 1):
        more = end < len(cells) and _goes_on(cells[end - 1], cells[end])
        if more and cells[end][0].end - cells[begin][0].begin <= most_rows:
            continue
        found = tuple(cell for cell, _ in cells[begin:end])
        rows = found[-1].end - found[0].begin
        columns = {name: replace(c, rows=rows) for name, c in cells[begin][1].items()}
        yield Rows(columns, found)
        begin = end


def _goes_on(
    before: tuple[Cell, dict[str, DeviceColumn]], behind: tuple[Cell, dict[str, DeviceColumn]]
) -> bool:
    """Tell whether rows follow each other in the source and in memory."""
    # Where a sum begins anew it does so whatever is held: see `runs_of`.
    return behind[0].goes_on(before[0]) and all(
        _follows(column, behind[1][name]) for name, column in before[1].items()
    )


def _follows(before: DeviceColumn, behind: DeviceColumn) -> bool:
    """Tell whether the rows of a column lie right behind those of another."""
    kind = layout_of(_stored(before.type))
    if kind == "bits":
        values = _bit(before.values, before.begin) + before.rows == _bit(
            behind.values, behind.begin
        )
    else:
        # Offsets count from where their own cell's texts begin.
        values = kind == "fixed" and before.values + before.rows * before.width == behind.values
    valid = _bit(before.valid, before.valid_from), _bit(behind.valid, behind.valid_from)
    if not before.values and not behind.values:
        values = True
    if bool(before.valid) != bool(behind.valid):
        return False
    return values and (not before.valid or valid[0] + before.rows == valid[1])


def _bit(address: int, bits: int) -> int:
    return address * 8 + bits


def _stored(t: pa.DataType) -> pa.DataType:
    return t.index_type if pa.types.is_dictionary(t) else t


def _extent(arrays: Sequence[pa.Array], facts: ColumnFacts, wanted: Wanted) -> Extent:
    """Give what a cell's column takes on the device."""
    if wanted.whole:
        return extent_of(arrays, nulls=facts.nulls)
    return Extent(0, -(-sum(map(len, arrays)) // 8) * facts.nulls, 0)


def _laid_out(extents: Sequence[Extent]) -> tuple[list[tuple[int, int, int]], int]:
    """Give where the values, bits of validity and texts of cells go in one block, and its size.

    Values of all cells come first, then bits, then texts, so that those of whole cells follow each
    other.
    """
    at, columns = 0, list[list[int]]()
    for sizes in zip(*((e.values, e.valid, e.data) for e in extents), strict=True):
        found = []
        for size in sizes:
            found.append(at)
            at += -(-size // ALIGNED) * ALIGNED
        columns.append(found)
    return list(zip(*columns, strict=True)), at


def _at(block: Block, offsets: tuple[int, int, int]) -> _Place:
    values, valid, data = (block.address + offset for offset in offsets)
    return _Place(values, valid, data, block)


def _column(
    t: pa.DataType,
    arrays: Sequence[pa.Array],
    facts: ColumnFacts,
    wanted: Wanted,
    place: _Place,
) -> tuple[DeviceColumn, list[Copy]]:
    """Give a cell's column as it will be once some copies are made, and those."""
    rows, copies = sum(map(len, arrays)), list[Copy]()
    column = DeviceColumn(t, rows, dictionary=facts.dictionary, blocks=(place.block,))
    if facts.nulls:
        valid = validity_of(arrays) or (of_bytes(np.full(-(-rows // 8), 255, np.uint8)),)
        copies += _copies(valid, place.valid, place.block)
        column = replace(column, nulls=True, valid=place.valid)
    if not wanted.whole:
        return column, copies
    found = assembled(arrays)
    copies += _copies(found.values, place.values, place.block)
    copies += _copies(found.data, place.data, place.block)
    return replace(column, values=place.values, data=place.data), copies


def _copies(spans: Spans, target: int, block: Block) -> Iterator[Copy]:
    for span in spans:
        yield Copy(span, target, block)
        target += span.nbytes
