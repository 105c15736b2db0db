"""The rules of the node that owns a continuation: its home.

Only home decides. It has the newest state on record, counts epochs, performs effects, parks,
wakes, and records the one answer before it is told. Other nodes may repeat work; what they come to
under an older epoch is refused here. A state that gives no sign of life for a lease is driven anew
from what home has, under the next epoch, elsewhere if possible.
"""

from __future__ import annotations

from msgspec import structs

from wherry.base.errors import CorruptError
from wherry.run.control import Alive, Fenced, Forget, Noted, Passed, Taken
from wherry.run.delivery import (
    Execute,
    Loaded,
    Matched,
    Migrate,
    Outcome,
    Release,
    Report,
    Send,
    own_error,
    parking,
)
from wherry.run.message import (
    FAILED,
    NOTHING,
    PERFORM,
    RUN,
    TIMED_OUT,
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
    drop,
    following,
    frozen,
    held,
    keep,
    persist,
    run_number,
    say,
)
from wherry.run.owned import (
    advance,
    ask_to_forget,
    cut_short,
    effect_key,
    go_on,
    holds,
    let_go,
    perform_again,
    redrive,
    remember,
    renew,
    set_deadline,
    sign_of_life,
    unpark,
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
    Receipted,
    Record,
    Signal,
)


def submitted(node: State, m: Message, code: Code | None, setting: Code | None) -> None:
    """Own a new continuation; its first step is carried out here."""
    records: list[Record] = []
    if code is not None and code.digest not in node.programs:
        node.programs[code.digest] = code.body
        records.append(code)
    entry = Entry(RUNNING, m, frozen(node, m))
    entry.started = node.wall
    if setting is not None:
        entry.setting = setting.digest
        if setting.digest not in node.settings:
            node.settings.add(setting.digest)
            records.append(setting)
    node.entries[m.id] = entry
    set_deadline(node, entry)
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
        records += holds(node, entry, node.name)
    target = outcome.target if m.kind == RUN else node.name
    advance(node, entry, m, frozen(node, m), where=target, records=records, send=True)


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
            said.id, said.epoch, said.hop, sender, said.tenant, said.receipt, said.run, told=True
        )
        records.append(used)
    ended = entry is None or entry.state == ENDED
    if entry is not None and said.leased:
        records += holds(node, entry, sender)
    if entry is None or ended or said.epoch != entry.epoch:
        persist(node, *records)
    else:
        sign_of_life(node, entry)
        if m is not None and m.hop > entry.hop:
            advance(node, entry, m, said.message, where=said.where, records=records, send=False)
        else:
            persist(node, *records)
    say(node, sender, Noted(said.id, said.epoch, said.hop, said.run))
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
        sign_of_life(node, entry)


def taken(node: State, entry: Entry, said: Taken) -> None:
    """Note that the node it was sent to has it on record."""
    if entry.state == AWAY and (said.epoch, said.hop) == (entry.epoch, entry.hop):
        entry.state, entry.retry = PASSED, 0
        persist(node, held(entry))
        sign_of_life(node, entry)


def fenced(node: State, entry: Entry, said: Fenced) -> None:
    """Drive it anew above a newer epoch than home knew of."""
    if said.epoch > entry.epoch and entry.state in {AWAY, PASSED}:
        redrive(node, entry, entry.message, above=said.epoch)


def performed(node: State, entry: Entry, given: int, value: bytes) -> None:
    """Record what an effect came to before anything goes on."""
    before = entry.message
    done = Effect(effect_key(before), before.id, before.hop, True, value)
    go_on(node, entry, given, value, [done])


def woken(node: State, entry: Entry) -> None:
    """Let a parked one go on whose time has come."""
    unpark(node, entry)
    _, event = parking(entry.message.operand)
    if event:
        error = own_error("timed out", f"no event {event!r} came in time")
        go_on(node, entry, TIMED_OUT, error, [])
    else:
        go_on(node, entry, NOTHING, b"", [])


def matched(node: State, entry: Entry, found: Matched) -> None:
    """Let a parked one take the event that it waits for."""
    s = found.signal
    if s is not None and parking(entry.message.operand)[1] == s.name:
        unpark(node, entry)
        go_on(
            node, entry, VALUE, s.payload, [Signal(s.name, s.number, s.payload, entry.id, s.at_ns)]
        )


def migrated(node: State, entry: Entry, to: Migrate, wake_ns: int) -> None:
    """Have a parked one wait with another program; it keeps what it waits for."""
    m = entry.message
    if (m.epoch, m.hop) != (to.epoch, to.hop) or to.program not in node.programs:
        return
    entry.message = structs.replace(
        m, hop=m.hop + 1, program=to.program, position=to.position, frame=to.frame
    )
    entry.hop, entry.data = m.hop + 1, frozen(node, entry.message)
    persist(node, held(entry, wake_ns=wake_ns, event=parking(m.operand)[1]))


def placed(node: State, entry: Entry, target: str) -> None:
    """Send a state that is driven anew to where it may go on; nowhere: ask again later."""
    if not target:
        entry.avoid = ()
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


def forgotten(node: State, sender: str, entry: Entry) -> None:
    """Note that a node keeps nothing for it any more."""
    if entry.state != ENDED:
        return
    records = let_go(entry, sender)
    if records:
        persist(node, *records)
    if not entry.holders:
        drop(node, entry)


def entry_due(node: State, entry: Entry) -> None:
    """Do what time asks for."""
    now = node.now
    if entry.state == ENDED:
        ask_to_forget(node, entry)
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
        renew(node, entry, entry.message.lease_ms * MS * node.timing.leases_kept)
        entry.renew = now + entry.message.lease_ms * MS
    arm_entry(node, entry)


def restored(node: State, h: Held, m: Message, records: tuple[Record, ...]) -> None:
    """Go on with a continuation that was not parked when this node ended."""
    entry = Entry(h.state, m, h.message)
    entry.where, entry.started, entry.setting = h.where, h.started_ns, h.setting
    remember(entry, records)
    node.entries[entry.id] = entry
    set_deadline(node, entry)
    if h.state == RUNNING and m.kind == PERFORM:
        perform_again(node, entry)
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
    entry.started, entry.setting = h.started_ns, h.setting
    remember(entry, records)
    return entry


def cancelled(node: State, h: Held, records: tuple[Record, ...], error: bytes) -> None:
    """End one that was under way when this node ended, and that nobody asked to go on with."""
    entry = parked(node, h, records)
    entry.state, entry.where = h.state, h.where
    node.entries[entry.id] = entry
    cut_short(node, entry, error)


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
    remember(entry, records)
    node.entries[entry.id] = entry
    if entry.holders:
        ask_to_forget(node, entry)
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


def _receipt(node: State, m: Message, receipt: bytes) -> list[Record]:
    """Give the record of what a step used that was carried out at home itself."""
    if not receipt:
        return []
    return [
        Receipted(m.id, m.epoch, m.hop, node.name, m.tenant, receipt, run_number(node), told=True)
    ]
