"""What the host has of rows that go to a device: chunks by cells, and what is so of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from msgspec import Struct, field

from wherry.data.chunk import ChunkRef, column_bytes
from wherry.data.source import Source
from wherry.data.vocabulary import Vocabulary
from wherry.render.cuda.columns import ColumnFacts
from wherry.run.cells import Cell, cells_of
from wherry.run.feed import Arrays
from wherry.run.held import Held

Read = Callable[[ChunkRef], pa.RecordBatch]
"""Gives the columns of a chunk."""


class Together(Struct, frozen=True):
    """Cells that are run over as one.

    Attributes
    ----------
    runs : list of int
        How many rows follow each other, as `wherry.render.cuda.share.begin` takes it.
    nulls : frozenset of str
        The columns with nulls.
    texts : int
        Bytes of the columns whose size rows do not tell.
    """

    cells: tuple[Cell, ...]
    runs: list[int]
    nulls: frozenset[str]
    texts: int


class Given(Struct):
    """Columns of chunks of a source; codes are those that a device has for all of the source.

    Attributes
    ----------
    names, texts : tuple of str
        Columns that go to the device; those whose bytes are counted.
    """

    held: Held
    source: Source
    names: tuple[str, ...]
    texts: tuple[str, ...]
    read: Read
    _chunks: dict[ChunkRef, pa.RecordBatch] = field(default_factory=dict)
    _known: dict[str, Vocabulary] | None = None

    def together(self, refs: tuple[ChunkRef, ...], cell_rows: int) -> Iterator[Together]:
        """Give all rows at once; of what is decoded a cell at a time, since more is not held."""
        if self.source.decodes:
            for cell in cells_of(self.source, refs, cell_rows):
                # What was decoded for the cell before and reaches into this one stays.
                here = {part.ref for part in cell.parts} & self._chunks.keys()
                self._chunks = {ref: self._chunks[ref] for ref in here}
                yield self._looked_at((cell,))
            return
        key = (self.names, self.texts, refs, cell_rows)
        yield self.held.looked_at.get(
            self.source, key, lambda: self._looked_at(cells_of(self.source, refs, cell_rows))
        )

    def _looked_at(self, cells: tuple[Cell, ...]) -> Together:
        nulls, texts = set[str](), 0
        for batch in (batch for cell in cells for batch in self.parts(cell)):
            nulls |= {name for name in self.names if batch.column(name).null_count}
            texts += sum(column_bytes(batch.column(name)) for name in self.texts)
            for name, words in self._words().items():
                words.codes(batch.column(name))
        return Together(cells, runs_of(cells), frozenset(nulls), texts)

    def _words(self) -> dict[str, Vocabulary]:
        """Give the dictionaries of columns of codes."""
        if self._known is None:
            types = {name: self.source.schema.field(name).type for name in self.names}
            coded = {name: t for name, t in types.items() if pa.types.is_dictionary(t)}
            self._known = {n: self.held.words(self.source, n, t) for n, t in coded.items()}
        return self._known

    def facts(self, each: Together) -> dict[str, ColumnFacts]:
        """Give what is so of the columns in all of these cells."""
        texts = {name: words.texts for name, words in self._words().items()}
        return {name: ColumnFacts(name in each.nulls, texts.get(name)) for name in self.names}

    def arrays(self, cell: Cell) -> Arrays:
        """Give the rows of a cell by column."""
        found: dict[str, list[pa.Array]] = {name: [] for name in self.names}
        words = self._words()
        for batch in self.parts(cell):
            for name, arrays in found.items():
                column = batch.column(name)
                arrays.append(words[name].codes(column) if name in words else column)
        return found

    def parts(self, cell: Cell) -> Iterator[pa.RecordBatch]:
        """Give the rows of a cell as they are stored."""
        for part in cell.parts:
            if part.ref not in self._chunks:
                self._chunks[part.ref] = self.read(part.ref)
            yield self._chunks[part.ref].slice(part.offset, part.rows)


def runs_of(cells: Sequence[Cell]) -> list[int]:
    """Give how many rows follow each other, whole cells but for the last of each run."""
    found: list[int] = []
    before: Cell | None = None
    for cell in cells:
        if before is not None and cell.goes_on(before):
            found[-1] += cell.rows
        else:
            found.append(cell.rows)
        before = cell
    return found
