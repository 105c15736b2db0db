"""Threads that live as long as the process, one to a core and pinned to it.

After a pause the kernel often wakes two threads on one core and takes 5 to 10 ms to part them,
longer than most queries take; pinned ones begin where they belong. Only these threads are pinned,
and only to cores that the caller may use. The caller takes part where it stands: a helper woken
there would only push it aside.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from queue import SimpleQueue
from typing import Any

from wherry.base.threads import begin
from wherry.render.team import STOP, Work, new_counter

Clock = Callable[[], int]
Busy = tuple[int, int, int]
"""A thread's number, 0 for the caller, and when it began and ended work, in nanoseconds."""
_Report = tuple[Busy, BaseException | None]
_Task = tuple[Work, Any, "SimpleQueue[_Report]", Clock]
_Inbox = SimpleQueue[_Task | None]


class Crew:
    """The calling thread and helpers on the other cores it may use; one caller at a time.

    Parameters
    ----------
    cores : tuple of int
        The processors to run on, one thread each. Helpers begin with the first work.
    """

    def __init__(self, cores: tuple[int, ...]) -> None:
        self.cores = cores
        self._lock = threading.Lock()
        self._inboxes: list[_Inbox] = []

    def run(self, work: Work, clock: Clock = time.perf_counter_ns) -> list[Busy]:
        """Call `work` on every thread with one counter; give who was busy when.

        Whatever ends it early, Ctrl-C above all, the counter is set beyond every number and all
        helpers are waited for.
        """
        with self._lock:
            counter, reports = new_counter(), SimpleQueue[_Report]()
            begun, found = 0, list[_Report]()
            try:
                for inbox in self._helpers():
                    inbox.put((work, counter, reports, clock))
                    begun += 1
                begin = clock()
                work(int(counter.ctypes.data))
                found.append(((0, begin, clock()), None))
                while len(found) <= begun:
                    found.append(reports.get())
            except BaseException:
                counter[0] = STOP
                _await(reports, begun - max(0, len(found) - 1))
                raise
        for _, problem in found:
            if problem is not None:
                raise problem
        return [busy for busy, _ in found]

    def _helpers(self) -> list[_Inbox]:
        """Give the helpers on all cores but the one the caller is on: there it works itself.

        Raises Retryable if there is no memory for one; those that have begun stay.
        """
        while len(self.cores) > 1 and len(self._inboxes) < len(self.cores):
            inbox, number = _Inbox(), len(self._inboxes)
            begin(partial(_serve, inbox, number + 1, self.cores[number]))
            self._inboxes.append(inbox)
        here = _current_core()
        others = [i for i, core in zip(self._inboxes, self.cores, strict=False) if core != here]
        return others[: len(self.cores) - 1]


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


_current_core: Callable[[], int] = ctypes.CDLL(None).sched_getcpu


def crew() -> Crew:
    """Give the crew for the cores that the calling thread may use now."""
    return _crew(tuple(sorted(os.sched_getaffinity(0))))


@cache
def _crew(cores: tuple[int, ...]) -> Crew:
    return Crew(cores)


# A forked child has no thread but its own.
os.register_at_fork(after_in_child=_crew.cache_clear)
