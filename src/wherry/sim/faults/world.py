"""One schedule of faults: nodes, their lives and clocks, the network, and those who ask.

Everything that happens follows from the seed. The nodes are those of `wherry.run.protocol`, and
every message is bytes. `carry.py` carries out what the nodes say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from random import Random
from typing import Any, Final

from wherry.base.errors import CorruptError
from wherry.run import message, protocol
from wherry.run.delivery import (
    Attach,
    Cancel,
    Command,
    Event,
    Migrate,
    Pending,
    Perform,
    Program,
    Received,
    Restored,
    Resume,
    Signalled,
    Submit,
    Tick,
    Woken,
)
from wherry.run.node import Timing
from wherry.run.records import PARKED, Code, Held, Leased, Signal
from wherry.sim.faults import carry, model
from wherry.sim.faults.journal import CODE, HELD, SIGNAL, Journal, Key
from wherry.sim.faults.plan import HORIZON, MS, NAMES, START, Plan, code_of, planned
from wherry.sim.faults.shown import shown
from wherry.sim.faults.watch import Watch, invariants

KEY: Final = b"schedules of faults".ljust(32, b".")
TIMING: Final = Timing(
    retry_ns=30 * MS, doublings=3, tries=3, leases_kept=4, parked_keep_ns=60_000 * MS
)
EVENTS_MAX: Final = 20_000
"""A schedule that has not come to rest after so many events never will."""


class Site:
    """A node with what is around it: journal, rows kept, clock, and commands that wait."""

    __slots__ = (
        "counted", "held", "journal", "life", "name", "node", "offset", "paused", "segments",
        "tick",
    )  # fmt: skip

    def __init__(self, name: str, journal: Journal | None) -> None:
        self.name = name
        self.journal = journal
        self.node: protocol.Node | None = None
        self.life = 0
        self.segments: model.Segments = {}
        self.offset = 0
        self.paused = 0
        self.tick = 0
        self.held: list[Command] | None = None
        """Commands that wait for a batch to be durable."""
        self.counted: dict[Key, bytes] = {}
        """Receipts of a node without a journal, which counts in memory."""


class World:
    """A schedule: `run` carries it out; `oracle.check` says what it did wrong.

    Parameters
    ----------
    seed : int
        All follows from it.
    trace : list of str, optional
        Where to write a line for each thing that happens.
    """

    def __init__(self, seed: int, trace: list[str] | None = None) -> None:
        r = self.random = Random(seed)  # noqa: S311
        self.plan: Plan = planned(seed, r)
        self.trace = trace
        self.key = KEY
        self.now = 0
        self.order = 0
        self.handled = 0
        self.heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        on = self.plan.on
        self.loss = 0.15 if "loss" in on else 0.0
        self.copies = 0.15 if "copies" in on else 0.0
        self.noise = 0.1 if "noise" in on else 0.0
        self.spread = 120 * MS if "delay" in on else 4 * MS
        self.crashing = 0.03 if "crash" in on else 0.0
        self.slow = 0.5 if "slow" in on else 0.0
        self.cut: dict[tuple[str, str], int] = {}
        self.sites = {
            name: Site(name, Journal(owner=name == "home") if name in self.plan.durable else None)
            for name in NAMES
        }
        self.home = self.sites["home"]
        self.jobs = {job.message.id: job for job in self.plan.jobs}
        self.waiting: dict[bytes, bool] = {}
        self.reports: dict[bytes, list[tuple[bool, bytes]]] = {id_: [] for id_ in self.jobs}
        self.effects: dict[tuple[bytes, int], list[bytes]] = {}
        """The keys under which each effect took place."""
        self.performing: dict[bytes, Perform] = {}
        """Effects that are under way."""
        self.flipped: set[Key] = set()
        self.unsure: set[Key] = set()
        """Receipts that died with a node that counts in memory."""
        self.crashes = 0
        self.lost_rows = 0
        """Rows that were gone while their continuation went on."""
        self.cancelled: set[bytes] = set()
        self.upgraded: set[bytes] = set()
        self.wrong: list[str] = []
        self.watch: Watch | None = None
        self.used = 0
        self.lives = 0

    def run(self, *, watched: bool = False) -> None:
        """Carry the schedule out until all is at rest; `watched`: look at every step of it."""
        if watched:
            self.watch = Watch(self, KEY)
            self.at(0, self._look)
        for site in self.sites.values():
            self.start(site)
        for time, what, args in self.plan.happenings:
            self.at(time, getattr(self, what), *args)
        heap = self.heap
        while heap and self.handled < EVENTS_MAX:
            self.now, _, happen, args = heappop(heap)
            self.handled += 1
            happen(*args)

    def _look(self) -> None:
        self.wrong += invariants(self)
        if self.now < HORIZON and not self.wrong:
            self.at(self.now + 10 * MS, self._look)

    def at(self, time: int, what: Callable[..., None], *args: Any) -> None:
        """Have something happen at a time."""
        self.order += 1
        heappush(self.heap, (time, self.order, what, args))

    def say(self, *words: object) -> None:
        """Write a line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now / MS:10.3f}  " + " ".join(map(str, words)))

    # What happens to nodes

    def start(self, site: Site) -> None:
        """Begin a life of a node from what its journal has."""
        self.lives += 1
        site.life = self.lives
        site.held = None
        site.tick = site.paused = 0
        node = site.node = protocol.Node(
            site.name, KEY, site.life, owns=site is self.home, timing=TIMING
        )
        self.say(site.name, "starts, life", site.life)
        if site.journal is not None and site.journal.rows:
            self._restore(site, node, site.journal)
        if site is self.home:
            for id_, waits in self.waiting.items():
                if waits:
                    self.at(self.now + self.random.randint(0, 5) * MS, self.ask, Attach(id_))

    def _restore(self, site: Site, node: protocol.Node, journal: Journal) -> None:
        life = site.life
        rows = [journal.read(key) for key in journal.rows if key[0] in {CODE, SIGNAL}]
        events: list[Event] = [Program(row) for row in rows if isinstance(row, Code)]
        leased: set[bytes] = set()
        for id_ in sorted(id_ for id_ in journal.ids if id_):
            records, damage = journal.of(id_)
            leased.update(x.resource for x in records if isinstance(x, Leased))
            events.append(Restored(id_, records, damage))
            for x in records:
                if isinstance(x, Held) and x.state == PARKED and x.wake_ns:
                    self.alarm(x.wake_ns, id_)
        names = {row.name for row in rows if isinstance(row, Signal) and not row.taken}
        events += [Pending(name) for name in sorted(names)]
        for resource in [x for x in site.segments if x not in leased]:
            del site.segments[resource]
            self.lost_rows += 1
        for event in events:
            if site.life == life:
                self.deliver(site, event, life)
        assert site.node is node or site.life != life

    def crash(self, site: Site) -> None:
        """End the life of a node, whatever it was doing."""
        r = self.random
        node = site.node
        assert node is not None
        self.crashes += 1
        self.say(site.name, "crashes")
        if site.journal is None:
            self.unsure.update((site.name, *t.key) for t in node.telling.values() if t.record)
        else:
            pending = len(site.journal.pending)
            flip = r.getrandbits(20) if r.random() < 0.3 else -1
            site.journal.crash(r.randint(0, pending), r.getrandbits(9), flip)
        if site.journal is None or not self.plan.survive:
            self.lost_rows += len(site.segments)
            site.segments.clear()
        site.node = None
        site.life = 0
        site.held = None
        if "gone" in self.plan.on and site.name == self.plan.gone:
            self.say(site.name, "is gone for good")
        else:
            self.at(self.now + r.randint(5, 400) * MS, self.start, site)

    def crash_named(self, name: str) -> None:
        """Crash a node between two events."""
        if self.sites[name].node is not None:
            self.crash(self.sites[name])

    def pause(self, name: str, ms: int) -> None:
        """Have a node stand still, and wake as if nothing had been."""
        self.say(name, "stands still for", ms, "ms")
        self.sites[name].paused = self.now + ms * MS

    def part(self, pair: Sequence[str], ms: int) -> None:
        """Cut two nodes off from each other."""
        a, b = pair
        self.say(a, "and", b, "are cut off for", ms, "ms")
        self.cut[a, b] = self.cut[b, a] = self.now + ms * MS

    def jump(self, name: str, by: int) -> None:
        """Have the clock of a node jump."""
        self.say("the clock of", name, "jumps by", by // 1_000_000_000, "s")
        site = self.sites[name]
        site.offset += by
        if site is self.home and site.journal is not None:
            for key in [k for k in site.journal.rows if k[0] == HELD]:
                record = site.journal.read(key)
                if isinstance(record, Held) and record.state == PARKED and record.wake_ns:
                    self.alarm(record.wake_ns, record.id)

    def flip(self) -> None:
        """Turn one bit of one durable row."""
        r = self.random
        sites = [s for s in self.sites.values() if s.journal is not None and s.journal.rows]
        if not sites:
            return
        site = r.choice(sites)
        assert site.journal is not None
        rows = site.journal.rows
        key = list(rows)[r.randrange(len(rows))]
        row = bytearray(rows[key])
        bit = r.randrange(len(row) * 8)
        row[bit // 8] ^= 1 << bit % 8
        rows[key] = bytes(row)
        self.flipped.add((site.name, *key))
        self.say("a bit turns in", site.name, key)

    def scrub(self) -> None:
        """Read every row of home's journal, and say which continuations have damaged ones."""
        home = self.home
        if home.node is None:
            self.at(self.now + 100 * MS, self.scrub)
            return
        assert home.journal is not None
        for id_ in sorted(home.journal.ids):
            if id_ and home.journal.of(id_)[1]:
                self.deliver(home, Woken(id_))

    # What comes from outside

    def ask(self, event: Event) -> None:
        """Say something to home; while it is down nothing is said, and callers attach later."""
        if self.home.node is not None:
            self.at(max(self.now, self.home.paused), self.deliver, self.home, event, self.home.life)

    def submit(self, id_: bytes) -> None:
        """Have a caller ask for a continuation, and wait."""
        self.waiting[id_] = True
        self.ask(Submit(self.jobs[id_].message, self.jobs[id_].code))

    def signal(self, number: bytes) -> None:
        """Have an event arrive; it is sent until it is on record, with the same number."""
        home, key = self.home, (SIGNAL, b"", model.EVENT, number)
        assert home.journal is not None
        if key in home.journal.rows:
            if home.journal.read(key) is None and self.now > HORIZON:
                self.signal(number + b"'")
            return
        if home.node is not None:
            self.ask(Signalled(model.EVENT, number, model.PAYLOAD))
        self.at(self.now + 300 * MS, self.signal, number)

    def cancel(self, id_: bytes) -> None:
        """Have a person cancel a continuation."""
        self.cancelled.add(id_)
        self.ask(Cancel(id_, model.CANCELLED))

    def resume(self, id_: bytes) -> None:
        """Have a person drive a continuation anew."""
        self.ask(Resume(id_))

    def upgrade(self, id_: bytes, version: int) -> None:
        """Have a parked continuation go on with another program."""
        home = self.home
        if home.node is None or home.journal is None or (HELD, id_) not in home.journal.rows:
            return
        record = home.journal.read((HELD, id_))
        if isinstance(record, Held) and record.state == PARKED and record.position:
            code = code_of(self.jobs[id_].ops, version)
            home.journal.put(code)
            self.upgraded.add(id_)
            self.ask(Program(code))
            m = message.thaw(record.message, KEY)
            event = Migrate(id_, m.epoch, m.hop, code.digest, m.position, m.frame)
            self.at(self.now + self.random.randint(0, 200) * MS, self.ask, event)

    def alarm(self, wake_ns: int, id_: bytes) -> None:
        """Have a parked one woken when home's clock says so."""
        time = max(self.now, wake_ns - START - self.home.offset)
        self.at(time, self.wake, wake_ns, id_)

    def wake(self, wake_ns: int, id_: bytes) -> None:
        """Wake a parked one, if home's clock has come so far."""
        if self.home.node is not None and self.now + START + self.home.offset >= wake_ns:
            self.ask(Woken(id_))

    # Handing events to nodes

    def deliver(self, site: Site, event: Event, life: int = 0) -> None:
        """Hand an event to a node; `life`: only to that life of it."""
        node = site.node
        if node is None or (life and life != site.life):
            return
        if site.paused > self.now:
            self.at(site.paused, self.deliver, site, event, life)
            return
        if self.trace is not None:
            self.say(site.name, "<-", shown(event, KEY))
        commands = self._handled(site, node, event)
        if commands:
            carry.out(self, site, commands)
        if site.node is node:
            due = node.next_ns
            if due and (not site.tick or due < site.tick):
                site.tick = due
                self.at(max(self.now, due), self.tick, site, site.life)

    def _handled(self, site: Site, node: protocol.Node, event: Event) -> list[Command]:
        wall = START + self.now + site.offset
        before = None
        if self.watch is not None and isinstance(event, Received):
            before = self.watch.known(site, event)
        try:
            commands = node.handle(event, self.now, wall, self.random.getrandbits(10))
        except CorruptError as problem:
            if not self.noise:
                self.wrong.append(f"{site.name} refused a message that is right: {problem}")
            return []
        if self.watch is not None:
            self.watch.handled(site, event, before, commands)
        return commands

    def tick(self, site: Site, life: int) -> None:
        """Say that time passed."""
        node = site.node
        if node is None or life != site.life:
            return
        site.tick = 0
        due = node.next_ns
        if due and due > self.now:
            site.tick = due
            self.at(due, self.tick, site, life)
        elif due:
            self.deliver(site, Tick(), life)
