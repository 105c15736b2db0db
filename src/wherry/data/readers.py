"""Who brings extents of a file into memory, and which way every byte took.

A reader says where its memory is and fills it. `Posix` is there: the page cache, or direct I/O that
passes it by, by several threads. Readers into the memory of a GPU are not there yet.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError, InputError, unknown_name
from wherry.data.extents import PAGE, Extents
from wherry.data.ipc_footer import File
from wherry.data.segment import SegmentPool

Way = Literal["cached", "direct", "either"]
WAYS: tuple[Way, ...] = ("cached", "direct", "either")

_PIECE = 1 << 20
"""Bytes a request: so much of a copy still lies in a core's second cache, and 16 requests are
what a drive needs at once to give all it has."""


_GAPS = {"cached": 16 << 10, "direct": 64 << 10, "either": 64 << 10}
"""Bytes that take as long as another request does: 2 to 3 us of processor time (measured) at the
6 GB/s of one core's copy; past the page cache about 13 us of a drive of 5 GB/s (estimate)."""


class Evidence(Struct, frozen=True):
    """Which way the bytes of a read took.

    Attributes
    ----------
    direct, cached : int
        Bytes that passed the page cache by, and through it; what lies behind a file's end is
        neither.
    why : str
        Why bytes were not read directly although that was asked for; "" if all were.
    """

    direct: int = 0
    cached: int = 0
    why: str = ""


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
        self.gap = _GAPS[way]
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
        direct, why = (-1, "") if self._way == "cached" else _opened_direct(file)
        try:
            if self._way == "direct" and direct < 0:
                raise InputError(f"{file.label} cannot be read directly: {why}")
            view = memoryview(memory)
            source = _Source(file, direct, self._way == "direct")
            pieces = list(_pieces(extents, file.size))
            if self._threads == 1 or len(pieces) == 1:
                done = [source.fill(view, piece) for piece in pieces]
            else:
                with ThreadPoolExecutor(min(self._threads, len(pieces))) as threads:
                    done = list(threads.map(lambda piece: source.fill(view, piece), pieces))
        finally:
            if direct >= 0:
                os.close(direct)
        reasons = [one.why for one in done if one.why]
        return Evidence(
            direct=sum(one.direct for one in done),
            cached=sum(one.cached for one in done),
            why=why or next(iter(reasons), ""),
        )


def _opened_direct(file: File) -> tuple[int, str]:
    """Give a descriptor of the same file that reads directly; or -1, and why there is none."""
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT
        return os.open(f"/proc/self/fd/{file.descriptor}", flags), ""
    except OSError as error:
        return -1, f"its file system does not open it so ({error.strerror or error})"


class _Piece(Struct, frozen=True):
    """`wanted` bytes of the file, and the room for them: whole pages."""

    offset: int
    place: int
    wanted: int
    room: int


def _pieces(extents: Extents, end: int) -> Iterator[_Piece]:
    rows = (extents.offsets.tolist(), extents.sizes.tolist(), extents.places.tolist())
    for offset, size, place in zip(*rows, strict=True):
        for at in range(0, size, _PIECE):
            room = min(_PIECE, size - at)
            yield _Piece(offset + at, place + at, min(room, end - offset - at), room)


class _Source(Struct, frozen=True):
    """A file, its descriptor for direct reads or -1, and whether only those may be made."""

    file: File
    direct: int
    strict: bool

    def fill(self, view: memoryview, piece: _Piece) -> Evidence:
        """Read one piece."""
        if self.direct >= 0:
            why = self._directly(view, piece)
            if not why:
                return Evidence(direct=piece.wanted)
            if self.strict:
                raise InputError(
                    f"{self.file.label} cannot be read directly at offset {piece.offset}: {why}"
                )
            self._cached(view, piece)
            return Evidence(cached=piece.wanted, why=why)
        self._cached(view, piece)
        return Evidence(cached=piece.wanted)

    def _directly(self, view: memoryview, piece: _Piece) -> str:
        """Read a piece directly; give why that cannot be, or "".

        A signal may cut a read short: what follows begins at the last whole page.
        """
        done = 0
        while done < piece.wanted:
            room = view[piece.place + done : piece.place + piece.room]
            try:
                got = os.preadv(self.direct, (room,), piece.offset + done)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return "its file system wants another alignment"
                raise self._unreadable(error, piece.offset + done) from error
            if done + got >= piece.wanted:
                return ""
            if got < PAGE:
                raise self._truncated(piece.offset + done + got)
            done += got // PAGE * PAGE
        return ""

    def _cached(self, view: memoryview, piece: _Piece) -> None:
        done = 0
        while done < piece.wanted:
            room = view[piece.place + done : piece.place + piece.wanted]
            try:
                got = os.preadv(self.file.descriptor, (room,), piece.offset + done)
            except OSError as error:
                raise self._unreadable(error, piece.offset + done) from error
            if got == 0:
                raise self._truncated(piece.offset + done)
            done += got

    def _unreadable(self, error: OSError, offset: int) -> InputError:
        return InputError(
            f"{self.file.label} cannot be read at offset {offset}: {error.strerror or error}"
        )

    def _truncated(self, offset: int) -> CorruptError:
        return CorruptError(
            f"{self.file.label} was {self.file.size} bytes long and ends at offset {offset} now"
        )
