"""Carry out a machine's commands at agents that work at the same time; the caller's clock measures.

The machine is used by one thread, the caller's. Each command that an agent carries out waits for
the answer on a thread of its own, so as many are under way as the machine's windows let.
"""

from __future__ import annotations

import math
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Final

from wherry.base.events import Span
from wherry.base.units import Measured
from wherry.plan.replan import Revision
from wherry.run.commands import (
    ROUTING,
    Command,
    Deliver,
    Delivered,
    Event,
    Finish,
    Install,
    Loaded,
    Move,
    Moved,
    PieceId,
    Read,
    Replan,
    Route,
    Routed,
    Run,
    Send,
    ran,
)
from wherry.run.crew import Clock
from wherry.run.executor import Cut, replanned
from wherry.run.machine import Machine
from wherry.serve.deadline import Overdue, is_over, left_s
from wherry.serve.remote import RemoteCarrier

THREADS_MAX: Final = 24
"""Commands under way at once, over all agents; so many connections one of them is asked for."""
_AFTER_S: Final = 0.5
"""Whoever waits for an agent says that the deadline is over; what works in this process does not,
and is left so long after it."""


class Dispatch:
    """Runs one machine to its end, over agents.

    Parameters
    ----------
    cut : callable
        Gives the shares; each of one home.
    """

    def __init__(self, carrier: RemoteCarrier, cut: Cut, clock: Clock = time.perf_counter_ns):
        self.carrier, self._cut, self._clock = carrier, cut, clock
        self.spans: list[Span] = []
        self.revisions: list[Revision] = []
        self._start = clock()

    @property
    def elapsed(self) -> Measured:
        """The time since the run began."""
        return Measured(self._clock() - self._start)

    def carry_out(self, machine: Machine) -> tuple[PieceId, ...]:
        """Carry out the machine's commands; give the pieces of the answer, at whichever devices.

        Whatever ends it early, an agent that is lost or Ctrl-C, nothing new is begun, and what
        agents still do is theirs to finish and forget.
        """
        pool = ThreadPoolExecutor(THREADS_MAX, "wherry-dispatch")
        try:
            return self._carry_out(machine, pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _carry_out(self, machine: Machine, pool: ThreadPoolExecutor) -> tuple[PieceId, ...]:
        todo: deque[Command] = deque(machine.start())
        waiting: dict[Future[Event], Command] = {}
        while True:
            while todo:
                command = todo.popleft()
                if isinstance(command, Finish):
                    return command.pieces
                event = self._at_once(command)
                if event is not None:
                    todo.extend(machine.handle(event))
                else:
                    going = pool.submit(copy_context().run, self._carry, command)
                    waiting[going] = command
            done, _ = wait(waiting, _wait_s(), FIRST_COMPLETED)
            if not done and is_over():
                raise self._overdue(next(iter(waiting.values())))
            for future in done:
                del waiting[future]
                todo.extend(machine.handle(future.result()))

    def _overdue(self, command: Command) -> Overdue:
        """Give the error of a command that is under way when the deadline is over."""
        device = getattr(command, "device", "") or getattr(command, "target", "")
        doing = f"a {type(command).__name__}".lower()
        return Overdue(device, doing, self.carrier.hop(getattr(command, "stage", ROUTING)))

    def _at_once(self, command: Command) -> Event | None:
        """Do what asks nobody."""
        match command:
            case Read(device=device, target=target) if device == target:
                self.carrier.leave(command)
                return Loaded(command.chunk)
            case Deliver(piece=piece):
                return Delivered(piece)
            case Replan():
                noted = self.spans, self.revisions
                return replanned(command, self.carrier.replan, lambda: self.elapsed, *noted)
        return None

    def _carry(self, command: Command) -> Event:
        begin = self._clock() - self._start
        event, span = self._asked(command)
        if span is not None:
            kind, resource, device, stage, chunk, nbytes, rows = span
            end = self._clock() - self._start
            self.spans.append(
                Span(kind, resource, device, begin, end, stage, chunk, nbytes, rows)  # type: ignore[arg-type]
            )
        return event

    def _asked(
        self, command: Command
    ) -> tuple[Event, tuple[str, str, str, int, int, int, int] | None]:
        carrier = self.carrier
        match command:
            case Send(source=source, target=target, stage=stage, message=message):
                link = f"link {source}->{target}"
                return carrier.send(command), ("send", link, source, stage, -1, len(message), 0)
            case Install(source=source, target=target, stage=stage):
                nbytes = carrier.shipped(command)[0]
                link = f"link {source}->{target}"
                return carrier.install(command), ("install", link, source, stage, -1, nbytes, 0)
            case Route(device=device):
                shares = carrier.route(command).shares
                cut = self._cut(tuple(ref for share in shares for ref in share))
                return Routed(cut), ("route", f"cores {device}", device, ROUTING, -1, 0, 0)
            case Read(device=device, chunk=chunk):
                rows = carrier.read(command)
                nbytes = carrier.nbytes((-1, chunk))
                span = ("read", f"media {device}", device, 0, chunk, nbytes, rows)
                return Loaded(chunk), span
            case Move(source=source, target=target, piece=piece, stage=stage):
                carrier.move(command)
                nbytes, link = carrier.nbytes(piece), f"link {source}->{target}"
                span = ("move", link, source, stage, piece[1], nbytes, 0)
                return Moved(piece, target, stage), span
            case Run(device=device, stage=stage, chunk=chunk):
                found = carrier.run(command)
                span = (
                    "run", f"cores {device}", device, stage, chunk, found.nbytes, found.rows_out
                )  # fmt: skip
                return ran(command, found), span
        raise TypeError(f"not a command to carry out: {command}")


def _wait_s() -> float | None:
    """Give how long to wait for what is under way; None: until it ends."""
    left = left_s(math.inf)
    return None if left == math.inf else left + _AFTER_S
