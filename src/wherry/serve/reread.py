"""A small file that is read again when it has changed, while who uses it goes on running."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final, Generic, TypeVar

from wherry.base.errors import InputError, WherryError

T = TypeVar("T")

EVERY_NS: Final = 1_000_000_000
"""A change is seen a second later at the latest; looking costs 2 us."""


class Reread(Generic[T]):
    """What a file says now; safe for threads.

    A file that cannot be read any more, or says what cannot be, changes nothing: what it said last
    holds, and `complain` is called once for each such state of the file.

    Parameters
    ----------
    path : Path
        Replace it by rename: what is written in place may be read half written.
    read : callable
        What its bytes mean, given what they meant before (None at first); may raise WherryError.
    complain : callable
        Is told what is wrong.
    most : int
        A longer file is not read.

    Raises
    ------
    WherryError
        If it cannot be read the first time.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[bytes, T | None], T],
        complain: Callable[[str], None],
        most: int,
    ) -> None:
        self._path = path
        self._read = read
        self._complain = complain
        self._most = most
        self._lock = Lock()
        self._seen = self._state()
        self._value = read(self._bytes(), None)
        self._looked_ns: int | None = None

    def get(self, now_ns: int) -> T:
        """Give what the file says; `now_ns` is of a steady clock."""
        with self._lock:
            if self._looked_ns is not None and now_ns - self._looked_ns < EVERY_NS:
                return self._value
            self._looked_ns = now_ns
            state = self._state()
            if state == self._seen:
                return self._value
            self._seen = state
            try:
                self._value = self._read(self._bytes(), self._value)
            except WherryError as problem:
                self._complain(f"{problem}; what {self._path.name} said before still holds")
            return self._value

    def _state(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev

    def _bytes(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                data = file.read(self._most + 1)
        except OSError as problem:
            words = problem.strerror or os.strerror(problem.errno or 0)
            raise InputError(f"{self._path}: cannot be read: {words}") from None
        if len(data) > self._most:
            raise InputError(f"{self._path}: more than {self._most} bytes")
        return data
