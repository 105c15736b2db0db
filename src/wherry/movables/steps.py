"""One step of a continuation: carry out its await here, go on to the next, say where that belongs.

What arrives is a state at an await that nobody has carried out: the live values and what the await
was given. This node carries it out, puts the result in, runs to the next await, and the outcome
names the node that should have that one. Nothing is left behind but rows under a lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from wherry.base.errors import InputError, WherryError
from wherry.devices.charge import latency_ns, transfer_ns
from wherry.devices.topology import legs
from wherry.flow.carried import operands_of
from wherry.flow.frame import freeze_frame, thaw_frame
from wherry.flow.nodes import Awaits, CallMovable, Perform, Position, Program, Sleep, Slot, WaitFor
from wherry.flow.run import Compiled, compiled_of
from wherry.flow.wire import Rows
from wherry.movables import failure
from wherry.movables.awaits import Around, Done, carry_out, node_for, refers
from wherry.movables.failure import Failure, Unknown, error_of, failure_of
from wherry.movables.names import Undeclared, effect
from wherry.movables.stores import LeaseEnded
from wherry.movables.values import answer_bytes, from_json, to_json
from wherry.run import delivery
from wherry.run.delivery import Outcome
from wherry.run.message import ANSWER, NOTHING, REFERS, UNKNOWN, VALUE, Budget, Message
from wherry.run.receipts import (
    DIMENSIONS,
    UNLIMITED,
    Amounts,
    BudgetExceeded,
    Receipt,
    described,
    left,
    to_bytes,
)

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_WHAT: Final = 80
"""Characters of an await's text in a receipt."""
_HEADER_BYTES: Final = 132
"""Of a message without its frame, for what its move is charged: header, names, seal."""

Step = tuple[int, Any, Any]
"""As `wherry.flow.generate` gives it: position, values, operands; or -1 and the result."""


class Call(msgspec.Struct, frozen=True, array_like=True):
    """An effect that home is to perform: its name, and its arguments as JSON."""

    name: str
    arguments: tuple[msgspec.Raw, ...]


class _Visit(Struct):
    """A step under way: where it is, what it began with, and what it did up to now."""

    node: str
    compiled: Compiled
    message: Message
    values: tuple[Any, ...]
    begun_ns: int
    done: Done
    failed: str = ""

    @property
    def program(self) -> Program:
        return self.compiled.program

    @property
    def position(self) -> Position:
        """Where the movable waits, or the one that it called."""
        return self.compiled.waiting(self.message.position, self.values)


class Steps(Struct):
    """What carries out steps in one process, at whichever of its nodes they are.

    Attributes
    ----------
    around : Around
        System, datasets and rows.
    program : callable
        Gives the program of a digest.
    """

    around: Around
    program: Callable[[bytes], Program]

    def execute(self, node: str, message: Message) -> Outcome:
        """Carry out the step of a message at a node; whatever it raises is an outcome, too."""
        begun = time.time_ns()
        if 0 < message.deadline_ns <= begun:
            # The nodes' clock stands still during a step; the deadline does not.
            late = delivery.own_error("timed out", "the deadline of the call passed")
            return delivery.failed(late)
        program = self.program(message.program)
        values = thaw_frame(program, message.position, message.frame)
        visit = _Visit(node, compiled_of(program), message, values, begun, Done(message.id))
        try:
            return self._told(visit, self._stepped(visit))
        except LeaseEnded as gone:
            lost = failure.to_bytes(Failure("LeaseEnded", str(gone)))
            return delivery.lost(lost, position=message.position, frame=message.frame)
        except Undeclared:  # nothing of this is on record: a process that knows it can go on
            raise
        except Exception as error:  # noqa: BLE001  a movable that fails ends itself, not the node
            return self._failed(visit, error)

    def _stepped(self, visit: _Visit) -> Step:
        """Give where the movable stops next."""
        message, compiled, values = visit.message, visit.compiled, visit.values
        if message.position == 0:
            return compiled.start(values)
        if message.given != NOTHING:
            return _given(visit)
        awaits = visit.position.awaits
        assert awaits is not None  # only the entry awaits nothing
        if isinstance(awaits, Sleep):
            return compiled.resume(message.position, values, None)
        until = time.time_ns() + message.lease_ms * _NS_PER_MS
        operands = given_to(compiled, message, values)
        try:
            result = carry_out(
                visit.node, awaits, operands, around=self.around, until_ns=until, done=visit.done
            )
        except LeaseEnded:
            raise
        except Exception as error:  # noqa: BLE001  the movable may catch it at its await
            visit.failed = f"{type(error).__name__}: {error}"
            return compiled.throw(message.position, values, error)
        return compiled.resume(message.position, values, result)

    def _told(self, visit: _Visit, step: Step) -> Outcome:
        """Give the outcome of a step with its receipt; what goes too far is thrown at the await."""
        outcome = self._onward(visit, step)
        used = self._used(visit, outcome)
        rest, over = left(_as_amounts(visit.message.budget), used)
        receipt = self._receipt(visit, used)
        if over and outcome.kind != ANSWER:
            error = _exceeded(visit, over, used, receipt)
            outcome = self._onward(visit, visit.compiled.throw(step[0], step[1], error))
        return replace(
            outcome,
            receipt=to_bytes(receipt),
            budget=as_budget(rest),
            kept=tuple(visit.done.kept),
        )

    def _failed(self, visit: _Visit, error: Exception) -> Outcome:
        program = visit.program
        told = failure_of(error, program.places.file, program.name, visit.node)
        visit.failed = visit.failed or f"{told.kind}: {told.message}"
        outcome = delivery.failed(failure.to_bytes(told))
        receipt = self._receipt(visit, self._used(visit, outcome))
        return replace(outcome, receipt=to_bytes(receipt), kept=tuple(visit.done.kept))

    def _onward(self, visit: _Visit, step: Step) -> Outcome:
        """Give where a state belongs: to a node, to home for a time, or to the caller."""
        number, values, operands = step
        program, compiled = visit.program, visit.compiled
        if number < 0:
            rows = refers((values,))
            self._save(rows)
            for one in rows:
                self.around.stores.pin(one.key)
            answer = answer_bytes(program.name, program.result, values)
            return delivery.answer(answer, flags=REFERS if rows else 0)
        position = compiled.waiting(number, values)
        frame = freeze_frame(program, number, values)
        rows = refers((*values, *operands))
        flags = REFERS if rows else 0
        match position.awaits:
            case Sleep():
                self._save(rows)
                wait = max(1, _nanoseconds(operands[0]))
                return delivery.park(number, frame, wait_ns=wait, flags=flags)
            case WaitFor():
                self._save(rows)
                return delivery.park(number, frame, event=operands[0], flags=flags)
            case Perform(name, kind, _, parameters):
                effect(name)  # before its intent is on record, which cannot be taken back
                self._save(rows)
                call = _call(name, parameters, operands)
                return delivery.perform(number, frame, call, once=kind == "once", flags=flags)
        assert position.awaits is not None  # a movable stops at awaits
        target = self._target(position.awaits, operands)
        inner, at = innermost(compiled, number, values)
        given = operands_of(inner).freeze(at, operands)
        return delivery.go(target, number, frame, operand=given, flags=flags)

    def _target(self, awaits: Awaits, operands: tuple[Any, ...]) -> str:
        try:
            return node_for(awaits, operands, self.around)
        except LeaseEnded:
            raise
        except WherryError:  # what cannot be planned fails where it is awaited, and is told there
            return self.around.setting.system.host

    def _save(self, rows: list[Rows]) -> None:
        """Write rows that a state at home refers to: home goes back to it after a crash."""
        for one in rows:
            self.around.stores.save(one.key, one.owner)

    def _used(self, visit: _Visit, outcome: Outcome) -> Amounts:
        """Give what a step used: its await's work, and the message's move to the next node."""
        found = dict(zip(DIMENSIONS, visit.done.used, strict=True))
        found["hops"] = 1
        system = self.around.setting.system
        target = outcome.target or system.client
        if not self.around.setting.modelled:
            found["time_ns"] = time.time_ns() - visit.begun_ns
        elif target != visit.node:
            nbytes = _HEADER_BYTES + len(outcome.frame) + len(outcome.operand)
            way = legs(system, visit.node, target)
            found["bytes"] += nbytes * len(way)
            found["time_ns"] += sum(
                latency_ns(leg.link) + transfer_ns(leg.link, nbytes) for leg in way
            )
        return tuple(found.values())

    def _receipt(self, visit: _Visit, used: Amounts) -> Receipt:
        position = visit.position
        return Receipt(
            node=visit.node,
            position=visit.message.position,
            line=position.line,
            what=position.text[:_WHAT] or visit.program.name,
            start_ns=visit.begun_ns,
            end_ns=time.time_ns(),
            modelled=self.around.setting.modelled,
            used=used,
            failed=visit.failed,
        )


def given_to(compiled: Compiled, message: Message, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the operands of the await that a message is to have carried out."""
    program, position = innermost(compiled, message.position, values)
    return operands_of(program).thaw(position, message.operand)


def innermost(compiled: Compiled, position: int, values: tuple[Any, ...]) -> tuple[Program, int]:
    """Give the program and position that wait, of a movable that may have called others."""
    program = compiled.program
    while isinstance((awaits := program.positions[position].awaits), CallMovable):
        program = program.callees[awaits.callee]
        position, values = values[-1]
    return program, position


def as_budget(amounts: Amounts) -> Budget:
    """Give amounts as a message carries them: only those that are limited."""
    limited = [n for n, amount in enumerate(amounts) if amount != UNLIMITED]
    return Budget(sum(1 << n for n in limited), tuple(amounts[n] for n in limited))


def _as_amounts(budget: Budget) -> Amounts:
    limits = budget.items()
    return tuple(limits.get(name, UNLIMITED) for name in DIMENSIONS)


def _given(visit: _Visit) -> Step:
    """Go on with what came of an await that home carried out."""
    message, compiled, position = visit.message, visit.compiled, visit.position
    number, values = message.position, visit.values
    if message.given == VALUE:
        what = f"line {position.line}: what {position.text!r} is given"
        try:
            result = from_json(position.type, message.operand, what)
        except InputError as unfit:
            return compiled.throw(number, values, unfit)
        return compiled.resume(number, values, result)
    if message.given == UNKNOWN:
        said = f"line {position.line}: nobody can say whether {position.text!r} took place"
        return compiled.throw(number, values, Unknown(said))
    told = error_of(failure.from_bytes(message.operand))
    return compiled.throw(number, values, told)


def _exceeded(visit: _Visit, over: str, used: Amounts, receipt: Receipt) -> BudgetExceeded:
    place = DIMENSIONS.index(over)
    limit = _as_amounts(visit.message.budget)[place]
    return BudgetExceeded(
        f"{over} exceeded: {described(over, used[place])} used by {receipt.what!r} on "
        f"{visit.node}, {described(over, limit)} were left",
        receipt,
    )


def _call(name: str, parameters: tuple[Slot, ...], operands: tuple[Any, ...]) -> bytes:
    given = zip(parameters, operands, strict=True)
    arguments = tuple(
        msgspec.Raw(to_json(slot.type, value, f"effect {name}: {slot.name}"))
        for slot, value in given
    )
    return msgspec.json.encode(Call(name, arguments))


def _nanoseconds(wait: float | timedelta) -> int:
    if isinstance(wait, timedelta):
        return wait // timedelta(microseconds=1) * 1000
    return round(wait * _NS_PER_S)
