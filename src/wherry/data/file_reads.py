"""Pieces of a file read into memory that is there, and which way every byte took."""

from __future__ import annotations

import errno
import os
import weakref
from typing import Literal

from msgspec import Struct

from wherry.base.errors import CorruptError, InputError
from wherry.data.extents import PAGE
from wherry.data.ipc_footer import File

Way = Literal["cached", "direct", "either"]
WAYS: tuple[Way, ...] = ("cached", "direct", "either")

GAPS = {"cached": 16 << 10, "direct": 64 << 10, "either": 64 << 10}
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

    def __add__(self, other: Evidence) -> Evidence:
        """Give the evidence of two reads; of reasons the first."""
        return Evidence(
            self.direct + other.direct, self.cached + other.cached, self.why or other.why
        )


class Piece(Struct, frozen=True):
    """Where bytes of a file go: whole pages of it, to whole pages.

    Attributes
    ----------
    offset : int
        In the file.
    place : int
        In the memory.
    room : int
        Bytes; where the file ends before, what lies behind is left as it is.
    """

    offset: int
    place: int
    room: int


class OpenedFile:
    """A file that is read from by any number of threads; it stays open when `file` is closed.

    Parameters
    ----------
    way : "cached", "direct" or "either"
        Through the page cache; past it, refused where the file system does not do that; or past it
        where the file system does.

    Raises
    ------
    InputError
        When it cannot be read that way.
    """

    def __init__(self, file: File, way: Way) -> None:
        self.file = file
        self._strict = way == "direct"
        self._cached = os.dup(file.descriptor)
        self._direct, self._why = (-1, "") if way == "cached" else _opened_direct(file)
        self._closing = weakref.finalize(self, _close, self._cached, self._direct)
        if self._strict and self._direct < 0:
            self.close()
            raise InputError(f"{file.label} cannot be read directly: {self._why}")

    def close(self) -> None:
        """Close it, once nothing is read any more."""
        self._closing()

    def check_unchanged(self) -> None:
        """Refuse a file that was changed since it was opened."""
        check_unchanged(self.file, self._cached)

    def fill(self, view: memoryview, piece: Piece) -> Evidence:
        """Read one piece to its place in memory.

        Raises
        ------
        InputError
            When the file cannot be read, or not this way.
        CorruptError
            When it ends before it did.
        """
        wanted = min(piece.room, self.file.size - piece.offset)
        if self._direct < 0:
            self._through_cache(view, piece, wanted)
            return Evidence(cached=wanted, why=self._why)
        why = self._directly(view, piece, wanted)
        if not why:
            return Evidence(direct=wanted)
        if self._strict:
            raise InputError(
                f"{self.file.label} cannot be read directly at offset {piece.offset}: {why}"
            )
        self._through_cache(view, piece, wanted)
        return Evidence(cached=wanted, why=why)

    def _directly(self, view: memoryview, piece: Piece, wanted: int) -> str:
        """Read a piece directly; give why that cannot be, or "".

        A signal may cut a read short: what follows begins at the last whole page.
        """
        done = 0
        while done < wanted:
            room = view[piece.place + done : piece.place + piece.room]
            try:
                got = os.preadv(self._direct, (room,), piece.offset + done)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return "its file system wants another alignment"
                raise self._unreadable(error, piece.offset + done) from error
            if done + got >= wanted:
                return ""
            if got < PAGE:
                raise truncated(self.file, self._cached, piece.offset + done + got)
            done += got // PAGE * PAGE
        return ""

    def _through_cache(self, view: memoryview, piece: Piece, wanted: int) -> None:
        done = 0
        while done < wanted:
            room = view[piece.place + done : piece.place + wanted]
            try:
                got = os.preadv(self._cached, (room,), piece.offset + done)
            except OSError as error:
                raise self._unreadable(error, piece.offset + done) from error
            if got == 0:
                raise truncated(self.file, self._cached, piece.offset + done)
            done += got

    def _unreadable(self, error: OSError, offset: int) -> InputError:
        return InputError(
            f"{self.file.label} cannot be read at offset {offset}: {error.strerror or error}"
        )


def check_unchanged(file: File, descriptor: int) -> None:
    """Refuse with `InputError` a file that was changed since it was opened."""
    stat = os.fstat(descriptor)
    if (stat.st_size, stat.st_mtime_ns) != (file.size, file.modified_ns):
        raise InputError(f"{file.label} was changed in place after it was opened; open it again")


def truncated(file: File, descriptor: int, offset: int) -> CorruptError:
    """Give the error for a file of which nothing could be read at `offset`."""
    end = min(offset, os.fstat(descriptor).st_size)
    return CorruptError(f"{file.label} was {file.size} bytes long and ends at offset {end} now")


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def _opened_direct(file: File) -> tuple[int, str]:
    """Give a descriptor of the same file that reads directly; or -1, and why there is none."""
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT
        return os.open(f"/proc/self/fd/{file.descriptor}", flags), ""
    except OSError as error:
        return -1, f"its file system does not open it so ({error.strerror or error})"
