"""How much is read and run at once on this machine: shares of chunks, in stored order.

A share keeps every core busy with one call, so large ones cost least; small ones bound what is held
at a time, and what is read in vain by a query that needs only its first rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from wherry.data.chunk import ChunkRef
from wherry.run.machine import Share


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
