"""Slots that threads fill and empty into a device's memory: reading, copying, both at once.

A slot is filled by a thread and copied from by the device, which takes its time; it is filled again
when that is over. So there are more slots than threads. What fills slots, and what copies out of
them, is given: memory of the host filled by the system, or memory of the device filled by cuFile.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol, Self

from msgspec import Struct

from wherry.base.errors import WherryError
from wherry.devices.accelerator import Accelerator, Event
from wherry.devices.loading import Evidence


class Slot(Struct, eq=False):
    """Memory that bytes go through.

    Attributes
    ----------
    address : int
    memory : object
        The same, as whoever fills it wants it.
    emptied : Event, optional
        When what it was filled with has been copied.
    """

    address: int
    memory: Any
    emptied: Event | None = None


class Job(Protocol):
    """A load, window by window; windows may be carried in any order, by several threads.

    Attributes
    ----------
    windows : int
    """

    windows: int

    def fill(self, window: int, slot: Slot) -> Evidence:
        """Fill a slot with what a window holds, and return when it is there."""

    def copy(self, window: int, slot: Slot) -> None:
        """Ask the device to load what a slot holds."""

    def end(self) -> None:
        """Let go of what was open for it; refuse what has turned out to be wrong."""


class Ring:
    """Threads and slots that loads into one device share.

    Parameters
    ----------
    slots : sequence of Slot
        As many as threads at least.
    """

    def __init__(self, device: Accelerator, slots: Sequence[Slot], threads: int) -> None:
        assert 1 <= threads <= len(slots)
        self.device = device
        self._slots = tuple(slots)
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._count = threads
        self._threads = ThreadPoolExecutor(threads, "wherry-load")
        self._lock = threading.Lock()
        self._begun: set[RingLoading] = set()
        self._closed = False

    def begin(self, job: Job, keep: object) -> RingLoading:
        """Begin a load; `keep` lives until nothing of it is under way any more."""
        helpers = max(1, min(self._count, job.windows))
        loading = RingLoading(self, job, keep, helpers)
        with self._lock:
            if self._closed:
                job.end()
                raise WherryError(f"the reader of {self.device.name} was closed")
            self._begun.add(loading)
            for _ in range(helpers):
                self._threads.submit(loading.help)
        return loading

    def carry(self, job: Job, window: int) -> Evidence:
        """Take one window through a slot."""
        slot = self._free.get()
        try:
            if slot.emptied is not None:
                slot.emptied.wait()
                slot.emptied = None
            evidence = job.fill(window, slot)
            try:
                job.copy(window, slot)
            finally:  # where one copy failed, those before it are under way
                slot.emptied = self.device.loaded()
            return evidence
        finally:
            self._free.put(slot)

    def over(self, loading: RingLoading) -> None:
        """Forget a load that is over."""
        with self._lock:
            self._begun.discard(loading)

    def close(self) -> None:
        """Give up all loads; return when no slot is in use any more."""
        with self._lock:
            self._closed = True
            begun = list(self._begun)
        for loading in begun:
            loading.close()
        self._threads.shutdown()
        for slot in self._slots:
            if slot.emptied is not None:
                slot.emptied.wait()


class RingLoading:
    """A load that threads of a ring carry; a `Loading`."""

    def __init__(self, ring: Ring, job: Job, keep: object, helpers: int) -> None:
        self._ring, self._job, self._keep = ring, job, keep
        self._helpers = helpers
        self._next = 0
        self._given_up = False
        self._evidence = Evidence()
        self._error: Exception | None = None
        self._event: Event | None = None
        self._lock = threading.Lock()
        self._read, self._over = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def event(self) -> Event:
        """Give the point at which all of it is on the device, as soon as all has been read."""
        self._read.wait()
        if self._error is not None:
            raise self._error
        assert self._event is not None
        return self._event

    def wait(self) -> Evidence:
        """Return when all of it is on the device; with the ways it took."""
        self.event().wait()
        return self._evidence

    def close(self) -> None:
        """Give up what has not been read yet; return when nothing is under way any more."""
        self._given_up = True
        self._over.wait()

    def help(self) -> None:
        """Carry windows until none is left, or one could not be carried; the last one ends it."""
        try:
            for window in iter(self._take, None):
                evidence = self._ring.carry(self._job, window)
                with self._lock:
                    self._evidence += evidence
        except Exception as error:  # noqa: BLE001  raised again where the load is waited for
            self._failed(error)
        with self._lock:
            self._helpers -= 1
            if self._helpers:
                return
        self._finish()

    def _take(self) -> int | None:
        with self._lock:
            if self._given_up or self._error is not None or self._next == self._job.windows:
                return None
            self._next += 1
            return self._next - 1

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._error = self._error or error

    def _finish(self) -> None:
        """Say that all has been read; then, as soon as it is loaded, let go of all it took."""
        if self._next < self._job.windows and self._error is None:
            self._error = WherryError(f"a load into {self._ring.device.name} was given up")
        try:
            self._job.end()
        except Exception as error:  # noqa: BLE001  raised again where the load is waited for
            self._failed(error)
        try:
            self._event = self._ring.device.loaded()
            if self._error is None:
                self._read.set()
            self._event.wait()
        except Exception as error:  # noqa: BLE001  and so is this
            self._failed(error)
        self._keep = None
        self._ring.over(self)
        self._read.set()
        self._over.set()
