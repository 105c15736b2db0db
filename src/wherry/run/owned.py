"""How the state of a continuation changes at the node that owns it.

`home.py` says on which events; here is what then goes on record, and what is done after it. An
owned state that is elsewhere has a lease; a parked one has a time or an event that wakes it, is not
in memory and has no timer; one that has ended has no timer but that which asks nodes to forget.
"""

from __future__ import annotations

from wherry.run.control import Forget, Renew
from wherry.run.delivery import (
    Execute,
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
    ONCE,
    PARK,
    PERFORM,
    REFERS,
    UNKNOWN,
    Message,
)
from wherry.run.message import thaw as thaw_message
from wherry.run.node import (
    HOLDER,
    MS,
    Entry,
    State,
    arm_entry,
    backed_off,
    driven,
    drop,
    frozen,
    held,
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
    Effect,
    Leased,
    Record,
    Stepped,
)
from wherry.run.records import Forgotten as ForgottenRecord


def advance(
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


def go_on(node: State, entry: Entry, given: int, value: bytes, records: list[Record]) -> None:
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
        renew(node, entry, lease + (wait_ns or node.timing.parked_keep_ns))
    persist(node, held(entry, wake_ns=wake, event=event), *records)
    entry.due = 0
    del node.entries[entry.id]
    if event:
        match(node, event)


def unpark(node: State, entry: Entry) -> None:
    """Have one that was parked in memory again."""
    node.entries[entry.id] = entry
    set_deadline(node, entry)
    if entry.holders:
        entry.renew = node.now + 1


def _go_back(node: State, entry: Entry, m: Message, records: list[Record]) -> None:
    """Drive the last state anew that refers to no rows; if there is none, go on with the error."""
    back = entry.data if not entry.message.flags & REFERS else entry.fallback
    if back:
        persist(node, *records)
        redrive(node, entry, thaw_message(back, node.key), fresh=True)
        return
    entry.message = m
    go_on(node, entry, ERROR, m.operand, records)


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


def perform_again(node: State, entry: Entry) -> None:
    """Go on after an effect of which nobody can say whether it took place."""
    m = entry.message
    if m.flags & ONCE:
        error = own_error("unknown", "home ended while the effect was under way")
        go_on(node, entry, UNKNOWN, error, [])
    else:
        node.out.append(Perform(m, effect_key(m)))


def end(node: State, entry: Entry, *, failed: bool, value: bytes, records: list[Record]) -> None:
    """Record the one answer, tell it, and have nodes forget what they keep."""
    entry.state, entry.where, entry.data, entry.tries = ENDED, "", b"", 0
    entry.retry = entry.lease = entry.renew = entry.deadline = 0
    records.append(Answered(entry.id, failed, value, node.wall))
    here = node.keeping.pop(entry.id, {})
    for keeping in here.values():
        keeping.due = 0
        records.append(Leased(keeping.resource, keeping.id, 0, keeping.nbytes))
    records += let_go(entry, node.name)
    records.append(held(entry) if entry.holders else ForgottenRecord(entry.id))
    persist(node, *records)
    node.out += [Release(k.resource, k.id) for k in here.values()]
    node.out.append(Report(entry.id, failed, value))
    if entry.holders:
        ask_to_forget(node, entry)
    else:
        entry.due = 0
        node.entries.pop(entry.id, None)


def cut_short(node: State, entry: Entry, error: bytes) -> None:
    """End one with an error while something is done for it."""
    if entry.state == RUNNING:
        node.out.append(Stop(entry.id, entry.epoch, entry.hop))
    records = holds(node, entry, entry.where) if entry.where else []
    end(node, entry, failed=True, value=error, records=records)


def ask_to_forget(node: State, entry: Entry) -> None:
    """Ask every node that keeps something to let go of it; after a while time has done so."""
    entry.tries += 1
    if entry.tries > 2 * node.timing.tries:
        records = [r for name in tuple(entry.holders) for r in let_go(entry, name)]
        persist(node, *records)
        drop(node, entry)
        return
    for name in entry.holders:
        say(node, name, Forget(entry.id))
    entry.retry = backed_off(node, entry.tries)
    arm_entry(node, entry)


def renew(node: State, entry: Entry, keep_ns: int) -> None:
    """Ask nodes to keep for so long what they keep."""
    for name in entry.holders:
        if name != node.name:
            say(node, name, Renew(entry.id, keep_ns))


def sign_of_life(node: State, entry: Entry) -> None:
    """Begin the lease of one that is elsewhere anew."""
    if entry.state in {AWAY, PASSED}:
        entry.lease = node.now + entry.message.lease_ms * MS
        arm_entry(node, entry)


def set_deadline(node: State, entry: Entry) -> None:
    """Have it end when the deadline of its call passes."""
    deadline = entry.message.deadline_ns
    if deadline:
        entry.deadline = node.now + max(1, deadline - node.wall)


def holds(node: State, entry: Entry, name: str) -> list[Record]:
    """Remember that a node keeps something for it."""
    keep_ns = entry.message.lease_ms * MS * node.timing.leases_kept
    known = name in entry.holders
    entry.holders[name] = node.wall + keep_ns
    if not entry.renew and entry.state != ENDED:
        entry.renew = node.now + entry.message.lease_ms * MS
    return [] if known else [Leased(HOLDER + name.encode(), entry.id, node.wall + keep_ns)]


def let_go(entry: Entry, name: str) -> list[Record]:
    """Remember that a node keeps nothing for it any more."""
    if entry.holders.pop(name, None) is None:
        return []
    return [Leased(HOLDER + name.encode(), entry.id, 0)]


def remember(entry: Entry, records: tuple[Record, ...]) -> None:
    """Put what the journal has beside the state of it back in place."""
    for r in records:
        if isinstance(r, Leased) and r.until_ns and r.resource.startswith(HOLDER):
            entry.holders[r.resource[len(HOLDER) :].decode()] = r.until_ns
        elif isinstance(r, Stepped) and r.hop == 0:
            entry.fallback = r.message


def effect_key(m: Message) -> bytes:
    """Give the key of the effect that a `PERFORM` asks for: the same however often it is sent."""
    return m.id + m.hop.to_bytes(4, "little")
