"""How much is read and run at once on this machine: shares of chunks, in stored order.

A share keeps every core busy with one call, so large ones cost least; small ones bound what is held
at a time, and what is read in vain by a query that needs only its first rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from wherry.data.chunk import ChunkRef
from wherry.run.commands import Share

MOST_TOGETHER: Final = 1 << 20
"""Rows of one stored batch that are read together; pages on a cut are read twice."""


def units(chunks: Sequence[ChunkRef]) -> list[tuple[ChunkRef, ...]]:
    """Give chunks, those together that are neighbours in a stored batch and few enough."""
    found: list[list[ChunkRef]] = []
    for ref in chunks:
        last = found[-1][-1] if found else None
        follows = last is not None and last.fragment == ref.fragment and last.batch == ref.batch
        if (
            last is not None
            and follows
            and last.offset + last.rows == ref.offset
            and sum(r.rows for r in found[-1]) + ref.rows <= MOST_TOGETHER
        ):
            found[-1].append(ref)
        else:
            found.append([ref])
    return [tuple(unit) for unit in found]


def cut(
    chunks: Sequence[ChunkRef], most_rows: int | None = None, *, first: int | None = None
) -> tuple[Share, ...]:
    """Give chunks as shares.

    Parameters
    ----------
    most_rows : int, optional
        Rows that a share has at most, unless one chunk has more; no bound if not given.
    first : int, optional
        Chunks of the first share; each next one has twice as many. No bound if not given.
    """
    found: list[Share] = []
    held: list[ChunkRef] = []
    rows = 0
    for ref in chunks:
        full = first is not None and len(held) >= first << len(found)
        if held and (full or (most_rows is not None and rows + ref.rows > most_rows)):
            found.append(tuple(held))
            held, rows = [], 0
        held.append(ref)
        rows += ref.rows
    return (*found, tuple(held)) if held else tuple(found)


def cut_by_home(
    chunks: Sequence[ChunkRef], homes: Mapping[int, str], most_rows: int
) -> tuple[Share, ...]:
    """Give chunks as shares of neighbours that one device stores.

    Parameters
    ----------
    homes : mapping of int to str
        The device that stores each file or table.
    most_rows : int
        Rows that a share has at most, unless one chunk has more.
    """
    found: list[list[ChunkRef]] = []
    for ref in chunks:
        last = found[-1] if found else []
        same = bool(last) and homes[last[-1].fragment] == homes[ref.fragment]
        if same and sum(each.rows for each in last) + ref.rows <= most_rows:
            last.append(ref)
        else:
            found.append([ref])
    return tuple(map(tuple, found))
