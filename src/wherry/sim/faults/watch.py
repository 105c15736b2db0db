"""Rules of the protocol that show at once, at what a node is told and says.

Much that is wrong heals: what is sent twice is dropped, what is lost is driven anew, what is kept
ends by time. These rules see it happen. They are looked at in every fourth schedule.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry.base.errors import CorruptError
from wherry.run import control, message
from wherry.run.control import Alive, Fenced, Forget, Forgotten, Need, Noted, Passed, Renew, Taken
from wherry.run.delivery import (
    Command,
    Event,
    Execute,
    Executed,
    Perform,
    Persist,
    Place,
    Received,
    Release,
    Report,
    Send,
    Tick,
)
from wherry.run.message import FRESH, Message
from wherry.run.node import HOLDER, Entry
from wherry.run.records import AWAY, ENDED, PARKED, PASSED, RUNNING, Held, Receipted
from wherry.run.records import Forgotten as ForgottenRecord
from wherry.sim.faults.journal import ANSWERED, CODE, HELD, LEASED, Journal
from wherry.sim.faults.plan import CALM

if TYPE_CHECKING:
    from wherry.sim.faults.world import Site, World


class Known(NamedTuple):
    """What a node knew of a continuation before it was told of it."""

    epoch: int
    state: int
    where: str
    told: bool


class Watch:
    """What was seen so far of a schedule that is watched."""

    def __init__(self, world: World, key: bytes) -> None:
        self.world = world
        self.key = key
        self.calm = world.plan.on <= CALM
        self.sent: dict[tuple[bytes, int, int], str] = {}
        self.once: set[bytes] = set()
        self.begun: dict[tuple[str, int, bytes], set[tuple[int, int]]] = {}

    def known(self, site: Site, event: Received) -> Known | None:
        """Give what a node knows of what it is told of."""
        entry = None
        if site.node is not None:
            entry = site.node.entries.get(getattr(self._read(event.data), "id", b""))
        return None if entry is None else Known(entry.epoch, entry.state, entry.where, entry.told)

    def handled(
        self, site: Site, event: Event, before: Known | None, commands: list[Command]
    ) -> None:
        """Look at what a node answers to an event; `before` is what it knew of the id."""
        if isinstance(event, Received):
            said = self._read(event.data)
            answers = [
                self._read(c.data)
                for c in commands
                if isinstance(c, Send) and (isinstance(said, Message) or c.target == event.sender)
            ]
            self._say(site, _answered(site, said, before, answers))
            self._say(site, _after(site, said, before))
            if isinstance(said, Message) and said.flags & FRESH:
                self._say(
                    site,
                    _fresh(
                        said,
                        commands,
                        [self._read(c.data) for c in commands if isinstance(c, Send)],
                    ),
                )
        elif isinstance(event, Executed) and event.outcome.receipt:
            kept = [r for c in commands if isinstance(c, Persist) for r in c.records]
            if not any(
                isinstance(r, Receipted) and r.receipt == event.outcome.receipt for r in kept
            ):
                self.world.wrong.append(f"{site.name} does not count what a step used")
        elif (
            isinstance(event, Tick) and self.calm and any(isinstance(c, Release) for c in commands)
        ):
            self.world.wrong.append(f"a lease ended by time at {site.name}, and nothing was wrong")

    def said(self, site: Site, command: Command) -> None:
        """Look at a command when it is carried out."""
        if isinstance(command, Send):
            self._sent(site, command)
        elif isinstance(command, Execute):
            self._begins(site, command.message)
        elif isinstance(command, Perform):
            m = command.message
            self._say(site, _on_record(site, m.id, m.epoch, m.hop, "performs"))
        elif isinstance(command, Report):
            rows = site.journal.rows if site.journal is not None else {}
            if b"not known" not in command.value and (ANSWERED, command.id) not in rows:
                self.world.wrong.append("an answer is told that is not on record")
        elif isinstance(command, Persist):
            for r in command.records:
                if isinstance(r, ForgottenRecord):
                    self.begun.pop((site.name, site.life, r.id), None)
        elif isinstance(command, Place) and self.calm:
            self.world.wrong.append("a hop is driven anew, and nothing was wrong")

    def _begins(self, site: Site, m: Message) -> None:
        begun = self.begun.setdefault((site.name, site.life, m.id), set())
        if any(epoch > m.epoch or (epoch, hop) == (m.epoch, m.hop) for epoch, hop in begun):
            self.world.wrong.append(f"{site.name} begins hop {m.hop} of epoch {m.epoch} again")
        begun.add((m.epoch, m.hop))
        self._say(site, _on_record(site, m.id, m.epoch, m.hop, "begins"))

    def _sent(self, site: Site, command: Send) -> None:
        said = self._read(command.data)
        if isinstance(said, Message):
            key = (said.id, said.epoch, said.hop)
            if self.sent.setdefault(key, command.target) != command.target:
                self.world.wrong.append(
                    f"hop {said.hop} of epoch {said.epoch} is sent to two nodes"
                )
        if self.calm and isinstance(said, Message | Passed):
            if command.data in self.once:
                self.world.wrong.append(f"{site.name} sends twice, and nothing was lost")
            self.once.add(command.data)
        if isinstance(said, Taken):
            self._say(site, _on_record(site, said.id, said.epoch, said.hop, "acknowledges"))
        elif isinstance(said, Passed) and site.node is not None and not self.world.slow:
            entry = site.node.entries.get(said.id)
            if entry is not None and (entry.epoch, entry.hop) == (said.epoch, said.hop + 1):
                self._say(site, _on_record(site, said.id, said.epoch, said.hop + 1, "tells of"))
            self._say(site, _leases_on_record(site))

    def _read(self, data: bytes) -> Any:
        try:
            if data[:4] == control.MAGIC:
                return control.thaw(data, self.key)
            return message.thaw(data, self.key)
        except CorruptError:
            return None

    def _say(self, site: Site, wrong: Iterator[str]) -> None:
        self.world.wrong += [f"{site.name} {what}" for what in wrong]


def invariants(world: World) -> Iterator[str]:
    """Give what does not hold at home between two events."""
    home = world.home
    if home.node is None or home.journal is None:
        return
    for entry in home.node.entries.values():
        yield from _timers(entry)
        if home.held is None:
            yield from _holders(entry, home.journal)
    for key in home.journal.rows:
        if key[0] == HELD:
            held = home.journal.read(key)
            if isinstance(held, Held) and held.state == PARKED and not (held.wake_ns or held.event):
                yield f"{held.id[:1].hex()} is parked and nothing wakes it"


def _timers(entry: Entry) -> Iterator[str]:
    name = f"{entry.id[:1].hex()} at hop {entry.hop}"
    if entry.state in {AWAY, PASSED} and not (entry.lease and entry.due):
        yield f"{name} is elsewhere and has no lease"
    if entry.state == PARKED:
        yield f"{name} is parked and in memory"
    if entry.state == ENDED and (entry.lease or entry.deadline or entry.renew):
        yield f"{name} has ended and has a timer"
    if entry.state != ENDED and entry.message.deadline_ns and not entry.deadline:
        yield f"{name} has a deadline and no timer for it"
    if entry.state != ENDED and entry.holders and not entry.renew:
        yield f"{name} has rows elsewhere and does not renew their leases"


def _holders(entry: Entry, journal: Journal) -> Iterator[str]:
    for holder in entry.holders:
        if (LEASED, entry.id, HOLDER + holder.encode()) not in journal.rows:
            yield f"{entry.id[:1].hex()} has rows at {holder}, and that is not on record"


def _answered(site: Site, said: Any, before: Known | None, answers: list[Any]) -> Iterator[str]:
    """Whether a node says what it must to one that said something to it."""
    kinds = {type(answer) for answer in answers}
    loading = site.node is not None and getattr(said, "id", b"") in site.node.loading
    if isinstance(said, Message) and not kinds & {Taken, Fenced, Need}:
        yield "neither takes nor refuses a message"
    elif isinstance(said, Passed) and Noted not in kinds and not loading:
        yield "does not acknowledge a hop"
    elif isinstance(said, Forget) and Forgotten not in kinds:
        yield "does not say that it has forgotten"
    if isinstance(said, Passed | Alive) and before is not None and not loading:
        if before.state != ENDED and said.epoch < before.epoch and Fenced not in kinds:
            yield "does not say that an epoch is over"
        if before.state == ENDED and Forget not in kinds:
            yield "does not say that all is over"


def _fresh(said: Message, commands: list[Command], sent: list[Any]) -> Iterator[str]:
    """Whether a hop whose rows were lost is carried out, and not answered from the record."""
    executes = any(isinstance(command, Execute) for command in commands)
    onward = any(isinstance(m, Message | Passed) and m.id == said.id for m in sent)
    if onward and not executes:
        yield "answers a hop whose rows were lost from its record"


def _after(site: Site, said: Any, before: Known | None) -> Iterator[str]:
    """Whether a node did what it was told."""
    node = site.node
    if node is None:
        return
    entry = node.entries.get(getattr(said, "id", b""))
    if isinstance(said, Fenced) and entry is not None and entry.epoch < said.epoch:
        yield "goes on with an epoch that is over"
    elif isinstance(said, Renew):
        for keeping in node.keeping.get(said.id, {}).values():
            if keeping.due < node.now + said.keep_ns:
                yield "does not renew a lease"
    elif before is None or entry is not None or node.owns:
        return
    elif (
        isinstance(said, Taken)
        and not before.told
        and any(key[:3] == (said.id, said.epoch, said.hop - 1) for key in node.telling)
    ):
        yield "drops a state that home does not have"
    elif isinstance(said, Noted) and before.state == AWAY and before.where != "home":
        yield "drops a state that the next node does not have"


def _on_record(site: Site, id_: bytes, epoch: int, hop: int, what: str) -> Iterator[str]:
    """Whether a state is durable where something is done because of it."""
    if site.journal is None:
        return
    row = (HELD, id_)
    if row not in site.journal.rows:
        yield f"{what} hop {hop} of epoch {epoch}, which is not on record"
        return
    held = site.journal.read(row)
    if not isinstance(held, Held):
        return
    if (held.epoch, held.hop) < (epoch, hop):
        yield f"{what} hop {hop} of epoch {epoch}; on record is hop {held.hop} of {held.epoch}"
    if held.state == RUNNING and (CODE, b"", held.program) not in site.journal.rows:
        yield f"{what} hop {hop}, whose program is not on record"


def _leases_on_record(site: Site) -> Iterator[str]:
    if site.journal is None or site.node is None:
        return
    for id_, here in site.node.keeping.items():
        for resource, keeping in here.items():
            if not keeping.due:
                yield "keeps rows without an end"
            if (LEASED, id_, resource) not in site.journal.rows:
                yield "keeps rows, and that is not on record"
