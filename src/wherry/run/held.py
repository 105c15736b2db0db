"""Columns of sources that lie in the memory of one device, and stay there while there is room."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from threading import RLock
from typing import Any, Final

import pyarrow as pa
from msgspec import Struct, field

from wherry.base.memo import Memo, make_place
from wherry.data.source import Source
from wherry.data.vocabulary import Vocabulary
from wherry.devices.accelerator import Accelerator, Block
from wherry.render.cuda.columns import DeviceColumn
from wherry.run.cells import Cell

_MOST_TOGETHER: Final = 64
"""Queries whose rows are known to lie together: what they refer to is kept by them."""


class Wanted(Struct, frozen=True):
    """A column, and whether its values are wanted or only which of them are null."""

    name: str
    whole: bool


class Kept(Struct):
    """What a device keeps of a column: rows that were loaded together, by where they begin."""

    begins: list[int] = field(default_factory=list)
    columns: list[DeviceColumn] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def find(self, cell: Cell) -> DeviceColumn | None:
        """Give the rows of a cell, if they are all there together."""
        number = bisect_right(self.begins, cell.begin) - 1
        if number < 0:
            return None
        column, start = self.columns[number], cell.begin - self.begins[number]
        if start + cell.rows > column.rows:
            return None
        return column if cell.rows == column.rows else column.slice(start, cell.rows)

    def put(self, cell: Cell, column: DeviceColumn) -> None:
        """Keep the rows of a cell, which were not found."""
        number = bisect_right(self.begins, cell.begin)
        if number and self.begins[number - 1] == cell.begin:
            # There were fewer from there on.
            self.columns[number - 1] = column
        else:
            self.begins.insert(number, cell.begin)
            self.columns.insert(number, column)
        self.blocks += [block for block in column.blocks if block not in self.blocks]

    @property
    def nbytes(self) -> int:
        """The bytes of its blocks."""
        return sum(block.nbytes for block in self.blocks)


class Held:
    """What one device holds; whoever asks has its `lock`.

    Columns of a source go with it: nobody can ask for them any more. Those that were asked for
    longest ago go when there is no room.

    Attributes
    ----------
    looked_at : Memo
        Of a source: what its chunks are to programs, for which all of them are looked at.
    """

    def __init__(self, device: Accelerator) -> None:
        self.device, self.lock = device, RLock()
        self.looked_at = Memo(_MOST_TOGETHER)
        self._together: dict[Any, tuple[list[Any], Any]] = {}
        self._columns: dict[tuple[int, Wanted], Kept] = {}
        self._words: dict[tuple[int, str], Vocabulary] = {}
        self._sources: set[int] = set()
        self._stay: set[tuple[int, Wanted]] = set()

    def of(self, source: Source, wanted: Wanted) -> Kept:
        """Give what is kept of a column, which was asked for last from now on."""
        self._watch(source)
        key = id(source), wanted
        kept = self._columns.pop(key, None) or Kept()
        self._columns[key] = kept
        return kept

    def has(self, source: Source, wanted: Sequence[Wanted], cells: Sequence[Cell]) -> bool:
        """Tell whether all of these rows are kept."""
        found = [self._columns.get((id(source), each)) for each in wanted]
        return all(
            kept is not None and all(kept.find(cell) is not None for cell in cells)
            for kept in found
        )

    def together(self, key: Any) -> list[Any] | None:
        """Give rows that were found to lie one behind the other, unless columns went since."""
        found = self._together.get(key)
        return None if found is None else found[0]

    def found_together(self, key: Any, rows: list[Any], of: Any) -> None:
        """Keep rows that lie one behind the other, until columns go.

        Parameters
        ----------
        key : tuple
            The source's identity comes first.
        of : object
            What else `key` has identities of: kept as long, so that none comes again.
        """
        make_place(self._together, _MOST_TOGETHER)
        self._together[key] = rows, of

    def words(self, source: Source, name: str, t: pa.DataType) -> Vocabulary:
        """Give the dictionary of a column of codes: one for all that is kept of it."""
        self._watch(source)
        key, label = (id(source), name), f"{source.name}.{name}"
        if key not in self._words:
            self._words[key] = Vocabulary(t, label)
        return self._words[key]

    def stay(self, source: Source, wanted: Iterable[Wanted]) -> None:
        """Let all rows of these columns, which are there, stay as long as the source does."""
        self._stay.update([(id(source), each) for each in wanted])

    def stays(self, source: Source, names: Iterable[str]) -> bool:
        """Tell whether all rows of these columns are there to stay; of no columns nothing is."""
        wanted = [(id(source), Wanted(name, whole=True)) for name in names]
        return bool(wanted) and all(each in self._stay for each in wanted)

    def make_room(self, nbytes: int, source: Source, wanted: Sequence[Wanted]) -> bool:
        """Tell whether so many bytes are free, once other columns have gone if need be."""
        mine = {(id(source), each) for each in wanted}
        others = [key for key in list(self._columns) if key not in mine | self._stay]
        while self.device.free_bytes() < nbytes and others:
            self._together.clear()
            self._columns.pop(others.pop(0), None)
        return self.device.free_bytes() >= nbytes

    def clear(self) -> None:
        """Let go of all columns but those that stay."""
        self._together.clear()
        for key in [key for key in list(self._columns) if key not in self._stay]:
            self._columns.pop(key, None)

    @property
    def nbytes(self) -> Mapping[str, int]:
        """The bytes that are kept, by column."""
        found: dict[str, int] = {}
        for (_, wanted), kept in list(self._columns.items()):
            found[wanted.name] = found.get(wanted.name, 0) + kept.nbytes
        return found

    def _watch(self, source: Source) -> None:
        if id(source) not in self._sources:
            self._sources.add(id(source))
            weakref.finalize(source, self._forget, id(source)).atexit = False

    def _forget(self, number: int) -> None:
        # Whenever the source goes, perhaps while somebody else asks: no lock, one step for each.
        # Whoever goes through these copies their keys first.
        self._sources.discard(number)
        for key in [key for key in list(self._together) if key[0] == number]:
            self._together.pop(key, None)
        for column in [key for key in list(self._columns) if key[0] == number]:
            self._columns.pop(column, None)
        for column in [key for key in list(self._stay) if key[0] == number]:
            self._stay.discard(column)
        for name in [key for key in list(self._words) if key[0] == number]:
            self._words.pop(name, None)
