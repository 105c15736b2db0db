"""Where memory lies that another process can map: a region of a segment pool, or a mapped file."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable

from msgspec import Struct


class Place(Struct, frozen=True, eq=False):
    """A piece of this process's memory, and the descriptor of what is mapped there.

    Attributes
    ----------
    address, size : int
        In bytes; the descriptor's first byte is at `address`.
    descriptor : int
        Read-only, owned by what is mapped: it is open as long as a buffer in there lives. -1 if
        there is none, and `why` says the reason.
    retire : callable
        Has the memory never be written to again, whatever becomes of its buffers here.
    """

    address: int
    size: int
    descriptor: int
    retire: Callable[[], None]
    why: str = ""

    def holds(self, address: int, size: int) -> bool:
        """Say whether `size` bytes at `address` lie in it."""
        return self.address <= address and address + size <= self.address + self.size


class Places:
    """Places that do not overlap, found by address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._known: dict[int, Place] = {}

    def add(self, place: Place) -> None:
        """Know a place."""
        if place.address not in self._known:
            insort(self._starts, place.address)
        self._known[place.address] = place

    def at(self, address: int, size: int) -> Place | None:
        """Give the place that holds `size` bytes at `address`."""
        number = bisect_right(self._starts, address) - 1
        found = self._known[self._starts[number]] if number >= 0 else None
        return found if found is not None and found.holds(address, size) else None
