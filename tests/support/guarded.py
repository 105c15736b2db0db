"""Memory that ends at a page nobody may touch: one byte too far ends the process."""

import ctypes
import mmap
from array import array

import numpy as np
import pyarrow as pa

_libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """Blocks of one size class each, used in turn; a block's last byte is the last that exists."""

    def __init__(self, most=1 << 20, blocks=4):
        self._most = most
        self._arenas = [_arena(most) for _ in range(blocks)]
        self._next = 0

    def block(self, nbytes):
        """Give an array of `nbytes` bytes that hold anything; the fifth call takes the first's."""
        assert nbytes <= self._most, nbytes
        arena = self._arenas[self._next % len(self._arenas)]
        self._next += 1
        return arena[self._most - nbytes :]

    def allocate(self, nbytes):
        """Do what `pa.allocate_buffer` does."""
        return pa.py_buffer(self.block(nbytes))

    def room(self, name, nbytes):
        """Do what `Scratch.room` does."""
        block = self.block(nbytes)
        return block, block.ctypes.data

    def rooms(self, name, sizes, slack):
        """Do what `Scratch.rooms` does, each room with a guard of its own."""
        blocks = [self.block(size + slack) for size in sizes]
        return blocks, array("q", [block.ctypes.data for block in blocks])


def _arena(most):
    pages = -(-most // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.uint8)
    address = ctypes.c_void_p(whole.ctypes.data + pages)
    assert _libc.mprotect(address, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    return whole[pages - most : pages]
