"""The benchmark of load: when queries are due, what became of them, and how that is judged."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from msgspec import structs

from wherry.benchmarks.load import callers as module
from wherry.benchmarks.load.callers import DONE, FAILED, REFUSED, Callers, User
from wherry.benchmarks.load.figures import Stretch, jain, percentile, verdict
from wherry.benchmarks.load.generate import QUERIES_MAX, arrivals
from wherry.benchmarks.load.run import together
from wherry.benchmarks.load.work import Script
from wherry.serve.requests import Done, Failed, Message, to_bytes


def test_queries_are_due_as_a_poisson_process_says() -> None:
    due = arrivals(2000.0, 10.0, (7, 1, 0))
    assert due.dtype == np.int64
    assert np.all(np.diff(due) >= 0)
    assert 0 <= due[0] <= due[-1] < 10e9
    assert len(due) == pytest.approx(20_000, rel=0.03)
    gaps = np.diff(due)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.05)  # exponential
    assert np.array_equal(due, arrivals(2000.0, 10.0, (7, 1, 0)))
    assert not np.array_equal(due, arrivals(2000.0, 10.0, (7, 1, 1)))
    assert len(arrivals(1e9, 100.0, (1,))) <= QUERIES_MAX


def test_another_query_has_another_id_and_its_own_seal() -> None:
    query, other = b"q" * 16, b"x" * 16
    message = b"WHRY" + b"\0" * 4 + query + b"rest" + b"s" * 16
    script = Script(query, (), ((b"<" + message + b">", message), (b"run " + query, b"")), 0)
    first, second = (script.anew(b"k" * 32) for _ in range(2))
    assert first != second
    assert all(len(a) == len(b) for a, (b, _) in zip(first, script.steps, strict=True))
    assert first[1][4:] in first[0]
    assert query not in b"".join(first)
    assert other not in b"".join(first)


def stretch(multiple: float, done: float, p99: float | None) -> Stretch:
    return Stretch(
        multiple, 1.0, 10, 5, 3, 1, 1, 10.0, done, 1.0, p99, p99, p99, 1.0, 2.0, None,
        {"0": done}, None, 0.1, {"busy": 3},
    )  # fmt: skip


def test_what_is_to_be_reached() -> None:
    stretches = [stretch(2, 100, 10), stretch(5, 95, 14), stretch(10, 91, 20), stretch(1, 90, 5)]
    good = verdict(stretches)
    assert (good.peak_per_s, good.kept, good.kept_met) == (100, 0.91, True)
    assert good.tail == pytest.approx(20 / 14)
    assert good.bounded
    assert good.kept_by_core is None
    timed = [structs.replace(s, agent_s=0.5 * s.multiple) for s in stretches]
    assert verdict(timed).kept_by_core == pytest.approx(91 / 5 / (90 / 0.5))
    bad = verdict([stretch(0.5, 50, 5), stretch(2, 100, 10), stretch(10, 80, 16)])
    assert (bad.kept_met, bad.bounded, bad.tail) == (False, False, 1.6)
    none = verdict([stretch(1, 100, 10), stretch(10, 0, None)])
    assert (none.kept_met, none.tail, none.bounded) == (False, None, False)


def test_rounds_are_put_together() -> None:
    rounds = [stretch(2, done, p99) for done, p99 in ((10, 5), (30, 7), (20, None))]
    found = together(rounds)
    assert (found.done_per_s, found.p99_ms, found.by_user, found.fairness) == (
        20,
        6,
        {"0": 20},
        None,
    )
    assert (found.offered, found.refused, found.why) == (30, 9, {"busy": 9})
    assert found.refused_share == pytest.approx(0.4)


def test_percentiles_and_fairness() -> None:
    assert percentile(list(range(1, 1001)), 0.99) == 990
    assert percentile([5.0], 0.999) == 5.0
    assert jain([1.0, 1.0, 4.0]) == pytest.approx(36 / 54)
    assert jain([0.0, 0.0]) is None


class Wire:
    """Stands for a connection: answers come when they are asked for."""

    def __init__(self, number: int) -> None:
        self.number, self.posted, self.answers = number, list[bytes](), deque[Message]()

    def fileno(self) -> int:
        return self.number

    def post(self, request: bytes, deadline: float) -> None:
        self.posted.append(request)

    def receive(self) -> bytes | None:
        return to_bytes(self.answers.popleft()) if self.answers else None


class Case(Callers):
    """Callers on such connections, two of one user; the script has three steps."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []
        self.wires = [Wire(100), Wire(101)]
        self.now = 0
        steps = tuple((name, b"") for name in (b"receive", b"run", b"release"))
        script = Script(b"-" * 16, (), steps, 0)
        super().__init__("", (), 0, script, lambda q, _: self.ended.append((q.ended, q.why)))
        self._free = {1: list(self.wires)}  # type: ignore[dict-item]
        self._keys = {1: b""}
        self._connections = {wire.number: wire for wire in self.wires}  # type: ignore[misc]

    def answer(self, *answers: Message) -> None:
        for answer in answers:
            self.wires[1].answers.append(answer)
            self._answered(self.wires[1])  # type: ignore[arg-type]


@pytest.fixture
def case() -> Case:
    return Case()


BUSY = Failed("Retryable", "busy: full", 0.01)
DONE_ = Done()


def test_a_query_goes_step_by_step(case: Case) -> None:
    assert case.begin(User(1), 0)
    case.answer(DONE_, DONE_)
    assert case.wires[1].posted == [b"receive", b"run", b"release"]
    assert case.under_way == 1
    case.answer(DONE_)
    assert case.ended == [(DONE, "")]
    assert case.under_way == 0
    assert case.begin(User(1), 0)
    assert case.begin(User(1), 0)
    assert not case.begin(User(1), 0)  # every connection has a query


def test_what_is_refused_at_first_is_let_be(case: Case) -> None:
    case.begin(User(1), 0)
    case.answer(BUSY)
    assert case.ended == [(REFUSED, "busy: full")]
    assert case.wires[1].posted == [b"receive"]


def test_what_has_begun_comes_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: now[0])
    case.begin(User(1), 0)
    case.answer(DONE_, BUSY)
    case.look(0)
    assert case.wires[1].posted == [b"receive", b"run"]
    now[0] = 10_000_000
    case.look(0)
    assert case.wires[1].posted == [b"receive", b"run", b"run"]
    case.answer(DONE_, DONE_)
    assert case.ended == [(DONE, "")]


def test_what_fails_is_let_go_of(case: Case) -> None:
    case.begin(User(1), 0)
    case.answer(DONE_, Failed("InputError", "no such piece"))
    assert case.wires[1].posted == [b"receive", b"run", b"release"]
    case.answer(DONE_)
    assert case.ended == [(FAILED, "no such piece")]
