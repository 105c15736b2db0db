"""Groups of many partitions in order of first appearance.

Those of one partition are in that order already, so that only their places are needed: each group's
is the number of first rows before its own, counted a range of rows at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct

from wherry.data.segment import SegmentPool
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.room import scratch
from wherry.render.team import Team, each

_radix = skeletons("radix")

_RANGE: Final = 1 << 17
"""Rows whose groups are put in order at a time: 8 bytes of each fit the second-level cache."""

Array = np.ndarray[Any, Any]


class Part(Struct, frozen=True):
    """The groups of a partition in order of first appearance, with room behind them.

    Attributes
    ----------
    groups : int
        How many there are.
    seen, firsts, states : numpy.ndarray
        A row a group: the int64 words of its key, the number of its first row, and its state.
    """

    groups: int
    seen: Array
    firsts: Array
    states: Array


class Ordered:
    """The order of the groups of all partitions: that of their first rows.

    Parameters
    ----------
    span : int
        First rows are below.
    """

    def __init__(self, parts: Sequence[Part], span: int, pool: SegmentPool, team: Team) -> None:
        self.pool, self.team, self.parts = pool, team, len(parts)
        sizes = [part.groups for part in parts]
        self.groups = sum(sizes)
        edges = np.arange(0, span + _RANGE, _RANGE)
        # Row a: how many groups of each partition begin before edge a.
        self.lows = np.stack(
            [np.searchsorted(p.firsts[: p.groups], edges) for p in parts], axis=1
        ).astype(np.int64)
        self._room = pool.allocate(4 * self.groups)
        ends = np.cumsum([0, *sizes[:-1]])
        self.places = (self._room.address + 4 * ends).astype(np.int64)
        starts = self.lows.sum(axis=1)
        firsts = np.array([p.firsts.ctypes.data for p in parts], np.int64)

        def rank(number: int) -> None:
            words = _RANGE // BLOCK
            bitmap, ranks = scratch("bitmap", words * 8), scratch("ranks", words * 8)
            _radix.rank_range(
                firsts.ctypes.data, self.lows[number].ctypes.data,
                self.lows[number + 1].ctypes.data, len(parts), int(edges[number]),
                bitmap.ctypes.data, words, ranks.ctypes.data, int(starts[number]),
                self.places.ctypes.data,
            )  # fmt: skip

        each(team, len(edges) - 1, rank)

    def of(self, rooms: Sequence[Array]) -> InOrder:
        """Give the fields of what lies a row a group, an array a partition."""
        starts = np.array([room.ctypes.data for room in rooms], np.int64)
        return InOrder(self, starts, rooms[0].strides[0], rooms)


class InOrder(Struct, frozen=True):
    """Fields of the groups of all partitions, in order of first appearance."""

    order: Ordered
    addresses: Array
    step: int
    keep: Sequence[Array]

    def field(self, offset: int, dtype: Any) -> Array:
        """Give the field at a byte of the row."""
        order, size = self.order, np.dtype(dtype).itemsize
        target = np.frombuffer(order.pool.allocate(order.groups * size), dtype)
        sources = self.addresses + offset

        def put(number: int) -> None:
            lows = order.lows
            _radix.put_in_order(
                order.places.ctypes.data, lows[number].ctypes.data, lows[number + 1].ctypes.data,
                order.parts, sources.ctypes.data, self.step, size, target.ctypes.data,
            )  # fmt: skip

        each(order.team, len(order.lows) - 1, put)
        return target
