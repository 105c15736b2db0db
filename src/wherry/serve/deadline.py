"""Until when the work of a thread is wanted: every wait for an agent ends by then.

What plans a query asks agents from deep within, and keeps what it learned for others; so a deadline
is not handed on by arguments but belongs to the context of the thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TypeVar

from wherry.base.errors import Retryable
from wherry.base.threads import begin

_until: ContextVar[tuple[float, float]] = ContextVar("until", default=(math.inf, math.inf))

K = TypeVar("K")
R = TypeVar("R")


class Overdue(Retryable):
    """A query did not end by its deadline."""

    def __init__(self, device: str, doing: str, hop: str) -> None:
        seconds = _until.get()[1]
        super().__init__(f"{device} was not done {doing} after the query's {seconds:g} s ({hop})")
        self.device = device


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Want what this thread does for so many seconds and no longer; None: for as long as before."""
    if seconds is None or seconds >= left_s(math.inf):
        yield
        return
    token = _until.set((time.monotonic() + seconds, seconds))
    try:
        yield
    finally:
        _until.reset(token)


@contextmanager
def without() -> Iterator[None]:
    """Do what has to be done although the deadline may be over."""
    token = _until.set((math.inf, math.inf))
    try:
        yield
    finally:
        _until.reset(token)


def left_s(most_s: float) -> float:
    """Give how many seconds there are until the deadline, `most_s` at most; 0: it is over."""
    return max(0.0, min(most_s, _until.get()[0] - time.monotonic()))


def is_over() -> bool:
    """Tell whether the deadline has passed."""
    return left_s(math.inf) <= 0


def together(each: Callable[[K], R], keys: Iterable[K]) -> dict[K, R]:
    """Do something for each of several agents at once, under this thread's deadline.

    What is raised for one of them is raised, once it has been done for all.
    """
    wanted = list(keys)
    found: dict[K, R] = {}
    problems: list[BaseException] = []

    def one(key: K) -> None:
        try:
            found[key] = each(key)
        except BaseException as problem:  # noqa: BLE001  raised where it was asked for
            problems.append(problem)

    # A thread for each but the last; only agents that are slow make it worth having them.
    begun = []
    for key in wanted[:-1]:
        try:
            begun.append(begin(partial(copy_context().run, one, key)))
        except Retryable:  # no more threads
            one(key)
    if wanted:
        one(wanted[-1])
    for ended in begun:
        ended.wait()
    if problems:
        raise problems[0]
    return {key: found[key] for key in wanted}
