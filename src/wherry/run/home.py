"""The rules of the node that owns a continuation: its home.

Only home decides. It has the newest state on record, counts epochs, performs effects, parks,
wakes, and records the one answer before it is told. Other nodes may repeat work; what they come to
under an older epoch is refused here. A state that gives no sign of life for a lease is driven anew
from what home has, under the next epoch, elsewhere if possible.
"""

from __future__ import annotations

from wherry.base.errors import CorruptError
from wherry.run.control import Alive, Fenced, Forget, Noted, Passed, Renew, Taken
from wherry.run.delivery import (
    Execute,
    Loaded,
    Matched,
    Outcome,
    Perform,
    Place,
    Release,
    Report,
    Send,
    Stop,
    own_error,
    parking,
)
from wherry.run.message import (
    ANSWER,
    ERROR,
    FAILED,
    LOST,
    NOTHING,
    ONCE,
    PARK,
    PERFORM,
    REFERS,
    RUN,
    TIMED_OUT,
    UNKNOWN,
    VALUE,
    Message,
)
from wherry.run.message import thaw as thaw_message
from wherry.run.node import (
    MS,
    Entry,
    State,
    arm_entry,
    backed_off,
    driven,
    drop,
    following,
    frozen,
    held,
    keep,
    match,
    persist,
    resumed,
    say,
)
from wherry.run.records import (
    AWAY,
    ENDED,
    PARKED,
    PASSED,
    RUNNING,
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
from wherry.run.records import Forgotten as ForgottenRecord


def submitted(node: State, m: Message, code: Code | None) -> None:
    """Own a new continuation; its first step is carried out here."""
    records: list[Record] = []
    if code is not None and code.digest not in node.programs:
        node.programs[code.digest] = code.body
        records.append(code)
    entry = Entry(RUNNING, m, frozen(node, m))
    entry.started = node.wall
    node.entries[m.id] = entry
    _deadline(node, entry)
    persist(node, *records, held(entry))
    node.out.append(Execute(m))
    arm_entry(node, entry)


def executed(node: State, entry: Entry, outcome: Outcome) -> None:
    """Take what a step came to that was carried out at home itself."""
    before = entry.message
    m = following(before, outcome)
    records = _receipt(node, before, outcome.receipt)
    if outcome.kept:
        keep_ns = m.lease_ms * MS * node.timing.leases_kept
        records += keep(node, m.id, outcome.kept, keep_ns)
        records += _holds(node, entry, node.name)
    target = outcome.target if m.kind == RUN else node.name
    _advance(node, entry, m, frozen(node, m), where=target, records=records, send=True)


def late(node: State, before: Message, outcome: Outcome) -> None:
    """Count what a step used that ended when it was no longer asked for."""
    records = _receipt(node, before, outcome.receipt)
    if records:
        persist(node, *records)
    here = node.keeping.get(before.id, {})
    node.out += [Release(k.resource, before.id) for k in outcome.kept if k.resource not in here]


def reported(node: State, sender: str, said: Passed | Alive, entry: Entry | None) -> None:
    """Take what a node says of a continuation; None: it has ended, or was never known."""
    if isinstance(said, Alive):
        _heard(node, sender, said, entry)
        return
    m = thaw_message(said.message, node.key) if said.message else None
    if m is not None and (m.id, m.epoch, m.hop, m.home) != (
        said.id, said.epoch, said.hop + 1, node.name,
    ):  # fmt: skip
        raise CorruptError(f"passed: its message is not of hop {said.hop + 1} of {said.id.hex()}")
    _passed(node, sender, said, m, entry)


def _passed(node: State, sender: str, said: Passed, m: Message | None, entry: Entry | None) -> None:
    """Record what a hop used and, if that is news, where it went."""
    records: list[Record] = []
    if said.receipt:
        used = Receipted(
            said.id, said.epoch, said.hop, sender, said.tenant, said.receipt, said.life, told=True
        )
        records.append(used)
    ended = entry is None or entry.state == ENDED
    if entry is not None and said.leased:
        records += _holds(node, entry, sender)
    if entry is None or ended or said.epoch != entry.epoch:
        persist(node, *records)
    else:
        _alive(node, entry)
        if m is not None and m.hop > entry.hop:
            _advance(node, entry, m, said.message, where=said.where, records=records, send=False)
        else:
            persist(node, *records)
    say(node, sender, Noted(said.id, said.epoch, said.hop, said.life))
    if ended:
        say(node, sender, Forget(said.id))
    elif entry is not None and said.epoch < entry.epoch:
        say(node, sender, Fenced(said.id, entry.epoch))


def _heard(node: State, sender: str, said: Alive, entry: Entry | None) -> None:
    """Take a sign of life of a step."""
    if entry is None or entry.state == ENDED:
        say(node, sender, Forget(said.id))
    elif said.epoch < entry.epoch:
        say(node, sender, Fenced(said.id, entry.epoch))
    else:
        _alive(node, entry)


def taken(node: State, entry: Entry, said: Taken) -> None:
    """Note that the node it was sent to has it on record."""
    if entry.state == AWAY and (said.epoch, said.hop) == (entry.epoch, entry.hop):
        entry.state, entry.retry = PASSED, 0
        persist(node, held(entry))
        _alive(node, entry)


def fenced(node: State, entry: Entry, said: Fenced) -> None:
    """Drive it anew above a newer epoch than home knew of."""
    if said.epoch > entry.epoch and entry.state in {AWAY, PASSED}:
        redrive(node, entry, entry.message, above=said.epoch)


def performed(node: State, entry: Entry, given: int, value: bytes) -> None:
    """Record what an effect came to before anything goes on."""
    before = entry.message
    done = Effect(effect_key(before), before.id, before.hop, True, value)
    _go_on(node, entry, given, value, [done])


def woken(node: State, entry: Entry) -> None:
    """Let a parked one go on whose time has come."""
    _unpark(node, entry)
    _, event = parking(entry.message.operand)
    if event:
        error = own_error("timed out", f"no event {event!r} came in time")
        _go_on(node, entry, TIMED_OUT, error, [])
    else:
        _go_on(node, entry, NOTHING, b"", [])


def matched(node: State, entry: Entry, found: Matched) -> None:
    """Let a parked one take the event that it waits for."""
    s = found.signal
    if s is not None and parking(entry.message.operand)[1] == s.name:
        _unpark(node, entry)
        _go_on(node, entry, VALUE, s.payload, [Signal(s.name, s.number, s.payload, entry.id)])


def placed(node: State, entry: Entry, target: str) -> None:
    """Send a state that is driven anew to where it may go on; nowhere: ask again later."""
    if not target:
        return
    if target == node.name:
        entry.state, entry.where, entry.lease = RUNNING, "", 0
        persist(node, held(entry))
        node.out.append(Execute(entry.message))
    else:
        entry.where = target
        entry.retry = backed_off(node, 0)
        persist(node, held(entry))
        node.out.append(Send(target, entry.data))
    arm_entry(node, entry)


def redrive(node: State, entry: Entry, m: Message, *, fresh: bool = False, above: int = 0) -> None:
    """Drive a state anew under the next epoch, other than where it fell silent."""
    if entry.where and entry.where not in entry.avoid and not fresh:
        entry.avoid = (*entry.avoid, entry.where)
    entry.epoch = max(entry.epoch, above) + 1
    entry.message = driven(m, entry.epoch, fresh=fresh)
    entry.hop = m.hop
    entry.data = frozen(node, entry.message)
    entry.state, entry.where, entry.tries, entry.retry = AWAY, "", 0, 0
    entry.lease = node.now + m.lease_ms * MS
    arm_entry(node, entry)
    persist(node, held(entry))
    node.out.append(Place(entry.message, entry.avoid))


def end(node: State, entry: Entry, *, failed: bool, value: bytes, records: list[Record]) -> None:
    """Record the one answer, tell it, and have nodes forget what they keep."""
    if entry.where:
        records += _holds(node, entry, entry.where)
    entry.state, entry.where, entry.data, entry.tries = ENDED, "", b"", 0
    entry.retry = entry.lease = entry.renew = entry.deadline = 0
    records.append(Answered(entry.id, failed, value, node.wall))
    here = node.keeping.pop(entry.id, {})
    for keeping in here.values():
        keeping.due = 0
        records.append(Leased(keeping.resource, keeping.id, 0, keeping.nbytes))
    records += _let_go(entry, node.name)
    records.append(held(entry) if entry.holders else ForgottenRecord(entry.id))
    persist(node, *records)
    node.out += [Release(k.resource, k.id) for k in here.values()]
    node.out.append(Report(entry.id, failed, value))
    if entry.holders:
        _ask_to_forget(node, entry)
    else:
        entry.due = 0
        node.entries.pop(entry.id, None)


def cut_short(node: State, entry: Entry, error: bytes) -> None:
    """End one with an error while something is done for it."""
    if entry.state == RUNNING:
        node.out.append(Stop(entry.id, entry.epoch, entry.hop))
    end(node, entry, failed=True, value=error, records=[])


def forgotten(node: State, sender: str, entry: Entry) -> None:
    """Note that a node keeps nothing for it any more."""
    if entry.state != ENDED:
        return
    records = _let_go(entry, sender)
    if records:
        persist(node, *records)
    if not entry.holders:
        drop(node, entry)


def entry_due(node: State, entry: Entry) -> None:
    """Do what time asks for."""
    now = node.now
    if entry.state == ENDED:
        _ask_to_forget(node, entry)
        return
    if entry.deadline and entry.deadline <= now:
        cut_short(node, entry, own_error("timed out", "the deadline of the call passed"))
        return
    if entry.lease and entry.lease <= now:
        redrive(node, entry, entry.message)
        return
    if entry.retry and entry.retry <= now:
        entry.tries += 1
        entry.retry = backed_off(node, entry.tries)
        node.out.append(Send(entry.where, entry.data))
    if entry.renew and entry.renew <= now:
        _renew(node, entry, entry.message.lease_ms * MS * node.timing.leases_kept)
        entry.renew = now + entry.message.lease_ms * MS
    arm_entry(node, entry)


def restored(node: State, h: Held, m: Message, records: tuple[Record, ...]) -> None:
    """Go on with a continuation that was not parked when this node ended."""
    entry = Entry(h.state, m, h.message)
    entry.where, entry.started = h.where, h.started_ns
    _remember(entry, records)
    node.entries[entry.id] = entry
    _deadline(node, entry)
    if h.state == RUNNING and m.kind == PERFORM:
        _perform_again(node, entry)
    elif h.state == RUNNING:
        node.out.append(Execute(m))
    elif h.state == AWAY and not h.where:
        redrive(node, entry, m)
    else:
        entry.lease = node.now + m.lease_ms * MS
        if h.state == AWAY:
            entry.retry = backed_off(node, 0)
            node.out.append(Send(entry.where, entry.data))
    if entry.holders:
        entry.renew = node.now + 1
    arm_entry(node, entry)


def parked(node: State, h: Held, records: tuple[Record, ...]) -> Entry:
    """Give a parked one as it is in the journal."""
    entry = Entry(PARKED, thaw_message(h.message, node.key), h.message)
    entry.started = h.started_ns
    _remember(entry, records)
    return entry


def attached(node: State, kept: Loaded) -> None:
    """Tell a caller how a continuation ended, if it has."""
    for r in kept.records:
        if isinstance(r, Answered):
            node.out.append(Report(r.id, r.failed, r.value))
            return
    if not kept.records and not kept.damage:
        error = own_error("not known", f"nothing is on record of {kept.id.hex()}")
        node.out.append(Report(kept.id, True, error))


def end_restored(node: State, id_: bytes, records: tuple[Record, ...]) -> None:
    """Have nodes forget one that ended before this node did."""
    entry = Entry(ENDED, Message(id_, FAILED, 0, 0, bytes(16), 0, node.name), b"")
    _remember(entry, records)
    node.entries[entry.id] = entry
    if entry.holders:
        _ask_to_forget(node, entry)
    else:
        drop(node, entry)


def damaged(node: State, id_: bytes, damage: str, records: tuple[Record, ...]) -> None:
    """End one whose state or answer cannot be read with an error, not with a wrong answer."""
    answered = any(isinstance(r, Answered) for r in records)
    if not answered:
        error = own_error("damaged", damage)
        persist(node, Answered(id_, True, error, node.wall))
        node.out.append(Report(id_, True, error))
    end_restored(node, id_, records)


def effect_key(m: Message) -> bytes:
    """Give the key of the effect that a `PERFORM` asks for: the same however often it is sent."""
    return m.id + m.hop.to_bytes(4, "little")


def _advance(
    node: State,
    entry: Entry,
    m: Message,
    data: bytes,
    *,
    where: str,
    records: list[Record],
    send: bool,
) -> None:
    """Take the next state: what is to be done with it depends on its kind and where it went."""
    if m.kind in {ANSWER, FAILED}:
        end(node, entry, failed=m.kind == FAILED, value=m.operand, records=records)
        return
    if m.kind == LOST:
        _go_back(node, entry, m, records)
        return
    if m.flags & REFERS and not entry.message.flags & REFERS:
        entry.fallback = entry.data
        records.append(Stepped(entry.id, 0, entry.epoch, "", entry.data, b""))
    entry.message, entry.data, entry.hop = m, data, m.hop
    entry.retry = entry.lease = entry.tries = 0
    entry.avoid = ()
    if where != node.name:
        entry.state, entry.where = AWAY if send else PASSED, where
        entry.lease = node.now + m.lease_ms * MS
        persist(node, held(entry), *records)
        if send:
            entry.retry = backed_off(node, 0)
            node.out.append(Send(where, data))
        arm_entry(node, entry)
        return
    entry.state, entry.where = RUNNING, ""
    if m.kind == PARK:
        _park(node, entry, records)
        return
    if m.kind == PERFORM:
        records.append(Effect(effect_key(m), m.id, m.hop, False))
        persist(node, held(entry), *records)
        node.out.append(Perform(m, effect_key(m)))
    else:
        persist(node, held(entry), *records)
        node.out.append(Execute(m))
    arm_entry(node, entry)


def _go_on(node: State, entry: Entry, given: int, value: bytes, records: list[Record]) -> None:
    """Go on at home with the result of what home did; there is no way back behind it."""
    m = resumed(entry.message, given, value)
    if entry.fallback:
        entry.fallback = b""
        records.append(Stepped(entry.id, 0, entry.epoch, "", b"", b""))
    entry.message, entry.hop, entry.data = m, m.hop, frozen(node, m)
    entry.state, entry.where, entry.retry, entry.lease = RUNNING, "", 0, 0
    persist(node, held(entry), *records)
    node.out.append(Execute(m))
    arm_entry(node, entry)


def _park(node: State, entry: Entry, records: list[Record]) -> None:
    """Keep it in the journal only; it has no running time-out."""
    wait_ns, event = parking(entry.message.operand)
    wake = node.wall + wait_ns if wait_ns else 0
    if not wake and not event:
        wake = node.wall
    entry.state = PARKED
    lease = entry.message.lease_ms * MS * node.timing.leases_kept
    if entry.holders:
        _renew(node, entry, lease + (wait_ns or node.timing.parked_keep_ns))
    persist(node, held(entry, wake_ns=wake, event=event), *records)
    entry.due = 0
    del node.entries[entry.id]
    if event:
        match(node, event)


def _unpark(node: State, entry: Entry) -> None:
    node.entries[entry.id] = entry
    _deadline(node, entry)
    if entry.holders:
        entry.renew = node.now + 1


def _go_back(node: State, entry: Entry, m: Message, records: list[Record]) -> None:
    """Drive the last state anew that refers to no rows; if there is none, go on with the error."""
    back = entry.data if not entry.message.flags & REFERS else entry.fallback
    if back:
        persist(node, *records)
        redrive(node, entry, thaw_message(back, node.key), fresh=True)
        return
    _go_on_from(node, entry, m, records)


def _go_on_from(node: State, entry: Entry, m: Message, records: list[Record]) -> None:
    entry.message = m
    _go_on(node, entry, ERROR, m.operand, records)


def _perform_again(node: State, entry: Entry) -> None:
    """Go on after an effect of which nobody can say whether it took place."""
    m = entry.message
    if m.flags & ONCE:
        error = own_error("unknown", "home ended while the effect was under way")
        _go_on(node, entry, UNKNOWN, error, [])
    else:
        node.out.append(Perform(m, effect_key(m)))


def _alive(node: State, entry: Entry) -> None:
    if entry.state in {AWAY, PASSED}:
        entry.lease = node.now + entry.message.lease_ms * MS
        arm_entry(node, entry)


def _deadline(node: State, entry: Entry) -> None:
    deadline = entry.message.deadline_ns
    if deadline:
        entry.deadline = node.now + max(1, deadline - node.wall)


def _receipt(node: State, m: Message, receipt: bytes) -> list[Record]:
    """Give the record of what a step used that was carried out at home itself."""
    if not receipt:
        return []
    return [Receipted(m.id, m.epoch, m.hop, node.name, m.tenant, receipt, node.life, told=True)]


_HOLDER = b"node:"


def _holds(node: State, entry: Entry, name: str) -> list[Record]:
    """Remember that a node keeps something for it."""
    keep_ns = entry.message.lease_ms * MS * node.timing.leases_kept
    known = name in entry.holders
    entry.holders[name] = node.wall + keep_ns
    if not entry.renew:
        entry.renew = node.now + entry.message.lease_ms * MS
    return [] if known else [Leased(_HOLDER + name.encode(), entry.id, node.wall + keep_ns)]


def _let_go(entry: Entry, name: str) -> list[Record]:
    if entry.holders.pop(name, None) is None:
        return []
    return [Leased(_HOLDER + name.encode(), entry.id, 0)]


def _ask_to_forget(node: State, entry: Entry) -> None:
    """Ask every node that keeps something to let go of it; after a while time has done so."""
    entry.tries += 1
    if entry.tries > 2 * node.timing.tries:
        records = [r for name in tuple(entry.holders) for r in _let_go(entry, name)]
        persist(node, *records)
        drop(node, entry)
        return
    for name in entry.holders:
        say(node, name, Forget(entry.id))
    entry.retry = backed_off(node, entry.tries)
    arm_entry(node, entry)


def _renew(node: State, entry: Entry, keep_ns: int) -> None:
    for name in entry.holders:
        if name != node.name:
            say(node, name, Renew(entry.id, keep_ns))


def _remember(entry: Entry, records: tuple[Record, ...]) -> None:
    for r in records:
        if isinstance(r, Leased) and r.until_ns and r.resource.startswith(_HOLDER):
            entry.holders[r.resource[len(_HOLDER) :].decode()] = r.until_ns
        elif isinstance(r, Stepped) and r.hop == 0:
            entry.fallback = r.message
