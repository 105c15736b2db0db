"""The rules of a node that a continuation visits.

It takes a message if its epoch is not older than one it knows, says so once it has it on record,
carries the step out, records what it came to, sends that on, and tells home. It keeps a state only
until the next node and home have it; from then on home drives it. What it keeps under a lease it
lets go of when home says so, or when time is up.
"""

from __future__ import annotations

from wherry.run.control import (
    Alive,
    Fenced,
    Forget,
    Forgotten,
    Need,
    Noted,
    Renew,
    Ship,
    Taken,
)
from wherry.run.delivery import Execute, Outcome, Received, Release, Send, Stop
from wherry.run.message import FRESH, REFERS, RUN, Message, state_digest
from wherry.run.node import (
    HOLDER,
    LACKING_MAX,
    MS,
    Entry,
    Keeping,
    Lacking,
    State,
    Telling,
    arm,
    arm_entry,
    backed_off,
    driven,
    drop,
    following,
    frozen,
    held,
    keep,
    persist,
    run_number,
    say,
    tell,
)
from wherry.run.records import AWAY, PASSED, RUNNING, Code, Held, Leased, Receipted, Record


def arrived(node: State, event: Received, m: Message) -> None:
    """Take a message of a continuation whose home is another node."""
    sender, data = event.sender, event.data
    entry = node.entries.get(m.id)
    if entry is not None:
        if m.epoch < entry.epoch:
            say(node, sender, Fenced(m.id, entry.epoch))
            return
        if m.epoch == entry.epoch and m.hop <= entry.hop:
            say(node, sender, Taken(m.id, m.epoch, m.hop))
            return
    if m.kind != RUN:
        return
    if m.program not in node.programs:
        _lack(node, event, m)
        return
    if entry is not None:
        if _reusable(node, entry, m):
            _reuse(node, entry, sender, m)
            return
        if entry.state == RUNNING:
            node.out.append(Stop(entry.id, entry.epoch, entry.hop))
        entry.due = 0
    entry = Entry(RUNNING, m, data)
    node.entries[m.id] = entry
    entry.came = state_digest(m)
    persist(node, held(entry))
    say(node, sender, Taken(m.id, m.epoch, m.hop))
    begin(node, entry)


def begin(node: State, entry: Entry) -> None:
    """Carry the step out; from time to time home hears that it is running."""
    entry.alive = node.now + entry.message.lease_ms * MS // 3
    node.out.append(Execute(entry.message))
    arm_entry(node, entry)


def executed(node: State, entry: Entry, outcome: Outcome) -> None:
    """Record what a step came to, send it on, and tell home."""
    before = entry.message
    m = following(before, outcome)
    data = frozen(node, m)
    target = outcome.target if m.kind == RUN else m.home
    entry.epoch, entry.hop, entry.message, entry.data = m.epoch, m.hop, m, data
    entry.told, entry.tries, entry.alive = False, 0, 0
    leased = keep(node, m.id, outcome.kept, _keep_ns(node, m)) if outcome.kept else []
    key = (before.id, before.epoch, before.hop, run_number(node))
    receipt = tell(node, key, m.home, target, tenant=m.tenant, receipt=outcome.receipt, data=data)
    if target == node.name:
        entry.state, entry.where, entry.came = RUNNING, "", state_digest(m)
        persist(node, held(entry), *leased, *receipt)
        begin(node, entry)
    else:
        entry.state, entry.where = AWAY, target
        persist(node, held(entry), *leased, *receipt)
        _send_on(node, entry)
    node.out.append(Send(m.home, node.telling[key].data))


def late(node: State, before: Message, outcome: Outcome) -> None:
    """Count what a step used that ended when it was no longer asked for.

    What it left at this node is let go of at once.
    """
    key = (before.id, before.epoch, before.hop, run_number(node))
    persist(
        node,
        *tell(node, key, before.home, node.name, tenant=before.tenant, receipt=outcome.receipt),
    )
    node.out.append(Send(before.home, node.telling[key].data))
    here = node.keeping.get(before.id, {})
    node.out += [Release(k.resource, before.id) for k in outcome.kept if k.resource not in here]


def taken(node: State, entry: Entry, said: Taken) -> None:
    """Note that the next node has it on record."""
    if entry.state != AWAY or (said.epoch, said.hop) != (entry.epoch, entry.hop):
        return
    entry.state = PASSED
    entry.retry = 0
    if entry.told:
        drop(node, entry)
    else:
        persist(node, held(entry))
        arm_entry(node, entry)


def noted(node: State, said: Noted) -> None:
    """Note that home has it on record."""
    telling = node.telling.pop((said.id, said.epoch, said.hop, said.run), None)
    if telling is not None:
        telling.due = 0
        r = telling.record
        if r is not None:
            persist(node, Receipted(r.id, r.epoch, r.hop, r.node, r.tenant, b"", r.run, told=True))
    entry = node.entries.get(said.id)
    if entry is None or (entry.epoch, entry.hop) != (said.epoch, said.hop + 1):
        return
    if entry.state == PASSED or (entry.state == AWAY and entry.where == entry.message.home):
        drop(node, entry)
    elif entry.state == AWAY:
        entry.told = True


def fenced(node: State, entry: Entry, said: Fenced) -> None:
    """Leave a state of which a newer epoch is under way."""
    if said.epoch > entry.epoch:
        _leave(node, entry)


def forget(node: State, sender: str, said: Forget) -> None:
    """Let go of all that is kept for a continuation that has ended."""
    entry = node.entries.get(said.id)
    if entry is not None:
        _leave(node, entry)
    here = node.keeping.pop(said.id, {})
    if here:
        persist(node, *(Leased(k.resource, k.id, 0, k.nbytes) for k in here.values()))
        for keeping in here.values():
            keeping.due = 0
            node.out.append(Release(keeping.resource, keeping.id))
    say(node, sender, Forgotten(said.id))


def renew(node: State, said: Renew) -> None:
    """Keep what is kept for so long from now, if that is longer."""
    records = []
    for keeping in node.keeping.get(said.id, {}).values():
        if node.now + said.keep_ns > keeping.due:
            arm(node, keeping, node.now + said.keep_ns)
            records.append(
                Leased(keeping.resource, said.id, node.wall + said.keep_ns, keeping.nbytes)
            )
    if records:
        persist(node, *records)


def shipped(node: State, said: Ship) -> list[Received]:
    """Keep a program that came; give the messages that waited for it."""
    if said.digest not in node.programs:
        node.programs[said.digest] = said.body
        persist(node, Code(said.digest, "program", said.body))
    lacking = node.lacking.pop(said.digest, None)
    if lacking is None:
        return []
    lacking.due = 0
    return list(lacking.events.values())


def entry_due(node: State, entry: Entry) -> None:
    """Say that a step is running, or send on again what is not acknowledged."""
    if entry.alive and entry.alive <= node.now:
        entry.alive = node.now + entry.message.lease_ms * MS // 3
        say(node, entry.message.home, Alive(entry.id, entry.epoch, entry.hop))
    if entry.retry and entry.retry <= node.now:
        entry.tries += 1
        if entry.told and entry.tries > node.timing.tries:
            drop(node, entry)
            return
        entry.retry = backed_off(node, entry.tries)
        node.out.append(Send(entry.where, entry.data))
    arm_entry(node, entry)


def telling_due(node: State, telling: Telling) -> None:
    """Tell home again."""
    telling.tries += 1
    node.out.append(Send(telling.home, telling.data))
    arm(node, telling, backed_off(node, telling.tries))


def keeping_due(node: State, keeping: Keeping) -> None:
    """Let go of what a lease kept until now."""
    keeping.due = 0
    here = node.keeping[keeping.id]
    del here[keeping.resource]
    if not here:
        del node.keeping[keeping.id]
    persist(node, Leased(keeping.resource, keeping.id, 0, keeping.nbytes))
    node.out.append(Release(keeping.resource, keeping.id))


def restored(node: State, h: Held, m: Message, records: tuple[Record, ...]) -> None:
    """Go on with a continuation that the journal has."""
    entry = Entry(h.state, m, h.message)
    entry.where = h.where
    entry.came = h.came
    node.entries[m.id] = entry
    if h.state == RUNNING:
        begin(node, entry)
        return
    key, receipt = (m.id, m.epoch, m.hop - 1, run_number(node)), b""
    for r in records:
        if isinstance(r, Receipted) and not r.told and (r.epoch, r.hop) == (m.epoch, m.hop - 1):
            key, receipt = (r.id, r.epoch, r.hop, r.run), r.receipt
    tell(node, key, m.home, h.where, tenant=m.tenant, receipt=receipt, data=h.message)
    node.out.append(Send(m.home, node.telling[key].data))
    if h.state == AWAY:
        _send_on(node, entry)


def receipts_restored(node: State, records: tuple[Record, ...]) -> None:
    """Tell home of receipts that it may not have, whatever became of their continuation."""
    for r in records:
        if isinstance(r, Receipted) and not r.told:
            key = (r.id, r.epoch, r.hop, r.run)
            if key not in node.telling:
                tell(node, key, r.home, node.name, tenant=r.tenant, receipt=r.receipt)
                node.out.append(Send(r.home, node.telling[key].data))


def leases_restored(node: State, records: tuple[Record, ...]) -> None:
    """Keep what the journal says is kept here, for no longer than it says."""
    for r in records:
        if isinstance(r, Leased) and r.until_ns and not r.resource.startswith(HOLDER):
            here = node.keeping.setdefault(r.id, {})
            keeping = here[r.resource] = Keeping(r.id, r.resource, r.nbytes)
            arm(node, keeping, node.now + max(1, r.until_ns - node.wall))


def _send_on(node: State, entry: Entry) -> None:
    if entry.where != entry.message.home:
        entry.retry = backed_off(node, entry.tries)
        node.out.append(Send(entry.where, entry.data))
    arm_entry(node, entry)


def _lack(node: State, event: Received, m: Message) -> None:
    """Ask home for a program; its messages wait, for no longer than a lease."""
    if sum(len(lacking.events) for lacking in node.lacking.values()) < LACKING_MAX:
        lacking = node.lacking.get(m.program)
        if lacking is None:
            lacking = node.lacking[m.program] = Lacking(m.program)
        lacking.events[m.id] = event
        arm(node, lacking, node.now + m.lease_ms * MS)
    say(node, m.home, Need(m.program))


def _reusable(node: State, entry: Entry, m: Message) -> bool:
    """Whether the step of a newer epoch was carried out here before, and what it made is there."""
    return (
        entry.state != RUNNING
        and entry.hop == m.hop + 1
        and not m.flags & FRESH
        and not (entry.message.flags & REFERS and m.id not in node.keeping)
        and entry.came == state_digest(m)
    )


def _reuse(node: State, entry: Entry, sender: str, m: Message) -> None:
    """Send again what the step came to, under the newer epoch."""
    entry.message = driven(entry.message, m.epoch)
    entry.epoch, entry.data = m.epoch, frozen(node, entry.message)
    entry.state, entry.told, entry.tries = AWAY, False, 0
    persist(node, held(entry))
    say(node, sender, Taken(m.id, m.epoch, m.hop))
    key = (m.id, m.epoch, m.hop, run_number(node))
    tell(node, key, m.home, entry.where, tenant=m.tenant, data=entry.data)
    node.out.append(Send(m.home, node.telling[key].data))
    _send_on(node, entry)


def _leave(node: State, entry: Entry) -> None:
    if entry.state == RUNNING:
        node.out.append(Stop(entry.id, entry.epoch, entry.hop))
    drop(node, entry)


def _keep_ns(node: State, m: Message) -> int:
    return m.lease_ms * MS * node.timing.leases_kept
