"""The protocol by which continuations are carried from node to node: one page of rules.

    Carry    A sealed message (id, epoch, hop, state) goes to the node where its next step runs.
    Fence    A node that knows a newer epoch of the id refuses it, and says so.
    Dedupe   A hop that is on record is not carried out again: it is acknowledged again. Under a
             newer epoch its outcome is sent again, if the state is the same and what it made is
             still there.
    Record   A message is on record before it is acknowledged, an outcome before it is sent on.
    Tell     Each hop tells home what it came to and used, until home has that on record.
    Own      Home has the newest state, and drives it anew under the next epoch when a lease passes
             without a sign of life. Parks, effects and the answer are home's alone.
    End      The answer is on record before it is told. Nodes are asked to forget; leases end by
             time.

`Node.handle` takes an event and gives commands (`delivery.py`), and does nothing else: it has no
clock, thread, randomness or I/O. Bytes from outside that are not well formed change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop
from typing import Any, Final

from wherry.run import control, home, owned, visit
from wherry.run.control import (
    Alive,
    Fenced,
    Forget,
    Forgotten,
    Need,
    Noted,
    Passed,
    Renew,
    Ship,
    Taken,
)
from wherry.run.delivery import (
    Attach,
    Cancel,
    Command,
    Event,
    Executed,
    Loaded,
    Matched,
    Migrate,
    Pending,
    Performed,
    Placed,
    Program,
    Received,
    Restored,
    Resume,
    Signalled,
    Submit,
    Tick,
    Woken,
)
from wherry.run.message import PERFORM, Message, thaw
from wherry.run.node import Entry, Keeping, State, Telling, load, match, persist, say
from wherry.run.records import AWAY, ENDED, PARKED, PASSED, RUNNING, Held, Signal
from wherry.run.records import Forgotten as ForgottenRecord


class Node(State):
    """The protocol machine of one node."""

    def handle(self, event: Event, now: int, wall: int, jitter: int = 0) -> list[Command]:
        """Take an event; give what is to be done, in order.

        Parameters
        ----------
        event : Event
            What happened.
        now : int
            Steady nanoseconds, which never go back.
        wall : int
            Unix nanoseconds of this node's clock, which may jump.
        jitter : int
            0 to 1023, by chance: spreads what is sent again.

        Raises
        ------
        CorruptError
            If bytes that were received are not well formed; nothing has changed then.
        """
        self.now, self.wall, self.jitter = now, wall, jitter
        self.out = []
        _RULES[type(event)](self, event)
        self._fire()
        return self.out

    @property
    def next_ns(self) -> int:
        """When this node wants a `Tick`, steady nanoseconds; 0: not."""
        heap = self.heap
        while heap and heap[0][2].due != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else 0

    def _fire(self) -> None:
        while self.heap and self.heap[0][0] <= self.now:
            due, _, timed = heappop(self.heap)
            if timed.due != due:
                continue
            timed.due = 0
            if isinstance(timed, Entry):
                if timed.message.home == self.name:
                    home.entry_due(self, timed)
                else:
                    visit.entry_due(self, timed)
            elif isinstance(timed, Telling):
                visit.telling_due(self, timed)
            elif isinstance(timed, Keeping):
                visit.keeping_due(self, timed)
            else:
                del self.lacking[timed.digest]

    def _performed(self, event: Performed) -> None:
        entry = self._current(event.message)
        if entry is not None and entry.state == RUNNING and entry.message.kind == PERFORM:
            home.performed(self, entry, event.given, event.value)

    def _placed(self, event: Placed) -> None:
        entry = self._current(event.message)
        if entry is not None and entry.state == AWAY and not entry.where:
            home.placed(self, entry, event.target)

    def _submitted(self, event: Submit) -> None:
        if event.message.id not in self.entries:
            home.submitted(self, event.message, event.code, event.setting)

    def _signalled(self, event: Signalled) -> None:
        persist(self, Signal(event.name, event.number, event.payload, at_ns=self.wall))
        match(self, event.name)

    def _pending(self, event: Pending) -> None:
        match(self, event.name)

    def _program(self, event: Program) -> None:
        self.programs[event.code.digest] = event.code.body

    def _asked(self, event: Cancel | Resume | Attach | Woken | Migrate) -> None:
        """Do what is asked of one continuation; if it is not in memory, the journal knows it."""
        entry = self.entries.get(event.id)
        if entry is None or entry.state == ENDED:
            if entry is None or isinstance(event, Attach):
                load(self, event.id, event)
        elif isinstance(event, Cancel):
            owned.cut_short(self, entry, event.error)
        elif isinstance(event, Resume) and entry.state in {AWAY, PASSED}:
            owned.redrive(self, entry, entry.message)

    def _executed(self, event: Executed) -> None:
        m = event.message
        entry = self._current(m)
        role = home if m.home == self.name else visit
        if entry is not None and entry.state == RUNNING:
            role.executed(self, entry, event.outcome)
        else:
            role.late(self, m, event.outcome)

    def _current(self, m: Message) -> Entry | None:
        """Give the entry that is still where this message was."""
        entry = self.entries.get(m.id)
        if entry is None or (entry.epoch, entry.hop) != (m.epoch, m.hop):
            return None
        return entry

    def _received(self, event: Received) -> None:
        data = event.data
        if data[:4] != control.MAGIC:
            m = thaw(data, self.key)
            if m.home != self.name:
                visit.arrived(self, event, m)
            return
        said = control.thaw(data, self.key)
        _SAID[type(said)](self, event, said)

    def _shipped(self, _event: Received, said: Ship) -> None:
        for waited in visit.shipped(self, said):
            self._received(waited)

    def _needed(self, event: Received, said: Need) -> None:
        body = self.programs.get(said.digest)
        if body is not None:
            say(self, event.sender, Ship(said.digest, body))

    def _acknowledged(self, event: Received, said: Taken | Fenced | Forgotten) -> None:
        entry = self.entries.get(said.id)
        if entry is None:
            return
        own = entry.message.home == self.name
        if isinstance(said, Taken):
            (home if own else visit).taken(self, entry, said)
        elif isinstance(said, Fenced):
            (home if own else visit).fenced(self, entry, said)
        elif own:
            home.forgotten(self, event.sender, entry)

    def _reported(self, event: Received, said: Passed | Alive) -> None:
        """Take what a node says to home; if it is of a parked one, the journal knows it."""
        entry = self.entries.get(said.id)
        if entry is None and self.owns:
            load(self, said.id, event)
        elif entry is not None and entry.message.home == self.name:
            home.reported(self, event.sender, said, entry)

    def _restored(self, event: Restored) -> None:
        """Go on where the journal says that this node was."""
        if event.id in self.entries:
            return
        kept = event.records
        visit.leases_restored(self, kept)
        h = next((r for r in kept if isinstance(r, Held)), None)
        damage = event.damage
        if h is not None and h.state not in {ENDED, PARKED} and h.program not in self.programs:
            damage = damage or _no_program(h)
        if damage and self.owns:
            home.damaged(self, event.id, damage, kept)
        elif damage:
            persist(self, ForgottenRecord(event.id))
        elif h is not None and h.state == ENDED:
            home.end_restored(self, event.id, kept)
        elif h is not None and h.state != PARKED:
            m = thaw(h.message, self.key)
            (home if m.home == self.name else visit).restored(self, h, m, kept)
        visit.receipts_restored(self, kept)

    def _loaded(self, event: Loaded) -> None:
        """Handle the first event that waited for this; what it changed, the others read anew."""
        first, *rest = self.loading.pop(event.id)
        entry = self.entries.get(event.id)
        if entry is None or (entry.state == ENDED and isinstance(first, Attach)):
            self._with(first, event)
        else:
            _RULES[type(first)](self, first)
        for one in rest:
            _RULES[type(one)](self, one)

    def _with(self, event: Event, kept: Loaded) -> None:
        """Handle an event of a continuation that is parked, ended, or not known."""
        parked, wake_ns = None, 0
        damage = kept.damage
        h = next((r for r in kept.records if isinstance(r, Held)), None)
        if h is not None and h.state == PARKED and h.program not in self.programs:
            damage = damage or _no_program(h)
        if damage:
            home.damaged(self, kept.id, damage, kept.records)
        elif h is not None and h.state == PARKED:
            parked, wake_ns = home.parked(self, h, kept.records), h.wake_ns
        elif h is not None and h.state != ENDED and isinstance(event, Cancel):
            home.cancelled(self, h, kept.records, event.error)
        if isinstance(event, Received):
            said = control.thaw(event.data, self.key)
            assert isinstance(said, Passed | Alive)
            home.reported(self, event.sender, said, parked)
        elif isinstance(event, Attach):
            home.attached(self, kept)
        elif isinstance(event, Matched):
            if parked is not None:
                home.matched(self, parked, event)
            self._matched_on(event.name)
        elif parked is not None:
            self._with_parked(event, parked, wake_ns)

    def _with_parked(self, event: Event, parked: Entry, wake_ns: int) -> None:
        if isinstance(event, Cancel):
            self.entries[parked.id] = parked
            owned.cut_short(self, parked, event.error)
        elif isinstance(event, Migrate):
            home.migrated(self, parked, event, wake_ns)
        elif wake_ns and (isinstance(event, Resume) or wake_ns <= self.wall):
            home.woken(self, parked)

    def _matched(self, event: Matched) -> None:
        if event.signal is None:
            if self.matching.pop(event.name):
                match(self, event.name)
        elif event.id in self.entries:
            self._matched_on(event.name)
        else:
            load(self, event.id, event)

    def _matched_on(self, name: str) -> None:
        """Look for the next pair of this name, once the last one is on record."""
        del self.matching[name]
        match(self, name)


def _no_program(h: Held) -> str:
    return f"Code row {h.program.hex()}: the program cannot be read"


_RULES: Final[dict[type, Callable[[Node, Any], None]]] = {
    Submit: Node._submitted,
    Received: Node._received,
    Executed: Node._executed,
    Performed: Node._performed,
    Placed: Node._placed,
    Loaded: Node._loaded,
    Restored: Node._restored,
    Matched: Node._matched,
    Pending: Node._pending,
    Signalled: Node._signalled,
    Woken: Node._asked,
    Cancel: Node._asked,
    Migrate: Node._asked,
    Resume: Node._asked,
    Attach: Node._asked,
    Program: Node._program,
    Tick: lambda _node, _event: None,
}
_SAID: Final[dict[type, Callable[[Node, Received, Any], None]]] = {
    Taken: Node._acknowledged,
    Fenced: Node._acknowledged,
    Forgotten: Node._acknowledged,
    Passed: Node._reported,
    Alive: Node._reported,
    Noted: lambda node, _, said: visit.noted(node, said),
    Forget: lambda node, event, said: visit.forget(node, event.sender, said),
    Renew: lambda node, _, said: visit.renew(node, said),
    Need: Node._needed,
    Ship: Node._shipped,
}
