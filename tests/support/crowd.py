"""Callers of an agent in virtual time: who came when, what became of it, and what must hold."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from operator import itemgetter

from msgspec import Struct

from wherry.serve.admission import ENDED, FOREVER, GONE, RUNNING, Admission, Busy, Job
from wherry.serve.load import Bounds, Limits


class Call(Struct, frozen=True):
    """One request: when it comes, whose, what it really takes, and what it says it takes."""

    at: int
    tenant: str
    takes: int
    says: int = 0
    patience: int = FOREVER
    begun: bool = False


class Served(Struct, frozen=True):
    """One that ran, and when."""

    call: Call
    start: int
    end: int


class Crowd:
    """Runs calls through the queues; after every event `check` holds."""

    def __init__(self, limits: Limits, bounds: dict[str, Bounds]) -> None:
        self.limits = limits
        self.bounds = bounds
        self.queues = Admission(limits, lambda tenant: self.bounds[tenant])
        self.now = 0
        self.served: list[Served] = []
        self.refused: list[tuple[int, Call, Busy]] = []
        self.late: list[Call] = []
        self.backlogged: dict[str, list[tuple[int, bool]]] = {name: [] for name in bounds}
        self._events: list[tuple[int, int, str, Call, Job | None]] = []
        self._ids = count()
        self._calls: dict[int, Call] = {}
        self._waiting: dict[str, list[Job]] = {name: [] for name in bounds}
        self._running: dict[str, list[Job]] = {name: [] for name in bounds}

    def come(self, call: Call, at: int | None = None) -> None:
        """Let a request come."""
        self._push(call.at if at is None else at, "comes", call, None)

    def on_refused(self, call: Call, busy: Busy) -> None:
        """What callers do then: nothing; to be overridden."""

    def on_served(self, call: Call) -> None:
        """What callers do then: nothing; to be overridden."""

    def run(self, until: int = FOREVER) -> None:
        """Go on until nothing is left to happen, or a time has come."""
        while self._events and self._events[0][0] <= until:
            self.now, _, kind, call, job = heappop(self._events)
            getattr(self, f"_{kind}")(call, job)
            self.check()

    def _push(self, at: int, kind: str, call: Call, job: Job | None) -> None:
        heappush(self._events, (at, next(self._ids), kind, call, job))

    def _comes(self, call: Call, _: Job | None) -> None:
        until = min(FOREVER, self.now + call.patience)
        try:
            job = self.queues.offer(
                call.tenant, self.now, until_ns=until, begun=call.begun, cost_ns=call.says
            )
        except Busy as busy:
            self.refused.append((self.now, call, busy))
            self.on_refused(call, busy)
            return
        self._calls[id(job)] = call
        if job.state == RUNNING:
            self._begins(job)
        else:
            self._waiting[call.tenant].append(job)
            self._push(job.until_ns, "tires", call, job)

    def _begins(self, job: Job) -> None:
        call = self._calls[id(job)]
        self._running[job.tenant].append(job)
        self._push(self.now + call.takes, "ends", call, job)

    def _ends(self, call: Call, job: Job | None) -> None:
        assert job is not None
        self._running[call.tenant].remove(job)
        self.served.append(Served(call, job.started_ns, self.now))
        for begun in self.queues.finish(job, self.now):
            self._waiting[begun.tenant].remove(begun)
            assert begun.until_ns >= self.now
            self._begins(begun)
        assert job.state == ENDED
        self.on_served(call)

    def _tires(self, call: Call, job: Job | None) -> None:
        assert job is not None
        if job in self._waiting[call.tenant]:
            busy = self.queues.leave(job, self.now)
            assert busy is not None
            assert job.state == GONE
            self._waiting[call.tenant].remove(job)
            self.late.append(call)

    def check(self) -> None:
        """Bounds are kept, the counts are true, and no slot is idle while somebody may have it."""
        running = {name: len(jobs) for name, jobs in self._running.items()}
        live = {n: [j for j in jobs if j.state != GONE] for n, jobs in self._waiting.items()}
        assert self.queues.running == sum(running.values()) <= self.limits.running
        assert self.queues.waiting == sum(map(len, live.values()))
        new = {name: sum(not job.begun for job in jobs) for name, jobs in live.items()}
        assert sum(new.values()) <= self.limits.waiting
        assert self.queues.waiting - sum(new.values()) <= self.limits.begun
        for name, bounds in self.bounds.items():
            assert running[name] <= bounds.running
            assert new[name] <= bounds.waiting
            could = live[name] and running[name] < bounds.running
            assert not (could and self.queues.running < self.limits.running), "an idle slot"
            seen = self.backlogged[name]
            if not seen or seen[-1][1] != bool(live[name]):
                seen.append((self.now, bool(live[name])))

    def work(self, tenant: str, begin: int, end: int) -> int:
        """Give what a tenant's requests took that started within a span."""
        found = [s for s in self.served if s.call.tenant == tenant and begin <= s.start < end]
        return sum(served.call.takes for served in found)

    def spans(self, *tenants: str) -> list[tuple[int, int]]:
        """Give the spans in which all of these tenants had something waiting."""
        changes = sorted(
            ((at, n, on) for n in tenants for at, on in self.backlogged[n]), key=itemgetter(0)
        )
        waiting = dict.fromkeys(tenants, False)
        found, begun = [], None
        for at, name, on in [*changes, (self.now, tenants[0], False)]:
            waiting[name] = on
            if all(waiting.values()):
                begun = at if begun is None else begun
            elif begun is not None:
                found.append((begun, at))
                begun = None
        return found
