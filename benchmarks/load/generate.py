"""Load that does not wait for answers: queries come when they are due, however the agent is.

Arrivals of each user are a Poisson process of their own with a given seed. A query that is due
while none of its user's connections is free is held back, and counted as not taken on: an agent
that does not answer pushes back, too.
"""

from __future__ import annotations

import gc
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from wherry.benchmarks.load.callers import DONE, FAILED, REFUSED, Callers, Query, User
from wherry.benchmarks.load.figures import Stretch, jain, percentile
from wherry.benchmarks.load.work import Script

QUERIES_MAX: Final = 1_000_000
"""In one stretch."""
_DRAIN_S: Final = 30.0
_TICKS_PER_S: Final = 100


class _Seen:
    """What became of the queries of a stretch."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = {DONE: [], REFUSED: [], FAILED: []}
        self.in_time: Counter[int] = Counter()
        self.why: Counter[str] = Counter()
        self.end_ns = 1 << 62

    def told(self, query: Query, now: int) -> None:
        """Count a query that ended."""
        self.took[query.ended].append((now - query.due_ns) / 1e6)
        if query.ended == DONE:
            self.in_time[query.user.uid] += now <= self.end_ns
        elif query.why:
            self.why[re.sub(r"[0-9][0-9.]*", "#", query.why)] += 1


def arrivals(rate: float, seconds: float, seed: tuple[int, ...]) -> np.ndarray:
    """Give when queries are due, in ns from the beginning: a Poisson process.

    Returns
    -------
    numpy.ndarray
        int64, ascending, below `seconds`; `QUERIES_MAX` at most.
    """
    random = np.random.default_rng(seed)
    count = min(QUERIES_MAX, int(rate * seconds + 10 * (rate * seconds) ** 0.5 + 10))
    at = np.cumsum(random.exponential(1e9 / rate, count))
    return at[at < seconds * 1e9].astype(np.int64)


def stretch(
    path: str,
    script: Script,
    users: tuple[User, ...],
    *,
    rate: float,
    multiple: float,
    seconds: float,
    connections: int,
    seed: int,
    pid: int | None,
) -> Stretch:
    """Put load on the agent at a socket: `rate` queries a second, of all users alike.

    Parameters
    ----------
    pid : int, optional
        Of the agent, whose processor time is then told.
    """
    seen = _Seen()
    plans = [
        arrivals(rate / len(users), seconds, (seed, round(multiple * 1000), number))
        for number in range(len(users))
    ]
    due = np.concatenate(plans)
    whose = np.repeat(np.arange(len(users)), [len(plan) for plan in plans])
    order = np.argsort(due, kind="stable")
    todo = list(zip(due[order].tolist(), whose[order].tolist(), strict=True))
    callers = Callers(path, users, connections // len(users), script, seen.told)
    held_back = 0
    gc.disable()
    try:
        before, spent = _processor_s(pid), time.process_time()
        start = time.monotonic_ns()
        seen.end_ns = start + int(seconds * 1e9)
        for at, number in todo:
            while time.monotonic_ns() < start + at:
                callers.look(start + at)
            held_back += not callers.begin(users[number], start + at)
        while time.monotonic_ns() < seen.end_ns:
            callers.look(seen.end_ns)
        after, caller = _processor_s(pid), time.process_time() - spent
        last = seen.end_ns + int(_DRAIN_S * 1e9)
        while callers.under_way and time.monotonic_ns() < last:
            callers.look(last)
    finally:
        gc.enable()
        callers.close()
    agent = None if before is None or after is None else (after - before) / seconds
    return _figures(
        seen,
        users,
        multiple=multiple,
        seconds=seconds,
        offered=len(todo),
        held_back=held_back,
        agent_s=agent,
        caller_s=caller / seconds,
    )


def capacity(
    path: str, script: Script, users: tuple[User, ...], *, seconds: float, at_once: int
) -> float:
    """Give how many queries a second the agent answers if so many are always under way."""
    seen = _Seen()
    callers = Callers(path, users, at_once, script, seen.told)
    try:
        start = time.monotonic_ns()
        end = seen.end_ns = start + int(seconds * 1e9)
        while (now := time.monotonic_ns()) < end:
            for user in users:
                while callers.begin(user, now):
                    pass
            callers.look(end)
    finally:
        callers.close()
    return sum(seen.in_time.values()) / seconds


def _figures(
    seen: _Seen,
    users: Sequence[User],
    *,
    multiple: float,
    seconds: float,
    offered: int,
    held_back: int,
    agent_s: float | None,
    caller_s: float,
) -> Stretch:
    took, refusals = seen.took[DONE], seen.took[REFUSED]
    rates = {user.uid: seen.in_time[user.uid] / seconds for user in users}
    return Stretch(
        multiple=multiple,
        seconds=seconds,
        offered=offered,
        done=len(took),
        refused=len(refusals),
        held_back=held_back,
        failed=len(seen.took[FAILED]),
        offered_per_s=offered / seconds,
        done_per_s=sum(rates.values()),
        p50_ms=percentile(took, 0.5),
        p99_ms=percentile(took, 0.99),
        p999_ms=percentile(took, 0.999),
        most_ms=max(took, default=None),
        refusal_p50_ms=percentile(refusals, 0.5),
        refusal_p99_ms=percentile(refusals, 0.99),
        fairness=jain([rates[u.uid] / u.weight for u in users]) if multiple > 1 else None,
        by_user={str(uid): rate for uid, rate in rates.items()},
        agent_s=agent_s,
        caller_s=caller_s,
        why=dict(seen.why.most_common(5)),
    )


def _processor_s(pid: int | None) -> float | None:
    """Give the processor time that a process has had."""
    if pid is None:
        return None
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
