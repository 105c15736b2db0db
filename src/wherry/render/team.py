"""How a program uses several threads: all make the same call, and share a counter.

A team calls its work once on each of its threads and waits for all of them. The work takes numbers
from the counter until they run out; so whoever sets the counter beyond them stops the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from wherry.kernels.skeletons import skeletons

_share = skeletons("share")

Work: TypeAlias = Callable[[int], None]
"""What each thread does; it is given the address of the counter, an int64 that begins at 0."""

Team: TypeAlias = Callable[[Work], None]
"""Calls work on each of its threads, waits for all, and raises what one of them raised."""

Made = TypeVar("Made")

AT_ONCE: Final = 16
"""Chunks of a call, 10 to 40 ms: so long Ctrl-C waits."""

APART: Final = 128
"""Bytes between what two threads write: two lines, because processors fetch lines in pairs."""

STOP: Final = 1 << 62
"""A counter's value beyond every number that anybody takes."""


def new_counter() -> np.ndarray[Any, Any]:
    """Give a counter; it has a cache line of its own, because every thread writes to it."""
    return np.zeros(16, np.int64)


def alone(work: Work) -> None:
    """Be a team of one: the calling thread."""
    counter = new_counter()
    work(int(counter.ctypes.data))


def each(team: Team, count: int, task: Callable[[int], Made]) -> list[Made]:
    """Give what `task` makes of 0 to `count` - 1, in order; whoever is free takes the next.

    What it raises for the smallest number is raised, and nothing new is begun after an error.
    """
    made: dict[int, Made] = {}
    failed: dict[int, BaseException] = {}

    def work(counter: int) -> None:
        number = _share.take(counter)
        # After an error only smaller numbers, which others have taken before, are still tried.
        while number < min(list(failed), default=count):
            try:
                made[number] = task(number)
            except Exception as problem:  # noqa: BLE001  raised below, where the caller stands
                failed[number] = problem
            number = _share.take(counter)

    (team if count > 1 else alone)(work)
    if failed:
        # Every smaller one was tried, so this is the same error whatever thread did what.
        raise failed[min(failed)]
    return [made[number] for number in range(count)]
