"""Runs that may last only so long: who is late begins no further piece of work.

The threads of a run share a counter (`wherry.render.team`), and stop once it is beyond every
number. A call of machine code that has begun is not cut off: it covers 16 chunks at most.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from threading import Lock
from typing import Final

from wherry.base.errors import InputError
from wherry.render.team import STOP, Team, Work

_NS: Final = 1_000_000_000


class _Run:
    """One call of a team: when it is late, and the counter of each thread that works for it."""

    def __init__(self, until_ns: int) -> None:
        self.until_ns = until_ns
        self.counters: list[int] = []
        self.late = False


class Timed:
    """The runs of an agent that are under way; safe for threads.

    Parameters
    ----------
    clock : callable
        Gives steady nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._lock = Lock()
        self._runs: set[_Run] = set()

    def team(self, team: Team, within_s: int, tenant: str) -> Team:
        """Give a team that stops after so many seconds, counted from each call of it.

        It raises InputError then, whatever was done.
        """

        def bounded(work: Work) -> None:
            run = _Run(self._clock() + within_s * _NS)
            with self._lock:
                self._runs.add(run)
            try:
                team(lambda counter: self._worked(run, work, counter))
            finally:
                with self._lock:
                    self._runs.discard(run)
            if run.late:
                raise InputError(
                    f"it ran for more than {within_s} s; possible for tenant {tenant!r}: {within_s}"
                )

        return bounded

    def stop_late(self) -> None:
        """Stop the runs that are late; to be called now and then."""
        now = self._clock()
        with self._lock:
            for run in self._runs:
                if run.until_ns <= now:
                    run.late = True
                    for counter in run.counters:
                        _stop(counter)

    def _worked(self, run: _Run, work: Work, counter: int) -> None:
        with self._lock:
            run.counters.append(counter)
            if run.late:
                _stop(counter)
        try:
            work(counter)
        finally:
            # Afterwards the counter may be gone, so nobody writes to it any more.
            with self._lock:
                run.counters.remove(counter)


def _stop(counter: int) -> None:
    ctypes.c_int64.from_address(counter).value = STOP
