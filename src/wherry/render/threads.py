"""Several threads for one program: what comes together on one device is shared out among its cores.

Whoever asks works too, so that nothing waits for a thread that is busy elsewhere. A share's result
must not depend on which thread made it.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_lock = threading.Lock()
_helpers: list[ThreadPoolExecutor] = []
_kept = threading.local()


def cores() -> int:
    """Give how many cores this process may run on."""
    return len(os.sched_getaffinity(0))


def each(task: Callable[[int], T], count: int, threads: int | None = None) -> list[T]:
    """Give `task(0)` to `task(count - 1)`, in order, worked on by `threads` threads.

    Parameters
    ----------
    task : callable
        Called once for every number, from any thread.
    threads : int, optional
        One for each core unless given.
    """
    wanted = min(count, cores() if threads is None else threads)
    numbers = itertools.count()
    found: list[Any] = [None] * count

    def work() -> None:
        # next() of itertools.count is one step of the interpreter: no number is given twice.
        while (number := next(numbers)) < count:
            found[number] = task(number)

    if wanted < 2:
        work()
        return found
    others: list[Future[None]] = [_pool().submit(work) for _ in range(wanted - 1)]
    try:
        work()
    finally:
        # A helper that has not begun by now finds nothing left to do, so it is not waited for.
        waited = [other for other in others if not other.cancel()]
        for other in waited:
            other.result()
    return found


def _pool() -> ThreadPoolExecutor:
    with _lock:
        if not _helpers:
            _helpers.append(ThreadPoolExecutor(max(1, 2 * cores()), thread_name_prefix="wherry"))
        return _helpers[0]


def scratch(name: str, nbytes: int) -> np.ndarray[Any, Any]:
    """Give at least `nbytes` bytes at a multiple of 64, this thread's own until it asks again.

    Fresh memory costs more than what is done with it here (page faults), so it is kept.
    """
    rooms = _kept.__dict__.setdefault("rooms", {})
    room = rooms.get(name)
    if room is None or len(room) < nbytes:
        fresh = np.empty(nbytes + nbytes // 4 + 64, np.uint8)
        room = rooms[name] = fresh[-fresh.ctypes.data % 64 :]
    return room


def _after_fork() -> None:
    # Threads do not survive a fork.
    _helpers.clear()


os.register_at_fork(after_in_child=_after_fork)
