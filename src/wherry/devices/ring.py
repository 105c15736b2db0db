"""Slots that threads fill and empty into a device's memory: reading, copying, both at once.

A slot is filled by a thread and copied from by the device, which takes its time; it is filled again
when that is over. So there are more slots than threads. What fills slots, and what copies out of
them, is given: memory of the host filled by the system, or memory of the device filled by cuFile.
"""

from __future__ import annotations

import threading
from collections import deque
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

    Threads take windows of the oldest load that has some left. What may be interrupted, `begin`,
    only says that there is one more.

    Parameters
    ----------
    slots : sequence of Slot
        As many as threads at least.
    """

    def __init__(self, device: Accelerator, slots: Sequence[Slot], threads: int) -> None:
        assert 1 <= threads <= len(slots)
        self._device = device
        self._slots = tuple(slots)
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._count = threads
        self._threads = ThreadPoolExecutor(threads, "wherry-load")
        self._lock = threading.Lock()
        self._loads: deque[RingLoading] = deque()
        self._closed = False

    def begin(self, job: Job, keep: object) -> RingLoading:
        """Begin a load; `keep` lives until nothing of it is under way any more."""
        loading = RingLoading(self._device, job, keep)
        with self._lock:
            if self._closed:
                job.end()
                raise WherryError(f"the reader of {self._device.name} was closed")
            self._loads.append(loading)
            for _ in range(max(1, min(self._count, job.windows))):
                self._threads.submit(self._work)
        return loading

    def close(self) -> None:
        """Give up all loads; return when no slot is in use any more."""
        with self._lock:
            self._closed = True
            for loading in self._loads:
                loading.give_up()
        self._threads.shutdown()
        self._work()  # of a load whose `begin` was interrupted no thread may know
        for slot in self._slots:
            if slot.emptied is not None:
                slot.emptied.wait()

    def _work(self) -> None:
        """Carry windows until there are none; whoever sees a load's last one off ends it."""
        while (taken := self._take()) is not None:
            loading, window = taken
            if window is not None:
                self._carry(loading, window)
                with self._lock:
                    loading.under_way -= 1
                    if not loading.taken or loading.under_way:
                        continue
            loading.end()

    def _take(self) -> tuple[RingLoading, int | None] | None:
        """Give the next window; or None instead of one, of a load that is to be ended."""
        with self._lock:
            while self._loads:
                loading = self._loads[0]
                window = loading.next_window()
                if window is not None:
                    loading.under_way += 1
                    return loading, window
                self._loads.popleft().taken = True
                if not loading.under_way:
                    return loading, None
        return None

    def _carry(self, loading: RingLoading, window: int) -> None:
        """Take one window through a slot."""
        slot = self._free.get()
        try:
            if slot.emptied is not None:
                slot.emptied.wait()
                slot.emptied = None
            evidence = loading.job.fill(window, slot)
            try:
                loading.job.copy(window, slot)
            finally:  # where one copy failed, those before it are under way
                slot.emptied = self._device.loaded()
            with self._lock:
                loading.evidence += evidence
        except Exception as error:  # noqa: BLE001  raised again where the load is waited for
            loading.failed(error)
        finally:
            self._free.put(slot)


class RingLoading:
    """A load that threads of a ring carry; a `Loading`.

    Attributes
    ----------
    under_way : int
        Windows that threads have taken and not carried yet.
    taken : bool
        Whether there are no more to be taken.
    """

    def __init__(self, device: Accelerator, job: Job, keep: object) -> None:
        self.job, self._device, self._keep = job, device, keep
        self.under_way, self.taken = 0, False
        self.evidence = Evidence()
        self._next = 0
        self._given_up = False
        self._error: Exception | None = None
        self._event: Event | None = None
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
        return self.evidence

    def close(self) -> None:
        """Give up what has not been read yet; return when nothing is under way any more."""
        self.give_up()
        self._over.wait()

    def give_up(self) -> None:
        """Let no thread begin with another window."""
        self._given_up = True

    def next_window(self) -> int | None:
        """Give a window to carry, each once; None where there are no more."""
        if self._given_up or self._error is not None or self._next == self.job.windows:
            return None
        self._next += 1
        return self._next - 1

    def failed(self, error: Exception) -> None:
        """Let the load fail; of several reasons, the first is told."""
        self._error = self._error or error

    def end(self) -> None:
        """Say that all has been read; then, as soon as it is loaded, let go of all it took."""
        if self._next < self.job.windows and self._error is None:
            self.failed(WherryError(f"a load into {self._device.name} was given up"))
        try:
            self.job.end()
        except Exception as error:  # noqa: BLE001  raised again where the load is waited for
            self.failed(error)
        try:
            self._event = self._device.loaded()
            if self._error is None:
                self._read.set()
            self._event.wait()
        except Exception as error:  # noqa: BLE001  and so is this
            self.failed(error)
        self._keep = None
        self._read.set()
        self._over.set()
