"""What a journal says of continuations, for people: where each is, what it holds and waits for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import CorruptError, InputError, WherryError
from wherry.flow.carried import operands_of
from wherry.flow.frame import thaw_frame
from wherry.flow.nodes import CallMovable, Perform, Position, Program
from wherry.flow.proof import awaits_text
from wherry.flow.types import WireType, type_name
from wherry.flow.wire import Rows, Shard
from wherry.movables import failure, setting
from wherry.movables.carrying import HOME, program_of
from wherry.movables.values import answer_of
from wherry.run.journal import Journal
from wherry.run.message import NOTHING, RUN, Message, thaw
from wherry.run.node import HOLDER, LIFE_BITS
from wherry.run.receipts import DIMENSIONS, Amounts, from_bytes
from wherry.run.records import ENDED, PARKED, STATES, Effect, Held, Leased
from wherry.trace.hops import Hop

ID_BYTES: Final = 16
_LAST: Final = b"\xff" * ID_BYTES
_HEX: Final = frozenset("0123456789abcdef")
_PAGE: Final = 512


class Summary(Struct, frozen=True):
    """A line of `wherry ps`.

    Attributes
    ----------
    id, name, state : str
        In hexadecimal; of the movable; one of `STATES`.
    where : str
        The node that has it: `home` or a device.
    line, text : int, str
        Of the await it is at.
    waits : str
        For what.
    since_ns, wake_ns : int
        When it came to that, and when it wakes by itself (0: never); Unix nanoseconds.
    tenant : str
        Who pays.
    """

    id: str
    name: str
    state: str
    where: str
    line: int
    text: str
    waits: str
    since_ns: int
    wake_ns: int
    tenant: str


class Value(Struct, frozen=True):
    """A value that a continuation carries: a slot of its frame, or an operand of its await."""

    movable: str
    name: str
    type: str
    value: Any


class Kept(Struct, frozen=True):
    """Something that is kept for a continuation until a time."""

    what: str
    until_ns: int
    nbytes: int


class Seen(Struct, frozen=True):
    """All that a journal knows of a continuation; what it does not know is None or empty.

    Attributes
    ----------
    at : Summary or None
        Where it is; None when it has ended and been forgotten.
    program, file : str
        Digest of the program, and where it is declared.
    epoch, hop : int
        How often it was driven anew, and how many moves came before.
    started_ns, deadline_ns : int
        Unix nanoseconds; 0: not known, and none.
    system, datasets
        Where it runs, and the paths of its datasets.
    frame, operands : tuple of Value
        The live slots, and what the await was given.
    budget : dict of str to int
        What is left of what it may use, by dimension.
    hops : tuple of Hop
        Its history.
    kept : tuple of Kept
        Leases.
    effects : tuple of str
        Those that were begun, and whether they were done.
    answer : object
        What it returned.
    failed : str
        The error it ended with.
    damage : str
        What of it cannot be read.
    """

    id: str
    at: Summary | None
    program: str
    file: str
    epoch: int
    hop: int
    started_ns: int
    deadline_ns: int
    system: str
    datasets: dict[str, list[str]]
    frame: tuple[Value, ...]
    operands: tuple[Value, ...]
    budget: dict[str, int]
    hops: tuple[Hop, ...]
    kept: tuple[Kept, ...]
    effects: tuple[str, ...]
    answer: Any
    failed: str
    damage: str


def find(journal: Journal, text: str) -> bytes:
    """Give the id that begins with hexadecimal digits.

    Raises
    ------
    InputError
        If they are no such digits, none begins with them, or several do.
    """
    digits = text.lower()
    if not digits or len(digits) > 2 * ID_BYTES or not set(digits) <= _HEX:
        raise InputError(f"an id is up to {2 * ID_BYTES} hexadecimal digits; got {text!r}")
    first, last = (bytes.fromhex(digits.ljust(2 * ID_BYTES, end)) for end in "0f")
    found = journal.ids(first, last, 3)
    if not found:
        raise InputError(f"no continuation {text} in the journal; `wherry ps` lists them")
    if len(found) > 1:
        several = ", ".join(id_.hex() for id_ in found[:2])
        raise InputError(f"{text} begins more than one id: {several}; give more digits")
    return found[0]


def summaries(
    journal: Journal, key: bytes | None, *, state: int | None, tenant: str | None, limit: int
) -> list[Summary]:
    """Give up to `limit` continuations by id; ended ones only if their state is asked for."""
    if state != ENDED:
        held = journal.listed(state, tenant, limit + 1)
        return [summary(journal, one, key) for one in held if one.state != ENDED][:limit]
    return [one for one, _ in zip(_ended(journal, tenant), range(limit), strict=False)]


def summary(journal: Journal, held: Held, key: bytes | None) -> Summary:
    """Give where a continuation is."""
    program, position = _innermost(journal, held, key)
    before = _last_hop_ns(journal, held.id)
    return Summary(
        id=held.id.hex(),
        name=program_name(journal, held.program),
        state=STATES[held.state],
        where=held.where or HOME,
        line=position.line if position else 0,
        text=position.text if position else "",
        waits=_waits(held, program, position),
        since_ns=max(before, held.started_ns),
        wake_ns=held.wake_ns if held.state == PARKED else 0,
        tenant=held.tenant,
    )


def seen(journal: Journal, id_: bytes, key: bytes | None) -> Seen:
    """Give all that is known of a continuation."""
    known = journal.of(id_)
    held = next((one for one in known.records if isinstance(one, Held)), None)
    message = _message(held, key)
    answer, failed = _ending(journal, id_)
    code = journal.code(held.setting) if held is not None and held.setting else None
    system, datasets = setting.described(code.body) if code is not None else ("", {})
    program = _program(journal, held.program) if held is not None else None
    frame, operands = _carried(program, message)
    return Seen(
        id=id_.hex(),
        at=None if held is None else summary(journal, held, key),
        program=held.program.hex() if held is not None else "",
        file=f"{program.places.file}:{program.places.line}" if program is not None else "",
        epoch=held.epoch if held is not None else 0,
        hop=held.hop if held is not None else 0,
        started_ns=held.started_ns if held is not None else 0,
        deadline_ns=message.deadline_ns if message is not None else 0,
        system=system,
        datasets=datasets,
        frame=frame,
        operands=operands,
        budget=message.budget.items() if message is not None else {},
        hops=tuple(hops(journal, id_)),
        kept=tuple(_kept(one) for one in known.records if isinstance(one, Leased)),
        effects=tuple(_effect(one) for one in known.records if isinstance(one, Effect)),
        answer=answer,
        failed=failed,
        damage=known.damage,
    )


def hops(journal: Journal, id_: bytes) -> list[Hop]:
    """Give the hops of a continuation up to now, in order."""
    return [
        Hop(one.id, one.epoch, one.hop, from_bytes(one.receipt), one.run >> LIFE_BITS)
        for one in journal.receipts(id_)
        if one.receipt
    ]


def name_of(journal: Journal, id_: bytes) -> str:
    """Give the name of a continuation's movable; empty if nothing says it."""
    held = journal.held(id_)
    if held is not None:
        return program_name(journal, held.program)
    answered = journal.answered(id_)
    if answered is None:
        return ""
    if answered.failed:
        return failure.from_bytes(answered.value).function
    return answer_of(answered.value)[0]


def program_name(journal: Journal, digest: bytes) -> str:
    """Give the name of a program; its digest if the journal lacks it."""
    found = _program(journal, digest)
    return found.name if found is not None else digest.hex()[:12]


def stack(
    program: Program, position: int, values: tuple[Any, ...]
) -> list[tuple[Program, int, tuple[Any, ...]]]:
    """Give the programs of a frame with where each waits and its slots, outermost first."""
    awaits = program.positions[position].awaits
    if not isinstance(awaits, CallMovable):
        return [(program, position, values)]
    inner = stack(program.callees[awaits.callee], *values[-1])
    return [(program, position, values[:-1]), *inner]


def _ended(journal: Journal, tenant: str | None) -> Iterator[Summary]:
    first = bytes(ID_BYTES)
    while ids := journal.ids(first, _LAST, _PAGE):
        for id_ in ids:
            answered = journal.answered(id_)
            if answered is None:
                continue
            paid = next((one.tenant for one in journal.receipts(id_)), "")
            if tenant is None or paid == tenant:
                name = name_of(journal, id_)
                said = "failed" if answered.failed else "answered"
                at_ns = answered.at_ns
                yield Summary(
                    id_.hex(), name, STATES[ENDED], HOME, 0, "", said, at_ns, 0, paid
                )  # fmt: skip
        if ids[-1] == _LAST:
            return
        first = (int.from_bytes(ids[-1], "big") + 1).to_bytes(ID_BYTES, "big")


def _ending(journal: Journal, id_: bytes) -> tuple[Any, str]:
    answered = journal.answered(id_)
    if answered is None:
        return None, ""
    if not answered.failed:
        return answer_of(answered.value)[1], ""
    told = failure.from_bytes(answered.value)
    return None, f"{told.kind}: {told.message}"


def _message(held: Held | None, key: bytes | None) -> Message | None:
    """Give the message of a continuation, if there is one and the key to its seal is here."""
    return None if held is None or key is None or not held.message else thaw(held.message, key)


def _program(journal: Journal, digest: bytes) -> Program | None:
    try:
        return program_of(journal, digest)
    except CorruptError:
        raise
    except WherryError:  # an ended one names no program
        return None


def _innermost(
    journal: Journal, held: Held, key: bytes | None
) -> tuple[Program | None, Position | None]:
    """Give where a continuation waits: in the movable that was called last."""
    program = _program(journal, held.program)
    if program is None or held.position >= len(program.positions):
        return None, None
    position = program.positions[held.position]
    message = _message(held, key) if isinstance(position.awaits, CallMovable) else None
    if message is None:
        return program, position
    values = thaw_frame(program, held.position, message.frame)
    inner, number, _ = stack(program, held.position, values)[-1]
    return inner, inner.positions[number]


def _waits(held: Held, program: Program | None, position: Position | None) -> str:
    if held.state == PARKED:
        return f"event {held.event!r}" if held.event else "time"
    if program is None or position is None or held.state == ENDED:
        return "nodes to forget it" if held.state == ENDED else ""
    if isinstance(position.awaits, Perform):
        return f"effect {position.awaits.name}"
    return awaits_text(program, position.awaits)


def _last_hop_ns(journal: Journal, id_: bytes) -> int:
    return max((hop.receipt.end_ns for hop in hops(journal, id_)), default=0)


def _carried(
    program: Program | None, message: Message | None
) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """Give the slots of a frame, outermost movable first, and what its await was given."""
    if program is None or message is None:
        return (), ()
    frames = stack(program, message.position, thaw_frame(program, message.position, message.frame))
    slots = tuple(
        _value(inner.name, slot.name, slot.type, value)
        for inner, number, values in frames
        for slot, value in zip(inner.positions[number].slots, values, strict=True)
    )
    inner, number, _ = frames[-1]
    if message.kind != RUN or message.given != NOTHING or not number:
        return slots, ()
    operands = operands_of(inner)
    given = operands.thaw(number, message.operand)
    types = operands.types[number]
    return slots, tuple(
        _value(inner.name, f"operand {n}", t, value)
        for n, (t, value) in enumerate(zip(types, given, strict=True))
    )


def _value(movable: str, name: str, t: WireType, value: Any) -> Value:
    return Value(movable, name, type_name(t), shown(value))


def shown(value: Any) -> Any:
    """Give a value as a person would read it: references say what they refer to."""
    match value:
        case Rows():
            size = f"{value.num_rows:,} rows of {value.num_columns} columns"
            return f"{size} at {value.owner}"
        case Shard():
            which = "all" if value.number < 0 else f"shard {value.number}"
            return f"{which} of {value.dataset} at {value.owner}"
        case tuple():
            return tuple(map(shown, value))
        case bytes():
            return value.hex()
    return value


def _kept(lease: Leased) -> Kept:
    if lease.resource.startswith(HOLDER):
        what = f"rows at {lease.resource[len(HOLDER) :].decode()}"
    else:
        what = f"rows {lease.resource.hex()}"
    return Kept(what, lease.until_ns, lease.nbytes)


def _effect(one: Effect) -> str:
    return f"hop {one.hop}: {'done' if one.done else 'begun, and no result is on record'}"


class Bill(Struct, frozen=True):
    """What the continuations of a tenant used; `origin` says how its time was found."""

    tenant: str
    origin: str
    continuations: int
    used: Amounts


def bills(journal: Journal, *, tenant: str | None, since_ns: int) -> list[Bill]:
    """Give the sums of receipts by tenant, with modelled time apart from measured.

    Parameters
    ----------
    since_ns : int
        Leaves out hops that ended before, Unix nanoseconds.
    """
    sums: dict[tuple[str, str], list[int]] = {}
    counts: dict[tuple[str, str], int] = {}
    last: dict[tuple[str, str], bytes] = {}
    for one in journal.receipts(tenant=tenant):
        receipt = from_bytes(one.receipt) if one.receipt else None
        if receipt is None or receipt.end_ns < since_ns:
            continue
        key = (one.tenant, "modelled" if receipt.modelled else "measured")
        if last.get(key) != one.id:  # receipts come by id
            last[key] = one.id
            counts[key] = counts.get(key, 0) + 1
        found = sums.setdefault(key, [0] * len(DIMENSIONS))
        for place, amount in enumerate(receipt.used):
            found[place] += amount
    return [Bill(*key, counts[key], tuple(sums[key])) for key in sorted(sums)]
