"""The nodes of one process: protocol machines, their journals, and a queue instead of a network.

One thread does everything, in the order in which it was asked for, so two runs of the same steps
give the same bytes. While a step is carried out every node of the process stands still, and so does
the steady clock that they are given: a long step is not a silent one.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from wherry.base.errors import CorruptError
from wherry.run.delivery import (
    Attach,
    Cancel,
    Command,
    Event,
    Execute,
    Executed,
    Load,
    Loaded,
    Match,
    Matched,
    Outcome,
    Pending,
    Perform,
    Performed,
    Persist,
    Place,
    Placed,
    Program,
    Received,
    Release,
    Report,
    Restored,
    Resume,
    Send,
    Submit,
    Tick,
    Woken,
)
from wherry.run.journal import Journal
from wherry.run.message import Message
from wherry.run.node import Timing
from wherry.run.protocol import Node
from wherry.run.records import Answered, Held

_WOKEN_AT_ONCE: Final = 256
"""Dormant continuations that are read from the journal together."""
_NS: Final = 1_000_000_000
_JITTER_BITS: Final = 10


class Carrier(Protocol):
    """What does the work that machines ask for."""

    def execute(self, node: str, message: Message) -> Outcome:
        """Carry out a step at a node."""
        ...

    def perform(self, message: Message) -> tuple[int, bytes]:
        """Carry out an effect at home; give `VALUE` or `ERROR`, and its bytes."""
        ...

    def place(self, message: Message, avoid: Sequence[str]) -> str:
        """Choose where a state may go on; empty: nowhere now."""
        ...

    def ending(self, id_: bytes) -> None:
        """Note that a continuation is about to be over; `ended` may never come, after a kill."""
        ...

    def ended(self, id_: bytes, value: bytes, *, failed: bool) -> None:
        """Let go of what home kept for a continuation that is over."""
        ...

    def release(self, node: str, resource: bytes) -> None:
        """Let go of what a step left at a node."""
        ...


class Host:
    """All nodes of a process.

    Parameters
    ----------
    home : str
        The node that owns continuations; its journal keeps them.
    key : bytes
        Seals what they say to each other.
    journal : Journal
        Of home.
    carrier : Carrier
        Does the work.
    timing : Timing, optional
        How long nodes wait.
    only : set of bytes, optional
        Of what the journal has, drive only these and what is asked for here; else everything.

    Attributes
    ----------
    reports : dict of bytes to Report
        How continuations ended that were asked for and not fetched yet.
    """

    def __init__(
        self,
        home: str,
        *,
        key: bytes,
        journal: Journal,
        carrier: Carrier,
        timing: Timing | None = None,
        only: set[bytes] | None = None,
    ) -> None:
        self.home = home
        self.key = key
        self.journal = journal
        self.carrier = carrier
        self.timing = timing
        self.only = only
        self.reports: dict[bytes, Report] = {}
        self._life = secrets.randbits(31)  # no other life of these nodes had it
        self._nodes: dict[str, Node] = {}
        self._queue: deque[tuple[Node, Event]] = deque()
        self._stood_still = 0
        self._chance = random.Random(self._life).getrandbits  # noqa: S311  spreads what is sent again
        self._restore()

    @property
    def now(self) -> int:
        """Steady nanoseconds during which nodes were able to act."""
        return time.monotonic_ns() - self._stood_still

    def tell(self, event: Event) -> None:
        """Let home know of something; it acts on it when `run` is called."""
        if self.only is not None and isinstance(event, Submit | Attach | Resume | Cancel):
            self.only.add(event.message.id if isinstance(event, Submit) else event.id)
        self._queue.append((self._node(self.home), event))

    def run(
        self,
        until: Callable[[], bool],
        *,
        give_up: Callable[[], bool] = lambda: False,
        timeout_s: float | None = None,
    ) -> bool:
        """Act until `until` is true, and tell whether it is; or nothing is left, or time is up.

        Parameters
        ----------
        give_up : callable
            Asked whenever nothing can be done at once; true ends it.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            while self._queue and not until():
                node, event = self._queue.popleft()
                self._carry_out(node, self._handled(node, event))
                if timeout_s and end is not None and time.monotonic() > end:
                    return until()
            if until():
                return True
            wait = self._wait_s()
            if wait is None or give_up():
                return False
            if end is not None and time.monotonic() + wait > end:
                time.sleep(max(0.0, end - time.monotonic()))
                return False
            if wait > 0:
                time.sleep(wait)
            self._wake()

    def settle(self) -> None:
        """Act until nothing can be done at once."""
        self.run(lambda: False, give_up=lambda: True)

    def attach(self, id_: bytes) -> None:
        """Ask for the end of a continuation: a report will come, at once if it has ended."""
        self.tell(Attach(id_))

    def _handled(self, node: Node, event: Event) -> list[Command]:
        jitter = self._chance(_JITTER_BITS)
        try:
            return node.handle(event, self.now, time.time_ns(), jitter)
        except CorruptError:
            if not isinstance(event, Received):
                raise
            return []  # bytes that are not well formed change nothing, and nobody waits for them

    def _carry_out(self, node: Node, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Send(target, data):
                    self._queue.append((self._node(target), Received(node.name, data)))
                case Persist(records):
                    if node.name == self.home:
                        for record in records:
                            if isinstance(record, Answered):
                                self.carrier.ending(record.id)
                        self.journal.write(records)
                case Report(id_, failed, value):
                    self.reports[id_] = command
                    self.carrier.ended(id_, value, failed=failed)
                case Release(resource):
                    self.carrier.release(node.name, resource)
                case Execute() | Perform() | Place() | Load() | Match():
                    self._queue.append((node, self._answered(node.name, command)))

    def _answered(self, node: str, command: Execute | Perform | Place | Load | Match) -> Event:
        """Do what a machine asks for, and give the event that tells it what came of that."""
        match command:
            case Execute(message):
                return Executed(message, self._executed(node, message))
            case Perform(message):
                return Performed(message, *self._performed(message))
            case Place(message, avoid):
                return Placed(message, self.carrier.place(message, avoid))
            case Load(id_):
                known = self.journal.of(id_)
                return Loaded(id_, known.records, known.damage)
            case Match(name):
                found = self.journal.match(name)
                return Matched(name) if found is None else Matched(name, found[0].id, found[1])

    def _executed(self, node: str, message: Message) -> Outcome:
        begun = time.monotonic_ns()
        try:
            return self.carrier.execute(node, message)
        finally:
            self._stood_still += time.monotonic_ns() - begun

    def _performed(self, message: Message) -> tuple[int, bytes]:
        begun = time.monotonic_ns()
        try:
            return self.carrier.perform(message)
        finally:
            self._stood_still += time.monotonic_ns() - begun

    def _wait_s(self) -> float | None:
        """Give how long nothing is to be done; None: nothing will be, until somebody asks."""
        waits = [max(0, node.next_ns - self.now) for node in self._nodes.values() if node.next_ns]
        wake = self._next_wake()
        if wake:
            waits.append(max(0, wake - time.time_ns()))
        return min(waits) / _NS if waits else None

    def _wake(self) -> None:
        for node in self._nodes.values():
            if node.next_ns and node.next_ns <= self.now:
                self._queue.append((node, Tick()))
        home = self._node(self.home)
        for held in self._due(time.time_ns()):
            self._queue.append((home, Woken(held.id)))

    def _next_wake(self) -> int:
        if self.only is None:
            return self.journal.next_wake()
        return min((held.wake_ns for held in self._sleeping()), default=0)

    def _due(self, now_ns: int) -> list[Held]:
        if self.only is None:
            return self.journal.due(now_ns, _WOKEN_AT_ONCE)
        return [held for held in self._sleeping() if held.wake_ns <= now_ns]

    def _sleeping(self) -> Iterator[Held]:
        for id_ in self.only or ():
            held = self.journal.held(id_)
            if held is not None and held.wake_ns:
                yield held

    def _node(self, name: str) -> Node:
        """Give a node; it begins to be when something is sent to it."""
        found = self._nodes.get(name)
        if found is None:
            owns = name == self.home
            found = Node(name, self.key, self._life, owns=owns, timing=self.timing)
            self._nodes[name] = found
        return found

    def _restore(self) -> None:
        """Go on where the journal says that home was."""
        home = self._node(self.home)
        events: list[Event] = [
            Program(code) for code in self.journal.codes() if code.kind == "program"
        ]
        if self.only is None:
            events += [Restored(one.id, one.records, one.damage) for one in self.journal.live()]
            events += [Pending(name) for name in self.journal.pending()]
        else:
            kept = [self.journal.of(id_) for id_ in sorted(self.only)]
            events += [Restored(one.id, one.records, one.damage) for one in kept]
        self._queue.extend((home, event) for event in events)
