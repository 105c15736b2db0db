"""Whose request an agent works on next, and whose it refuses: weighted shares, bounded queues.

Requests run in a few slots. While all are taken, each tenant has a queue of its own, and a slot
that falls free goes to the tenant that has had least for its weight: start-time fair queueing over
several slots (SFQ(D); Goyal, Vin, Cheng 1996; Jin, Chase, Kaur 2004). What a request takes is not
known before: it is charged what the tenant's requests took on average, and when it ends the
difference is made good, so that nobody gains by calling work small.

Four things keep an overloaded agent at work instead of busy with refusing:

- Queues are bounded: by what each tenant may have waiting, by the room that is left in all queues
  together (a tenant may take as much as its weight's part of it, so that some is always left for
  others: dynamic thresholds; Choudhury and Hahne 1998), and by time: what would wait too long is
  refused when it comes, not when its time is over.
- Work of queries that have begun here goes before its tenant's new ones and is not refused when
  those are, up to a bound of its own: what was done already would be wasted. So few queries are
  open at a time, and overload is refused where it begins.
- A refusal says when to come again. The times lie apart as far as starts lie apart, so that those
  who were refused do not come back all at once.
- Refusals are paced: beyond so many a second each is answered a little later than the one before,
  and whoever does not stay away as long as asked waits for the answer instead.

Nothing here has a clock, a thread or I/O: time is given, in nanoseconds of any steady clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from msgspec import Struct

from wherry.base.errors import Retryable
from wherry.base.units import format_ns
from wherry.serve.load import (
    AGENT,
    CLOSED,
    DEADLINE,
    NS_PER_S,
    TAKEN_MAX,
    TENANT,
    WAIT,
    Bounds,
    Counts,
    Level,
    Limits,
    Load,
)

FOREVER: Final = 1 << 62
WAITING, RUNNING, ENDED, GONE = range(4)
"""What became of a job; GONE: it left before its turn."""

_GUESS_NS: Final = 1_000_000
"""What a request is said to take before any has ended; it is charged nothing until it ends."""
_AGAIN_NS: Final = 1_000_000
"""Nobody is told to come again sooner: asking takes time, too."""
_NAMES: Final = 1024
"""Tenants that are counted apart; those beyond are counted together."""
_OTHERS: Final = "(others)"
_IDLE_KEPT: Final = 256
"""Tenants that do nothing and are still known."""


class Busy(Retryable):
    """The agent has no room for a request now.

    Attributes
    ----------
    tenant, why : str
        Whose; one of `wherry.serve.load.REASONS`.
    again_ns, again_s : int, float
        When there will be room, from now; in seconds.
    hold_ns : int
        How long the answer is to be held back.
    """

    def __init__(self, tenant: str, why: str, seen: str, again_ns: int, hold_ns: int = 0) -> None:
        super().__init__(tenant, why, seen, again_ns, hold_ns)
        self.tenant = tenant
        self.why = why
        self.seen = seen
        self.again_ns = again_ns
        self.again_s = again_ns / NS_PER_S
        self.hold_ns = hold_ns

    def __str__(self) -> str:
        return f"busy: {self.seen}; come again in {format_ns(self.again_ns)}"


class Job(Struct, eq=False):
    """A request that was taken on. `mark` is the caller's own; the rest is read only."""

    tenant: str
    offered_ns: int
    until_ns: int
    begun: bool
    cost_ns: int
    mark: object = None
    state: int = WAITING
    started_ns: int = 0
    charged_ns: int = 0


class _Tenant(Struct, eq=False):
    name: str
    bounds: Bounds
    counts: Counts
    busy: Level
    begun: deque[Job]
    new: deque[Job]
    """What waits: of queries that have begun here, and of new ones."""
    running: int = 0
    mean_ns: float = 0.0
    """Of what its requests cost; 0 before the first has ended."""
    apart_ns: float = 0.0
    """Mean of the times between starts of new ones that waited; 0 if the last one did not wait."""
    since_ns: int = 0
    """When the last one started, or the first of those that wait came."""
    tag: float = 0.0
    """Virtual time at which its next request starts."""
    active: bool = False
    told: int = 0
    """Refused and not yet expected again: the next one comes after those."""
    paced_ns: int = 0
    """Until when its refusals are spread."""


class Admission:
    """The queues of an agent; one caller at a time.

    Parameters
    ----------
    limits : Limits
        Of all tenants together.
    bounds_of : callable
        Gives a tenant's bounds; asked at every request, so they may change.
    """

    def __init__(self, limits: Limits, bounds_of: Callable[[str], Bounds]) -> None:
        self.limits = limits
        self.counts: dict[str, Counts] = {}
        self.running = 0
        self.waiting = 0
        self.closed = False
        self._bounds_of = bounds_of
        self._tenants: dict[str, _Tenant] = {}
        self._queued: dict[str, _Tenant] = {}
        """Those with something waiting."""
        self._active: dict[str, _Tenant] = {}
        """Those with something running or waiting, and their weight."""
        self._weight = 0.0
        self._new = 0
        self._top = 0.0
        """The highest tag that there was."""
        self._mean_ns = 0.0
        self._busy = Level()

    def offer(
        self,
        tenant: str,
        now: int,
        *,
        until_ns: int = FOREVER,
        begun: bool = False,
        cost_ns: int = 0,
    ) -> Job:
        """Take a request on: the job runs already, or waits.

        Parameters
        ----------
        until_ns : int
            When it is too late to start it.
        begun : bool
            Whether it belongs to a query that this agent has worked for already.
        cost_ns : int
            What it takes, if that is known; 0: what the tenant's requests took on average.

        Raises
        ------
        Busy
            If there is no room: what is full, and when to come again.
        """
        found = self._tenant(tenant)
        found.counts.offered += 1
        longest = self.limits.begun_wait_ns if begun else found.bounds.wait_ns
        job = Job(tenant, now, min(until_ns, now + longest), begun, cost_ns)
        if self.closed:
            raise self._refusal(found, CLOSED, "the agent is stopping", now)
        if self._free(found):
            self._start(found, job, now)
            return job
        self._check_room(found, job, now)
        self._activate(found)
        self._queued[tenant] = found
        if not (begun or found.new):
            found.since_ns = now
        (found.begun if begun else found.new).append(job)
        self.waiting += 1
        self._new += not begun
        return job

    def finish(self, job: Job, now: int, cost_ns: int | None = None) -> list[Job]:
        """End a running job; give those that start now.

        Parameters
        ----------
        cost_ns : int, optional
            What it took of the agent; the time it ran if not given.
        """
        assert job.state == RUNNING
        found = self._tenants[job.tenant]
        ran = now - job.started_ns
        cost = ran if cost_ns is None else cost_ns
        found.tag += (cost - job.charged_ns) / found.bounds.weight
        self._top = max(self._top, found.tag)
        found.mean_ns = _nearer(found.mean_ns, cost)
        self._mean_ns = _nearer(self._mean_ns, cost)
        found.counts.ran.add(ran)
        job.state = ENDED
        self._run(found, -1, now)
        started = self._fill(now)
        self._rest(found)
        return started

    def leave(self, job: Job, now: int) -> Busy | None:
        """Take back a job whose caller waits no longer; None if it runs by now.

        Returns
        -------
        Busy
            What to tell a caller whose time is over.
        """
        if job.state == RUNNING:
            return None
        found = self._tenant(job.tenant)
        found.counts.refused[DEADLINE] += 1
        self._unqueue(found, job)
        self._rest(found)
        seen = f"{job.tenant} waited {format_ns(now - job.offered_ns)} for its turn"
        return Busy(job.tenant, DEADLINE, f"{seen}, and may not wait longer", self._again(found))

    def close(self) -> list[Job]:
        """Refuse everything from now on; give those that waited, which are gone."""
        self.closed = True
        waited = [job for found in self._queued.values() for job in (*found.begun, *found.new)]
        for job in waited:
            found = self._tenants[job.tenant]
            found.counts.refused[CLOSED] += 1
            self._unqueue(found, job)
            self._rest(found)
        return waited

    def load(self, now: int, tenant: str = "") -> Load:
        """Give how busy the agent is for a tenant, or for one that it does not know yet."""
        found = self._tenant(tenant) if tenant else _new("", Bounds(), Counts())
        busy = self._busy.at(now)
        # Of others what they took lately, of the tenant's own what it takes now: it knows its past.
        own = found.running / self.limits.running
        idle = 1.0 - (busy - found.busy.at(now)) - own
        taken = min(1.0 - max(idle, self._share(found) - own), TAKEN_MAX)
        wait = 0 if self._free(found) else self._expected(found, len(found.new))
        return Load(busy, max(0.0, taken), self.running, self.waiting, wait)

    def _tenant(self, name: str) -> _Tenant:
        bounds = self._bounds_of(name)
        found = self._tenants.get(name)
        if found is None:
            if len(self._tenants) >= _IDLE_KEPT + len(self._active):
                self._tenants = dict(self._active)
            known = name in self.counts or len(self.counts) < _NAMES
            counts = self.counts.setdefault(name if known else _OTHERS, Counts())
            found = _new(name, bounds, counts)
            self._tenants[name] = found
        elif found.bounds is not bounds:
            if found.active:
                self._weight += bounds.weight - found.bounds.weight
            found.bounds = bounds
        return found

    def _free(self, found: _Tenant) -> bool:
        """Say whether a request may start: then no other waits that could."""
        room = self.running < self.limits.running and found.name not in self._queued
        return room and found.running < found.bounds.running

    def _check_room(self, found: _Tenant, job: Job, now: int) -> None:
        """Refuse what the queues have no room for."""
        name, limits, new = found.name, self.limits, len(found.new)
        if job.begun:
            if self.waiting - self._new >= limits.begun:
                seen = f"{limits.begun} requests of queries that have begun wait, as many as may"
                raise self._refusal(found, AGENT, seen, now)
        elif new >= found.bounds.waiting:
            seen = f"{name} has {new} requests waiting, as many as it may"
            raise self._refusal(found, TENANT, seen, now)
        elif new >= self._room(found):
            seen = f"{self._new} requests wait, {new} of them {name}'s; room for {limits.waiting}"
            raise self._refusal(found, AGENT, seen, now)
        elif new and now + (wait := self._expected(found, new)) > job.until_ns:
            # The first that waits is let in to find out whether it is still so.
            seen = f"{name} would wait {format_ns(wait)} for its turn"
            raise self._refusal(found, WAIT, seen, now)

    def _room(self, found: _Tenant) -> float:
        """Give how many of a tenant's requests may wait by what all queues have room for."""
        left = self.limits.waiting - self._new
        tenants = len(self._active) + (not found.active)
        return min(left, 1) and max(1.0, left * self._share(found) * tenants)

    def _refusal(self, found: _Tenant, why: str, seen: str, now: int) -> Busy:
        found.counts.refused[why] += 1
        # All with something waiting have an equal part of the refusals that are answered at once.
        apart = NS_PER_S * max(1, len(self._queued)) // self.limits.refusals_per_s
        hold = min(max(found.paced_ns - now, 0), self.limits.hold_ns)
        found.paced_ns = now + hold + apart
        again = self._again(found)
        found.told += 1
        return Busy(found.name, why, seen, again, hold)

    def _again(self, found: _Tenant) -> int:
        return max(_AGAIN_NS, min(self._expected(found, found.told), self.limits.again_ns))

    def _expected(self, found: _Tenant, ahead: int) -> int:
        """Give how long it takes until one starts that so many new ones start before."""
        apart = found.apart_ns
        if not apart:
            slots = min(found.bounds.running, self.limits.running * self._share(found))
            apart = (found.mean_ns or self._mean_ns or _GUESS_NS) / slots
        return int((ahead + 1) * apart)

    def _share(self, found: _Tenant) -> float:
        """Give the tenant's part of the agent if all that are here now go on asking."""
        weight = found.bounds.weight
        return min(1.0, weight / (self._weight if found.active else self._weight + weight))

    def _start(self, found: _Tenant, job: Job, now: int) -> None:
        self._activate(found)
        job.state = RUNNING
        job.started_ns = now
        job.charged_ns = job.cost_ns or int(found.mean_ns or self._mean_ns)
        found.tag += job.charged_ns / found.bounds.weight
        self._top = max(self._top, found.tag)
        if not job.begun:
            self._measure(found, job, now)
        found.counts.admitted += 1
        found.counts.waited.add(now - job.offered_ns)
        self._run(found, 1, now)

    def _measure(self, found: _Tenant, job: Job, now: int) -> None:
        """Learn from the start of a new one how long the next one waits."""
        if job.offered_ns == now:
            found.told, found.apart_ns = 0, 0.0  # there is room again
        else:
            found.told = max(0, found.told - 1)
            found.apart_ns = _nearer(found.apart_ns, now - found.since_ns)
        found.since_ns = now

    def _fill(self, now: int) -> list[Job]:
        """Give free slots to the tenants that have had least for their weight."""
        started: list[Job] = []
        while self._queued and self.running < self.limits.running:
            able = [t for t in self._queued.values() if t.running < t.bounds.running]
            if not able:
                break
            found = min(able, key=_tag)
            job = (found.begun or found.new)[0]
            self._unqueue(found, job)
            if job.until_ns >= now:  # whoever waits for a later one notices by itself
                self._start(found, job, now)
                started.append(job)
            else:
                self._rest(found)
        return started

    def _unqueue(self, found: _Tenant, job: Job) -> None:
        if job.state == WAITING:
            job.state = GONE
            (found.begun if job.begun else found.new).remove(job)
            self.waiting -= 1
            self._new -= not job.begun
            if not (found.begun or found.new):
                del self._queued[found.name]

    def _run(self, found: _Tenant, change: int, now: int) -> None:
        found.running += change
        self.running += change
        slots = self.limits.running
        found.busy.to(found.running / slots, now)
        self._busy.to(self.running / slots, now)

    def _activate(self, found: _Tenant) -> None:
        """Let a tenant take part; what it did not take before is not saved up.

        It begins level with the one that has had least. One that has as much running as it may is
        left out unless there are only such: it falls behind by its own bound.
        """
        if not found.active:
            others = [t for t in self._active.values() if t.running < t.bounds.running]
            least = min(others or self._active.values(), key=_tag, default=None)
            found.tag = max(found.tag, self._top if least is None else least.tag)
            found.active = True
            self._active[found.name] = found
            self._weight += found.bounds.weight

    def _rest(self, found: _Tenant) -> None:
        """Let go of a tenant of which nothing runs or waits."""
        if found.active and not found.running and found.name not in self._queued:
            found.active = False
            del self._active[found.name]
            self._weight = self._weight - found.bounds.weight if self._active else 0.0


def _new(name: str, bounds: Bounds, counts: Counts) -> _Tenant:
    return _Tenant(name, bounds, counts, Level(), deque(), deque())


_tag: Final = attrgetter("tag")


def _nearer(mean: float, value: int) -> float:
    """Move a mean an eighth of the way to a value; the first value is the mean."""
    return mean + (value - mean) / 8 if mean else float(value)
