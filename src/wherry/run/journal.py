"""The journal: where a node keeps its continuations, so that they outlive it.

`Journal` is what every journal can do: `wherry.run.journal_memory` does it without a disk,
`journal_sqlite` in one file, `journal_postgres` for several hosts. They differ in what survives,
never in what they answer: `tests/conformance/test_journals.py`.

A batch of records is written whole or not at all, and is durable when `write` returns. Reads give
what was written before; nothing is kept in memory for a continuation that sleeps. Of records with
the same key the last one stands:

    Held, Answered      id                      Effect, Code    key, digest
    Stepped             id, hop                 Leased          resource, id
    Receipted           id, epoch, hop, node,   Signal          name, number; one that nobody
                        run                                     took replaces nothing

At a node that is not home (`home=False`) a receipt goes when it is written `told`: home has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from wherry.base.errors import InputError, Retryable, WherryError
from wherry.run.records import (
    Answered,
    Code,
    Effect,
    Held,
    Leased,
    Receipted,
    Record,
    Signal,
    Stepped,
)


class JournalError(WherryError):
    """The journal cannot be used any more as it is: its disk or server failed."""


class JournalFull(Retryable):
    """There is no room for a batch: nothing of it was written, what was there before is."""


class JournalBusy(Retryable):
    """Another process drives the journal, or holds what is needed now."""


class Displaced(WherryError):
    """Another home took over what this one drove, because it gave no sign of life for too long."""


class Damage(Struct, frozen=True):
    """Something that is not as it was written.

    Attributes
    ----------
    table : str
        Where: "held", "step", ...; "file" or "log" when it is not one row.
    key : str
        Which row: its key in hexadecimal, or its number.
    problem : str
        What was seen, and what became of it.
    """

    table: str
    key: str
    problem: str


class Counts(Struct, frozen=True):
    """How many rows there are of each kind, and how many continuations in each state."""

    rows: Mapping[str, int]
    states: Mapping[int, int] = field(default_factory=dict)


class Known(Struct, frozen=True):
    """What a journal keeps of one continuation.

    Attributes
    ----------
    id : bytes
        16 bytes.
    records : tuple of Record
        Its state, steps, effects, leases, answer, and receipts that home has not got, as they
        are there, in this order.
    damage : str
        Which of them are there but cannot be read; empty: none.
    """

    id: bytes
    records: tuple[Record, ...]
    damage: str = ""


class Journal(Protocol):
    """What every journal can do; any thread may ask, at any time.

    Every method may raise `JournalError`, and, where several homes share a journal, `JournalBusy`.
    A row that is not as it was written is never given: asked for by its key it is a `CorruptError`,
    in a list it is left out, and either way `damages` tells of it.
    """

    def write(self, records: Sequence[Record]) -> None:
        """Write a batch, whole or not at all; it is durable when this returns.

        Raises
        ------
        InputError
            If a value does not fit: a number of more than 64 bits, a text with NUL.
        JournalFull
            If there is no room; nothing was written.
        Displaced
            If another home took over; nothing was written.
        """
        ...

    def held(self, id: bytes) -> Held | None:  # noqa: A002 - the records' own word
        """Give a continuation's state here."""
        ...

    def of(self, id: bytes) -> Known:  # noqa: A002
        """Give all that is known of a continuation."""
        ...

    def live(self) -> Iterator[Known]:
        """Give what this node has to do something for, by id; a restart asks it.

        That is every continuation that is held and not parked, that something is leased for, or
        whose receipts home has not got.
        """
        ...

    def active(self) -> Iterator[Held]:
        """Give what is running, away or passed and driven by this home, by id."""
        ...

    def due(self, now_ns: int, most: int) -> list[Held]:
        """Give up to `most` whose `wake_ns` has come and that this home drives, earliest first."""
        ...

    def next_wake(self) -> int:
        """Give the earliest `wake_ns` of what this home drives; 0 if there is none."""
        ...

    def waiting(self, event: str, most: int) -> list[Held]:
        """Give up to `most` parked ones that this home drives and that wait for an event."""
        ...

    def match(self, name: str) -> tuple[Held, Signal] | None:
        """Give a parked one that waits for an event, and the first arrival that nobody took."""
        ...

    def pending(self) -> list[str]:
        """Give the names of events that arrived and that nobody took."""
        ...

    def signal(self, name: str, number: bytes) -> Signal | None:
        """Give one arrival of an event: whether it was recorded before."""
        ...

    def signals(self, name: str, most: int) -> list[Signal]:
        """Give up to `most` arrivals of an event, by their numbers."""
        ...

    def stepped(self, id: bytes, hop: int) -> Stepped | None:  # noqa: A002
        """Give what the step of a hop came to."""
        ...

    def steps(self, id: bytes) -> list[Stepped]:  # noqa: A002
        """Give a continuation's steps here, by hop."""
        ...

    def effect(self, key: bytes) -> Effect | None:
        """Give what is known of an effect by its dedupe key."""
        ...

    def leases_ended(self, now_ns: int, most: int) -> list[Leased]:
        """Give up to `most` leases that ended at or before a time, earliest first."""
        ...

    def leases_of(self, id: bytes) -> list[Leased]:  # noqa: A002
        """Give what is kept for a continuation, by resource."""
        ...

    def answered(self, id: bytes) -> Answered | None:  # noqa: A002
        """Give the answer of a continuation."""
        ...

    def receipts(
        self,
        id: bytes | None = None,  # noqa: A002
        tenant: str | None = None,
    ) -> Iterator[Receipted]:
        """Give the receipts of a continuation, of a tenant, or all, in the order of their keys."""
        ...

    def code(self, digest: bytes) -> Code | None:
        """Give the bytes of a program or plan."""
        ...

    def codes(self) -> Iterator[Code]:
        """Give all programs and plans, by digest."""
        ...

    def collect(self) -> int:
        """Drop code that no continuation and no code in use names; give how much was dropped."""
        ...

    def expire(self, before_ns: int, *, receipts: bool) -> int:
        """Drop what was kept of continuations that were forgotten, answered before a time, or both.

        Their answers and effects go, signals that arrived before, and with `receipts` their
        receipts, which somebody may still have to bill. Gives how many continuations those were.
        """
        ...

    def forgotten_ns(self, id: bytes) -> int:  # noqa: A002
        """Give when a continuation was forgotten; 0 if it was not, or that has expired."""
        ...

    def listed(
        self,
        state: int | None = None,
        tenant: str | None = None,
        limit: int = 100,
        after: bytes = b"",
    ) -> list[Held]:
        """Give up to `limit` continuations with ids above `after`, by id, whoever drives them."""
        ...

    def ids(self, first: bytes, last: bytes, most: int) -> list[bytes]:
        """Give up to `most` ids from `first` to `last` that are held, answered or have receipts."""
        ...

    def counts(self) -> Counts:
        """Give how many rows there are."""
        ...

    def beat(self) -> None:
        """Tell that this home lives; others take over what it drives when it stops to.

        Raises
        ------
        Displaced
            If that has happened: what this home did since must be thrown away.
        """
        ...

    def adopt(self, most: int) -> list[Held]:
        """Take over up to `most` continuations of homes that give no sign of life any more."""
        ...

    def check(self) -> list[Damage]:
        """Read everything and give what is not as it was written; such rows are set aside."""
        ...

    def damages(self) -> list[Damage]:
        """Give what was found damaged up to now, since the journal was made."""
        ...

    def close(self) -> None:
        """End the use of the journal; a second time does nothing."""
        ...


def reachable(roots: Iterable[bytes], code: Callable[[bytes], Code | None]) -> set[bytes]:
    """Give the digests that `roots` and the code they name come to."""
    found: set[bytes] = set()
    left = list(roots)
    while left:
        digest = left.pop()
        if digest not in found:
            found.add(digest)
            one = code(digest)
            left += one.names if one is not None else ()
    return found


def refused(what: str, seen: object, possible: str) -> InputError:
    """Give the error for a value of a record that no journal can keep."""
    return InputError(f"the journal cannot keep {what} {seen!r}; possible: {possible}")
