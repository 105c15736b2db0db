"""The rows of a source in a fixed grid, by which devices hold columns and run over them.

A source's rows are numbered as they are stored. Where cells lie depends on nothing but that, so
that what a query needs is cut in the same way whatever a device holds already: sums are then of the
same rows in the same order, and the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from wherry.base.memo import Memo
from wherry.data.chunk import ChunkRef
from wherry.data.source import Source
from wherry.render.cuda.totals import SPAN

CELL_ROWS: Final = 1 << 22
"""112 MiB of TPC-H's sixth query, which take 2.3 ms at 50 GB/s, and 0.03 ms to run over: against
the former what a cell costs in Python (0.3 to 0.6 ms, measured over a device that does nothing) is
small, and the latter is all that the last cell adds."""

_starts = Memo(1)


class Part(Struct, frozen=True):
    """Rows [offset, offset + rows) of a chunk."""

    ref: ChunkRef
    offset: int
    rows: int


class Cell(Struct, frozen=True):
    """Rows [begin, end) of a source, all of one cell of the grid, and where they are stored."""

    begin: int
    end: int
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.end - self.begin

    def goes_on(self, before: Cell) -> bool:
        """Tell whether a sum over the rows before goes on with these.

        They follow each other, and what went before is whole spans.
        """
        return self.begin == before.end and before.begin % SPAN == 0


def cells_of(
    source: Source, refs: Sequence[ChunkRef], cell_rows: int = CELL_ROWS
) -> tuple[Cell, ...]:
    """Give the rows of chunks, in stored order, by the cells that they lie in.

    Rows of one cell that do not follow each other are several, and so are those before the first
    whole span of some: how sums are made must not depend on how large cells are.

    Parameters
    ----------
    cell_rows : int
        Whole spans.
    """
    starts = _starts.get(source, "starts", lambda: _numbered(source))
    found, parts, first, last = list[Cell](), list[Part](), 0, 0
    for ref in refs:
        begin = row = starts[ref.fragment, ref.batch] + ref.offset
        while row < begin + ref.rows:
            if parts and (row != last or row == _edge(first, cell_rows)):
                found.append(Cell(first, last, tuple(parts)))
                parts = []
            first = first if parts else row
            last = min(begin + ref.rows, _edge(first, cell_rows))
            parts.append(Part(ref, row - begin, last - row))
            row = last
    return (*found, Cell(first, last, tuple(parts))) if parts else tuple(found)


def _edge(row: int, cell_rows: int) -> int:
    """Give where rows that begin with `row` end at the latest."""
    step = cell_rows if row % SPAN == 0 else SPAN
    return row - row % step + step


def _numbered(source: Source) -> dict[tuple[int, int], int]:
    """Give the number of the first row of every stored batch."""
    found: dict[tuple[int, int], int] = {}
    row = 0
    for ref in source.chunks():
        found.setdefault((ref.fragment, ref.batch), row)
        row += ref.rows
    return found
