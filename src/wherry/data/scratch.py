"""Memory that a thread works in and uses again: fresh pages cost more than what is done in them."""

from __future__ import annotations

import threading
from array import array

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64
_KEPT = 64 << 20
"""Most bytes of one name that are kept; larger ones are rare, and would never be given back."""
_MOST_LAID = 1024
"""Divisions of blocks that are remembered: tuples of a dozen numbers."""
_Laying = tuple[str, tuple[int, ...], int]


class Scratch(threading.local):
    """Blocks of a thread's own, by name: aligned to 64 bytes, growing, never shrinking."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[npt.NDArray[np.uint8], int]] = {}
        self._laid: dict[_Laying, tuple[npt.NDArray[np.uint8], array[int]]] = {}

    def room(self, name: str, nbytes: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Give a block of at least `nbytes` bytes and its address; it holds anything.

        The next call with the same name, in the same thread, may give the same block.
        """
        found = self._kept.get(name)
        if found is not None and found[0].nbytes >= nbytes:
            return found
        size = max(4096, 1 << (nbytes - 1).bit_length()) if nbytes <= _KEPT else nbytes
        whole = np.empty(size + _ALIGNMENT, np.uint8)
        start = -whole.ctypes.data % _ALIGNMENT
        block = whole[start : start + size], whole.ctypes.data + start
        if size <= _KEPT:
            self._kept[name] = block
        return block

    def rooms(
        self, name: str, sizes: tuple[int, ...], slack: int
    ) -> tuple[npt.NDArray[np.uint8], array[int]]:
        """Give a block, and the addresses of rooms in it with `slack` bytes behind each."""
        key = name, sizes, slack
        kept = self._laid.get(key)
        if kept is not None and kept[0] is self._kept.get(name, (None,))[0]:
            return kept
        steps = [(size + slack + _ALIGNMENT - 1) & -_ALIGNMENT for size in sizes]
        block, at = self.room(name, sum(steps))
        addresses = array("q")
        for step in steps:
            addresses.append(at)
            at += step
        if len(self._laid) >= _MOST_LAID:
            self._laid.clear()
        if self._kept.get(name, (None,))[0] is block:
            self._laid[key] = block, addresses
        return block, addresses
