"""Where the rows of a share's plain columns lie, and what room those need that pass.

It is the same in every run, so it is computed when chunks are bound, as the skeletons read it
(`kernels.numba.keep`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct

from wherry.kernels.layout import BLOCK, FEW_ROWS, SHARE_WORDS

Array = np.ndarray[Any, Any]

_LINE: Final = 64
_FEW: Final = 5
"""One row in 2 ** 5 is few: so sparse, most lines hold one of them at most."""
_MOST_ROOM: Final = 32 << 20
"""Bytes of rooms; where chunks are so many that one row in 32 would take more, fewer are few."""


class Layout(Struct, frozen=True):
    """The plain columns of a share, the widest first.

    Attributes
    ----------
    chunks, rows : int
        How many chunks there are, and their rows together.
    share : numpy.ndarray
        int64, as `keep.keep_each` takes it.
    addresses : tuple of int
        Of `share` and of the shape and sources that belong to it.
    widths : tuple of int
        Bytes of each column's values.
    words, room : int
        Bytes of the selections and of the rooms.
    shift : int
        Rows of a chunk are few as long as one in 2 ** shift passed.
    keep : tuple
        What `addresses` point to.
    """

    chunks: int
    rows: int
    share: Array
    addresses: tuple[int, int, int]
    widths: tuple[int, ...]
    words: int
    room: int
    shift: int
    keep: tuple[Array, ...]

    @property
    def sources(self) -> Array:
        """Where values lie: int64 addresses of shape (chunks, columns)."""
        return self.keep[1]


def layout_of(rows: Array, widths: Sequence[int], sources: Sequence[Sequence[int]]) -> Layout:
    """Give the layout of chunks of so many rows.

    Parameters
    ----------
    widths : sequence of int
        Bytes of the values of each plain column, descending.
    sources : sequence of sequences of int
        For each chunk, where the values of each column lie.
    """
    counts = [widths.count(width) for width in (16, 8, 4, 2, 1)]
    shape = np.array([*counts, len(widths), *widths], np.int64)
    width, shift = sum(widths), _FEW
    least = len(rows) * (FEW_ROWS + 2 * BLOCK) * width
    if least > _MOST_ROOM or not width:
        capacity = np.zeros_like(rows)
    else:
        while least + int((rows >> shift).sum()) * width > _MOST_ROOM:
            shift += 1
        # Whole blocks, so that every column of a room begins at the beginning of a line.
        capacity = ((rows >> shift) + FEW_ROWS + 2 * BLOCK) // BLOCK * BLOCK
    # Whole lines of words for each chunk: threads that write to one line wait for each other.
    words = -(-rows // (BLOCK * 8)) * _LINE
    share = np.empty((len(rows), SHARE_WORDS), np.int64)
    share[:, 0], share[:, 1] = np.divmod(rows, BLOCK)
    share[:, 2] = np.cumsum(words) - words
    share[:, 3] = (np.cumsum(capacity) - capacity) * width
    share[:, 4] = capacity
    places = np.array(sources, np.int64).reshape(len(rows), len(widths))
    return Layout(
        chunks=len(rows),
        rows=int(rows.sum()),
        share=share,
        addresses=(share.ctypes.data, shape.ctypes.data, places.ctypes.data),
        widths=tuple(widths),
        words=int(words.sum()) + _LINE,
        room=int(capacity.sum()) * width,
        shift=shift,
        keep=(shape, places),
    )
