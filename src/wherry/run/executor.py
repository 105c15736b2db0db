"""Carry out a machine's commands on this host, now: one thread a core, times measured.

Only `Run` takes long, so only it leaves the loop; everything else is done where the loop stands.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

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
    Ran,
    Read,
    Route,
    Run,
    Send,
)

Clock = Callable[[], int]


@dataclass
class Executor:
    """Runs one machine to its end.

    Attributes
    ----------
    carrier : Carrier
        Does the work.
    pool : ThreadPoolExecutor
        Runs programs; they release the interpreter's lock.
    clock : callable
        Gives nanoseconds; only differences count.
    """

    carrier: Carrier
    pool: ThreadPoolExecutor
    clock: Clock = time.perf_counter_ns
    spans: list[Span] = field(default_factory=list)
    _done: queue.SimpleQueue[Future[tuple[Run, Evidence, int, int]]] = field(
        default_factory=queue.SimpleQueue
    )
    _running: set[Future[tuple[Run, Evidence, int, int]]] = field(default_factory=set)
    _start: int = 0

    def answer(self, machine: Machine) -> Iterator[pa.RecordBatch]:
        """Carry out the machine's commands and give the answer's batches, in order, as they come.

        Whatever ends it early (an error, Ctrl-C, a consumer that stops), no program runs on.
        """
        self._start = self.clock()
        todo: deque[Command] = deque(machine.start())
        try:
            while True:
                while todo:
                    command = todo.popleft()
                    if isinstance(command, Finish):
                        for piece in command.pieces:
                            yield from batches_of(self.carrier.pieces.pop(piece))
                        return
                    event = self._carry(command)
                    if event is not None:
                        todo.extend(machine.handle(event))
                todo.extend(machine.handle(self._next_ran()))
        finally:
            self._stop()

    @property
    def elapsed(self) -> Measured:
        """The time since the run began."""
        return Measured(self.clock() - self._start)

    def _carry(self, command: Command) -> Event | None:
        """Do a command; a program only begins, and its event comes later."""
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
                future = self.pool.submit(self._timed, command)
                self._running.add(future)
                future.add_done_callback(self._done.put)
        return None

    def _timed(self, command: Run) -> tuple[Run, Evidence, int, int]:
        begin = self.clock()
        evidence = self.carrier.run(command)
        return command, evidence, begin, self.clock()

    def _next_ran(self) -> Ran:
        future = self._done.get()
        self._running.discard(future)
        command, evidence, begin, end = future.result()
        self.spans.append(
            Span(
                "run",
                f"cores {command.device}",
                command.device,
                begin - self._start,
                end - self._start,
                command.stage,
                command.chunk,
                evidence.nbytes,
                evidence.rows_out,
            )
        )
        return Ran(command.stage, command.chunk, evidence.rows_out)

    def _stop(self) -> None:
        for future in self._running:
            future.cancel()
        for future in self._running:
            if not future.cancelled():
                future.exception()
