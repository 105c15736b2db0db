"""Threads that live as long as the process, one to a core and pinned to it.

After a pause the kernel often wakes two threads on one core and takes 5 to 10 ms to part them,
longer than most queries take; pinned ones begin where they belong. Only these threads are pinned,
and only to cores that the caller may use; the caller's own thread waits.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from queue import SimpleQueue
from typing import Any

from wherry.render.team import STOP, Work, new_counter

Clock = Callable[[], int]
Busy = tuple[int, int, int]
"""A thread's number, and when it began and ended a piece of work, in nanoseconds."""
_Report = tuple[Busy, BaseException | None]
_Task = tuple[Work, Any, "SimpleQueue[_Report]", Clock]
_Inbox = SimpleQueue[_Task | None]


class Crew:
    """Threads on given cores, at the service of one caller at a time; begun with the first work.

    Parameters
    ----------
    cores : tuple of int
        The processors to run on, one thread each.
    """

    def __init__(self, cores: tuple[int, ...]) -> None:
        self.cores = cores
        self._lock = threading.Lock()
        self._inboxes: list[_Inbox] = []

    def run(self, work: Work, clock: Clock = time.perf_counter_ns) -> list[Busy]:
        """Call `work` on every thread with one counter; give who was busy when.

        Whatever ends the wait early, Ctrl-C above all, the counter is set beyond every number and
        all threads are waited for.
        """
        with self._lock:
            self._begin()
            counter, reports = new_counter(), SimpleQueue[_Report]()
            begun, found = 0, list[_Report]()
            try:
                for inbox in self._inboxes:
                    inbox.put((work, counter, reports, clock))
                    begun += 1
                while len(found) < begun:
                    found.append(reports.get())
            except BaseException:
                counter[0] = STOP
                _await(reports, begun - len(found))
                raise
        for _, problem in found:
            if problem is not None:
                raise problem
        return [busy for busy, _ in found]

    def end(self) -> None:
        """Let the threads end once they are idle."""
        with self._lock:
            for inbox in self._inboxes:
                inbox.put(None)
            self._inboxes.clear()

    def _begin(self) -> None:
        for number in range(len(self._inboxes), len(self.cores)):
            inbox, core = _Inbox(), self.cores[number]
            work = threading.Thread(
                target=_serve, args=(inbox, number, core), name=f"wherry-{core}", daemon=True
            )
            work.start()
            self._inboxes.append(inbox)


def _await(reports: SimpleQueue[_Report], count: int) -> None:
    """Wait for reports; a second Ctrl-C does not end the wait, which is short."""
    while count > 0:
        with suppress(KeyboardInterrupt):
            reports.get()
            count -= 1


def _serve(inbox: _Inbox, number: int, core: int) -> None:
    with suppress(OSError):  # The core was taken away meanwhile: then wherever there is room.
        os.sched_setaffinity(0, {core})
    while (task := inbox.get()) is not None:
        work, counter, reports, clock = task
        begin, problem = clock(), None
        try:
            work(int(counter.ctypes.data))
        except BaseException as raised:  # noqa: BLE001  raised where the caller waits
            counter[0] = STOP
            problem = raised
        reports.put(((number, begin, clock()), problem))
        # What a waiting thread still named would live until its next task.
        del task, work, counter, reports, clock, problem


def crew() -> Crew:
    """Give the crew for the cores that the calling thread may use now."""
    return _crew(tuple(sorted(os.sched_getaffinity(0))))


@lru_cache(maxsize=None)
def _crew(cores: tuple[int, ...]) -> Crew:
    return Crew(cores)


# A forked child has no thread but its own.
os.register_at_fork(after_in_child=_crew.cache_clear)
