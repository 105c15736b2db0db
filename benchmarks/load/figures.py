"""What one stretch of load came to, and what of it is to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

from msgspec import Struct

KEPT: Final = 0.9
"""Goal: of its peak throughput an agent keeps so much at ten times what it can do."""
TAIL: Final = 1.5
"""Goal: the p99 of what is done there is at most so many times that of other overloads."""


class Stretch(Struct, frozen=True):
    """A time at one rate; all times measured.

    Attributes
    ----------
    multiple : float
        The rate as a multiple of what the agent can do.
    seconds : float
        How long queries came.
    offered, done, refused, held_back, failed : int
        Queries that were due, that were answered, that the agent refused, for which no connection
        was free because the agent had not answered on any, and that failed once begun.
    offered_per_s, done_per_s : float
        Those that were due and that were answered while queries came, by the second.
    p50_ms, p99_ms, p999_ms, most_ms : float or None
        From when a query was due until it was answered.
    refusal_p50_ms, refusal_p99_ms : float or None
        Until it was refused.
    fairness : float or None
        Jain's index of what users got for their weight, 1 if all got the same; None of one user,
        and where all can have what they ask for.
    by_user : dict
        Answered by the second, by uid.
    agent_s, caller_s : float or None
        Processor time of the agent and of this process, by the second; None if not known.
    why : dict
        What refusals and failures said, with how often; figures in them are left out.
    """

    multiple: float
    seconds: float
    offered: int
    done: int
    refused: int
    held_back: int
    failed: int
    offered_per_s: float
    done_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    most_ms: float | None
    refusal_p50_ms: float | None
    refusal_p99_ms: float | None
    fairness: float | None
    by_user: dict[str, float]
    agent_s: float | None
    caller_s: float
    why: dict[str, int]

    @property
    def refused_share(self) -> float:
        """Give the share of what was due that was not taken on."""
        return (self.refused + self.held_back) / self.offered if self.offered else 0.0


class Verdict(Struct, frozen=True):
    """Whether the goals are reached.

    Attributes
    ----------
    peak_per_s : float
        The most that was done at any rate.
    kept : float
        Of it at the highest rate.
    kept_by_core : float or None
        Likewise of what was done by the second of the agent's processor time, which tells how much
        of it overload takes where others keep the machine busy; None if not known.
    tail : float or None
        p99 there, as a multiple of the highest at other rates above what the agent can do.
    kept_met, bounded : bool
        Whether these are as they are to be.
    """

    peak_per_s: float
    kept: float
    kept_by_core: float | None
    tail: float | None
    kept_met: bool
    bounded: bool


def percentile(values: Sequence[float], share: float) -> float | None:
    """Give the least value that so large a share of the values do not exceed.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5), percentile([], 0.5)
    (2.0, None)
    """
    if not values:
        return None
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def jain(values: Sequence[float]) -> float | None:
    """Give Jain's index of fairness: 1 if all are equal, 1/n if one has everything.

    >>> jain([2.0, 2.0]), jain([1.0, 0.0]), jain([1.0])
    (1.0, 0.5, None)
    """
    if len(values) < 2 or not any(values):
        return None
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def verdict(stretches: Sequence[Stretch]) -> Verdict:
    """Judge a run: stretches at several rates."""
    highest = max(stretches, key=lambda s: s.multiple)
    peak = max(s.done_per_s for s in stretches)
    others = [s.p99_ms for s in stretches if 1 < s.multiple < highest.multiple and s.p99_ms]
    tail = highest.p99_ms / max(others) if others and highest.p99_ms else None
    kept = highest.done_per_s / peak if peak else 0.0
    paces = {s.multiple: s.done_per_s / s.agent_s for s in stretches if s.agent_s}
    by_core = paces[highest.multiple] / max(paces.values()) if highest.multiple in paces else None
    bounded = tail is not None and tail <= TAIL
    return Verdict(peak, kept, by_core, tail, kept >= KEPT, bounded)
