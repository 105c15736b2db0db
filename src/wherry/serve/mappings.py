"""Segments and files of other processes, mapped once and for as long as something reads them."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import threading
import weakref

import pyarrow as pa

from wherry.base.errors import CorruptError, Retryable
from wherry.data import borrowed


class Mapping:
    """A descriptor's bytes, readable; unmapped with the last reference to this."""

    __slots__ = ("__weakref__", "_memory", "address", "size")

    def __init__(self, memory: mmap.mmap, size: int) -> None:
        self._memory = memory
        self.size = size
        self.address = int(pa.py_buffer(memory).address)
        borrowed.note(self, self.address, size)


class Mappings:
    """What is mapped now, by inode. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakValueDictionary[tuple[int, int], Mapping]
        self._known = weakref.WeakValueDictionary()
        _all.add(self)

    def __len__(self) -> int:
        return len(self._known)

    def map(self, descriptor: int) -> Mapping:
        """Map what a descriptor leads to; the descriptor may be closed afterwards.

        Raises
        ------
        CorruptError
            When it is no file, is empty, or is a segment that could still be cut short: reading
            behind its end would kill this process.
        Retryable
            When the kernel has no room for another mapping.
        """
        try:
            found = os.fstat(descriptor)
        except OSError as error:
            raise CorruptError(f"what was sent cannot be looked at: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            raise CorruptError("what was sent is no segment and no file with bytes in it")
        if _may_shrink(descriptor, found):
            raise CorruptError("a segment was sent that is not sealed against being cut short")
        key = found.st_dev, found.st_ino
        with self._lock:
            known = self._known.get(key)
            if known is None or known.size != found.st_size:
                known = self._known[key] = _mapped(descriptor, found.st_size)
            return known

    def forked(self) -> None:
        """Have a lock that no thread holds, in a child."""
        self._lock = threading.Lock()


def _mapped(descriptor: int, size: int) -> Mapping:
    try:
        return Mapping(mmap.mmap(descriptor, size, prot=mmap.PROT_READ), size)
    except PermissionError as error:
        raise CorruptError(f"what was sent cannot be read: {error.strerror}") from error
    except (OSError, ValueError, OverflowError) as error:
        raise Retryable(f"{size} bytes that were sent cannot be mapped: {error}") from error


def _may_shrink(descriptor: int, found: os.stat_result) -> bool:
    """Say whether it is a segment (a file without a name that can have seals) without the seal."""
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        return False
    return not found.st_nlink and not seals & fcntl.F_SEAL_SHRINK


_all: weakref.WeakSet[Mappings] = weakref.WeakSet()


def _forked() -> None:
    for mappings in list(_all):
        mappings.forked()


os.register_at_fork(after_in_child=_forked)
