"""Admission for threads: bounded, fair, and nothing is kept of those that left."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from wherry.base.errors import Retryable
from wherry.serve.admission import Busy
from wherry.serve.gate import Gate
from wherry.serve.load import CLOSED, DEADLINE, TENANT, Bounds, Limits

MS = 1_000_000
PATIENT = Bounds(waiting=1000, wait_ns=60_000 * MS)


def gate_of(running: int = 2, bounds: Bounds = PATIENT, **limits: int) -> Gate:
    return Gate(Limits(running=running, waiting=5000, **limits), lambda _: bounds)


def waits(gate: Gate, count: int) -> None:
    """Return once so many wait."""
    until = time.monotonic() + 10
    while gate.load("a").waiting != count:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_no_more_than_the_slots_run_and_all_get_their_turn() -> None:
    gate, lock = gate_of(3), threading.Lock()
    running, most, done = 0, 0, []

    def work(number: int) -> None:
        nonlocal running, most
        with gate.admitted("ab"[number % 2]):
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.001)
            with lock:
                running -= 1
                done.append(number)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(300)))
    assert sorted(done) == list(range(300))
    assert most == 3
    assert (gate.load("a").running, gate.load("a").waiting) == (0, 0)
    counts = gate.counts()
    assert [counts[name].admitted for name in "ab"] == [150, 150]
    assert sum(counts["a"].ran.counts) == 150
    assert counts["a"].ran.sum_ns >= 150 * MS


def test_a_refusal_says_what_is_full_and_costs_little() -> None:
    gate = gate_of(1, Bounds(waiting=0), refusals_per_s=1_000_000)
    with gate.admitted("a"):
        with pytest.raises(Retryable, match="a has 0 requests waiting") as refused:
            gate.admitted("a")
        took = []
        for _ in range(2000):
            begin = time.perf_counter_ns()
            with pytest.raises(Busy):
                gate.admitted("a")
            took.append(time.perf_counter_ns() - begin)
    assert isinstance(refused.value, Busy)
    assert (refused.value.why, refused.value.again_s) == (TENANT, 0.001)
    assert sorted(took)[1000] < 200_000  # some 15 us, pytest.raises included; a busy machine
    with gate.admitted("a"):
        pass


def test_the_answer_of_too_many_refusals_is_held_back() -> None:
    slept = []
    bounds = Bounds(waiting=0)
    limits = Limits(1, refusals_per_s=10, hold_ns=250 * MS)
    gate = Gate(limits, lambda _: bounds, lambda: 0, slept.append)
    with gate.admitted("a"):
        for _ in range(5):
            with pytest.raises(Busy):
                gate.admitted("a")
    assert slept == [0.1, 0.2, 0.25, 0.25]


def test_one_that_waits_too_long_leaves() -> None:
    gate = gate_of(1)
    with gate.admitted("a"):
        begin = time.monotonic_ns()
        with pytest.raises(Busy, match="may not wait longer") as late:
            gate.admitted("a", until_ns=begin + 30 * MS)
        assert time.monotonic_ns() - begin >= 30 * MS
        assert late.value.why == DEADLINE
        assert gate.load("a").waiting == 0
    assert gate.load("a").running == 0


def test_an_error_in_the_work_gives_the_slot_back() -> None:
    gate = gate_of(1)
    with pytest.raises(ZeroDivisionError), gate.admitted("a"):
        _ = 1 / 0
    with gate.admitted("a"):
        pass


@pytest.mark.parametrize("first", [True, False], ids=["before its turn", "after it came"])
def test_ctrl_c_while_it_waits_leaves_nothing(first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = gate_of(1)
    holder = gate.admitted("a")

    class Interrupted:
        """A lock whose wait Ctrl-C ends, perhaps just as it was let in."""

        def acquire(self, timeout: float = -1) -> bool:
            if timeout < 0:
                return True
            if not first:
                holder.__exit__(None, None, None)
            raise KeyboardInterrupt

        def release(self) -> None:
            pass

    lock = threading.Lock
    monkeypatch.setattr("wherry.serve.gate.threading.Lock", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        gate.admitted("a")
    monkeypatch.setattr("wherry.serve.gate.threading.Lock", lock)
    assert gate.load("a").waiting == 0
    if first:
        holder.__exit__(None, None, None)
    assert gate.load("a").running == 0


def test_closing_refuses_those_that_wait_and_waits_for_those_that_run() -> None:
    gate, seen = gate_of(1), []
    held = gate.admitted("a")

    def wait() -> None:
        try:
            gate.admitted("a")
        except Busy as busy:
            seen.append(busy.why)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    waits(gate, 3)
    assert gate.close(0.01) is False
    for thread in threads:
        thread.join(10)
    assert seen == [CLOSED] * 3
    with pytest.raises(Busy, match="the agent is stopping"):
        gate.admitted("a")
    threading.Timer(0.02, lambda: held.__exit__(None, None, None)).start()
    assert gate.close(10.0) is True
