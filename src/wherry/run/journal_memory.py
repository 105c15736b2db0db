"""A journal without a disk, and the definition that the others are compared with."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from wherry.run.journal import Counts, Damage, JournalError, Known, reachable
from wherry.run.records import (
    PARKED,
    STATES,
    Answered,
    Code,
    Effect,
    Forgotten,
    Held,
    Leased,
    Receipted,
    Record,
    Signal,
    Stepped,
)


class MemoryJournal:
    """A journal of a node that has no disk, and the definition the others are compared with.

    It believes what it is given: values are not checked. One thread at a time may use it.
    """

    def __init__(self, *, home: bool = True) -> None:
        self._home = home
        self._held: dict[bytes, Held] = {}
        self._steps: dict[bytes, dict[int, Stepped]] = {}
        self._effects: dict[bytes, Effect] = {}
        self._leases: dict[bytes, dict[bytes, Leased]] = {}
        self._signals: dict[str, dict[bytes, Signal]] = {}
        self._receipts: dict[bytes, dict[tuple[int, int, str, int], Receipted]] = {}
        self._answers: dict[bytes, Answered] = {}
        self._code: dict[bytes, Code] = {}
        self._forgotten: dict[bytes, int] = {}
        self._wakes: list[tuple[int, bytes]] = []
        """A heap that may name what has changed since; `_held` decides."""
        self._closed = False

    def write(self, records: Sequence[Record]) -> None:
        """Write a batch."""
        self._open()
        for record in records:
            _KEEP[type(record)](self, record)

    def _keep_held(self, one: Held) -> None:
        self._held[one.id] = one
        if one.wake_ns > 0:
            heapq.heappush(self._wakes, (one.wake_ns, one.id))

    def _keep_step(self, one: Stepped) -> None:
        self._steps.setdefault(one.id, {})[one.hop] = one

    def _keep_effect(self, one: Effect) -> None:
        self._effects[one.key] = one

    def _keep_lease(self, one: Leased) -> None:
        if one.until_ns:
            self._leases.setdefault(one.id, {})[one.resource] = one
        else:
            self._leases.get(one.id, {}).pop(one.resource, None)

    def _keep_signal(self, one: Signal) -> None:
        arrived = self._signals.setdefault(one.name, {})
        if one.taken or one.number not in arrived:
            arrived[one.number] = one

    def _keep_receipt(self, one: Receipted) -> None:
        key = (one.epoch, one.hop, one.node, one.run)
        if one.told and not self._home:
            self._receipts.get(one.id, {}).pop(key, None)
        else:
            self._receipts.setdefault(one.id, {})[key] = one

    def _keep_answer(self, one: Answered) -> None:
        self._answers[one.id] = one

    def _keep_code(self, one: Code) -> None:
        self._code[one.digest] = one

    def _forget(self, one: Forgotten) -> None:
        self._held.pop(one.id, None)
        self._steps.pop(one.id, None)
        if one.at_ns:
            self._forgotten[one.id] = one.at_ns

    def held(self, id: bytes) -> Held | None:  # noqa: A002
        """Give a continuation's state here."""
        self._open()
        return self._held.get(id)

    def of(self, id: bytes) -> Known:  # noqa: A002
        """Give all that is known of a continuation."""
        self._open()
        held, answer = self._held.get(id), self._answers.get(id)
        effects = sorted((e for e in self._effects.values() if e.id == id), key=lambda e: e.key)
        records: list[Record | None] = [
            held,
            *self.steps(id),
            *effects,
            *self.leases_of(id),
            answer,
        ]
        records += [one for one in self.receipts(id) if not one.told]
        return Known(id, tuple(one for one in records if one is not None))

    def live(self) -> Iterator[Known]:
        """Give what this node has to do something for, by id."""
        self._open()
        found = {one.id for one in self._held.values() if one.state != PARKED}
        found |= {id_ for id_, kept in self._leases.items() if kept}
        found |= {
            id_ for id_, kept in self._receipts.items() if not all(o.told for o in kept.values())
        }
        return (self.of(id_) for id_ in sorted(found))

    def active(self) -> Iterator[Held]:
        """Give what is running, away or passed, by id."""
        self._open()
        return iter([o for _, o in sorted(self._held.items()) if o.state < PARKED])

    def due(self, now_ns: int, most: int) -> list[Held]:
        """Give up to `most` whose `wake_ns` has come, earliest first."""
        self._open()
        found: list[Held] = []
        while len(found) < most and 0 < self.next_wake() <= now_ns:
            first = heapq.heappop(self._wakes)
            found.append(self._held[first[1]])
            while self._wakes and self._wakes[0] == first:
                heapq.heappop(self._wakes)
        for one in found:
            heapq.heappush(self._wakes, (one.wake_ns, one.id))
        return found

    def next_wake(self) -> int:
        """Give the earliest `wake_ns`; 0 if there is none."""
        self._open()
        while self._wakes:
            wake_ns, id_ = self._wakes[0]
            one = self._held.get(id_)
            if one is not None and one.wake_ns == wake_ns:
                return wake_ns
            heapq.heappop(self._wakes)
        return 0

    def waiting(self, event: str, most: int) -> list[Held]:
        """Give up to `most` parked ones that wait for an event."""
        self._open()
        waits = (o for o in self._held.values() if o.state == PARKED and o.event == event != "")
        return list(itertools.islice(waits, most))

    def match(self, name: str) -> tuple[Held, Signal] | None:
        """Give a parked one that waits for an event, and the first arrival that nobody took."""
        untaken = [one for one in self._signals.get(name, {}).values() if not one.taken]
        waiting = self.waiting(name, 1)
        if not (untaken and waiting):
            return None
        return waiting[0], min(untaken, key=lambda one: (one.at_ns, one.number))

    def pending(self) -> list[str]:
        """Give the names of events that arrived and that nobody took."""
        self._open()
        kept = self._signals.items()
        return sorted(n for n, arrived in kept if any(not o.taken for o in arrived.values()))

    def signal(self, name: str, number: bytes) -> Signal | None:
        """Give one arrival of an event."""
        self._open()
        return self._signals.get(name, {}).get(number)

    def signals(self, name: str, most: int) -> list[Signal]:
        """Give up to `most` arrivals of an event, by their numbers."""
        self._open()
        return [one for _, one in sorted(self._signals.get(name, {}).items())][:most]

    def stepped(self, id: bytes, hop: int) -> Stepped | None:  # noqa: A002
        """Give what the step of a hop came to."""
        self._open()
        return self._steps.get(id, {}).get(hop)

    def steps(self, id: bytes) -> list[Stepped]:  # noqa: A002
        """Give a continuation's steps here, by hop."""
        self._open()
        return [one for _, one in sorted(self._steps.get(id, {}).items())]

    def effect(self, key: bytes) -> Effect | None:
        """Give what is known of an effect by its dedupe key."""
        self._open()
        return self._effects.get(key)

    def leases_ended(self, now_ns: int, most: int) -> list[Leased]:
        """Give up to `most` leases that ended at or before a time, earliest first."""
        self._open()
        leases = (one for kept in self._leases.values() for one in kept.values())
        ended = (one for one in leases if one.until_ns <= now_ns)
        return heapq.nsmallest(most, ended, key=lambda one: one.until_ns)

    def leases_of(self, id: bytes) -> list[Leased]:  # noqa: A002
        """Give what is kept for a continuation, by resource."""
        self._open()
        return [one for _, one in sorted(self._leases.get(id, {}).items())]

    def answered(self, id: bytes) -> Answered | None:  # noqa: A002
        """Give the answer of a continuation."""
        self._open()
        return self._answers.get(id)

    def receipts(
        self,
        id: bytes | None = None,  # noqa: A002
        tenant: str | None = None,
    ) -> Iterator[Receipted]:
        """Give the receipts of a continuation, of a tenant, or all, in order."""
        self._open()
        for key in sorted(self._receipts) if id is None else [id]:
            for _, one in sorted(self._receipts.get(key, {}).items()):
                if tenant is None or one.tenant == tenant:
                    yield one

    def code(self, digest: bytes) -> Code | None:
        """Give the bytes of a program or plan."""
        self._open()
        return self._code.get(digest)

    def codes(self) -> Iterator[Code]:
        """Give all programs and plans, by digest."""
        self._open()
        return iter([one for _, one in sorted(self._code.items())])

    def collect(self) -> int:
        """Drop code that nothing names."""
        self._open()
        roots = {code for one in self._held.values() for code in (one.program, one.setting)}
        named = reachable(roots, self._code.get)
        dropped = [digest for digest in self._code if digest not in named]
        for digest in dropped:
            del self._code[digest]
        return len(dropped)

    def expire(self, before_ns: int, *, receipts: bool) -> int:
        """Drop what was kept of continuations that are over since a time."""
        self._open()
        answered = ((one.id, one.at_ns) for one in self._answers.values())
        ended = {
            id_
            for id_, at_ns in (*answered, *self._forgotten.items())
            if 0 < at_ns < before_ns and id_ not in self._held
        }
        for id_ in ended:
            self._answers.pop(id_, None)
            self._forgotten.pop(id_, None)
            if receipts:
                self._receipts.pop(id_, None)
        self._effects = {k: one for k, one in self._effects.items() if one.id not in ended}
        for arrived in self._signals.values():
            for number in [n for n, one in arrived.items() if 0 < one.at_ns < before_ns]:
                del arrived[number]
        return len(ended)

    def forgotten_ns(self, id: bytes) -> int:  # noqa: A002
        """Give when a continuation was forgotten; 0 if it was not."""
        self._open()
        return self._forgotten.get(id, 0)

    def listed(
        self,
        state: int | None = None,
        tenant: str | None = None,
        limit: int = 100,
        after: bytes = b"",
    ) -> list[Held]:
        """Give up to `limit` continuations with ids above `after`, by id."""
        self._open()
        found = (
            one
            for one in self._held.values()
            if one.id > after
            and (state is None or one.state == state)
            and (tenant is None or one.tenant == tenant)
        )
        return heapq.nsmallest(limit, found, key=lambda one: one.id)

    def ids(self, first: bytes, last: bytes, most: int) -> list[bytes]:
        """Give up to `most` ids from `first` to `last` of which anything is on record."""
        self._open()
        known = self._held.keys() | self._answers.keys() | self._receipts.keys()
        return heapq.nsmallest(most, (id_ for id_ in known if first <= id_ <= last))

    def counts(self) -> Counts:
        """Give how many rows there are."""
        self._open()
        nested: dict[str, Iterable[Any]] = {
            "step": self._steps.values(),
            "lease": self._leases.values(),
            "signal": self._signals.values(),
            "receipt": self._receipts.values(),
        }
        flat: dict[str, Mapping[Any, Any]] = {
            "held": self._held,
            "effect": self._effects,
            "answer": self._answers,
            "code": self._code,
            "forgotten": self._forgotten,
        }
        rows = {name: len(kept) for name, kept in flat.items()}
        rows |= {name: sum(map(len, kept)) for name, kept in nested.items()}
        states = Counter(one.state for one in self._held.values())
        return Counts(rows, {state: states[state] for state in STATES if states[state]})

    def beat(self) -> None:
        """Do nothing: no other home knows of it."""
        self._open()

    def adopt(self, most: int) -> list[Held]:  # noqa: ARG002
        """Give nothing: there are no other homes."""
        self._open()
        return []

    def check(self) -> list[Damage]:
        """Give nothing: what is in memory is as it was written."""
        self._open()
        return []

    def damages(self) -> list[Damage]:
        """Give nothing."""
        self._open()
        return []

    def close(self) -> None:
        """End the use of the journal; what it kept is gone."""
        self._closed = True

    def _open(self) -> None:
        if self._closed:
            raise JournalError("the journal is closed")


_KEEP: Final[dict[type[Any], Callable[[MemoryJournal, Any], None]]] = {
    Held: MemoryJournal._keep_held,
    Stepped: MemoryJournal._keep_step,
    Effect: MemoryJournal._keep_effect,
    Leased: MemoryJournal._keep_lease,
    Signal: MemoryJournal._keep_signal,
    Receipted: MemoryJournal._keep_receipt,
    Answered: MemoryJournal._keep_answer,
    Code: MemoryJournal._keep_code,
    Forgotten: MemoryJournal._forget,
}
