"""One step of a continuation: carry out its await here, go on to the next, say where that belongs.

What arrives is a state at an await that nobody has carried out: the live values and what the await
was given. This node carries it out, puts the result in, runs to the next await, and the outcome
names the node that should have that one. Nothing is left behind but rows under a lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec

from wherry.base.errors import InputError
from wherry.devices.charge import latency_ns, transfer_ns
from wherry.devices.topology import legs
from wherry.flow.run import Compiled, compiled_of
from wherry.flow.nodes import CallMovable, Perform, Position, Program, Sleep, WaitFor
from wherry.flow.operands import operands_of
from wherry.flow.frame import freeze_frame, thaw_frame
from wherry.movables import failure
from wherry.movables.awaits import Around, Done, carry_out, node_for, refers
from wherry.movables.failure import Failure, Unknown, error_of, failure_of
from wherry.movables.stores import LeaseEnded
from wherry.movables.values import answer_bytes, from_json, to_json
from wherry.run import delivery
from wherry.run.delivery import Outcome
from wherry.run.message import ERROR, NOTHING, REFERS, UNKNOWN, VALUE, Budget, Message
from wherry.run.receipts import (
    DIMENSIONS,
    UNLIMITED,
    Amounts,
    BudgetExceeded,
    Receipt,
    described,
    left,
    to_bytes,
    total,
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


@dataclass
class Steps:
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
        program = self.program(message.program)
        compiled = compiled_of(program)
        values = thaw_frame(program, message.position, message.frame)
        done = _Told(compiled.waiting(message.position, values), Done())
        try:
            step = self._stepped(node, compiled, message, values, done)
            return self._told(node, program, message, step, done, begun)
        except LeaseEnded as gone:
            lost = failure.to_bytes(Failure("LeaseEnded", str(gone)))
            return delivery.lost(lost, position=message.position, frame=message.frame)
        except Exception as error:  # noqa: BLE001  a movable that fails ends itself, not the node
            return self._failed(node, program, message, error, done, begun)

    def _stepped(
        self,
        node: str,
        compiled: Compiled,
        message: Message,
        values: tuple[Any, ...],
        done: _Told,
    ) -> Step:
        """Give where the movable stops next."""
        if message.position == 0:
            return compiled.start(values)
        if message.given != NOTHING:
            return _given(message, done.position, compiled, values)
        awaits = done.position.awaits
        assert awaits is not None  # only the entry awaits nothing
        if isinstance(awaits, Sleep):
            return compiled.resume(message.position, values, None)
        until = time.time_ns() + message.lease_ms * _NS_PER_MS
        operands = given_to(compiled, message, values)
        try:
            result = carry_out(node, awaits, operands, self.around, until, done.did)
        except LeaseEnded:
            raise
        except Exception as error:  # noqa: BLE001  the movable may catch it at its await
            done.failed = f"{type(error).__name__}: {error}"
            return compiled.throw(message.position, values, error)
        return compiled.resume(message.position, values, result)

    def _told(
        self, node: str, program: Program, message: Message, step: Step, done: _Told, begun: int
    ) -> Outcome:
        """Give the outcome of a step with its receipt; what goes too far is thrown at the await."""
        outcome = self._onward(program, step)
        used = self._used(node, outcome, done, begun)
        rest, over = left(_as_amounts(message.budget), used)
        receipt = self._receipt(node, program, message, done, begun, used)
        if over and outcome.kind != delivery.ANSWER:
            limit = _as_amounts(message.budget)[DIMENSIONS.index(over)]
            error = BudgetExceeded(
                f"{over} exceeded: {described(over, used[DIMENSIONS.index(over)])} used by "
                f"{receipt.what!r} on {node}, {described(over, limit)} were left",
                receipt,
            )
            outcome = self._onward(program, compiled_of(program).throw(step[0], step[1], error))
        return msgspec.structs.replace(
            outcome, receipt=to_bytes(receipt), budget=as_budget(rest), kept=tuple(done.did.kept)
        )

    def _failed(
        self, node: str, program: Program, message: Message, error: Exception, done: _Told, begun: int
    ) -> Outcome:
        told = failure_of(error, program.places.file, program.name, node)
        done.failed = f"{told.kind}: {told.message}"
        outcome = delivery.failed(failure.to_bytes(told))
        used = self._used(node, outcome, done, begun)
        receipt = self._receipt(node, program, message, done, begun, used)
        return msgspec.structs.replace(outcome, receipt=to_bytes(receipt), kept=tuple(done.did.kept))

    def _onward(self, program: Program, step: Step) -> Outcome:
        """Give where a state belongs: to a node, to home for a time, or to the caller."""
        number, values, operands = step
        if number < 0:
            rows = refers((values,))
            self._save(rows)
            for one in rows:
                self.around.stores.pin(one.key)
            answer = answer_bytes(program.name, program.result, values)
            return delivery.answer(answer, flags=REFERS if rows else 0)
        position = compiled_of(program).waiting(number, values)
        frame = freeze_frame(program, number, values)
        rows = refers((*values, *operands))
        flags = REFERS if rows else 0
        match position.awaits:
            case Sleep():
                self._save(rows)
                wait = _nanoseconds(operands[0])
                return delivery.park(number, frame, wait_ns=max(1, wait), flags=flags)
            case WaitFor():
                self._save(rows)
                return delivery.park(number, frame, event=operands[0], flags=flags)
            case Perform(name, effect, _, parameters):
                self._save(rows)
                given = zip(parameters, operands, strict=True)
                arguments = tuple(msgspec.Raw(to_json(t, v, f"effect {name}")) for t, v in given)
                call = msgspec.json.encode(Call(name, arguments))
                return delivery.perform(number, frame, call, once=effect == "once", flags=flags)
        assert position.awaits is not None  # a movable stops at awaits
        target = node_for(position.awaits, operands, self.around)
        inner, at = innermost(compiled_of(program), number, values)
        given = operands_of(inner).freeze(at, operands)
        return delivery.go(target, number, frame, operand=given, flags=flags)

    def _save(self, rows: list[Any]) -> None:
        """Write rows that a state at home refers to: home goes back to it after a crash."""
        for one in rows:
            self.around.stores.save(one.key, one.owner)

    def _used(self, node: str, outcome: Outcome, done: _Told, begun: int) -> Amounts:
        """Give what a step used: its await's work, and the message's move to the next node."""
        found = dict(zip(DIMENSIONS, done.did.used, strict=True))
        found["hops"] = 1
        system = self.around.setting.system
        target = outcome.target or system.client
        if not self.around.setting.modelled:
            found["time_ns"] = time.time_ns() - begun
        elif target != node:
            nbytes = _HEADER_BYTES + len(outcome.frame) + len(outcome.operand)
            way = legs(system, node, target)
            found["bytes"] += nbytes * len(way)
            found["time_ns"] += sum(
                latency_ns(leg.link) + transfer_ns(leg.link, nbytes) for leg in way
            )
        return tuple(found.values())

    def _receipt(
        self, node: str, program: Program, message: Message, done: _Told, begun: int, used: Amounts
    ) -> Receipt:
        return Receipt(
            node=node,
            position=message.position,
            line=done.position.line,
            what=(done.position.text or program.name)[:_WHAT],
            start_ns=begun,
            end_ns=time.time_ns(),
            modelled=self.around.setting.modelled,
            used=used,
            failed=done.failed,
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


@dataclass
class _Told:
    """What is to be said of a step: its position, what it did, and what its await raised."""

    position: Position
    did: Done
    failed: str = ""


def _given(message: Message, position: Position, compiled: Compiled, values: tuple[Any, ...]) -> Step:
    """Go on with what came of an await that home carried out."""
    number = message.position
    if message.given == VALUE:
        what = f"line {position.line}: what {position.text!r} is given"
        try:
            result = from_json(position.type, message.operand, what)
        except InputError as error:
            return compiled.throw(number, values, error)
        return compiled.resume(number, values, result)
    if message.given == ERROR:
        error = error_of(failure.from_bytes(message.operand))
        return compiled.throw(number, values, error)
    if message.given == UNKNOWN:
        said = f"line {position.line}: nobody can say whether {position.text!r} took place"
        return compiled.throw(number, values, Unknown(said))
    return compiled.resume(number, values, None)


def _nanoseconds(wait: float | timedelta) -> int:
    if isinstance(wait, timedelta):
        return wait // timedelta(microseconds=1) * 1000
    return round(wait * _NS_PER_S)


def _as_amounts(budget: Budget) -> Amounts:
    limits = budget.items()
    return tuple(limits.get(name, UNLIMITED) for name in DIMENSIONS)


def as_budget(amounts: Amounts) -> Budget:
    """Give amounts as a message carries them: only those that are limited."""
    limited = [n for n, amount in enumerate(amounts) if amount != UNLIMITED]
    return Budget(sum(1 << n for n in limited), tuple(amounts[n] for n in limited))
