"""Pooled memory that results are written to: shareable by descriptor, aligned, used again.

What fresh memory costs is the first touch of its pages (0.4 GB/s against 7 GB/s for a copy into
pages that are there, measured on a virtual machine), so a region whose buffers are all gone goes
back to the pool instead of to the system. A region is a memfd: another process that is sent the
descriptor maps the same pages. Before its descriptor is first given away a region is sealed: nobody
can cut it short, grow it, or write to it through a mapping that does not exist yet.

A forked child has the same pages too, and no way to tell its parent which it uses. Therefore pools
forget their regions at a fork: what is in use stays as it is on both sides until its buffers are
gone, and is given out by neither again.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import weakref
from collections import deque
from functools import partial
from typing import Self

import numpy as np
import pyarrow as pa
from msgspec import Struct, field

from wherry.base.errors import InputError, Retryable, WherryError
from wherry.base.units import format_bytes
from wherry.data.place import Place

ALIGNMENT = 64
REGION_BYTES = 32 << 20
"""Smallest region: below this, mapping and touching regions shows in the time of a query."""

_F_SEAL_FUTURE_WRITE = 0x10
"""Of Linux; Python's `fcntl` has it from 3.13."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL


class _Region(Struct, eq=False, weakref=True):
    descriptor: int
    memory: mmap.mmap
    size: int
    address: int
    cut: int = 0
    live: dict[int, weakref.ref[object]] = field(default_factory=dict)
    reader: int = -1
    retired: bool = False

    def fits(self, nbytes: int) -> bool:
        return not self.retired and self.cut + nbytes <= self.size


class SegmentPool:
    """Gives mutable buffers out of shareable regions and takes regions back when they are unused.

    All methods may be called from any thread. Buffers stay valid when the pool is closed.

    Parameters
    ----------
    cap : int, optional
        Most bytes of regions that exist at once; half of the machine's memory unless given. A
        higher one risks the system's out-of-memory killer.
    region_bytes : int
        Size of the smallest region.
    keep_bytes : int, optional
        Most bytes of unused regions that are kept; a quarter of the cap unless given. Below the
        size of a query's answer, every query pays again for fresh pages.
    """

    def __init__(
        self,
        cap: int | None = None,
        region_bytes: int = REGION_BYTES,
        keep_bytes: int | None = None,
    ) -> None:
        self.cap = _physical_bytes() // 2 if cap is None else cap
        self._region_bytes = region_bytes
        self._keep_bytes = self.cap // 4 if keep_bytes is None else keep_bytes
        self._regions: list[_Region] = []
        self._dead: deque[tuple[_Region, int]] = deque()
        self._lock = threading.Lock()
        self._next_token = 0
        self._closed = False
        _pools.add(self)

    def allocate(self, nbytes: int) -> pa.Buffer:
        """Give a mutable buffer of `nbytes` bytes at an address that is a multiple of 64.

        What it holds is whatever was there before. Its memory is given out again only after the
        buffer, and everything that Arrow or numpy cut from it, is gone.

        Raises
        ------
        InputError
            When `nbytes` is negative or above the cap, or the pool is closed.
        Retryable
            When the buffers still alive leave no room under the cap.
        """
        if nbytes < 0:
            raise InputError(f"cannot allocate {nbytes} bytes")
        room = max(_round_up(nbytes, ALIGNMENT), ALIGNMENT)
        with self._lock:
            if self._closed:
                raise InputError("the segment pool is closed")
            self._collect()
            region = self._region_for(room)
            token, start = self._next_token, region.cut
            self._next_token += 1
            region.cut += room
            owner = np.frombuffer(region.memory, np.uint8, nbytes, start)
            region.live[token] = weakref.ref(owner, lambda _: self._died(region, token))
        return pa.py_buffer(owner)

    @property
    def bytes_in_use(self) -> int:
        """Bytes given out that cannot be given out again yet: a region returns as a whole."""
        with self._lock:
            self._collect()
            return sum(region.cut for region in self._regions)

    @property
    def regions(self) -> int:
        """How many regions exist, used or kept."""
        with self._lock:
            self._collect()
            return len(self._regions)

    def locate(self, address: int) -> Place | None:
        """Give the region that `address` lies in, or None when it is not the pool's.

        Whoever sends the descriptor away must keep the buffer until the other side is done, or
        retire the region if it cannot tell.

        Raises
        ------
        WherryError
            When the kernel does not seal regions, or there are too many open files.
        """
        with self._lock:
            for region in self._regions:
                if region.address <= address < region.address + region.size:
                    reader = self._reader(region)
                    retire = partial(self._retire, region)
                    return Place(region.address, region.size, reader, retire)
        return None

    def _reader(self, region: _Region) -> int:
        """Give a descriptor that cannot be written through, of a region that is sealed by now."""
        if region.reader >= 0:
            return region.reader
        try:
            fcntl.fcntl(region.descriptor, fcntl.F_ADD_SEALS, _SEALS)
            region.reader = os.open(
                f"/proc/self/fd/{region.descriptor}", os.O_RDONLY | os.O_CLOEXEC
            )
        except OSError as error:
            raise WherryError(
                f"a segment cannot be shared: {error.strerror}; it takes Linux 5.1 and /proc"
            ) from error
        weakref.finalize(region, os.close, region.reader)
        return region.reader

    def _retire(self, region: _Region) -> None:
        """Give out nothing of a region any more: it goes back to the system with its buffers."""
        with self._lock:
            region.retired = True
            if not region.live and region in self._regions:
                self._regions.remove(region)

    def close(self) -> None:
        """Give nothing out any more; each region goes back to the system with its last buffer."""
        with self._lock:
            self._closed = True
            self._collect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _died(self, region: _Region, token: int) -> None:
        """Note that a buffer is gone.

        The collector may call this anywhere, also inside `allocate` of the same thread, so it only
        appends, which needs no lock, and takes the lock if nobody has it.
        """
        self._dead.append((region, token))
        if self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        if not (self._dead or self._closed):
            return
        while self._dead:
            region, token = self._dead.popleft()
            region.live.pop(token, None)
            if not region.live:
                region.cut = 0
                if region.retired and region in self._regions:
                    self._regions.remove(region)
        self._release_free(0 if self._closed else self._keep_bytes)

    def _release_free(self, keep: int) -> None:
        """Unmap unused regions, the largest first, until at most `keep` bytes of them are left."""
        free = sorted((r for r in self._regions if not r.live), key=lambda region: region.size)
        kept = sum(region.size for region in free)
        while free and kept > keep:
            region = free.pop()
            kept -= region.size
            self._regions.remove(region)

    def _region_for(self, room: int) -> _Region:
        """Give a region of the right size class with `room` bytes left, a fresh one at need."""
        size = max(self._region_bytes, 1 << (room - 1).bit_length())
        for region in self._regions:
            if region.size == size and region.fits(room):
                return region
        if size > self.cap:
            raise InputError(
                f"{format_bytes(room)} do not fit under the pool's cap of {format_bytes(self.cap)}"
            )
        if self._mapped() + size > self.cap:
            self._release_free(0)
        if self._mapped() + size > self.cap:
            raise Retryable(
                f"no room for {format_bytes(room)}: buffers in use hold "
                f"{format_bytes(self._mapped())} of the pool's {format_bytes(self.cap)}"
            )
        self._regions.append(_map_region(size))
        return self._regions[-1]

    def _mapped(self) -> int:
        return sum(region.size for region in self._regions)

    def _before_fork(self) -> None:
        self._lock.acquire()
        self._regions.clear()

    def _after_fork(self) -> None:
        self._lock.release()


_pools: weakref.WeakSet[SegmentPool] = weakref.WeakSet()
_forking: list[SegmentPool] = []
"""The pools that a fork under way has locked: those that exist when it begins."""


def _before_fork() -> None:
    for pool in list(_pools):
        pool._before_fork()
        _forking.append(pool)


def _after_fork() -> None:
    while _forking:
        _forking.pop()._after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def _map_region(size: int) -> _Region:
    descriptor = os.memfd_create("wherry-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        memory = mmap.mmap(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    address = np.frombuffer(memory, np.uint8).ctypes.data
    region = _Region(descriptor, memory, size, address)
    weakref.finalize(region, os.close, descriptor)
    return region


def _round_up(count: int, unit: int) -> int:
    return (count + unit - 1) // unit * unit


def _physical_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
