"""Ranges cut where windows of one size end: what goes through a slot at once.

A load's bytes lie in an arena that need not exist. A window is a part of it as long as a slot; what
a slot is filled with and what is copied out of it are both lists of ranges cut so.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from wherry.devices.loading import Ints


class Cut(Struct, frozen=True, eq=False):
    """Ranges of an arena, cut at the ends of its windows.

    Attributes
    ----------
    bounds : list of int [w + 1]
        Of every window, which of the others are its.
    within, sizes, others : lists of int [n]
        Where a part begins in its window, how long it is, and where it is elsewhere.
    """

    bounds: list[int]
    within: list[int]
    sizes: list[int]
    others: list[int]

    @property
    def windows(self) -> int:
        """How many there are."""
        return len(self.bounds) - 1

    def of(self, window: int) -> Iterator[tuple[int, int, int]]:
        """Give where parts of a window begin, their sizes, and where they are elsewhere."""
        part = slice(self.bounds[window], self.bounds[window + 1])
        return zip(self.within[part], self.sizes[part], self.others[part], strict=True)


def cut(places: Ints, sizes: Ints, others: Ints, most: int, end: int) -> Cut:
    """Cut ranges of an arena of `end` bytes at the multiples of `most`.

    Parameters
    ----------
    places, sizes : int64 arrays [n]
        In bytes, in any order; ranges may overlap. Empty ones are left out.
    others : int64 array [n]
        Where each range begins elsewhere.
    """
    assert len(places) == len(sizes) == len(others)
    some = sizes > 0
    places, sizes, others = places[some], sizes[some], others[some]
    assert not len(places) or (places.min() >= 0 and (places + sizes).max() <= end)
    first = places // most
    counts = (places + sizes - 1) // most - first + 1
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    window = np.repeat(first, counts) + number
    low = np.maximum(np.repeat(places, counts), window * most)
    high = np.minimum(np.repeat(places + sizes, counts), (window + 1) * most)
    other = np.repeat(others - places, counts) + low
    order = np.argsort(window, kind="stable")
    bounds = np.searchsorted(window[order], np.arange(-(-end // most) + 1))
    parts = (low - window * most, high - low, other)
    return Cut(bounds.tolist(), *(part[order].tolist() for part in parts))
