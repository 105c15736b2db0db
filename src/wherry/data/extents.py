"""Byte ranges of a file merged into a few extents of whole pages, laid one behind the other.

Every extent begins and ends at a page of the file and lies in the arena at the same phase, so any
range of any file can be read with direct I/O straight to where it is used. Pages that ranges share
are read once. What is read too much is at most two pages an extent, and the gaps bridged.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

PAGE = 4096
"""Bytes; direct I/O wants file offset, size and address to be multiples of the device's block,
which is 512 or 4096."""

_Ints = npt.NDArray[np.int64]


class Extents(Struct, frozen=True, eq=False):
    """What is read; int64 arrays, in bytes, all multiples of `PAGE`, ascending.

    Attributes
    ----------
    offsets : [e]
        From the file's beginning.
    sizes : [e]
        The last one may reach behind the file's end by less than a page.
    places : [e]
        From the arena's beginning; each begins where the one before ends.
    """

    offsets: _Ints
    sizes: _Ints
    places: _Ints

    @property
    def size(self) -> int:
        """Bytes of the arena."""
        return int(self.sizes.sum())


def plan_extents(offsets: _Ints, sizes: _Ints, gap: int) -> tuple[Extents, _Ints]:
    """Merge ranges of a file into extents.

    Parameters
    ----------
    offsets, sizes : int64 arrays
        Of the ranges, in bytes, in any order; they may overlap. None is empty.
    gap : int
        Extents are merged when no more bytes than this lie between them.

    Returns
    -------
    Extents, and where each range begins in the arena
    """
    low = offsets // PAGE * PAGE
    high = -(-(offsets + sizes) // PAGE) * PAGE
    order = np.argsort(low, kind="stable")
    starts, reached = low[order], np.maximum.accumulate(high[order])
    begins = np.ones(len(order), np.bool_)
    begins[1:] = starts[1:] > reached[:-1] + gap
    at = np.flatnonzero(begins)
    ends = reached[np.append(at[1:], len(order)) - 1] if len(at) else reached
    begin = starts[at]
    lengths = ends - begin
    places = np.cumsum(lengths) - lengths
    extents = Extents(begin, lengths, places)
    member = np.searchsorted(begin, offsets, side="right") - 1
    return extents, places[member] + (offsets - begin[member])
