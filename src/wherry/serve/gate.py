"""Admission for threads: each waits for its turn, works, and lets the next one in.

A thread that waits sleeps on a lock of its own, which the thread that gives it its slot releases:
nobody else wakes. Everything else happens under one lock and takes a few microseconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Final, Protocol, Self

from wherry.serve.admission import FOREVER, RUNNING, Admission, Busy, Job
from wherry.serve.load import CLOSED, NS_PER_S, Bounds, Counts, Limits, Load


class Admits(Protocol):
    """Lets requests that work begin when it is their tenant's turn."""

    def admitted(self, tenant: str, *, begun: bool = False) -> AbstractContextManager[object]:
        """Wait for the turn; raise Retryable if it will not come soon enough."""

    def load(self, tenant: str = "") -> Load:
        """Give how busy the device is for a tenant, or for one that it does not know yet."""

    def counts(self) -> dict[str, Counts]:
        """Give what each tenant asked for so far."""


class Open:
    """A gate that lets everybody through."""

    def admitted(self, tenant: str, *, begun: bool = False) -> AbstractContextManager[object]:
        """Do not wait."""
        del tenant, begun
        return nullcontext()

    def load(self, tenant: str = "") -> Load:
        """Tell of nothing."""
        del tenant
        return Load(busy=0.0, taken=0.0, running=0, waiting=0, wait_ns=0)

    def counts(self) -> dict[str, Counts]:
        """Tell of nobody."""
        return {}


class Held:
    """A slot while it is held; `cost_ns`, if set, is what the work took of the agent."""

    __slots__ = ("_gate", "_job", "cost_ns")

    def __init__(self, gate: Gate, job: Job) -> None:
        self._gate = gate
        self._job = job
        self.cost_ns: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._gate.finish(self._job, self.cost_ns)


class Gate:
    """Lets requests in as `Admission` says. Threads may share it; no thread enters it twice.

    Parameters
    ----------
    limits : Limits
        Of all tenants together.
    bounds_of : callable
        Gives a tenant's bounds; asked at every request, so they may change.
    clock, sleep : callable
        Steady nanoseconds, and a wait of so many seconds.
    """

    def __init__(
        self,
        limits: Limits,
        bounds_of: Callable[[str], Bounds],
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._queues = Admission(limits, bounds_of)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)

    def admitted(
        self, tenant: str, *, until_ns: int = FOREVER, begun: bool = False, cost_ns: int = 0
    ) -> Held:
        """Wait for a slot; leave the `with` block to give it back.

        >>> gate = Gate(Limits(running=2), lambda tenant: Bounds())
        >>> with gate.admitted("alice") as held:
        ...     held.cost_ns = 1_000  # else the time it was held

        Parameters
        ----------
        until_ns : int
            When it is too late to begin, by the gate's clock.
        begun : bool
            Whether it belongs to a query that this agent has worked for already: then it waits
            whatever the tenant's queue holds.
        cost_ns : int
            What it takes, if that is known.

        Raises
        ------
        Busy
            If there is no room, the time is over, or the gate is closed; it is Retryable and says
            when to come again.
        """
        try:
            with self._lock:
                job = self._queues.offer(
                    tenant, self._clock(), until_ns=until_ns, begun=begun, cost_ns=cost_ns
                )
                if job.state != RUNNING:
                    job.mark = turn = threading.Lock()
                    turn.acquire()
        except Busy as busy:
            if busy.hold_ns:
                self._sleep(busy.hold_ns / NS_PER_S)
            raise
        if job.state != RUNNING:
            self._wait(job, turn)
        return Held(self, job)

    def finish(self, job: Job, cost_ns: int | None) -> None:
        """Give back a slot; whoever is next begins."""
        with self._lock:
            started = self._queues.finish(job, self._clock(), cost_ns)
            if not self._queues.running:
                self._idle.notify_all()
        _wake(started)

    def load(self, tenant: str = "") -> Load:
        """Give how busy the agent is for a tenant, or for one that it does not know yet."""
        with self._lock:
            return self._queues.load(self._clock(), tenant)

    def counts(self) -> dict[str, Counts]:
        """Give what each tenant asked for so far; the numbers go on counting."""
        with self._lock:
            return dict(self._queues.counts)

    def close(self, wait_s: float) -> bool:
        """Refuse everything from now on; wait for what runs. Say whether all of it ended."""
        with self._lock:
            _wake(self._queues.close())
            return self._idle.wait_for(lambda: not self._queues.running, wait_s)

    def _wait(self, job: Job, turn: threading.Lock) -> None:
        """Sleep until it is the job's turn, or too late for it."""
        left = (job.until_ns - self._clock()) / NS_PER_S
        try:
            turn.acquire(timeout=max(0.0, min(left, threading.TIMEOUT_MAX)))
        except BaseException:  # Ctrl-C: somebody may give it a slot until it has left
            self._drop(job)
            raise
        if job.state == RUNNING:
            return
        with self._lock:
            if self._queues.closed:
                raise Busy(job.tenant, CLOSED, "the agent is stopping", 0)
            busy = self._queues.leave(job, self._clock())
        if busy is not None:
            raise busy

    def _drop(self, job: Job) -> None:
        with self._lock:
            runs = self._queues.leave(job, self._clock()) is None
        if runs:
            self.finish(job, 0)


def _wake(jobs: list[Job]) -> None:
    for job in jobs:
        if isinstance(job.mark, _LOCK):
            job.mark.release()


_LOCK: Final = type(threading.Lock())
