"""Loading by kvikio: from the drive to the device by cuFile, or through kvikio's own copies.

kvikio reads whole pages into slots of the device's memory; from there they are copied to where they
belong. So every read is aligned, as GPUDirect Storage wants it, whatever a file's layout. Which way
bytes took is what kvikio's own figures say. They are of the whole process, so a reader carries one
window at a time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import InputError
from wherry.data.extents import PAGE
from wherry.data.file_reads import GAPS, check_unchanged, truncated
from wherry.data.ipc_footer import File
from wherry.devices.accelerator import Accelerator
from wherry.devices.loading import Evidence, FileRanges, HostRanges, Loading
from wherry.devices.pinned import PinnedReader
from wherry.devices.ring import Ring, Slot
from wherry.devices.windows import cut

SLOT_BYTES: Final = 64 << 20
"""A read of 64 MiB takes 1.3 ms at 50 GB/s; every one of 16 threads has two tasks of it."""
_TASK_BYTES: Final = 2 << 20
_THREADS: Final = 16
_FIGURES_S: Final = 0.1
"""How long kvikio's figures may lag behind its answers."""
_opening = threading.Lock()
"""The mode is the process's when a file is opened, and the file's from then on."""


class KvikioReader:
    """A `DeviceReader` by kvikio. How many threads kvikio has is the process's, and set here.

    Parameters
    ----------
    device : Accelerator
        Of which two slots are taken.
    gds : bool
        Whether cuFile reads, from the drive to the device; otherwise kvikio does, through the page
        cache and pinned memory of its own. Ask `gpu_paths` first: where it is not there, cuFile may
        hang.
    strict : bool
        Whether to refuse, instead of only telling, that bytes took another way.
    slot_bytes : int
        Whole pages.

    Raises
    ------
    InputError
        If kvikio is not installed or, with `strict`, cuFile would not tell that it falls back.
    Retryable
        If the device has no room for the slots.
    """

    def __init__(
        self,
        device: Accelerator,
        *,
        gds: bool,
        strict: bool = False,
        threads: int = _THREADS,
        slot_bytes: int = SLOT_BYTES,
    ) -> None:
        if slot_bytes < PAGE or slot_bytes % PAGE:
            raise InputError(f"a slot is of whole pages of {PAGE} bytes, not of {slot_bytes}")
        self.name, self.gap = ("gds" if gds else "kvikio"), GAPS["direct" if gds else "cached"]
        self._device, self._slot_bytes = device, slot_bytes
        self._kvikio = _Kvikio(gds=gds, strict=strict, threads=threads)
        self._block = device.room(2 * slot_bytes + PAGE)
        base = -(-self._block.address // PAGE) * PAGE
        # kvikio's copies heed no launch: none may still read what this memory was before.
        device.copy_within(base, base + PAGE, 1)
        device.loaded().wait()
        self._ring = Ring(device, [Slot(base, None), Slot(base + slot_bytes, None)], threads=1)
        self._memory: PinnedReader | None = None
        self._lock = threading.Lock()

    def begin(self, source: FileRanges | HostRanges, keep: object = None) -> Loading:
        """Begin to load ranges of a file, or through a `PinnedReader` ranges of memory."""
        if isinstance(source, HostRanges):
            with self._lock:
                self._memory = self._memory or PinnedReader(self._device)
            return self._memory.begin(source, keep)
        job = _Job(self._device, self._kvikio, source, self._slot_bytes)
        return self._ring.begin(job, (keep, self._block))

    def close(self) -> None:
        """Give up all loads and let go of the slots."""
        self._ring.close()
        if self._memory is not None:
            self._memory.close()


class _Region(Struct, frozen=True):
    """Bytes of a device, as kvikio takes them."""

    address: int
    nbytes: int

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {
            "shape": (self.nbytes,),
            "typestr": "|u1",
            "data": (self.address, False),
            "version": 3,
        }


class _Kvikio:
    """What is used of kvikio: files opened in one mode, reads, and figures of them."""

    def __init__(self, *, gds: bool, strict: bool, threads: int) -> None:
        # Otherwise cuFile writes its log where this process works.
        os.environ.setdefault("CUFILE_LOGFILE_PATH", str(Path(gettempdir()) / "cufile.log"))
        try:
            self._kvikio = import_module("kvikio")
            self._defaults = import_module("kvikio.defaults")
        except Exception as error:
            # What a missing library of CUDA raises is no ImportError.
            text = f"files are read by kvikio: pip install wherry[gpu] ({error})"
            raise InputError(text) from error
        self._gds, self._strict = gds, strict
        self.why = self._fallback() if gds else ""
        if strict and self.why:
            raise InputError(self.why)
        # Smaller reads than the threshold would be done one after the other.
        self._defaults.set(
            {
                "num_threads": threads,
                "task_size": _TASK_BYTES,
                "gds_threshold": 0,
                "auto_direct_io_read": False,
            }
        )
        self._monitor = self._kvikio.SummaryMonitor()

    def _fallback(self) -> str:
        driver = import_module("kvikio.cufile_driver")
        if driver.get("allow_compat_mode"):
            return (
                "cuFile may read through memory of the host without telling: "
                "properties.allow_compat_mode of its cufile.json is true"
            )
        return ""

    def open(self, file: File) -> Any:
        """Open a file once more, to be read by `_read`."""
        modes = self._kvikio.CompatMode
        mode = modes.OFF if self._gds else modes.ON
        try:
            with _opening, self._defaults.set({"compat_mode": mode}):
                return self._kvikio.CuFile(f"/proc/self/fd/{file.descriptor}", "r")
        except Exception as error:
            raise InputError(f"{file.label} cannot be opened by kvikio: {error}") from error

    def figures(self) -> Any:
        """Give what kvikio has read until now."""
        return self._monitor.get()

    def way_of(self, nbytes: int, before: Any) -> Evidence:
        """Give which way bytes took that were read since.

        Of what others read meanwhile, what went through the host's memory counts as ours, so that
        GPUDirect Storage is told of only where it is certain.
        """
        end = time.monotonic() + _FIGURES_S
        while True:
            ways = self.figures().since(before).by_backend
            gds, posix = (ways[name]["bytes_transferred"] for name in ("GDS", "POSIX"))
            if gds + posix >= nbytes or time.monotonic() > end:
                break
            time.sleep(0.001)
        gds = min(gds, max(0, nbytes - posix))
        if not self._gds or gds == nbytes:
            return Evidence(gds=gds, cached=nbytes - gds, why=self.why)
        text = f"of {nbytes} bytes that kvikio read, {gds} came by GPUDirect Storage for certain"
        if self._strict:
            raise InputError(text)
        return Evidence(gds=gds, cached=nbytes - gds, why=text)


class _Job:
    def __init__(self, device: Accelerator, kvikio: _Kvikio, source: FileRanges, most: int) -> None:
        extents, end = source.extents, source.extents.size
        self._device, self._kvikio, self._file = device, kvikio, source.file
        self._fills = cut(extents.places, extents.sizes, extents.offsets, most, end)
        self._copies = cut(source.places, source.sizes, source.targets, most, end)
        self.windows = self._fills.windows
        self._opened = kvikio.open(source.file)

    def fill(self, window: int, slot: Slot) -> Evidence:
        """Read all that a window has of the file."""
        size, before = self._file.size, self._kvikio.figures()
        parts = [
            (_Region(slot.address + place, min(room, size - offset)), offset)
            for place, room, offset in self._fills.of(window)
        ]
        asked = [
            _outcome(self._opened.pread, region, region.nbytes, offset) for region, offset in parts
        ]
        # All are waited for, so that none still writes to the slot when one has failed.
        found = [one if isinstance(one, Exception) else _outcome(one.get) for one in asked]
        for got, (region, offset) in zip(found, parts, strict=True):
            if isinstance(got, Exception):
                raise InputError(
                    f"{self._file.label} cannot be read at offset {offset} by kvikio: {got}"
                ) from got
            if got < region.nbytes:
                raise truncated(self._file, self._opened.fileno(), offset + got)
        return self._kvikio.way_of(sum(region.nbytes for region, _ in parts), before)

    def copy(self, window: int, slot: Slot) -> None:
        """Ask for every range to be copied."""
        for place, size, target in self._copies.of(window):
            self._device.copy_within(target, slot.address + place, size)

    def end(self) -> None:
        """Close the file; refuse one that was changed meanwhile."""
        try:
            check_unchanged(self._file, self._opened.fileno())
        finally:
            self._opened.close()


def _outcome(call: Callable[..., Any], *arguments: object) -> Any:
    """Give what a call gives, or what it raises."""
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001  told by who asked
        return error
