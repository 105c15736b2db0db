"""Who brings extents of a file into this process's memory.

A reader says where its memory is and fills it. `Posix` is there: the page cache, or direct I/O that
passes it by, by several threads. Into a device's memory lead the readers of `devices/loading.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import pyarrow as pa

from wherry.base.errors import InputError, unknown_name
from wherry.data.extents import PAGE, Extents
from wherry.data.file_reads import GAPS, WAYS, Evidence, OpenedFile, Piece, Way
from wherry.data.ipc_footer import File
from wherry.data.segment import SegmentPool

_PIECE = 1 << 20
"""Bytes a request: so much of a copy still lies in a core's second cache, and 16 requests are
what a drive needs at once to give all it has."""


class Reader(Protocol):
    """What brings extents of a file into memory.

    Attributes
    ----------
    gap : int
        Bytes that it rather reads than skips.
    """

    gap: int

    def allocate(self, size: int) -> pa.Buffer:
        """Give memory of `size` bytes that begins at a page."""

    def read(self, file: File, extents: Extents, memory: pa.Buffer) -> Evidence:
        """Fill `memory` with what the extents say; nothing is said of bytes behind the file."""


class Posix:
    """Reads into this process's memory by `preadv`, which holds no lock of Python's.

    Parameters
    ----------
    way : "cached", "direct" or "either"
        Through the page cache; past it, refused where the file system does not do that; or past it
        where the file system does. What lies in the page cache already is read faster through it.
    threads : int, optional
        How many read at once; as many as this process has cores.
    pool : SegmentPool, optional
        Where memory comes from; a pool of its own otherwise. A pool's memory is used again once
        nothing refers to it, which saves the first touch of fresh pages.
    """

    def __init__(
        self, way: Way = "cached", threads: int | None = None, pool: SegmentPool | None = None
    ) -> None:
        if way not in WAYS:
            raise unknown_name("way", way, WAYS)
        if threads is not None and threads < 1:
            raise InputError(f"{threads} threads cannot read; there must be one at least")
        self.gap = GAPS[way]
        self._way = way
        self._threads = threads or len(os.sched_getaffinity(0))
        self._pool = pool or SegmentPool()

    def allocate(self, size: int) -> pa.Buffer:
        """Give memory of the pool that begins at a page.

        Raises
        ------
        InputError, Retryable
            When it is more than the pool has.
        """
        whole = self._pool.allocate(size + PAGE)
        start = -whole.address % PAGE
        # Of a slice Arrow forgets that it may be written to; numpy does not.
        return pa.py_buffer(np.frombuffer(whole, np.uint8)[start : start + size])

    def read(self, file: File, extents: Extents, memory: pa.Buffer) -> Evidence:
        """Read extents in pieces of 1 MiB.

        Raises
        ------
        InputError
            When the file cannot be read, or not this way.
        CorruptError
            When it ends before an extent does.
        """
        opened = OpenedFile(file, self._way)
        try:
            view = memoryview(memory)
            pieces = list(_pieces(extents))
            if self._threads == 1 or len(pieces) == 1:
                done = [opened.fill(view, piece) for piece in pieces]
            else:
                with ThreadPoolExecutor(min(self._threads, len(pieces))) as threads:
                    done = list(threads.map(lambda piece: opened.fill(view, piece), pieces))
        finally:
            opened.close()
        return sum(done, Evidence())


def _pieces(extents: Extents) -> Iterator[Piece]:
    rows = (extents.offsets.tolist(), extents.sizes.tolist(), extents.places.tolist())
    for offset, size, place in zip(*rows, strict=True):
        for at in range(0, size, _PIECE):
            yield Piece(offset + at, place + at, min(_PIECE, size - at))
