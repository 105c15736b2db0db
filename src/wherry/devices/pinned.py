"""Loading through registered memory: threads read into slots of it, the device empties them.

Of a file, a thread's `preadv` copies from the page cache or lets the drive write to the slot; of
this process's memory it copies, unless the device reads that by itself. Slots are small, so that
much of a copy still lies in a processor's caches when the device comes for it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Final

import numpy as np

from wherry.base.errors import InputError, unknown_name
from wherry.data.extents import PAGE
from wherry.data.file_reads import GAPS, OpenedFile, Piece, Way
from wherry.data.file_reads import WAYS as FILE_WAYS
from wherry.devices.accelerator import Accelerator
from wherry.devices.loading import Evidence, FileRanges, HostRanges, Loading
from wherry.devices.ring import Ring, Slot
from wherry.devices.windows import cut

SLOT_BYTES: Final = 2 << 20
"""A copy of 2 MiB takes 40 us at 50 GB/s, and asking for it 10 us of a thread (estimates)."""
_THREADS: Final = 16
"""As many as fill a link of 50 GB/s at 3 to 6 GB/s of one core's copy."""
_LINE: Final = 64
"""Bytes of a cache line; ranges of memory begin at one in a slot."""


class PinnedReader:
    """A `DeviceReader` through a ring of registered slots.

    Parameters
    ----------
    device : Accelerator
    way : "cached", "direct" or "either"
        How files are read, as `OpenedFile` has it.
    threads : int, optional
        How many read at once; as many as this process has cores, 16 at most, unless given.
    slots : int, optional
        Twice as many unless given: a slot is emptied while another is filled.
    slot_bytes : int
        Whole pages.
    why : str
        Why this reader is used where another was asked for; every load's evidence says it.
    """

    name = "pinned"

    def __init__(
        self,
        device: Accelerator,
        *,
        way: Way = "cached",
        threads: int | None = None,
        slots: int | None = None,
        slot_bytes: int = SLOT_BYTES,
        why: str = "",
    ) -> None:
        if way not in FILE_WAYS:
            raise unknown_name("way", way, FILE_WAYS)
        threads = threads or min(_THREADS, len(os.sched_getaffinity(0)))
        slots = slots or 2 * threads
        if not 1 <= threads <= slots:
            raise InputError(f"{threads} threads need as many slots at least, not {slots}")
        if slot_bytes < PAGE or slot_bytes % PAGE:
            raise InputError(f"a slot is of whole pages of {PAGE} bytes, not of {slot_bytes}")
        self.gap = GAPS[way]
        self._way, self._slot_bytes, self._why = way, slot_bytes, why
        self._device = device
        memory = mmap.mmap(-1, slots * slot_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # A forked child would share the pages, and the first write after that would move them.
        memory.madvise(mmap.MADV_DONTFORK)
        view = memoryview(memory)
        self._registered = device.registered(view)
        address = int(np.frombuffer(memory, np.uint8).ctypes.data)
        ring = [
            Slot(address + at, view[at : at + slot_bytes])
            for at in range(0, slots * slot_bytes, slot_bytes)
        ]
        self._ring = Ring(device, ring, threads)

    def begin(self, source: FileRanges | HostRanges, keep: object = None) -> Loading:
        """Begin to load ranges of a file or of this process's memory."""
        job = (
            _FileJob(self._device, source, self._way, self._slot_bytes, self._why)
            if isinstance(source, FileRanges)
            else _HostJob(self._device, source, self._slot_bytes, self._why)
        )
        return self._ring.begin(job, (keep, self))

    def close(self) -> None:
        """Give up all loads and let go of the registered memory."""
        self._ring.close()
        self._registered.close()


class _FileJob:
    def __init__(
        self, device: Accelerator, source: FileRanges, way: Way, most: int, why: str
    ) -> None:
        extents, end = source.extents, source.extents.size
        self._device, self._why = device, why
        self._fills = cut(extents.places, extents.sizes, extents.offsets, most, end)
        self._copies = cut(source.places, source.sizes, source.targets, most, end)
        self.windows = self._fills.windows
        self._opened = OpenedFile(source.file, way)

    def fill(self, window: int, slot: Slot) -> Evidence:
        """Read all that a window has of the file."""
        found = Evidence(why=self._why)
        for place, size, offset in self._fills.of(window):
            one = self._opened.fill(slot.memory, Piece(offset, place, size))
            found += Evidence(direct=one.direct, cached=one.cached, why=one.why)
        return found

    def copy(self, window: int, slot: Slot) -> None:
        """Ask for every range to be copied."""
        for place, size, target in self._copies.of(window):
            self._device.copy_in(target, slot.address + place, size)

    def end(self) -> None:
        """Close the file; refuse one that was changed meanwhile."""
        try:
            self._opened.check_unchanged()
        finally:
            self._opened.close()


class _HostJob:
    """What the device reads by itself is one more window, which fills no slot."""

    def __init__(self, device: Accelerator, source: HostRanges, most: int, why: str) -> None:
        ranges = zip(source.addresses.tolist(), source.sizes.tolist(), strict=True)
        reads = np.array([size > 0 and device.reads(at, size) for at, size in ranges], np.bool_)
        addresses, sizes, targets = source.addresses, source.sizes, source.targets
        every = (targets[reads].tolist(), addresses[reads].tolist(), sizes[reads].tolist())
        self._direct = list(zip(*every, strict=True))
        addresses, sizes, targets = addresses[~reads], sizes[~reads], targets[~reads]
        rooms = -(-sizes // _LINE) * _LINE
        places, end = np.cumsum(rooms) - rooms, int(rooms.sum())
        self._device, self._why = device, why
        self._fills = cut(places, sizes, addresses, most, end)
        self._copies = cut(places, sizes, targets, most, end)
        self.windows = self._fills.windows + bool(self._direct)

    def fill(self, window: int, slot: Slot) -> Evidence:
        """Copy all that a window has."""
        if window == self._fills.windows:
            return Evidence(registered=sum(size for _, _, size in self._direct), why=self._why)
        staged = 0
        for place, size, address in self._fills.of(window):
            ctypes.memmove(slot.address + place, address, size)
            staged += size
        return Evidence(staged=staged, why=self._why)

    def copy(self, window: int, slot: Slot) -> None:
        """Ask for every range to be copied."""
        if window == self._fills.windows:
            for target, address, size in self._direct:
                self._device.copy_in(target, address, size)
            return
        for place, size, target in self._copies.of(window):
            self._device.copy_in(target, slot.address + place, size)

    def end(self) -> None:
        """Nothing is open."""
