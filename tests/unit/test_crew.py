"""Threads that begin or fail, and a crew that some of its threads could not join."""

from __future__ import annotations

import os
import threading

import pytest

from wherry.base import threads
from wherry.base.errors import Retryable
from wherry.run import crew as crews
from wherry.run.crew import Crew

CORE = min(os.sched_getaffinity(0))
NONE = 1 << 20
"""A core that nobody has: a thread that is to run there runs anywhere."""


def test_what_runs_in_a_thread_is_waited_for_by_its_event():
    found: list[int] = []
    assert threads.begin(lambda: found.append(threading.get_ident())).wait(5)
    assert found
    assert found != [threading.get_ident()]


def test_a_thread_that_has_no_memory_ends_quietly():
    def run() -> None:
        raise MemoryError

    assert threads.begin(run).wait(5)


def test_a_thread_that_does_not_begin_is_not_waited_for(monkeypatch):
    begun = []
    monkeypatch.setattr(threads, "BEGIN_S", 0.01)
    monkeypatch.setattr(threads._thread, "start_new_thread", lambda run, _: begun.append(run))
    found: list[int] = []
    with pytest.raises(Retryable, match="no memory for another thread"):
        threads.begin(lambda: found.append(1))
    begun[0]()
    assert not found, "what nobody waits for any more is not run"


def test_too_many_threads_are_named(monkeypatch):
    def full(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads._thread, "start_new_thread", full)
    with pytest.raises(Retryable, match="no more threads"):
        threads.begin(lambda: None)


def test_helpers_that_could_not_begin_do_later(monkeypatch):
    crew, left = Crew((CORE, NONE, NONE + 1)), [1]

    def begin(run):
        if not left:
            raise Retryable("this process has no memory for another thread")
        left.pop()
        return threads.begin(run)

    monkeypatch.setattr(crews, "begin", begin)
    with pytest.raises(Retryable, match="memory"):
        crew.run(lambda _: None)
    left.extend([1, 1])
    assert {thread for thread, _, _ in crew.run(lambda _: None)} > {0}
    assert len(crew._inboxes) == 3
