"""Queues of an agent in virtual time: bounds, fairness, no starvation, back-pressure."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.crowd import Call, Crowd

from wherry.base.errors import InputError, Retryable
from wherry.serve.admission import FOREVER, Admission, Busy
from wherry.serve.load import AGENT, CLOSED, DEADLINE, TENANT, WAIT, Bounds, Limits

MS = 1_000_000
S = 1000 * MS
NAMES = ("a", "b", "c", "d")

bounds = st.builds(
    Bounds,
    weight=st.sampled_from([0.1, 0.5, 1.0, 2.0, 7.0]),
    running=st.integers(1, 4),
    waiting=st.integers(0, 6),
    wait_ns=st.integers(0, 200 * MS),
)
limits = st.builds(
    Limits, running=st.integers(1, 4), waiting=st.integers(0, 12), begun=st.integers(0, 6)
)
calls = st.lists(
    st.builds(
        Call,
        at=st.integers(0, 100 * MS),
        tenant=st.sampled_from(NAMES),
        takes=st.integers(0, 20 * MS),
        says=st.sampled_from([0, 1, MS, 50 * MS]),
        patience=st.integers(0, 100 * MS) | st.just(FOREVER),
        begun=st.booleans(),
    ),
    max_size=80,
)


@given(limits, st.fixed_dictionaries(dict.fromkeys(NAMES, bounds)), calls)
@settings(max_examples=300)
def test_bounds_hold_no_slot_idles_and_nothing_is_left(
    limits: Limits, of: dict[str, Bounds], calls: list[Call]
) -> None:
    crowd = Crowd(limits, of)
    for call in calls:
        crowd.come(call)
    crowd.run()
    assert len(crowd.served) + len(crowd.refused) + len(crowd.late) == len(calls)
    queues = crowd.queues
    assert (queues.running, queues.waiting, queues._new, queues._active) == (0, 0, 0, {})
    assert queues._weight == 0.0
    assert not queues._queued
    for _, call, busy in crowd.refused:
        assert MS <= busy.again_ns <= limits.again_ns
        assert 0 <= busy.hold_ns <= limits.hold_ns
        assert isinstance(busy, Retryable)
        assert busy.tenant == call.tenant
    waits = [s.start - s.call.at for s in crowd.served]
    new = [(w, s) for w, s in zip(waits, crowd.served, strict=True) if not s.call.begun]
    assert all(w <= of[s.call.tenant].wait_ns for w, s in new)
    assert all(w <= s.call.patience for w, s in zip(waits, crowd.served, strict=True))
    counted = queues.counts.values()
    assert sum(c.offered for c in counted) == len(calls)
    assert (
        sum(c.admitted for c in counted)
        == len(crowd.served)
        == sum(sum(c.waited.counts) for c in counted)
    )
    assert sum(sum(c.refused.values()) for c in counted) == len(crowd.refused) + len(crowd.late)
    first = [s.call for s in sorted(crowd.served, key=lambda s: (s.start, s.call.at))]
    for name in NAMES:  # in the order they came, but what has begun goes first
        for begun in (False, True):
            ats = [c.at for c in first if (c.tenant, c.begun) == (name, begun)]
            assert ats == sorted(ats)


weights = st.sampled_from([0.25, 1.0, 1.0, 2.0, 5.0])
PATIENT = {"waiting": 10_000, "wait_ns": FOREVER}


@given(
    slots=st.integers(1, 4),
    weighs=st.tuples(weights, weights, weights),
    takes=st.lists(st.tuples(*[st.integers(MS // 10, 10 * MS)] * 3), min_size=20, max_size=60),
    claims=st.booleans(),
    late=st.integers(0, 50 * MS),
)
@settings(max_examples=150)
def test_work_is_shared_by_weight(
    slots: int,
    weighs: tuple[float, ...],
    takes: list[tuple[int, ...]],
    claims: bool,
    late: int,
) -> None:
    of = {name: Bounds(weight=w, **PATIENT) for name, w in zip("abc", weighs, strict=True)}
    crowd = Crowd(Limits(running=slots, waiting=10_000), of)
    for row in takes:
        for name, cost in zip("abc", row, strict=True):
            at = late if name == "c" else 0
            crowd.come(Call(at, name, cost, says=cost if claims else 1))
    crowd.run()
    most = {name: max(row["abc".index(name)] for row in takes) for name in "abc"}
    # Of SFQ(D): each tenant may be ahead by the requests that run at once and one more. What is not
    # known before is made good when it ends: until then as many may be charged too little.
    ahead = (slots + 1) * (1 if claims else 2)
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        allowed = ahead * (most[one] / of[one].weight + most[other] / of[other].weight)
        for begin, end in crowd.spans(one, other):
            had = [crowd.work(name, begin, end) / of[name].weight for name in (one, other)]
            assert abs(had[0] - had[1]) <= allowed


@given(
    slots=st.integers(1, 4),
    flood=st.integers(1, 3),
    takes=st.integers(MS // 10, 10 * MS),
    own=st.integers(1, 10 * MS),
)
@settings(max_examples=60)
def test_nobody_starves_beside_a_flood(slots: int, flood: int, takes: int, own: int) -> None:
    names = [f"flood{n}" for n in range(flood)]
    crowd = Crowd(Limits(running=slots), {"small": Bounds(), **dict.fromkeys(names, Bounds())})
    end = 30 * takes
    for name in names:
        for at in range(0, end, max(1, takes // (10 * slots))):  # ten times what the slots can do
            crowd.come(Call(at, name, takes))
    for at in range(takes, end, 6 * max(takes, own)):
        crowd.come(Call(at, "small", own))
    crowd.run()
    small = [s for s in crowd.served if s.call.tenant == "small"]
    assert len(small) == len(range(takes, end, 6 * max(takes, own)))  # none was refused
    # All slots are taken when it comes, and each flood may have two more turns before it.
    longest = takes * (1 + 2 * flood / slots)
    assert max(s.start - s.call.at for s in small) <= longest


def test_begun_work_may_not_wait_for_ever() -> None:
    crowd = Crowd(Limits(running=1, begun_wait_ns=5 * MS), {"a": Bounds()})
    for _ in range(3):
        crowd.come(Call(0, "a", 4 * MS, begun=True))
    crowd.run()
    assert (len(crowd.served), len(crowd.late)) == (2, 1)


def test_begun_work_is_let_in_where_new_work_is_refused() -> None:
    crowd = Crowd(Limits(running=1, waiting=2, begun=3), {"a": Bounds(wait_ns=FOREVER)})
    for _ in range(6):
        crowd.come(Call(0, "a", MS))
    for _ in range(4):
        crowd.come(Call(0, "a", MS, begun=True))
    crowd.run()
    assert [(call.begun, busy.why) for _, call, busy in crowd.refused] == [
        *[(False, AGENT)] * 4,
        (True, AGENT),
    ]
    assert len(crowd.served) == 5


class Queries(Crowd):
    """Each new request is the first of a query of `parts`; callers ask for the next part soon."""

    parts = 4
    open = most_open = 0

    def on_served(self, call: Call) -> None:
        done = call.says + 1  # counts the parts
        self.open += (not call.begun) - (done == self.parts)
        self.most_open = max(self.most_open, self.open)
        if done < self.parts:
            self.come(Call(self.now + MS // 10, call.tenant, call.takes, done, begun=True))


def test_few_queries_are_open_and_those_that_began_end() -> None:
    crowd = Queries(Limits(running=2), {"a": Bounds(), "b": Bounds()})
    for number in range(2000):  # ten times what the slots can do
        crowd.come(Call(number * MS // 5, "ab"[number % 2], MS))
    crowd.run()
    assert crowd.open == 0
    assert all(not call.begun for _, call, _ in crowd.refused)
    assert crowd.most_open <= 8
    ended = sum(1 for s in crowd.served if s.call.says == crowd.parts - 1)
    assert ended >= 0.95 * crowd.served[-1].end * 2 / (crowd.parts * MS)
    waits = [s.start - s.call.at for s in crowd.served if not s.call.begun]
    # Of half of 64 that may wait, each query has two slots for as long as its four parts take.
    assert max(waits) <= 64 * crowd.parts * MS / 2


def test_each_reason_is_said() -> None:
    def refused(limits: Limits, bounds: Bounds, *calls: Call) -> Busy:
        crowd = Crowd(limits, {"a": bounds})
        for call in calls:
            crowd.come(call)
        crowd.run()
        ((_, _, busy),) = crowd.refused
        return busy

    three = [Call(n, "a", 10 * MS) for n in range(3)]
    full = refused(Limits(running=1), Bounds(waiting=1), *three)
    assert (full.why, full.again_ns) == (TENANT, MS)  # nothing has ended yet: a guess
    assert str(full) == "busy: a has 1 requests waiting, as many as it may; come again in 1 ms"
    assert refused(Limits(running=1, waiting=1), Bounds(), *three).why == AGENT
    said = [Call(n, "a", 10 * MS) for n in (0, 1, 20 * MS, 20 * MS + 1, 20 * MS + 2, 20 * MS + 3)]
    slow = refused(Limits(running=1), Bounds(wait_ns=25 * MS), *said)
    assert slow.why == WAIT
    assert "a would wait 30 ms for its turn" in str(slow)

    queues = Admission(Limits(running=1), lambda _: Bounds())
    running = queues.offer("a", 0)
    waiting = queues.offer("a", 0, until_ns=5 * MS)
    late = queues.leave(waiting, 6 * MS)
    assert late is not None
    assert (late.why, queues.waiting) == (DEADLINE, 0)
    assert "a waited 6 ms for its turn, and may not wait longer" in str(late)
    queued = queues.offer("a", 7 * MS)
    assert queues.close() == [queued]
    with pytest.raises(Busy, match="the agent is stopping") as stopped:
        queues.offer("a", 8 * MS)
    assert stopped.value.why == CLOSED
    assert queues.finish(running, 9 * MS) == []


def test_one_that_is_too_late_is_passed_over() -> None:
    queues = Admission(Limits(running=1), lambda _: Bounds())
    running = queues.offer("a", 0)
    late = queues.offer("b", 0, until_ns=2 * MS)
    next_ = queues.offer("c", 0)
    assert queues.finish(running, 3 * MS) == [next_]
    assert queues.leave(late, 3 * MS) is not None
    assert queues.leave(next_, 3 * MS) is None  # it runs: its slot must be given back
    assert queues.finish(next_, 4 * MS) == []
    assert (queues.running, queues.waiting) == (0, 0)


class Obedient(Crowd):
    """Callers who come again when they were told to, and at once when they are done."""

    def on_refused(self, call: Call, busy: Busy) -> None:
        self.come(call, self.now + busy.hold_ns + busy.again_ns)

    def on_served(self, call: Call) -> None:
        self.come(call, self.now)


@pytest.mark.parametrize("callers", [10, 100, 400])
def test_callers_who_come_when_told_keep_the_slots_busy_and_are_rarely_refused(
    callers: int,
) -> None:
    crowd = Obedient(Limits(running=2), {"a": Bounds(), "b": Bounds(weight=3.0)})
    for number in range(callers):
        crowd.come(Call(number, "ab"[number % 2], 4 * MS))
    crowd.run(until=20 * S)
    most = 2 * 20 * S // (4 * MS)
    assert len(crowd.served) >= 0.98 * most
    # 400 callers may wait for a second at most: each of them must ask in vain meanwhile.
    assert len(crowd.refused) <= max(1.5 * len(crowd.served), callers)
    shares = [crowd.work(name, S, 20 * S) for name in "ab"]
    if callers > 10:
        assert shares[1] / shares[0] == pytest.approx(3.0, rel=0.02)


class Rude(Crowd):
    """Callers who come again as soon as they are answered."""

    def on_refused(self, call: Call, busy: Busy) -> None:
        self.come(call, self.now + busy.hold_ns + MS // 20)


@pytest.mark.parametrize("callers", [50, 500])
def test_refusals_are_paced(callers: int) -> None:
    crowd = Rude(
        Limits(running=1, refusals_per_s=1000, hold_ns=250 * MS), {"a": Bounds(), "b": Bounds()}
    )
    for number in range(callers):
        crowd.come(Call(number, "ab"[number % 2], S // 2))
    crowd.run(until=2 * S)
    after = [now for now, *_ in crowd.refused if now >= S]
    held = max(busy.hold_ns for *_, busy in crowd.refused)
    if callers == 50:
        assert len(after) <= 1.1 * 1000
    else:  # nobody is held back longer than this, so as many more are answered
        assert held == crowd.limits.hold_ns
        assert len(after) <= 1.1 * callers * S / held


def test_a_tenant_that_comes_back_has_saved_nothing_up() -> None:
    crowd = Crowd(Limits(running=1, waiting=10_000), dict.fromkeys("ab", Bounds(**PATIENT)))
    for number in range(200):
        crowd.come(Call(number, "a", MS, says=MS))
    for _ in range(100):
        crowd.come(Call(50 * MS, "b", MS, says=MS))
    crowd.run()
    assert abs(crowd.work("a", 50 * MS, 150 * MS) - crowd.work("b", 50 * MS, 150 * MS)) <= 2 * MS


def test_what_a_tenant_says_it_takes_gains_it_nothing() -> None:
    crowd = Crowd(Limits(running=2, waiting=10_000), dict.fromkeys("ab", Bounds(**PATIENT)))
    for _ in range(400):
        crowd.come(Call(0, "a", 4 * MS, says=1))
        crowd.come(Call(0, "b", MS, says=MS))
    crowd.run()
    ((begin, end), *_) = crowd.spans("a", "b")
    assert abs(crowd.work("a", begin, end) - crowd.work("b", begin, end)) <= 4 * 4 * MS


def test_weights_may_change_while_work_waits() -> None:
    crowd = Crowd(Limits(running=1, waiting=10_000), dict.fromkeys("ab", Bounds(**PATIENT)))
    for _ in range(1000):
        crowd.come(Call(0, "a", MS))
        crowd.come(Call(0, "b", MS))
    crowd.run(until=500 * MS)
    crowd.bounds["a"] = Bounds(weight=4.0, **PATIENT)
    crowd.come(Call(500 * MS, "a", MS))
    crowd.run(until=1000 * MS)
    assert crowd.work("a", 0, 500 * MS) == pytest.approx(crowd.work("b", 0, 500 * MS), rel=0.02)
    later = [crowd.work(name, 501 * MS, 990 * MS) for name in "ab"]
    assert later[0] / later[1] == pytest.approx(4.0, rel=0.05)
    crowd.run()
    assert crowd.queues._weight == 0.0


def test_load_is_what_a_planner_may_count_on() -> None:
    queues = Admission(Limits(running=2), lambda _: Bounds())
    now = 0
    idle = queues.load(now, "a")
    assert (idle.busy, idle.taken, idle.wait_ns) == (0.0, 0.0, 0)
    for _ in range(1000):  # both slots are b's for ten seconds
        jobs = [queues.offer("b", now) for _ in range(2)]
        now += 10 * MS
        for job in jobs:
            queues.finish(job, now)
    jobs = [queues.offer("b", now) for _ in range(4)]
    found = queues.load(now, "a")
    assert found.busy == pytest.approx(1.0, abs=0.001)
    assert found.taken == pytest.approx(0.5, abs=0.001)  # half is due to a by its weight
    assert (found.running, found.waiting) == (2, 2)
    assert found.wait_ns == pytest.approx(10 * MS, rel=0.01)
    assert queues.load(now, "b").taken == pytest.approx(0.95)  # as much as is ever said
    for job in jobs[:2]:
        queues.finish(job, now)
    for job in jobs[2:]:
        queues.finish(job, now)
    assert queues.load(now + 10 * S, "b").taken < 0.001


def test_tenants_that_do_nothing_are_forgotten_and_their_counts_kept() -> None:
    queues = Admission(Limits(running=1), lambda _: Bounds())
    for number in range(3000):
        queues.finish(queues.offer(f"tenant{number}", number), number + 1)
    assert len(queues._tenants) <= 257
    assert len(queues.counts) == 1025
    assert sum(c.offered for c in queues.counts.values()) == 3000


@pytest.mark.parametrize(
    "wrong", [{"weight": 0.0}, {"weight": float("nan")}, {"running": 0}, {"waiting": -1}]
)
def test_bounds_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="possible"):
        Bounds(**wrong)  # type: ignore[arg-type]


def test_limits_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="possible"):
        Limits(running=0)
