"""One schedule of faults: nodes, their journals and clocks, the network, callers, and chance.

Everything that happens follows from the seed. The nodes are those of `wherry.run.protocol`, and every
message is bytes. Faults stop at `HORIZON`; after that all must come to rest.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, Final

from wherry.base.ids import digest
from wherry.run import protocol
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
    Signalled,
    Stop,
    Submit,
    Tick,
    Woken,
    own_error,
)
from wherry.run.message import RUN, VALUE, Message
from wherry.run.node import Timing
from wherry.run.records import PARKED, Code, Held, Leased, Receipted, Record, Signal
from wherry.sim.faults import model
from wherry.sim.faults.journal import CODE, HELD, SIGNAL, Journal

MS: Final = 1_000_000
HOUR: Final = 3600 * 1000 * MS
HORIZON: Final = 1500 * MS
"""No fault begins after this."""
EPOCH: Final = 1_700_000_000_000 * MS
KEY: Final = b"schedules of faults".ljust(32, b".")
LEASE_MS: Final = 200
TIMING: Final = Timing(
    retry_ns=30 * MS, doublings=4, tries=6, leases_kept=4, parked_keep_ns=60_000 * MS
)
EVENTS_MAX: Final = 20_000
NAMES: Final = ("home", "nic", "csd", "gpu")
FAULTS: Final = (
    "loss", "copies", "delay", "partition", "crash", "pause", "skew", "jump", "slow", "flip", "ask",
    "second",
)  # fmt: skip


class Site:
    """A node with what is around it: journal, rows kept, clock, and commands that wait."""

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
        self.counted: dict[tuple[Any, ...], bytes] = {}
        """Receipts of a node without a journal, which counts in memory."""


class World:
    """A schedule: `run` carries it out; `oracle.check` says what it did wrong."""

    def __init__(self, seed: int, trace: list[str] | None = None) -> None:
        r = self.random = Random(seed)
        self.seed = seed
        self.trace = trace
        self.now = 0
        self.order = 0
        self.handled = 0
        self.heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        on = r.getrandbits(len(FAULTS)) & r.getrandbits(len(FAULTS)) | 1 << r.randrange(len(FAULTS))
        self.on = {name for bit, name in enumerate(FAULTS) if on >> bit & 1}
        self.loss = 0.15 if "loss" in self.on else 0.0
        self.copies = 0.15 if "copies" in self.on else 0.0
        self.spread = 120 * MS if "delay" in self.on else 4 * MS
        self.crash_rate = 0.03 if "crash" in self.on else 0.0
        self.slow = 0.5 if "slow" in self.on else 0.0
        self.cut: dict[tuple[str, str], int] = {}
        durable = r.getrandbits(3)
        self.sites = {
            name: Site(
                name, Journal(owner=name == "home") if not n or durable >> n - 1 & 1 else None
            )
            for n, name in enumerate(NAMES)
        }
        self.survive = r.random() < 0.5
        """Whether rows that a node with a journal keeps outlive it."""
        self.waiting: dict[bytes, bool] = {}
        self.reports: dict[bytes, list[tuple[bool, bytes]]] = {}
        self.programs: dict[bytes, str] = {}
        self.messages: dict[bytes, tuple[Message, Code]] = {}
        self.effects: dict[tuple[bytes, int], int] = {}
        self.keys: dict[tuple[bytes, int], set[bytes]] = {}
        self.flipped: set[tuple[Any, ...]] = set()
        self.unsure: set[tuple[Any, ...]] = set()
        """Receipts that died with a node that counts in memory."""
        self.crashes = 0
        self.lost_rows = 0
        self.cancelled: set[bytes] = set()
        self.used = 0
        self.lives = 0

    def at(self, time: int, what: Callable[..., None], *args: Any) -> None:
        """Have something happen at a time."""
        self.order += 1
        heappush(self.heap, (time, self.order, what, args))

    def say(self, *words: object) -> None:
        """Write a line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now / MS:10.3f}  " + " ".join(map(str, words)))

    def run(self) -> None:
        """Carry the schedule out until all is at rest."""
        for site in self.sites.values():
            self.start(site)
        self._plan()
        heap = self.heap
        while heap and self.handled < EVENTS_MAX:
            self.now, _, what, args = heappop(heap)
            self.handled += 1
            what(*args)

    def _plan(self) -> None:
        r = self.random
        for number in range(2 if "second" in self.on else 1):
            ops = "".join(
                r.choice("gqueislwgqu" if n % 2 else "gqueisltgq") for n in range(r.randint(2, 5))
            )
            ops = _sound(ops)
            id_ = bytes((number + 1, *r.randbytes(15)))
            body = ops.encode()
            code = Code(digest(body), "program", body)
            deadline = (
                EPOCH + r.randint(50, 900) * MS if "ask" in self.on and r.random() < 0.3 else 0
            )
            message = Message(
                id_, RUN, 1, 0, code.digest, 0, "home", "t", model.entry(), lease_ms=LEASE_MS,
                deadline_ns=deadline,
            )  # fmt: skip
            self.programs[id_] = ops
            self.messages[id_] = (message, code)
            self.at(r.randint(0, 100) * MS * number, self.submit, id_)
            for op, letter in enumerate(ops):
                if letter == "w":
                    for time in (r.randint(0, 400) * MS, HORIZON + 150 * MS):
                        self.at(time, self.signal, model.event_name(id_, op))
            if "ask" in self.on:
                if r.random() < 0.3:
                    self.at(r.randint(1, 800) * MS, self.ask, Cancel(id_, b"cancelled"))
                if r.random() < 0.3:
                    self.at(r.randint(1, 800) * MS, self.ask, Resume(id_))
        if "partition" in self.on:
            for _ in range(r.randint(1, 3)):
                a, b = r.sample(NAMES, 2)
                self.at(r.randint(0, 600) * MS, self.part, a, b, r.randint(20, 800) * MS)
        if "pause" in self.on:
            for _ in range(r.randint(1, 2)):
                name = r.choice(NAMES)
                self.at(r.randint(0, 400) * MS, self.pause, name, r.randint(100, 900) * MS)
        if "crash" in self.on and r.random() < 0.5:
            self.at(r.randint(0, 600) * MS, self.crash_named, r.choice(NAMES))
        if "jump" in self.on:
            for _ in range(r.randint(1, 3)):
                self.at(r.randint(0, 800) * MS, self.jump, r.choice(NAMES), r.randint(-HOUR, HOUR))
        if "skew" in self.on:
            for site in self.sites.values():
                site.offset = r.randint(-HOUR, HOUR)
        if "flip" in self.on:
            self.at(HORIZON + 100 * MS, self.scrub)
            for _ in range(r.randint(1, 3)):
                self.at(r.randint(0, 600) * MS, self.flip)

    # What happens to nodes ----------------------------------------------------------------------

    def start(self, site: Site) -> None:
        """Begin a life of a node from what its journal has."""
        self.lives += 1
        site.life = self.lives
        site.held = None
        site.tick = 0
        site.paused = 0
        node = site.node = protocol.Node(
            site.name, KEY, site.life, owns=site.name == "home", timing=TIMING
        )
        self.say(site.name, "starts, life", site.life)
        if site.journal is not None and site.journal.rows:
            self._restore(site, node, site.journal)
        if site.name == "home":
            for id_, waiting in self.waiting.items():
                if waiting:
                    self.at(self.now + self.random.randint(0, 5) * MS, self.ask, Attach(id_))

    def _restore(self, site: Site, node: protocol.Node, journal: Journal) -> None:
        life = site.life
        names: set[str] = set()
        for key in tuple(journal.rows):
            if key[0] == CODE and isinstance(code := journal.read(key), Code):
                node.programs[code.digest] = code.body
            elif key[0] == SIGNAL and isinstance(s := journal.read(key), Signal) and not s.taken:
                names.add(s.name)
        leased: set[bytes] = set()
        restored: list[Event] = []
        for id_ in sorted(journal.ids):
            if id_:
                records, damage = journal.of(id_)
                leased.update(x.resource for x in records if isinstance(x, Leased))
                restored.append(Restored(id_, records, damage))
                for x in records:
                    if isinstance(x, Held) and x.state == PARKED and x.wake_ns:
                        self.alarm(x.wake_ns, id_)
        for resource in [x for x in site.segments if x not in leased]:
            del site.segments[resource]
            self.lost_rows += 1
        restored += [Pending(name) for name in sorted(names)]
        for event in restored:
            if site.life == life:
                self.deliver(site, event)

    def crash(self, site: Site) -> None:
        """End the life of a node, whatever it was doing."""
        r = self.random
        self.crashes += 1
        self.say(site.name, "crashes")
        node = site.node
        assert node is not None
        if site.journal is None:
            self.unsure.update((site.name, *t.key) for t in node.telling.values() if t.record)
            self.lost_rows += len(site.segments)
            site.segments.clear()
        else:
            pending = len(site.journal.pending)
            flip = r.getrandbits(20) if r.random() < 0.3 else -1
            site.journal.crash(r.randint(0, pending), r.getrandbits(9), flip)
            if not self.survive:
                self.lost_rows += len(site.segments)
                site.segments.clear()
        site.node = None
        site.life = 0
        site.held = None
        self.at(self.now + r.randint(5, 400) * MS, self.start, site)

    def crash_named(self, name: str) -> None:
        """Crash a node between two commands."""
        if self.sites[name].node is not None:
            self.crash(self.sites[name])

    def pause(self, name: str, length: int) -> None:
        """Have a node stand still, and wake as if nothing had been."""
        self.say(name, "stands still for", length // MS, "ms")
        self.sites[name].paused = self.now + length

    def part(self, a: str, b: str, length: int) -> None:
        """Cut two nodes off from each other."""
        self.say(a, "and", b, "are cut off for", length // MS, "ms")
        self.cut[a, b] = self.cut[b, a] = self.now + length

    def jump(self, name: str, by: int) -> None:
        """Have the clock of a node jump."""
        self.say("the clock of", name, "jumps by", by // 1_000_000_000, "s")
        self.sites[name].offset += by
        if name == "home":
            self.alarms_anew()

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
        self.say("a bit flips in", site.name, key)

    # What comes from outside --------------------------------------------------------------------

    def submit(self, id_: bytes) -> None:
        """Have the caller ask, and wait."""
        self.waiting[id_] = True
        self.reports.setdefault(id_, [])
        message, code = self.messages[id_]
        self.ask(Submit(message, code))

    def ask(self, event: Event) -> None:
        """Say something to home; while it is down, nothing is said (callers attach later)."""
        home = self.sites["home"]
        if home.node is not None:
            if isinstance(event, Cancel):
                self.cancelled.add(event.id)
            self.at(max(self.now, home.paused), self.deliver, home, event, home.life)

    def signal(self, name: str) -> None:
        """Have an event arrive, with the same number each time it is sent."""
        if self.sites["home"].node is None:
            self.at(self.now + 100 * MS, self.signal, name)
        else:
            damaged = any(f[:2] == ("home", SIGNAL) for f in self.flipped)
            number = b"2" if damaged and self.now > HORIZON else b"1"
            self.ask(Signalled(name, number, model.event_payload(name)))

    def alarm(self, wake_ns: int, id_: bytes) -> None:
        """Have a parked one woken when home's clock says so."""
        home = self.sites["home"]
        self.at(max(self.now, wake_ns - EPOCH - home.offset), self.wake, wake_ns, id_)

    def scrub(self) -> None:
        """Read every row of home's journal, and say which continuations have damaged ones."""
        home = self.sites["home"]
        if home.node is None:
            self.at(self.now + 100 * MS, self.scrub)
            return
        assert home.journal is not None
        for id_ in sorted(home.journal.ids):
            if id_ and home.journal.of(id_)[1]:
                self.deliver(home, Woken(id_))

    def alarms_anew(self) -> None:
        """Look again which parked ones are due: the clock jumped."""
        journal = self.sites["home"].journal
        assert journal is not None
        for key in [k for k in journal.rows if k[0] == HELD]:
            record = journal.read(key)
            if isinstance(record, Held) and record.state == PARKED and record.wake_ns:
                self.alarm(record.wake_ns, record.id)

    def wake(self, wake_ns: int, id_: bytes) -> None:
        """Wake a parked one, if home's clock has come so far."""
        home = self.sites["home"]
        if home.node is not None and self.now + EPOCH + home.offset >= wake_ns:
            self.at(max(self.now, home.paused), self.deliver, home, Woken(id_), home.life)

    # Carrying out -------------------------------------------------------------------------------

    def deliver(self, site: Site, event: Event, life: int = 0) -> None:
        """Hand an event to a node; `life`: only to that life of it."""
        node = site.node
        if node is None or (life and life != site.life):
            return
        if site.paused > self.now:
            self.at(site.paused, self.deliver, site, event, life)
            return
        if self.trace is not None:
            self.say(site.name, "<-", _shown(event))
        wall = EPOCH + self.now + site.offset
        commands = node.handle(event, self.now, wall, self.random.getrandbits(10))
        if commands:
            self.carry(site, commands)
        if site.node is node:
            due = node.next_ns
            if due and (not site.tick or due < site.tick):
                site.tick = due
                self.at(max(due, self.now), self.tick, site, site.life)

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

    def carry(self, site: Site, commands: list[Command]) -> None:
        """Carry commands out in order; one that waits for a batch holds up the rest."""
        life = site.life
        for command in commands:
            if site.held is not None:
                site.held.append(command)
                continue
            if self.crash_rate and self.now < HORIZON and self.random.random() < self.crash_rate:
                self.crash(site)
            if site.life != life:
                return
            if self.trace is not None:
                self.say(site.name, "->", _shown(command))
            _CARRY[type(command)](self, site, command)

    def _persist(self, site: Site, command: Persist) -> None:
        journal = site.journal
        if journal is None:
            for x in command.records:
                if type(x) is Receipted and not x.told:
                    key = (site.name, x.id, x.epoch, x.hop, x.run)
                    site.counted[key] = x.receipt
            return
        journal.pending.append(command.records)
        if self.slow and self.now < HORIZON and self.random.random() < self.slow:
            site.held = []
            self.at(self.now + self.random.randint(1, 30) * MS, self._synced, site, site.life)
        else:
            self._sync(site, journal)

    def _sync(self, site: Site, journal: Journal) -> None:
        alarms = [
            x for batch in journal.pending for x in batch
            if type(x) is Held and x.state == PARKED and x.wake_ns
        ]  # fmt: skip
        journal.sync()
        for x in alarms:
            self.alarm(x.wake_ns, x.id)

    def _synced(self, site: Site, life: int) -> None:
        if site.life != life or site.held is None or site.journal is None:
            return
        if site.paused > self.now:
            self.at(site.paused, self._synced, site, life)
            return
        self._sync(site, site.journal)
        held, site.held = site.held, None
        self.carry(site, held)

    def _send(self, site: Site, command: Send) -> None:
        r = self.random
        target = self.sites[command.target]
        faulty = self.now < HORIZON
        if faulty and self.cut.get((site.name, target.name), 0) > self.now:
            return
        copies = 1
        if faulty:
            if self.loss and r.random() < self.loss:
                return
            if self.copies and r.random() < self.copies:
                copies = 2
        event = Received(site.name, command.data)
        for _ in range(copies):
            self.at(self.now + int(r.random() * self.spread) + 1, self.deliver, target, event)

    def _execute(self, site: Site, command: Execute) -> None:
        r = self.random
        long = r.random() < 0.05
        time = self.now + (r.randint(100, 700) * MS if long else int(r.random() * 5 * MS))
        self.at(time, self._executed, site, site.life, command.message)

    def _executed(self, site: Site, life: int, m: Message) -> None:
        if site.life != life or site.node is None:
            return
        if site.paused > self.now:
            self.at(site.paused, self._executed, site, life, m)
            return
        self.used += 1
        ops = site.node.programs[m.program].decode()
        used = self.used.to_bytes(4, "little") if m.position else b""
        outcome = model.step(ops, m, site.name, NAMES, site.segments, used)
        self.deliver(site, Executed(m, outcome), life)

    def _perform(self, site: Site, command: Perform) -> None:
        self.at(
            self.now + int(self.random.random() * 5 * MS), self._performed, site, site.life, command
        )

    def _performed(self, site: Site, life: int, command: Perform) -> None:
        if site.life != life:
            return
        m = command.message
        op, total = m.operand[0], int.from_bytes(m.operand[1:], "little")
        self.say("effect", op, "of", m.id[:1].hex(), "takes place")
        self.effects[m.id, op] = self.effects.get((m.id, op), 0) + 1
        self.keys.setdefault((m.id, op), set()).add(command.key)
        if self.crash_rate and self.now < HORIZON and self.random.random() < 0.1:
            self.crash(site)
            return
        event = Performed(m, VALUE, model.effect_result(total))
        self.at(
            max(self.now, site.paused) + int(self.random.random() * 5 * MS),
            self.deliver,
            site,
            event,
            life,
        )

    def _place(self, site: Site, command: Place) -> None:
        m = command.message
        ops = self.programs[m.id]
        target = model.placed(ops, m, NAMES, command.avoid)
        self.at(self.now + 1, self.deliver, site, Placed(m, target), site.life)

    def _load(self, site: Site, command: Load) -> None:
        assert site.journal is not None
        records, damage = site.journal.of(command.id)
        event = Loaded(command.id, records, damage)
        self.at(self.now + int(self.random.random() * 2 * MS), self.deliver, site, event, site.life)

    def _match(self, site: Site, command: Match) -> None:
        journal, name = site.journal, command.name
        assert journal is not None
        signals: list[Record] = []
        parked: list[Held] = []
        for key in tuple(journal.rows):
            if key[0] == SIGNAL and key[2] == name:
                record = journal.read(key)
                if isinstance(record, Signal) and not record.taken:
                    signals.append(record)
            elif key[0] == HELD:
                record = journal.read(key)
                if isinstance(record, Held) and record.state == PARKED and record.event == name:
                    parked.append(record)
        event = Matched(name)
        if signals and parked:
            signal = signals[0]
            assert isinstance(signal, Signal)
            event = Matched(name, parked[0].id, signal)
        self.at(self.now + int(self.random.random() * 2 * MS), self.deliver, site, event, site.life)

    def _report(self, site: Site, command: Report) -> None:
        id_ = command.id
        if not self.waiting.get(id_):
            self.say("nobody waits for", id_[:1].hex())
            return
        if command.failed and command.value.startswith(own_error("not known", "")[:11]):
            self.say("the caller asks again")
            self.ask(Submit(*self.messages[id_]))
            return
        self.waiting[id_] = False
        self.reports[id_].append((command.failed, command.value))

    def _release(self, site: Site, command: Release) -> None:
        if site.segments.pop(command.resource, None) is not None:
            self.lost_rows += self.waiting[command.id]

    def _stop(self, site: Site, command: Stop) -> None:
        """Let the step go on: what it comes to arrives when nobody asks for it."""


_CARRY: Final[dict[type, Callable[[World, Site, Any], None]]] = {
    Persist: World._persist,
    Send: World._send,
    Execute: World._execute,
    Perform: World._perform,
    Place: World._place,
    Load: World._load,
    Match: World._match,
    Report: World._report,
    Release: World._release,
    Stop: World._stop,
}


def _sound(ops: str) -> str:
    """Have rows made before they are read, and read before others are made."""
    sound, rows = "", False
    for letter in ops:
        if letter == "u" and not rows:
            letter = "g"
        elif letter == "q" and rows:
            letter = "u"
        rows = letter == "q" or (rows and letter != "u")
        sound += letter
    return sound + "u" if rows else sound


def _shown(thing: Event | Command) -> str:
    return str(thing)[:300]
