"""Threads that begin or fail: without memory, `threading.Thread.start` waits for ever."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from wherry.base.errors import Retryable

BEGIN_S: Final = 2.0
"""A thread that has not begun after so long had no memory to."""


def begin(run: Callable[[], None]) -> threading.Event:
    """Run something in a thread of its own; give what is set once it has ended.

    A process may end without waiting for it. If there is no memory for what it does, it ends.

    Raises
    ------
    Retryable
        If there is no memory for a thread, or there are too many.
    """
    begun, ended, left = threading.Event(), threading.Event(), False

    def first() -> None:
        try:
            begun.set()
            if not left:
                with suppress(MemoryError):
                    run()
        finally:
            ended.set()

    try:
        _thread.start_new_thread(first, ())
    except RuntimeError:
        raise Retryable("this process can have no more threads") from None
    if not begun.wait(BEGIN_S):
        left = True
        raise Retryable("this process has no memory for another thread")
    return ended
