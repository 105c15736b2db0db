"""Runs a round: load, faults in their time, and afterwards what they did."""

from __future__ import annotations

import heapq
import itertools
import selectors
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from chaos import frames, leaks, served
from chaos.faults import Undo, struck, variant
from chaos.leaks import Rest
from chaos.oracle import ANSWERED, BROKE, FAILED, GRACE_S, HUNG, KILLED, Outcome, judged
from chaos.plan import (
    AGENTS,
    CALLERS,
    DATASETS,
    DEADLINE_S,
    FAULTS,
    QUERIES,
    Ask,
    Plan,
    Strike,
)
from chaos.world import Caller, Variant, World, last_words
from wherry.serve.live import AGAIN_S

_READY_S: Final = 60.0
_FIRST_S: Final = 120.0
"""Of queries whose programs may have to be compiled."""


class Round(Struct, frozen=True):
    """What came of a round.

    Attributes
    ----------
    struck : list of (str, bool)
        The faults that struck, and whether a query was under way when they did.
    states : dict of str to int
        Outcomes, counted.
    elsewhere : int
        Answers of other devices than those that make it if nothing is lost.
    made_by : dict of str to int
        Answers, counted by the devices that made them.
    errors : list of str
        What was said by those that failed.
    violations : list of str
        What was wrong.
    """

    number: int
    carrier: str
    strikes: list[str]
    struck: list[tuple[str, bool]]
    states: dict[str, int]
    elsewhere: int
    made_by: dict[str, int]
    errors: list[str]
    violations: list[str]
    seconds: float
    slowest_s: float


class _Line(Struct):
    """A caller's queries: those to come, the one under way, and until when it may be."""

    name: str
    waiting: deque[tuple[int, Ask]]
    now: Outcome | None = None
    hold_ms: int = 0
    begun: float = 0.0
    limit: float = 0.0
    paused: float = 0.0
    paused_since: float = 0.0


def calm_round(world: World) -> tuple[list[str], Rest]:
    """Start what does not run and ask everything once; give what is wrong, and what rest is."""
    each = tuple(Ask(q, d, n, 0) for q in QUERIES for d in DATASETS for n in (True, False))
    asks = tuple(each for _ in CALLERS)
    load = _Load(world, Plan(0, 0, world.carrier, asks, ()))
    wrong = load.prepared()
    if not wrong:
        load.run(deadline_s=_FIRST_S)
        wrong = load.judged()
    time.sleep(0.2)
    return wrong, leaks.at_rest(world)


def run_round(world: World, plan: Plan, rest: Rest) -> Round:
    """Run a round."""
    begun = time.monotonic()
    load = _Load(world, plan)
    wrong = load.prepared()
    if not wrong:
        load.run(deadline_s=DEADLINE_S)
        wrong += load.judged()
        wrong += load.healed()
        wrong += leaks.settled(world, rest)
    states = [outcome.state for outcome in load.outcomes]
    return Round(
        plan.round,
        plan.carrier,
        [strike.line() for strike in plan.strikes],
        load.struck,
        {state: states.count(state) for state in sorted(set(states))},
        sum(outcome.elsewhere for outcome in load.outcomes),
        Counter("+".join(outcome.devices) for outcome in load.outcomes if outcome.devices),
        [f"{o.kind}: {o.text}" for o in load.outcomes if o.state == FAILED],
        wrong,
        time.monotonic() - begun,
        max((o.seconds for o in load.outcomes), default=0.0),
    )


class _Load:
    """The queries and faults of one round, on one selector."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.plan = world, plan
        self.outcomes: list[Outcome] = []
        self.struck: list[tuple[str, bool]] = []
        self._lines = {
            name: _Line(name, deque(enumerate(asks)))
            for name, asks in zip(CALLERS, plan.asks, strict=False)
        }
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._undos: list[Undo] = []
        self._selector = selectors.DefaultSelector()
        self._heard: dict[int, Caller] = {}
        self._deadline_s = DEADLINE_S

    def prepared(self) -> list[str]:
        """Have all processes run, with what this round gives them; say which do not."""
        world = self.world
        for strike in self.plan.strikes:
            if FAULTS[strike.fault].whole:
                self._restart(strike.target, variant(strike))
                self.struck.append((strike.fault, True))
        for name in AGENTS:
            if name in world.agents and world.agents[name].alive and not self._well(name):
                world.kill(name)  # what made it ill was said in its round
            if name not in world.agents or not world.agents[name].alive:
                world.start_agent(name)
        for name in CALLERS:
            if name not in world.callers or world.callers[name].process.poll() is not None:
                world.start_caller(name)
        return world.await_agents() + self._await_callers()

    def run(self, deadline_s: float) -> None:
        """Ask all queries, strike, and hear what comes of it."""
        self._deadline_s = deadline_s
        for line in self._lines.values():
            self._next(line)
        while any(line.now or line.waiting for line in self._lines.values()):
            self._step()
        # What was not undone until now would strike a caller that has nothing more to ask.
        self._undo()

    def judged(self) -> list[str]:
        """Give what is wrong with the outcomes."""
        return [w for o in self.outcomes for w in judged(self.plan, o, self.world.right)]

    def healed(self) -> list[str]:
        """Give what is not as before once all faults are over: everybody must be able to ask."""
        for strike in self.plan.strikes:
            if FAULTS[strike.fault].whole:
                self._restart(strike.target, Variant())
        wrong = self.world.await_agents() + self._await_callers()
        if wrong:
            return wrong
        time.sleep(AGAIN_S)  # Callers look no sooner whether an agent is there again.
        asks = tuple(
            tuple(Ask("totals", dataset, True, 0) for dataset in DATASETS) for _ in CALLERS
        )
        after = _Load(self.world, Plan(0, 0, self.plan.carrier, asks, ()))
        after.run(deadline_s=DEADLINE_S)
        return [f"after the faults, {w}" for w in after.judged()]

    def _well(self, name: str) -> bool:
        agent = self.world.agents[name]
        return not agent.variant.calm or not isinstance(served.health(self.world, agent, 3.0), str)

    def _restart(self, name: str, chosen: Variant) -> None:
        self.world.kill(name)
        if name in AGENTS:
            self.world.start_agent(name, chosen)
        else:
            self.world.start_caller(name, chosen)

    def _await_callers(self) -> list[str]:
        deadline = time.monotonic() + _READY_S
        wrong = []
        for caller in self.world.callers.values():
            while not caller.ready:
                self._watch(caller)
                self._wait(0.1)
                if caller.process.poll() is not None or time.monotonic() > deadline:
                    wrong.append(f"{caller.name} does not start: {last_words(caller.log)}")
                    break
        return wrong

    def _step(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        for line in self._lines.values():
            if line.now is None and line.waiting:
                self._next(line)
            elif line.now is not None and now > self._limit(line, now):
                self._hung(line, now)
        soon = self._timers[0][0] - time.monotonic() if self._timers else 0.05
        self._wait(min(max(soon, 0.0), 0.05))

    def _next(self, line: _Line) -> None:
        """Ask the next query, if the caller is there."""
        if not line.waiting:
            return
        caller = self.world.callers[line.name]
        self._watch(caller)
        if not caller.ready or caller.process.poll() is not None:
            if caller.process.poll() is not None and not caller.killed:
                self.world.start_caller(line.name)
            return
        number, ask = line.waiting.popleft()
        line.now = Outcome(line.name, number, ask.query, ask.dataset, ask.near)
        line.begun, line.paused, line.hold_ms = time.monotonic(), 0.0, ask.hold_ms
        line.limit = line.begun + self._deadline_s + GRACE_S + ask.hold_ms / 1000
        question = frames.Ask(number, ask.query, ask.dataset, ask.near, ask.hold_ms)
        assert caller.process.stdin is not None
        try:
            caller.process.stdin.write(frames.framed(question))
        except OSError:
            self._ended(line, BROKE)

    def _limit(self, line: _Line, now: float) -> float:
        still = now - line.paused_since if line.paused_since else 0.0
        return line.limit + line.paused + still

    def _hung(self, line: _Line, now: float) -> None:
        """Have everybody write down where it is, and end the caller that hangs."""
        for name in (line.name, *AGENTS):
            self.world.signal(name, signal.SIGUSR1)
        time.sleep(0.2)
        self._ended(line, HUNG)
        self.world.kill(line.name)
        self.world.start_caller(line.name)

    def _watch(self, caller: Caller) -> None:
        """Hear a caller; a new process may have the descriptor of an old one."""
        assert caller.process.stdout is not None
        descriptor = caller.process.stdout.fileno()
        if self._heard.get(descriptor) is not caller:
            if descriptor in self._heard:
                self._selector.unregister(descriptor)
            self._heard[descriptor] = caller
            self._selector.register(descriptor, selectors.EVENT_READ)

    def _wait(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            caller = self._heard[key.fd]
            assert caller.process.stdout is not None
            more = caller.process.stdout.read(1 << 20)
            if more:
                for said in caller.hearing.heard(more):
                    self._said(caller, said)
            elif more is not None:
                self._selector.unregister(key.fd)
                del self._heard[key.fd]
                self._gone(caller)

    def _said(self, caller: Caller, said: frames.Said) -> None:
        if isinstance(said, frames.Ready):
            caller.ready = True
            return
        line = self._lines.get(caller.name)
        if line is None or line.now is None or line.now.number != said.id:
            self.outcomes.append(Outcome(caller.name, said.id, "?", "?", "said twice or unasked"))
            return
        if isinstance(said, frames.Begun):
            if caller.name == CALLERS[0]:
                self._strike_in(said.id)
            return
        line.now.seconds = said.seconds
        if isinstance(said, frames.Answered):
            line.now.stream, line.now.changed = said.stream, said.changed
            line.now.devices = said.devices
            self._ended(line, ANSWERED)
        else:
            line.now.kind, line.now.known, line.now.text = said.kind, said.known, said.text
            self._ended(line, FAILED)

    def _gone(self, caller: Caller) -> None:
        caller.process.wait(timeout=20)
        line = self._lines.get(caller.name)
        if line is not None and line.now is not None and self.world.callers[line.name] is caller:
            line.now.text = f"exit {caller.process.returncode}: {last_words(caller.log)}"
            self._ended(line, KILLED if caller.killed else BROKE)

    def _ended(self, line: _Line, state: str) -> None:
        now = time.monotonic()
        assert line.now is not None
        line.now.state = state
        line.now.seconds = line.now.seconds or now - line.begun
        line.now.allowed_s = self._limit(line, now) - line.begun - line.hold_ms / 1000
        self.outcomes.append(line.now)
        line.now = None

    def _strike_in(self, number: int) -> None:
        for strike in self.plan.strikes:
            if strike.at == number and not FAULTS[strike.fault].whole:
                at = time.monotonic() + strike.after_ms / 1000
                self._at(at, lambda strike=strike: self._strike(strike))

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (when, next(self._order), what))

    def _strike(self, strike: Strike) -> None:
        it = self.world.agents.get(strike.target) or self.world.callers[strike.target]
        if it.process.poll() is not None:
            return  # another fault was faster
        under_way = any(line.now for line in self._lines.values())
        line = self._lines.get(strike.target)
        if strike.fault == "pause caller" and line is not None:
            line.paused_since = line.paused_since or time.monotonic()
        undo = struck(self.world, strike)
        self.struck.append((strike.fault, under_way))

        def end() -> None:
            undo()
            if strike.fault == "pause caller" and line is not None and line.paused_since:
                line.paused += time.monotonic() - line.paused_since
                line.paused_since = 0.0

        self._undos.append(end)
        self._at(time.monotonic() + strike.for_ms / 1000, end)

    def _undo(self) -> None:
        for undo in self._undos:
            undo()
        self._undos.clear()
