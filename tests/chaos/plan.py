"""What happens in a round: who asks what, and which faults strike when; all of it from a seed.

A plan follows from seed and round alone. What happens in time does not: processes and networks are
real, so a round that went wrong is run again with its plan, and may need a few tries.
"""

from __future__ import annotations

from random import Random
from typing import Final

from msgspec import Struct

UNIX: Final = "unix"
TLS: Final = "tls"
EMULATED: Final = "emulated"
CARRIERS: Final = (UNIX, TLS, EMULATED)
"""Sockets of this host and TLS between hosts, both with agents whose time is measured; and sockets
of this host with agents that model their time, where the simulator drives the same machine."""
CSDS: Final = ("csd0", "csd1")
AGENTS: Final = (*CSDS, "dpu0")
CALLERS: Final = ("caller0", "caller1")
QUERIES: Final = ("totals", "groups", "rows", "top")
APART: Final = "apart"
MIRRORED: Final = "mirrored"
DATASETS: Final = (APART, MIRRORED)
"""The same rows: each part at one drive, or every part at both, so that either may be lost."""
DEADLINE_S: Final = 20.0
"""Of a query, however much is lost on its way: what it may take to notice of three agents, one
after another, that they are gone, and to begin anew each time."""
RUN_S: Final = 12.0
"""Of that, for the run of a query whose dataset was found."""
_CALM: Final = (17, 18, 19)
"""Of each 20 rounds these have no fault: nothing may fail in them, or the oracle excuses too much.
Neighbours use different carriers."""


class Kind(Struct, frozen=True):
    """A kind of fault: where it can be, whom it strikes, how long it lasts, and how strong it is.

    It ends with the round's last query at the latest. `whole`: it lasts from before the round's
    load until after it, because a process starts with it.
    """

    carriers: tuple[str, ...]
    targets: tuple[str, ...]
    least_ms: int
    most_ms: int
    amounts: tuple[float, ...] = (0.0,)
    whole: bool = False


FAULTS: Final[dict[str, Kind]] = {
    "kill agent": Kind(CARRIERS, AGENTS, 20, 3000),
    "kill caller": Kind(CARRIERS, CALLERS, 20, 1500),
    "pause agent": Kind(CARRIERS, AGENTS, 20, 60_000),
    "pause caller": Kind(CARRIERS, CALLERS, 20, 7000),
    "link down": Kind((TLS,), (*AGENTS, *CALLERS), 20, 60_000),
    "blackhole": Kind((TLS,), AGENTS, 20, 60_000),
    "deaf": Kind((TLS,), (*AGENTS, *CALLERS), 20, 60_000),
    "mute": Kind((TLS,), (*AGENTS, *CALLERS), 20, 60_000),
    "loss": Kind((TLS,), (*AGENTS, *CALLERS), 200, 6000, (0.02, 0.1, 0.3, 0.6)),
    "slow link": Kind((TLS,), (*AGENTS, *CALLERS), 500, 6000, (0.2, 2.0, 20.0)),
    "half open": Kind((TLS,), AGENTS, 200, 2000),
    "strangers": Kind(CARRIERS, AGENTS, 200, 5000, (1, 8, 100)),
    "full disk": Kind(CARRIERS, AGENTS, 200, 5000),
    "full memory": Kind(CARRIERS, AGENTS, 200, 5000, (0.0, 4.0, 64.0)),
    "no descriptors": Kind(CARRIERS, AGENTS, 100, 3000, (0, 2)),
    "steady clock": Kind(CARRIERS, AGENTS, 0, 0, (-3600.0, 3600.0, 1e6), whole=True),
    "wall clock": Kind(CARRIERS, AGENTS, 0, 0, (-86400.0, -600.0, 600.0, 86400.0), whole=True),
    "tenant's memory": Kind(CARRIERS, AGENTS, 0, 0, (1e3, 1e5, 1e6), whole=True),
    "certificate of agent": Kind((TLS,), AGENTS, 0, 0, (-60.0, 4.0), whole=True),
    "certificate of caller": Kind((TLS,), CALLERS, 0, 0, (-60.0, 2.0), whole=True),
}


class Strike(Struct, frozen=True):
    """A fault that strikes `target`, `after_ms` after the query `at` of the first caller began.

    It ends after `for_ms`; what `amount` says hangs on the fault.
    """

    fault: str
    target: str
    at: int
    after_ms: float
    for_ms: float
    amount: float

    def line(self) -> str:
        """Give it in words."""
        amount = f" {self.amount:g}" if self.amount else ""
        if FAULTS[self.fault].whole:
            return f"{self.fault} {self.target}{amount}"
        return (
            f"{self.fault} {self.target}{amount} {self.after_ms:.0f} ms into query {self.at}"
            f" for {self.for_ms:.0f} ms"
        )


class Ask(Struct, frozen=True):
    """A query; the reader looks at its rows again `hold_ms` after they came.

    `near`: the drives are to filter, and not whoever the planner chooses.
    """

    query: str
    dataset: str
    near: bool
    hold_ms: int


class Plan(Struct, frozen=True):
    """A round: how agents are reached, what each caller asks one after another, what strikes."""

    seed: int
    round: int
    carrier: str
    asks: tuple[tuple[Ask, ...], ...]
    strikes: tuple[Strike, ...]

    @property
    def calm(self) -> bool:
        """Whether nothing strikes, so that nothing may fail."""
        return not self.strikes


def planned(
    seed: int, number: int, carriers: tuple[str, ...], faults: tuple[str, ...] = tuple(FAULTS)
) -> Plan:
    """Give the plan of a round; only these ways of reaching agents and these faults."""
    r = Random(f"{seed}/{number}")
    carrier = carriers[number % len(carriers)]
    asks = tuple(tuple(_ask(r) for _ in range(r.randint(2, 4))) for _ in range(r.choice((1, 2, 2))))
    possible = [name for name in faults if carrier in FAULTS[name].carriers]
    calm = number % 20 in _CALM or not possible
    count = 0 if calm else r.choice((1, 1, 2, 3))
    strikes = tuple(_strike(r, r.choice(possible), len(asks[0]), len(asks)) for _ in range(count))
    return Plan(seed, number, carrier, asks, strikes)


def _ask(r: Random) -> Ask:
    hold = r.choice((0, 0, 0, r.randint(50, 1500)))
    return Ask(r.choice(QUERIES), r.choice(DATASETS), r.random() < 0.7, hold)


def _strike(r: Random, fault: str, queries: int, callers: int) -> Strike:
    kind = FAULTS[fault]
    targets = [t for t in kind.targets if t not in CALLERS[callers:]]
    after = r.choice((r.uniform(0, 5), r.uniform(0, 30), r.uniform(0, 120)))
    least, most = max(kind.least_ms, 1), max(kind.most_ms, 1)
    lasts = least * (most / least) ** r.random()
    return Strike(
        fault, r.choice(targets), r.randrange(queries), after, lasts, r.choice(kind.amounts)
    )
