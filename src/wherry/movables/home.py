"""Home: where continuations begin, sleep and end, and who asks for them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from wherry.base.errors import Retryable, WherryError
from wherry.base.ids import digest
from wherry.devices.system import System
from wherry.devices.this_machine import THIS_MACHINE
from wherry.flow.frame import freeze_frame, thaw_frame
from wherry.flow.marks import mark_of
from wherry.flow.nodes import Program
from wherry.flow.run import compiled_of
from wherry.flow.wire import Rows
from wherry.movables import failure, programs, setting
from wherry.movables.awaits import Around, node_for
from wherry.movables.failure import Failure, failure_of, stitched
from wherry.movables.finished import Finished
from wherry.movables.names import EFFECTS
from wherry.movables.places import opened, rows_folder, sealing_key
from wherry.movables.setting import Setting
from wherry.movables.steps import Call, Steps, as_budget, given_to
from wherry.movables.stores import Stores
from wherry.movables.values import answer_of, from_json, to_json
from wherry.run.delivery import Cancel, Resume, Signalled, Submit, own_error
from wherry.run.host import Host
from wherry.run.journal import Journal
from wherry.run.message import ERROR, NOTHING, RUN, VALUE, Budget, Message
from wherry.run.receipts import budget_of, from_bytes
from wherry.run.records import PARKED, Code
from wherry.trace.hops import Hop

if TYPE_CHECKING:
    from wherry.movables.declare import Movable

_ID_BYTES = 16
_KEY_BYTES = 32
_NS = 1_000_000_000


class Dormant(Retryable):
    """A continuation waits for an event that has not arrived; it is in the journal."""


class _Carrier(Struct):
    """What the machines of this process have done for them."""

    steps: Steps
    home: str

    def execute(self, node: str, message: Message) -> Any:
        return self.steps.execute(node, message)

    def perform(self, message: Message) -> tuple[int, bytes]:
        call = msgspec.json.decode(message.operand, type=Call)
        function = EFFECTS.get(call.name)
        if function is None:
            told = Failure(
                "InputError",
                f"no effect {call.name!r} is declared here; give the file that declares it",
            )
            return ERROR, failure.to_bytes(told)
        mark = mark_of(function)
        assert mark is not None  # it was registered with one
        try:
            given = [
                from_json(slot.type, bytes(argument), f"effect {call.name}: {slot.name}")
                for slot, argument in zip(mark.parameters, call.arguments, strict=True)
            ]
            return VALUE, to_json(mark.result, function(*given), f"effect {call.name}: the result")
        except Exception as error:  # noqa: BLE001  whatever an effect raises is its result
            return ERROR, failure.to_bytes(failure_of(error, "", call.name, self.home))

    def place(self, message: Message, avoid: Sequence[str]) -> str:
        program = self.steps.program(message.program)
        compiled = compiled_of(program)
        values = thaw_frame(program, message.position, message.frame)
        position = compiled.waiting(message.position, values)
        if position.awaits is None or message.given != NOTHING:
            return self.home
        operands = given_to(compiled, message, values)
        chosen = node_for(position.awaits, operands, self.steps.around)
        return chosen if chosen not in avoid else self.steps.around.setting.system.host

    def release(self, node: str, resource: bytes) -> None:  # noqa: ARG002  one store serves all nodes
        self.steps.around.stores.drop(resource)


class Home(Struct):
    """A journal, a system and datasets, with which continuations are begun and gone on with.

    Use `open_home`, which closes the journal.
    """

    journal: Journal
    setting: Setting
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
        self.host.tell(Submit(message, code))
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

    def signal(self, name: str, payload: object = None, *, number: bytes = b"") -> None:
        """Let an event arrive; `number` tells a repetition of the same arrival from another one."""
        body = msgspec.json.encode(payload)
        self.host.tell(Signalled(name, number or os.urandom(_ID_BYTES), body))
        self.host.settle()

    def cancel(self, id_: bytes) -> None:
        """End a continuation with an error."""
        self.host.tell(Cancel(id_, own_error("Cancelled", "somebody asked for its end")))
        self.host.settle()

    def resume(self, id_: bytes) -> None:
        """Drive a continuation anew now; one that sleeps is woken."""
        self.host.tell(Resume(id_))

    def hops(self, id_: bytes) -> list[Hop]:
        """Give the hops of a continuation up to now, in order."""
        return [
            Hop(one.id, one.epoch, one.hop, from_bytes(one.receipt))
            for one in self.journal.receipts(id_)
            if one.receipt
        ]

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

    def _setting_code(self) -> Code:
        body = setting.to_bytes(self.setting)
        return Code(digest(body), "setting", body)

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
    system: str | Path | System = THIS_MACHINE,
    datasets: Mapping[str, object] | None = None,
) -> Iterator[Home]:
    """Open a journal, a system and datasets; the journal is closed at the end.

    Parameters
    ----------
    journal : path, `postgresql://` address or None
        An SQLite file, made if it is not there, or a PostgreSQL database; None keeps everything in
        memory, for as long as this process lives.

    Raises
    ------
    JournalBusy
        If another process drives the journal.
    """
    given = setting.setting(system, datasets or {})
    with closing(opened(journal)) as found:
        stores = Stores(rows_folder(journal))
        around = Around(given, stores)
        name = given.system.client
        devices = given.system.devices
        carrier = _Carrier(Steps(around, lambda d: _program(found, d)), name)
        visited = [device for device in devices if devices[device].runs_programs]
        yield Home(
            found,
            given,
            stores,
            Host(name, visited, key=sealing_key(journal), journal=found, carrier=carrier),
        )


def _program(journal: Journal, digest_: bytes) -> Program:
    found = programs.known(digest_)
    if found is not None:
        return found
    code = journal.code(digest_)
    if code is None:
        raise WherryError(f"the program {digest_.hex()} is in no journal here")
    return programs.received(code)


def _budget(limits: Mapping[str, int] | None) -> Budget:
    return as_budget(budget_of(dict(limits or {})))
