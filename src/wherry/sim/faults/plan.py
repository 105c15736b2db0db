"""What the schedule of a seed is made of: continuations, the faults it has, and when they begin.

Each seed has some of the faults and not others, so that each is also seen without those that would
hide what it does. `HORIZON` ends them all; after that everything must come to rest.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

import msgspec

from wherry.base.ids import digest
from wherry.run.message import RUN, Message
from wherry.run.records import Code
from wherry.sim.faults import model

MS: Final = 1_000_000
HOUR: Final = 3600 * 1000 * MS
HORIZON: Final = 1500 * MS
START: Final = 1_700_000_000_000 * MS
"""What right clocks say when a schedule begins, Unix nanoseconds."""
LEASE_MS: Final = 200
NAMES: Final = ("home", "nic", "csd", "gpu")
FAULTS: Final = (
    "loss",  # messages are lost
    "copies",  # messages arrive twice
    "noise",  # bits of messages turn
    "delay",  # messages overtake each other
    "partition",  # two nodes are cut off from each other
    "crash",  # nodes end between any two commands, and in effects
    "pause",  # nodes stand still for longer than a lease, and wake
    "skew",  # clocks differ by up to an hour
    "jump",  # clocks jump by up to an hour, also back
    "slow",  # batches wait to be durable; a crash tears them
    "flip",  # bits of durable rows turn
    "ask",  # deadlines, cancelling, driving anew
    "second",  # another continuation, of another program
    "upgrade",  # what is parked goes on with another program
    "gone",  # a device ends and never comes back
)


CALM: Final = frozenset({"second", "skew", "upgrade"})
"""Faults in spite of which nothing is lost or late; every 16th seed has no others."""


class Job(msgspec.Struct, frozen=True):
    """A continuation: what its program does, its first message and its code."""

    ops: str
    message: Message
    code: Code


class Plan(msgspec.Struct, frozen=True):
    """What happens in a schedule.

    Attributes
    ----------
    on : frozenset of str
        The `FAULTS` it has.
    jobs : tuple of Job
        The continuations that callers ask for.
    durable : frozenset of str
        The nodes with a journal.
    survive : bool
        Whether rows that such a node keeps outlive it.
    gone : str
        The node that does not come back when it ends; empty: none.
    happenings : tuple
        Time, what, and with what: methods of `World` by name.
    """

    on: frozenset[str]
    jobs: tuple[Job, ...]
    durable: frozenset[str]
    survive: bool
    gone: str
    happenings: tuple[tuple[int, str, tuple[Any, ...]], ...]


def planned(seed: int, r: Random) -> Plan:
    """Give the plan of a seed; `r` is the source of its chance."""
    bits = r.getrandbits(len(FAULTS)) & r.getrandbits(len(FAULTS)) | 1 << r.randrange(len(FAULTS))
    on = frozenset(name for bit, name in enumerate(FAULTS) if bits >> bit & 1)
    if seed % 16 == 0:
        on &= CALM
    chosen = r.getrandbits(len(NAMES) - 1)
    durable = frozenset(n for bit, n in enumerate(NAMES) if not bit or chosen >> bit - 1 & 1)
    jobs = tuple(_job(r, seed, number, on) for number in range(1 + ("second" in on)))
    happenings = [
        *(h for number, job in enumerate(jobs) for h in _asked(r, number, job, on)),
        *_faults(r, on),
    ]
    gone = r.choice(NAMES[1:]) if "gone" in on else ""
    if gone:
        happenings.append((r.randint(0, 300) * MS, "crash_named", (gone,)))
    return Plan(on, jobs, durable, r.random() < 0.5, gone, tuple(happenings))


def code_of(ops: str, version: int = 1) -> Code:
    """Give the code of a program; versions differ in their bytes only."""
    body = f"{ops}#{version}".encode()
    return Code(digest(body), "program", body)


def ops_of(body: bytes) -> str:
    """Give what a program does."""
    return body.decode().partition("#")[0]


def _job(r: Random, seed: int, number: int, on: frozenset[str]) -> Job:
    ops = _sound("".join(r.choice("gquerislwwt") for _ in range(r.randint(1, 5))))
    code = code_of(ops)
    deadline = 0
    if "ask" in on and r.random() < 0.3:
        deadline = START + r.randint(20, 400) * MS
    id_ = bytes((number + 1,)) + digest(seed.to_bytes(8, "little", signed=False))[1:]
    message = Message(
        id_, RUN, 1, 0, code.digest, 0, "home", "t", model.entry(), lease_ms=LEASE_MS,
        deadline_ns=deadline,
    )  # fmt: skip
    return Job(ops, message, code)


def _asked(
    r: Random, number: int, job: Job, on: frozenset[str]
) -> list[tuple[int, str, tuple[Any, ...]]]:
    """Give what callers and others ask of a job, and when."""
    id_ = job.message.id
    asked: list[tuple[int, str, tuple[Any, ...]]] = [
        (r.randint(0, 100) * MS * number, "submit", (id_,))
    ]
    for op, letter in enumerate(job.ops):
        if letter == "w":
            event = bytes((number, op))
            asked.append((r.randint(0, 400) * MS, "signal", (event,)))
            asked.append((HORIZON + 150 * MS, "signal", (event,)))
    if "ask" in on:
        if r.random() < 0.3:
            asked.append((r.randint(1, 250) * MS, "cancel", (id_,)))
        if r.random() < 0.3:
            asked.append((r.randint(1, 800) * MS, "resume", (id_,)))
    if "upgrade" in on:
        asked += [(r.randint(0, 500) * MS, "upgrade", (id_, version)) for version in (2, 3)]
    return asked


def _faults(r: Random, on: frozenset[str]) -> list[tuple[int, str, tuple[Any, ...]]]:
    faults: list[tuple[int, str, tuple[Any, ...]]] = []

    def some(kind: str, method: str, most: int, latest: int, *args: Any) -> None:
        if kind in on:
            for _ in range(r.randint(1, most)):
                given = [arg(r) if callable(arg) else arg for arg in args]
                faults.append((r.randint(0, latest) * MS, method, tuple(given)))

    def name(r: Random) -> str:
        return r.choice(NAMES)

    some("partition", "part", 3, 600, lambda r: r.sample(NAMES, 2), lambda r: r.randint(20, 800))
    some("pause", "pause", 2, 400, name, lambda r: r.randint(100, 900))
    some("crash", "crash_named", 1, 600, name)
    some("jump", "jump", 3, 800, name, lambda r: r.randint(-HOUR, HOUR))
    some("flip", "flip", 3, 600)
    if "skew" in on:
        faults += [(0, "jump", (each, r.randint(-HOUR, HOUR))) for each in NAMES]
    if "flip" in on:
        faults.append((HORIZON + 100 * MS, "scrub", ()))
    return faults


def _sound(ops: str) -> str:
    """Have rows made before they are read, and read before others are made."""
    sound, rows = "", False
    for asked in ops:
        letter = asked
        if asked in "ur" and not rows:
            letter = "g"
        elif asked == "q" and rows:
            letter = "u"
        rows = letter == "q" or (rows and letter not in "ur")
        sound += letter
    return sound + "u" if rows else sound
