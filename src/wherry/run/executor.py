"""Carry out a machine's commands on this host, now: one thread a core, times measured.

The loop stands where the caller does. Only `Run` takes long; a share of chunks keeps all cores
busy, so one is run at a time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct, field

from wherry.base.events import Span
from wherry.base.units import Measured
from wherry.data.chunk import ChunkRef
from wherry.plan.replan import Decision, Revision
from wherry.render.gather import Piece
from wherry.render.team import Work
from wherry.run.carrier import Carrier
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
    Ran,
    Read,
    Replan,
    Replanned,
    Route,
    Routed,
    Run,
    Send,
    Share,
    ran,
)
from wherry.run.crew import Busy, Clock, Crew
from wherry.run.machine import Machine

Cut = Callable[[tuple[ChunkRef, ...]], tuple[Share, ...]]
"""How the chunks of a query become shares (`wherry.run.shares`)."""


class Executor(Struct):
    """Runs one machine to its end.

    Attributes
    ----------
    carrier : Carrier
        Does the work.
    crew : Crew
        Threads for the programs; they release the interpreter's lock.
    cut : callable
        Gives the shares.
    clock : callable
        Gives nanoseconds; only differences count.
    """

    carrier: Carrier
    crew: Crew
    cut: Cut
    clock: Clock = time.perf_counter_ns
    spans: list[Span] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    _start: int = 0

    def answer(self, machine: Machine) -> Iterator[Piece]:
        """Carry out the machine's commands and give the answer's pieces, in order, as they come.

        Whatever ends it early (an error, Ctrl-C, a consumer that stops), no program runs on. While
        the consumer takes its time, nothing new is begun.
        """
        self._start = self.clock()
        todo: deque[Command] = deque(machine.start())
        given = 0
        while True:
            while todo and not isinstance(todo[0], Run):
                command = todo.popleft()
                if isinstance(command, Finish):
                    yield from self._taken(command.pieces[given:])
                    return
                todo.extend(machine.handle(self._carry(command)))
            ready = machine.ready_to_give(given)
            given += len(ready)
            yield from self._taken(ready)
            run = todo.popleft()
            assert isinstance(run, Run)
            todo.extend(machine.handle(self._run(run)))

    @property
    def elapsed(self) -> Measured:
        """The time since the run began."""
        return Measured(self.clock() - self._start)

    def _taken(self, pieces: Iterable[PieceId]) -> Iterator[Piece]:
        for piece in pieces:
            yield self.carrier.pieces.pop(piece)

    def _carry(self, command: Command) -> Event:
        match command:
            case Send():
                return self.carrier.send(command)
            case Install():
                return self.carrier.install(command)
            case Route():
                shares = self.carrier.route(command).shares
                return Routed(self.cut(tuple(ref for share in shares for ref in share)))
            case Read(chunk=chunk):
                self.carrier.leave(command)
                return Loaded(chunk)
            case Move(target=target, piece=piece, stage=stage):
                return Moved(piece, target, stage)
            case Replan():
                noted = self.spans, self.revisions
                return replanned(command, self.carrier.replan, lambda: self.elapsed, *noted)
            case Deliver(piece=piece):
                return Delivered(piece)
        raise TypeError(f"not a command to carry out: {command}")

    def _run(self, command: Run) -> Ran:
        busy: list[Busy] = []

        def team(work: Work) -> None:
            busy.extend(self.crew.run(work, self.clock))

        begin = self.clock()
        evidence = self.carrier.run(command, team)
        whole = (0, begin, self.clock())
        for number, (first, last) in enumerate(_threads(busy or [whole])):
            self.spans.append(
                Span(
                    kind="run",
                    resource=f"cores {command.device}",
                    device=command.device,
                    start_ns=first - self._start,
                    end_ns=last - self._start,
                    stage=command.stage,
                    chunk=command.chunk,
                    nbytes=0 if number else evidence.nbytes,
                    rows=0 if number else evidence.rows_out,
                )
            )
        return ran(command, evidence)


def replanned(
    command: Replan,
    decide: Callable[[Replan], Decision],
    now: Callable[[], Measured],
    spans: list[Span],
    revisions: list[Revision],
) -> Replanned:
    """Decide how the shares that are left go, and note what was decided and how long it took.

    Parameters
    ----------
    now : callable
        Gives the time since the run began.
    """
    begin = now()
    decision = decide(command)
    end = now()
    where = f"cores {command.device}"
    spans.append(Span("replan", where, command.device, begin.ns, end.ns, stage=ROUTING))
    revisions.append(Revision(end, decision))
    return Replanned(command.seen, decision.ways)


def _threads(busy: list[Busy]) -> list[tuple[int, int]]:
    """Give when each thread began its first piece of work and ended its last one."""
    found: dict[int, tuple[int, int]] = {}
    for thread, begin, end in busy:
        first, last = found.get(thread, (begin, end))
        found[thread] = min(first, begin), max(last, end)
    return [found[thread] for thread in sorted(found)]
