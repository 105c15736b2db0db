"""Carry out a machine's commands on this host, now: one thread a core, times measured.

Only `Run` takes long, so only it leaves the loop; everything else is done where the loop stands.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from wherry.base.events import Span
from wherry.base.units import Measured
from wherry.render.gather import batches_of
from wherry.run.carrier import Carrier, Evidence
from wherry.run.machine import (
    Command,
    Deliver,
    Delivered,
    Event,
    Finish,
    Install,
    Loaded,
    Machine,
    Move,
    Moved,
    PieceId,
    Ran,
    Read,
    Route,
    Run,
    Send,
)

Clock = Callable[[], int]


_CHUNKS_AT_ONCE: Final = 32
"""Chunks given to a thread at once. Threads that hand the interpreter's lock to each other wait
longer for it than a small chunk takes, so each works through a share of its own."""


@dataclass(frozen=True, slots=True)
class _Done:
    """A program that ran, and when."""

    command: Run
    evidence: Evidence
    begin: int
    end: int


@dataclass
class Executor:
    """Runs one machine to its end.

    Attributes
    ----------
    carrier : Carrier
        Does the work.
    pool : ThreadPoolExecutor
        Runs programs; they release the interpreter's lock.
    threads : int
        How many threads the pool has.
    clock : callable
        Gives nanoseconds; only differences count.
    """

    carrier: Carrier
    pool: ThreadPoolExecutor
    threads: int
    clock: Clock = time.perf_counter_ns
    spans: list[Span] = field(default_factory=list)
    _ready: list[Run] = field(default_factory=list)
    _done: queue.SimpleQueue[Future[list[_Done]]] = field(default_factory=queue.SimpleQueue)
    _running: set[Future[list[_Done]]] = field(default_factory=set)
    _start: int = 0

    def answer(self, machine: Machine) -> Iterator[pa.RecordBatch]:
        """Carry out the machine's commands and give the answer's batches, in order, as they come.

        Whatever ends it early (an error, Ctrl-C, a consumer that stops), no program runs on. While
        the consumer takes its time, nothing new is begun.
        """
        self._start = self.clock()
        todo: deque[Command] = deque(machine.start())
        given = 0
        try:
            while True:
                while todo:
                    command = todo.popleft()
                    if isinstance(command, Finish):
                        yield from self._batches(command.pieces[given:])
                        return
                    event = self._carry(command)
                    if event is not None:
                        todo.extend(machine.handle(event))
                ready = machine.ready_to_give(given)
                given += len(ready)
                yield from self._batches(ready)
                self._begin()
                for ran in self._next_ran():
                    todo.extend(machine.handle(ran))
        finally:
            self._stop()

    @property
    def elapsed(self) -> Measured:
        """The time since the run began."""
        return Measured(self.clock() - self._start)

    def _batches(self, pieces: Iterable[PieceId]) -> Iterator[pa.RecordBatch]:
        for piece in pieces:
            yield from batches_of(self.carrier.pieces.pop(piece))

    def _carry(self, command: Command) -> Event | None:
        """Do a command; a program only waits to begin, and its event comes later."""
        match command:
            case Send():
                return self.carrier.send(command)
            case Install():
                return self.carrier.install(command)
            case Route():
                return self.carrier.route(command)
            case Read(chunk=chunk):
                self.carrier.read(command)
                return Loaded(chunk)
            case Move(target=target, piece=piece, stage=stage):
                return Moved(piece, target, stage)
            case Deliver(piece=piece):
                return Delivered(piece)
            case Run():
                self._ready.append(command)
        return None

    def _begin(self) -> None:
        """Hand what is ready to the threads, several chunks at once.

        Waking a thread costs about as much as a small chunk, so each is given an equal share.
        """
        share = min(_CHUNKS_AT_ONCE, -(-len(self._ready) // self.threads))
        for first in range(0, len(self._ready), share or 1):
            future = self.pool.submit(self._timed, self._ready[first : first + share])
            self._running.add(future)
            future.add_done_callback(self._done.put)
        self._ready.clear()

    def _timed(self, commands: Sequence[Run]) -> list[_Done]:
        done = []
        for command in commands:
            begin = self.clock()
            evidence = self.carrier.run(command)
            done.append(_Done(command, evidence, begin, self.clock()))
        return done

    def _next_ran(self) -> list[Ran]:
        future = self._done.get()
        self._running.discard(future)
        return [self._noted(done) for done in future.result()]

    def _noted(self, done: _Done) -> Ran:
        command, evidence = done.command, done.evidence
        use = Span(
            kind="run",
            resource=f"cores {command.device}",
            device=command.device,
            start_ns=done.begin - self._start,
            end_ns=done.end - self._start,
            stage=command.stage,
            chunk=command.chunk,
            nbytes=evidence.nbytes,
            rows=evidence.rows_out,
        )
        self.spans.append(use)
        return Ran(command.stage, command.chunk, evidence.rows_out)

    def _stop(self) -> None:
        for future in self._running:
            future.cancel()
        for future in self._running:
            if not future.cancelled():
                future.exception()
