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

CELL_ROWS: Final = 1 << 20
"""28 MiB of TPC-H's sixth query, which take 0.6 ms at 50 GB/s: as much as is read ahead, and
against which what a cell costs in Python (20 to 50 us) is small."""

_starts = Memo(1)


class Part(Struct, frozen=True):
    """Rows [offset, offset + rows) of a chunk."""

    ref: ChunkRef
    offset: int
    rows: int


class Cell(Struct, frozen=True):
    """Rows [begin, end) of a source, all of one cell of the grid, and where they are stored.

    Attributes
    ----------
    number : int
        Of the cell.
    first : bool
        Whether they begin where the cell does.
    """

    begin: int
    end: int
    number: int
    first: bool
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.end - self.begin

    def goes_on(self, before: Cell) -> bool:
        """Tell whether a sum over the rows before goes on with these.

        They follow each other, and what went before is whole cells, so whole spans of a sum.
        """
        return self.begin == before.end and before.first


def cells_of(
    source: Source, refs: Sequence[ChunkRef], cell_rows: int = CELL_ROWS
) -> tuple[Cell, ...]:
    """Give the rows of chunks, in stored order, by the cells that they lie in.

    Rows of one cell that do not follow each other are several.
    """
    starts = _starts.get(source, "starts", lambda: _numbered(source))
    found: list[Cell] = []
    for ref in refs:
        row, done = starts[ref.fragment, ref.batch] + ref.offset, 0
        while done < ref.rows:
            begin = row + done
            rows = min(ref.rows - done, cell_rows - begin % cell_rows)
            part = Part(ref, done, rows)
            last = found[-1] if found else None
            number, place = divmod(begin, cell_rows)
            if last is not None and last.end == begin and place:
                parts = (*last.parts, part)
                found[-1] = Cell(last.begin, begin + rows, number, last.first, parts)
            else:
                found.append(Cell(begin, begin + rows, number, place == 0, (part,)))
            done += rows
    return tuple(found)


def _numbered(source: Source) -> dict[tuple[int, int], int]:
    """Give the number of the first row of every stored batch."""
    found: dict[tuple[int, int], int] = {}
    row = 0
    for ref in source.chunks():
        found.setdefault((ref.fragment, ref.batch), row)
        row += ref.rows
    return found
