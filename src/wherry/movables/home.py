"""Home: where continuations begin, sleep and end, and who asks for them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from wherry.base.errors import InputError, Retryable
from wherry.devices.system import System
from wherry.devices.this_machine import THIS_MACHINE
from wherry.flow.frame import freeze_frame
from wherry.flow.wire import Rows
from wherry.movables import failure, setting
from wherry.movables.carrying import HOME, Carrying
from wherry.movables.failure import stitched
from wherry.movables.finished import Finished
from wherry.movables.looking import hops
from wherry.movables.places import key_for, opened, rows_folder
from wherry.movables.steps import as_budget
from wherry.movables.stores import Stores
from wherry.movables.values import answer_of
from wherry.run.delivery import Cancel, Resume, Signalled, Submit, own_error
from wherry.run.host import Host
from wherry.run.journal import Journal
from wherry.run.message import RUN, Budget, Message
from wherry.run.receipts import budget_of
from wherry.run.records import PARKED
from wherry.trace.hops import Hop

if TYPE_CHECKING:
    from wherry.movables.declare import Movable

_ID_BYTES = 16
_NS = 1_000_000_000


class Dormant(Retryable):
    """A continuation waits for an event that has not arrived; it is in the journal."""


class Home(Struct):
    """A journal, a system and datasets, with which continuations are begun and gone on with.

    Use `open_home`, which closes the journal.
    """

    journal: Journal
    carrying: Carrying
    stores: Stores
    host: Host

    def start(
        self,
        movable: Movable,
        *given: object,
        tenant: str = "",
        budget: Mapping[str, int] | None = None,
        timeout_s: float | None = None,
        **named: object,
    ) -> bytes:
        """Begin a continuation and give its id; it is on record when this returns.

        Parameters are those of `Movable.run`.
        """
        program, code = movable.program, movable.code
        frame = freeze_frame(program, 0, movable.arguments(*given, **named))
        id_ = os.urandom(_ID_BYTES)
        message = Message(
            id=id_,
            kind=RUN,
            epoch=1,
            hop=0,
            program=code.digest,
            position=0,
            home=self.host.home,
            tenant=tenant,
            frame=frame,
            deadline_ns=0 if timeout_s is None else time.time_ns() + round(timeout_s * _NS),
            budget=_budget(budget),
            trace=id_,
        )
        self.host.tell(Submit(message, code, self.carrying.code))
        self.host.run(lambda: self.journal.held(id_) is not None or id_ in self.host.reports)
        return id_

    def result(self, id_: bytes, *, timeout_s: float | None = None) -> Finished:
        """Wait for the end of a continuation and give what came of it.

        Raises
        ------
        Dormant
            If it waits for an event that is not there, or `timeout_s` seconds passed.
        WherryError
            Whatever it raised.
        """
        if id_ not in self.host.reports:
            self.host.attach(id_)
        ended = self.host.run(
            lambda: id_ in self.host.reports,
            give_up=lambda: self._waits_for_event(id_),
            timeout_s=timeout_s,
        )
        if not ended:
            raise Dormant(self._why_dormant(id_))
        report = self.host.reports.pop(id_)
        self.host.settle()  # what nodes keep for it is let go of
        hops = self.hops(id_)
        if report.failed:
            raise stitched(failure.from_bytes(report.value), [hop.receipt for hop in hops])
        name, value = answer_of(report.value)
        return Finished(id_, name, self._fetched(value), tuple(hops))

    def signal(self, name: str, payload: object = None, *, number: bytes = b"") -> bytes:
        """Let an event arrive, and give the id of the continuation that took it; empty: none yet.

        Parameters
        ----------
        payload : object
            What JSON has; else an `InputError`.
        number : bytes
            Tells a repetition of the same arrival from another one.
        """
        try:
            body = msgspec.json.encode(payload)
        except (TypeError, ValueError, RecursionError) as problem:
            raise InputError(
                f"the payload of event {name!r} is not what JSON has: {problem}"
            ) from None
        number = number or os.urandom(_ID_BYTES)
        self.host.tell(Signalled(name, number, body))
        self.host.settle()
        arrived = self.journal.signal(name, number)
        return b"" if arrived is None else arrived.taken

    def drain(self, *, timeout_s: float | None = None) -> None:
        """Drive everything until it has ended or waits for an event.

        Parameters
        ----------
        timeout_s : float, optional
            Ends it before: what sleeps longer than so many seconds goes on sleeping.
        """
        self.host.settle()  # what can be done at once is no waiting
        self.host.run(lambda: False, give_up=self._nothing_wakes, timeout_s=timeout_s)

    def _nothing_wakes(self) -> bool:
        return not self.journal.next_wake() and next(iter(self.journal.active()), None) is None

    def cancel(self, id_: bytes) -> None:
        """End a continuation with an error."""
        self.host.tell(Cancel(id_, own_error("Cancelled", "somebody asked for its end")))
        self.host.settle()

    def resume(self, id_: bytes) -> None:
        """Drive a continuation anew now; one that sleeps is woken."""
        self.host.tell(Resume(id_))

    def hops(self, id_: bytes) -> list[Hop]:
        """Give the hops of a continuation up to now, in order."""
        return hops(self.journal, id_)

    def _waits_for_event(self, id_: bytes) -> bool:
        held = self.journal.held(id_)
        return held is not None and held.state == PARKED and not held.wake_ns

    def _why_dormant(self, id_: bytes) -> str:
        held = self.journal.held(id_)
        if held is None:
            return f"nothing is on record of {id_.hex()}"
        if held.state == PARKED and held.event:
            return f"{id_.hex()} waits for event {held.event!r}, which has not arrived"
        return f"{id_.hex()} has not ended yet"

    def _fetched(self, value: Any) -> Any:
        if isinstance(value, Rows):
            rows = self.stores.rows(value.key, value.owner)
            self.stores.unpin(value.key)
            return rows
        if isinstance(value, tuple):
            return tuple(map(self._fetched, value))
        return value


@contextmanager
def open_home(
    journal: str | Path | None = None,
    *,
    system: str | Path | System | None = None,
    datasets: Mapping[str, object] | None = None,
    only: Iterable[bytes] | None = None,
) -> Iterator[Home]:
    """Open a journal, a system and datasets; the journal is closed at the end.

    What the journal has goes on where it was: on the system and the datasets on record with it.

    Parameters
    ----------
    journal : path, `postgresql://` address or None
        An SQLite file, made if it is not there, or a PostgreSQL database; None keeps everything in
        memory, for as long as this process lives.
    system : str, path or System
        Where continuations go that begin here; this machine unless given.
    datasets : mapping of str to what `wherry.scan` takes
        Theirs; they replace datasets of the same name on record, as tables must be that were in
        the memory of another process.
    only : iterable of bytes, optional
        Ids: of what is in the journal drive these alone, and let the rest be.

    Raises
    ------
    JournalBusy
        If another process drives the journal.
    """
    given = setting.setting(THIS_MACHINE if system is None else system, datasets or {})
    with closing(opened(journal)) as found:
        key = key_for(found, journal)
        stores = Stores(rows_folder(journal))
        carrying = Carrying(found, given, stores, given=dict(datasets or {}), system=system)
        carrying.sweep()
        mine = None if only is None else set(only)
        host = Host(HOME, key=key, journal=found, carrier=carrying, only=mine)
        yield Home(found, carrying, stores, host)


def _budget(limits: Mapping[str, int] | None) -> Budget:
    return as_budget(budget_of(dict(limits or {})))
