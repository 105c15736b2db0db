"""What freezing, sealing, thawing and moving a continuation takes, and how large one is.

Messages are those of the movables in `movables.py`, with their frames as they are at every await.
A round trip is measured twice: `hop_us` is two messages, each frozen, sealed, verified, thawed and
run to the next await; `delivered_hop_us` is two hops of the whole protocol, each acknowledged, told
home, and on record there in memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import cycle, pairwise
from statistics import median
from typing import Any, Final

from wherry.benchmarks.continuations import movables
from wherry.benchmarks.continuations.figure import Figure, of_samples, single
from wherry.flow.carried import operands_of
from wherry.flow.compile import compile_function
from wherry.flow.frame import frames_of
from wherry.flow.nodes import Program
from wherry.flow.parse_awaits import Vocabulary
from wherry.flow.run import compiled_of
from wherry.flow.wire import Rows, Shard
from wherry.movables.programs import METHODS
from wherry.run.delivery import Outcome, Submit, answer, go
from wherry.run.host import Host
from wherry.run.journal_memory import MemoryJournal
from wherry.run.message import RUN, Message, budget, freeze, thaw

FIGURES: Final = (
    *("freeze_us", "freeze_authenticate_us", "thaw_run_us", "frame_bytes", "message_bytes"),
    *("hop_us", "delivered_hop_us", "static_check_ms"),
)
_KEY: Final = b"k" * 32
_LOOPS: Final = 200
"""Of a sample: one call is shorter than a clock's tick."""
_SAMPLES: Final = 400
_HOPS: Final = 4_000
_HOPS_A_SAMPLE: Final = 100
_CHECKS: Final = 30

Step = tuple[int, Any, Any]


def measure() -> Iterator[Figure]:
    """Measure in this process; nothing is written."""
    program, message, values, result = _sample()
    freezer = frames_of(program).freezers[message.position]
    thawer = frames_of(program).thawers[message.position]
    resume = compiled_of(program).resume
    data = freeze(message, _KEY)

    def frozen() -> object:
        return freezer(values)

    def sealed() -> object:
        return freeze(_with_frame(message, freezer(values)), _KEY)

    def run() -> object:
        found = thaw(data, _KEY)
        return resume(found.position, thawer(found.frame), result)

    yield of_samples("freeze_us", "us", _timed(frozen))
    yield of_samples("freeze_authenticate_us", "us", _timed(sealed))
    yield of_samples("thaw_run_us", "us", _timed(run))
    frames, messages = zip(*_sizes(), strict=True)
    yield of_samples("frame_bytes", "bytes", frames)
    yield of_samples("message_bytes", "bytes", messages)
    yield of_samples("hop_us", "us", [a + b for a, b in _pairs(sealed, run)])
    yield of_samples("delivered_hop_us", "us", _round_trips())
    yield single("static_check_ms", "ms", _static_check_ms())


def _sample() -> tuple[Program, Message, tuple[Any, ...], object]:
    """Give a movable at its second await, and what that await gives."""
    program = movables.largest.program
    _, values, operands = _first_chain(program)
    position = 2
    frame = frames_of(program).freezers[position](values)
    given = operands_of(program).freeze(position, operands)
    return program, _message(position, frame, given), values, _rows()


def _first_chain(program: Program) -> Step:
    compiled = compiled_of(program)
    step = compiled.start((370, date(1995, 1, 1)))
    return compiled.resume(step[0], step[1], Shard("orders", "csd0", 3))


def _rows() -> Rows:
    return Rows("csd0", bytes(16), 200, 2, 3200, 1_800_000_000_000_000_000)


def _message(position: int, frame: bytes, operand: bytes) -> Message:
    return Message(
        id=bytes(range(16)),
        kind=RUN,
        epoch=1,
        hop=2,
        program=bytes(16),
        position=position,
        home="client",
        tenant="acme",
        frame=frame,
        operand=operand,
        budget=budget(time_ns=10**9, rows=10**6),
        trace=bytes(range(16)),
    )


def _with_frame(m: Message, frame: bytes) -> Message:
    return Message(
        m.id, m.kind, m.epoch, m.hop, m.program, m.position, m.home, m.tenant, frame, m.operand,
        m.given, m.flags, m.deadline_ns, m.lease_ms, m.budget, m.trace, m.span,
    )  # fmt: skip


def _timed(call: Callable[[], object]) -> list[float]:
    """Give microseconds of a call, each the mean of some in a row."""
    for _ in range(_LOOPS):
        call()
    found = []
    for _ in range(_SAMPLES):
        begun = time.perf_counter_ns()
        for _ in range(_LOOPS):
            call()
        found.append((time.perf_counter_ns() - begun) / _LOOPS / 1e3)
    return found


def _pairs(
    sealed: Callable[[], object], run: Callable[[], object]
) -> Iterator[tuple[float, float]]:
    """Give the times of the two halves of a round trip, twice each."""
    for one, other in zip(_timed(sealed), _timed(run), strict=True):
        yield 2 * one, 2 * other


def _sizes() -> Iterator[tuple[float, float]]:
    """Give the bytes of frames and messages of all sample movables, at every await."""
    for program, steps in movables.walked(_rows()):
        for position, values, operands in steps:
            frame = frames_of(program).freezers[position](values)
            given = operands_of(program).freeze(position, operands)
            yield len(frame), len(freeze(_message(position, frame, given), _KEY))


class _PingPong:
    """Two devices that hand a movable to each other at every await."""

    def __init__(self, program: Program) -> None:
        self.compiled = compiled_of(program)
        self.frames = frames_of(program)
        self.operands = operands_of(program)
        self.others = cycle(("csd0", "csd1"))
        self.times: list[int] = []

    def execute(self, _: str, message: Message) -> Outcome:
        self.times.append(time.perf_counter_ns())
        if message.position == 0:
            step = self.compiled.start(self.frames.thawers[0](message.frame))
        else:
            values = self.frames.thawers[message.position](message.frame)
            self.operands.thaw(message.position, message.operand)
            step = self.compiled.resume(message.position, values, Shard("orders", "csd0", 0))
        position, values, operands = step
        if position < 0:
            return answer(b"")
        frame = self.frames.freezers[position](values)
        given = self.operands.freeze(position, operands)
        return go(next(self.others), position, frame, operand=given, receipt=bytes(48))

    def perform(self, message: Message) -> tuple[int, bytes]:
        raise AssertionError(f"it has no effects: {message}")

    def place(self, message: Message, avoid: object) -> str:
        raise AssertionError(f"nothing falls silent here: {message} {avoid}")

    def ending(self, id_: bytes) -> None:
        """Have nothing to note."""

    def ended(self, id_: bytes, value: bytes, *, failed: bool) -> None:
        """Have nothing to let go of."""

    def release(self, node: str, resource: bytes) -> None:
        raise AssertionError(f"nothing is kept here: {node} {resource!r}")


def _round_trips() -> list[float]:
    """Give microseconds of round trips: there and back again."""
    movable = movables.wandering
    carrier = _PingPong(movable.program)
    home = Host("client", key=_KEY, journal=MemoryJournal(), carrier=carrier)
    id_ = os.urandom(16)
    frame = frames_of(movable.program).freezers[0]((_HOPS,))
    message = Message(id_, RUN, 1, 0, movable.code.digest, 0, "client", frame=frame, trace=id_)
    home.tell(Submit(message, movable.code))
    home.run(lambda: id_ in home.reports, timeout_s=timedelta(minutes=1).total_seconds())
    times = carrier.times[_HOPS_A_SAMPLE::_HOPS_A_SAMPLE]
    spans = pairwise(times)
    return [2 * (end - begin) / _HOPS_A_SAMPLE / 1e3 for begin, end in spans]


def _static_check_ms() -> float:
    """Give the milliseconds of the processor for compiling and proving the largest sample."""
    vocabulary, found = Vocabulary(METHODS), []
    for _ in range(_CHECKS):
        begun = time.process_time_ns()
        compile_function(movables.top_orders.function, vocabulary)
        found.append((time.process_time_ns() - begun) / 1e6)
    return median(found)
