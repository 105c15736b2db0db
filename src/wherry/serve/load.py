"""How busy an agent is, and what was asked of it: numbers that admission keeps as it goes."""

from __future__ import annotations

from math import exp
from typing import Final

from msgspec import Struct, field

from wherry.base.errors import InputError

NS_PER_S: Final = 1_000_000_000
TAKEN_MAX: Final = 0.95
"""A planner counts on something everywhere: beyond this the time to wait says more."""
_MEMORY_NS: Final = 1e9
"""Of a mean: what is as old as this counts a third (1/e) of what is now."""
BUCKETS: Final = 32
"""Of a histogram: bucket n has the times below 2**n us that are in no smaller one."""


class Load(Struct, frozen=True):
    """How busy an agent is, for one tenant.

    Attributes
    ----------
    busy : float
        Mean share of its slots that were taken in the last seconds, 0 to 1.
    taken : float
        Share of the agent that another query of the tenant cannot count on, 0 to `TAKEN_MAX`, as
        `wherry.devices.altered.loaded` wants it: what is neither idle nor due to the tenant by its
        weight beyond what it has already.
    running, waiting : int
        Requests that run now, and that wait for their turn.
    wait_ns : int
        How long a request of the tenant that came now would wait.
    """

    busy: float
    taken: float
    running: int
    waiting: int
    wait_ns: int


class Level(Struct):
    """The mean of a number over the time that it had each value, older values counting less."""

    now: float = 0.0
    mean: float = 0.0
    since_ns: int = 0

    def at(self, now_ns: int) -> float:
        """Give the mean at a time not before the last change."""
        kept = exp((self.since_ns - now_ns) / _MEMORY_NS)
        return self.mean * kept + self.now * (1.0 - kept)

    def to(self, value: float, now_ns: int) -> None:
        """Change the number."""
        self.mean = self.at(now_ns)
        self.now = value
        self.since_ns = now_ns


class Histogram(Struct):
    """How often times fell between powers of two microseconds."""

    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    sum_ns: int = 0

    def add(self, ns: int) -> None:
        """Count a time."""
        self.counts[min((ns // 1000).bit_length(), BUCKETS - 1)] += 1
        self.sum_ns += ns


REASONS: Final = ("tenant", "agent", "wait", "deadline", "closed")
TENANT, AGENT, WAIT, DEADLINE, CLOSED = REASONS
"""Why something is refused: the tenant's queue is full; the agent's are; it would wait longer than
it may; its deadline passed while it waited; the agent is stopping."""


class Counts(Struct):
    """What a tenant asked for since the agent began.

    Attributes
    ----------
    offered, admitted : int
        Requests that came, and that began to run.
    refused : dict of str to int
        By reason.
    waited, ran : Histogram
        Times before and after requests that were admitted began.
    """

    offered: int = 0
    admitted: int = 0
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    waited: Histogram = field(default_factory=Histogram)
    ran: Histogram = field(default_factory=Histogram)


class Bounds(Struct, frozen=True):
    """What one tenant may have at an agent at once.

    Attributes
    ----------
    weight : float
        Its share of the agent against others who want it too: any number above 0.
    running, waiting : int
        Requests that run, and that wait for their turn.
    wait_ns : int
        How long one may wait that begins something, and be expected to.
    """

    weight: float = 1.0
    running: int = 1 << 16
    waiting: int = 32
    wait_ns: int = 1_000_000_000

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise InputError(f"weight {self.weight!r}; possible: a number above 0")
        if self.running < 1 or self.waiting < 0 or self.wait_ns < 0:
            raise InputError(
                f"running {self.running}, waiting {self.waiting}, wait_ns {self.wait_ns}; "
                "possible: running from 1, the others from 0"
            )


class Limits(Struct, frozen=True):
    """What an agent takes on, of all tenants together.

    Attributes
    ----------
    running : int
        Slots: requests that run at once.
    waiting, begun : int
        Requests that wait for their turn: of queries that have not begun here, and that have.
    begun_wait_ns : int
        How long one of those that have begun may wait.
    refusals_per_s : int
        That are answered at once; they take 16 us each, ten times that on a busy machine.
    hold_ns : int
        How long the answer of one beyond is held back at most.
    again_ns : int
        The latest time that anybody is told to come again.
    """

    running: int
    waiting: int = 64
    begun: int = 1024
    begun_wait_ns: int = 60_000_000_000
    refusals_per_s: int = 200
    hold_ns: int = 500_000_000
    again_ns: int = 1_000_000_000

    def __post_init__(self) -> None:
        if min(self.running, self.refusals_per_s) < 1 or min(self.waiting, self.begun) < 0:
            raise InputError(
                f"running {self.running}, refusals_per_s {self.refusals_per_s}, waiting "
                f"{self.waiting}, begun {self.begun}; possible: from 1, from 1, from 0, from 0"
            )
