"""A file mapped into memory, and what tells whether it is still the file that was opened.

A file must not be truncated or rewritten in place while it is open: like every memory mapping, this
one would show the change (replace the file by a rename instead).
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError, InputError
from wherry.base.ids import digest
from wherry.data.place import Place
from wherry.data.types import MOST_LEVELS, value_type


class MappedFile(Struct, frozen=True):
    """A file's bytes, and its size and time when they were mapped."""

    path: Path
    stat: os.stat_result
    buffer: pa.Buffer

    @property
    def label(self) -> str:
        """What errors call the file."""
        return str(self.path)

    @property
    def identity(self) -> bytes:
        """Digest of name, size and modification time."""
        return digest(self.path.name.encode(), repr(_version(self.stat)).encode())

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was mapped; one renamed over it is no matter.

        Raises
        ------
        InputError
            When the path still leads to the mapped file, and its size or time is another.
        """
        try:
            now = self.path.stat()
        except OSError:
            return  # Removed or out of reach: the mapping holds what was there.
        if os.path.samestat(now, self.stat) and _version(now) != _version(self.stat):
            raise InputError(
                f"{self.path} was changed in place after it was opened; scan it again "
                "(a file that is replaced by a rename stays readable)"
            )


def _version(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns


def map_file(path: Path) -> MappedFile:
    """Map a file.

    Raises
    ------
    InputError
        When the file is missing, unreadable or empty.
    """
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if stat.st_size == 0:
                raise InputError(f"{path} is empty: neither Arrow IPC nor Parquet")
            mapped = mmap.mmap(file.fileno(), stat.st_size, prot=mmap.PROT_READ)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    with suppress(OSError):  # Advice: faults then fill the page cache with large folios.
        mapped.madvise(mmap.MADV_HUGEPAGE)
    made = MappedFile(path, stat, pa.py_buffer(mapped))
    _files.add(made, mapped)
    return made


def locate(address: int) -> Place | None:
    """Give the mapped file that `address` lies in, or None when it lies in none.

    The place has no descriptor if another file is at the path now, or none.
    """
    return _files.at(address)


class _File(Struct, eq=False):
    """A mapping that lives. The descriptor to hand it over by is opened when it is first asked for.

    So an open file costs no second descriptor unless it is handed over.
    """

    path: Path
    stat: os.stat_result
    address: int
    owner: weakref.ref[mmap.mmap] | None = None
    place: Place | None = None

    def located(self) -> Place:
        if self.place is None:
            descriptor, why = self._opened()
            self.place = Place(self.address, self.stat.st_size, descriptor, lambda: None, why)
        return self.place

    def _opened(self) -> tuple[int, str]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            return -1, f"of a file that cannot be opened again: {error.strerror}"
        now = os.fstat(descriptor)
        if os.path.samestat(now, self.stat) and _version(now) == _version(self.stat):
            return descriptor, ""
        os.close(descriptor)
        return -1, "of a file that was replaced since it was opened"

    def close(self) -> None:
        if self.place is not None and self.place.descriptor >= 0:
            os.close(self.place.descriptor)


class _Files:
    """The mappings that live, by address.

    A mapping may end anywhere, also while this is locked by the same thread, so its end is noted
    without a lock, and seen to by whoever has the lock next.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: deque[_File] = deque()
        self._known: dict[int, _File] = {}
        self._starts: list[int] | None = []

    def add(self, made: MappedFile, mapped: mmap.mmap) -> None:
        file = _File(made.path, made.stat, made.buffer.address)
        file.owner = weakref.ref(mapped, lambda _: self._end(file))
        with self._lock:
            self._collect()
            self._known[file.address] = file
            self._starts = None

    def at(self, address: int) -> Place | None:
        with self._lock:
            self._collect()
            if self._starts is None:
                self._starts = sorted(self._known)
            number = bisect_right(self._starts, address) - 1
            if number < 0:
                return None
            place = self._known[self._starts[number]].located()
        return place if place.holds(address, 1) else None

    def _end(self, file: _File) -> None:
        self._ended.append(file)
        if self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def forked(self) -> None:
        """Have a lock that no thread holds, in a child."""
        self._lock = threading.Lock()

    def _collect(self) -> None:
        while self._ended:
            file = self._ended.popleft()
            file.close()
            if self._known.get(file.address) is file:
                del self._known[file.address]
                self._starts = None


_files = _Files()
os.register_at_fork(after_in_child=_files.forked)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Say of whatever pyarrow finds wrong meanwhile that `what` cannot be read.

    Raises
    ------
    CorruptError
        In the place of pyarrow's errors, those of names that are not UTF-8 among them.
    """
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise CorruptError(f"{what} cannot be read: {error}") from error


def decoded(schema: pa.Schema) -> pa.Schema:
    """Give `schema` once its names and time zones have proved to be UTF-8."""
    _look_at(schema, MOST_LEVELS)
    return schema


def _look_at(fields: Iterable[pa.Field], levels: int) -> None:
    for field in fields:
        t = value_type(field.type)
        _ = field.name, getattr(t, "tz", None)  # pyarrow decodes them when asked.
        if levels and pa.types.is_struct(t):
            _look_at(t, levels - 1)
