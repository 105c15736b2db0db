"""Edits that make the protocol wrong; the schedules of faults must notice every one of them."""

from __future__ import annotations

from typing import Final

from wherry.sim.faults.mutate import Mutant

_MESSAGE: Final = "wherry.run.message"
_NODE: Final = "wherry.run.node"
_OWNED: Final = "wherry.run.owned"
_VISIT: Final = "wherry.run.visit"
_HOME: Final = "wherry.run.home"
_PROTOCOL: Final = "wherry.run.protocol"
_JOURNAL: Final = "wherry.sim.faults.journal"
_CARRY: Final = "wherry.sim.faults.carry"

MUTANTS: Final = (
    # The message
    Mutant(
        "the seal is not checked",
        _MESSAGE,
        "if not hmac.compare_digest(data[-DIGEST_BYTES:], sealed(body, key)):",
        "if False:",
    ),
    Mutant(
        "the frame is not sealed",
        _MESSAGE,
        "    return body + sealed(body, key)\n\n\ndef thaw",
        "    return body + sealed(body[:HEADER_BYTES], key)\n\n\ndef thaw",
    ),
    Mutant(
        "operand and frame change places",
        _MESSAGE,
        'b"".join((header, home, tenant, operand, frame))',
        'b"".join((header, home, tenant, frame, operand))',
    ),
    # What a visited node does
    Mutant(
        "an older epoch is not refused",
        _VISIT,
        "        if m.epoch < entry.epoch:\n",
        "        if False:\n",
    ),
    Mutant(
        "a hop on record is carried out again",
        _VISIT,
        "        if m.epoch == entry.epoch and m.hop <= entry.hop:\n",
        "        if False:\n",
    ),
    Mutant(
        "a hop on record is not acknowledged again",
        _VISIT,
        "            say(node, sender, Taken(m.id, m.epoch, m.hop))\n            return\n    if m.kind",
        "            return\n    if m.kind",
    ),
    Mutant(
        "a message is acknowledged before it is on record",
        _VISIT,
        "    persist(node, held(entry))\n    say(node, sender, Taken(m.id, m.epoch, m.hop))\n    begin",
        "    say(node, sender, Taken(m.id, m.epoch, m.hop))\n    persist(node, held(entry))\n    begin",
    ),
    Mutant(
        "a message is not put on record",
        _VISIT,
        "    persist(node, held(entry))\n    say(node, sender, Taken(m.id, m.epoch, m.hop))\n    begin",
        "    say(node, sender, Taken(m.id, m.epoch, m.hop))\n    begin",
    ),
    Mutant(
        "a message is not acknowledged",
        _VISIT,
        "    persist(node, held(entry))\n    say(node, sender, Taken(m.id, m.epoch, m.hop))\n    begin",
        "    persist(node, held(entry))\n    begin",
    ),
    Mutant(
        "a receipt is not put on record with its outcome",
        _VISIT,
        "        persist(node, held(entry), *leased, *receipt)\n        _send_on(node, entry)",
        "        persist(node, held(entry), *leased)\n        _send_on(node, entry)",
    ),
    Mutant(
        "an outcome is not put on record",
        _VISIT,
        "        persist(node, held(entry), *leased, *receipt)\n        _send_on(node, entry)",
        "        persist(node, *leased, *receipt)\n        _send_on(node, entry)",
    ),
    Mutant(
        "a lease is not put on record",
        _VISIT,
        "        persist(node, held(entry), *leased, *receipt)\n        _send_on(node, entry)",
        "        persist(node, held(entry), *receipt)\n        _send_on(node, entry)",
    ),
    Mutant(
        "home is told before the outcome is on record",
        _VISIT,
        "    else:\n        entry.state, entry.where = AWAY, target\n        persist",
        "    else:\n        node.out.append(Send(m.home, node.telling[key].data))\n"
        "        entry.state, entry.where = AWAY, target\n        persist",
    ),
    Mutant(
        "home is not told again",
        _VISIT,
        "    arm(node, telling, backed_off(node, telling.tries))\n",
        "",
    ),
    Mutant(
        "what is sent on is not sent again",
        _VISIT,
        "        entry.retry = backed_off(node, entry.tries)\n        node.out.append(Send(entry.where, entry.data))\n    arm_entry(node, entry)\n\n\ndef telling_due",
        "        entry.retry = 0\n    arm_entry(node, entry)\n\n\ndef telling_due",
    ),
    Mutant(
        "what a late step used is not counted",
        _VISIT,
        "        *tell(node, key, before.home, node.name, tenant=before.tenant, receipt=outcome.receipt),\n",
        "        *tell(node, key, before.home, node.name, tenant=before.tenant)\n",
    ),
    Mutant(
        "what a late step left is kept",
        _VISIT,
        "    here = node.keeping.get(before.id, {})\n    node.out +=",
        "    here = {k.resource: k for k in outcome.kept}\n    node.out +=",
    ),
    Mutant(
        "a state is dropped before home has it",
        _VISIT,
        "    if entry.told:\n        drop(node, entry)\n",
        "    if True:\n        drop(node, entry)\n",
    ),
    Mutant(
        "a state is dropped before the next node has it",
        _VISIT,
        "    elif entry.state == AWAY:\n        entry.told = True\n",
        "    elif entry.state == AWAY:\n        drop(node, entry)\n",
    ),
    Mutant(
        "a state that is told and passed on is never dropped",
        _VISIT,
        "    if entry.state == PASSED or (entry.state == AWAY and entry.where == entry.message.home):\n        drop(node, entry)\n",
        "    if entry.state == PASSED or (entry.state == AWAY and entry.where == entry.message.home):\n        pass\n",
    ),
    Mutant(
        "a told receipt stays on record",
        _VISIT,
        "        if r is not None:\n            persist(node, Receipted",
        "        if False:\n            persist(node, Receipted",
    ),
    Mutant(
        "a refused state is sent again for ever",
        _VISIT,
        "    if said.epoch > entry.epoch:\n        _leave(node, entry)\n",
        "",
    ),
    Mutant(
        "what has ended is not let go of",
        _VISIT,
        "            node.out.append(Release(keeping.resource, keeping.id))\n    say",
        "    say",
    ),
    Mutant(
        "the end of a lease is not put on record",
        _VISIT,
        "        persist(node, *(Leased(k.resource, k.id, 0, k.nbytes) for k in here.values()))\n",
        "",
    ),
    Mutant(
        "nobody says that all is forgotten",
        _VISIT,
        "    say(node, sender, Forgotten(said.id))\n",
        "",
    ),
    Mutant(
        "a lease is not renewed",
        _VISIT,
        "        if node.now + said.keep_ns > keeping.due:\n",
        "        if False:\n",
    ),
    Mutant(
        "a lease does not end by time",
        _NODE,
        "        arm(node, keeping, node.now + keep_ns)\n",
        "",
    ),
    Mutant(
        "a lease that ended by time stays on record",
        _VISIT,
        "    persist(node, Leased(keeping.resource, keeping.id, 0, keeping.nbytes))\n",
        "",
    ),
    Mutant(
        "leases do not outlive a node",
        _VISIT,
        "            here = node.keeping.setdefault(r.id, {})\n            keeping = here",
        "            here = {}\n            keeping = here",
    ),
    Mutant(
        "a running step gives no sign of life",
        _VISIT,
        "        say(node, entry.message.home, Alive(entry.id, entry.epoch, entry.hop))\n",
        "",
    ),
    Mutant(
        "a restored step is not carried out",
        _VISIT,
        "    if h.state == RUNNING:\n        begin(node, entry)\n        return\n",
        "    if h.state == RUNNING:\n        return\n",
    ),
    Mutant(
        "restored receipts are forgotten",
        _VISIT,
        "            if key not in node.telling:\n",
        "            if False:\n",
    ),
    Mutant(
        "a restored receipt is told as another run",
        _VISIT,
        "            key, receipt = (r.id, r.epoch, r.hop, r.run), r.receipt\n",
        "            receipt = r.receipt\n",
    ),
    Mutant(
        "a program that came is not put on record",
        _VISIT,
        '        persist(node, Code(said.digest, "program", said.body))\n',
        "",
    ),
    Mutant(
        "messages that waited for a program are dropped",
        _VISIT,
        "    return list(lacking.events.values())\n",
        "    return []\n",
    ),
    Mutant(
        "nobody asks for a program",
        _VISIT,
        "    say(node, m.home, Need(m.program))\n",
        "",
    ),
    Mutant(
        "an outcome is sent again under its old epoch",
        _VISIT,
        "    entry.message = driven(entry.message, m.epoch)\n",
        "",
    ),
    # What home does
    Mutant(
        "home takes what comes of an older epoch",
        _HOME,
        "    if entry is None or ended or said.epoch != entry.epoch:\n",
        "    if entry is None or ended:\n",
    ),
    Mutant(
        "home takes a state twice",
        _HOME,
        "        if m is not None and m.hop > entry.hop:\n",
        "        if m is not None:\n",
    ),
    Mutant(
        "home acknowledges before it has a hop on record",
        _HOME,
        "    ended = entry is None or entry.state == ENDED\n    if",
        "    say(node, sender, Noted(said.id, said.epoch, said.hop, said.run))\n"
        "    ended = entry is None or entry.state == ENDED\n    if",
    ),
    Mutant(
        "home does not acknowledge hops",
        _HOME,
        "    say(node, sender, Noted(said.id, said.epoch, said.hop, said.run))\n",
        "",
    ),
    Mutant(
        "receipts of what has ended are not recorded",
        _HOME,
        "    if said.receipt:\n",
        "    if said.receipt and entry is not None:\n",
    ),
    Mutant(
        "receipts of older epochs are not recorded",
        _HOME,
        "    if said.receipt:\n",
        "    if said.receipt and (entry is None or said.epoch == entry.epoch):\n",
    ),
    Mutant(
        "two runs of a hop are one receipt",
        _NODE,
        "    node.runs += 1\n",
        "",
    ),
    Mutant(
        "a holder is not remembered",
        _HOME,
        "    if entry is not None and said.leased:\n",
        "    if False:\n",
    ),
    Mutant(
        "a holder is not put on record",
        _OWNED,
        "    return [] if known else [Leased(",
        "    return [] if True else [Leased(",
    ),
    Mutant(
        "one that is not owned any more is not forgotten elsewhere",
        _HOME,
        "    if ended:\n        say(node, sender, Forget(said.id))\n",
        "    if ended:\n        pass\n",
    ),
    Mutant(
        "a step that is fenced is not told so",
        _HOME,
        "    elif entry is not None and said.epoch < entry.epoch:\n        say(node, sender, Fenced(said.id, entry.epoch))\n",
        "",
    ),
    Mutant(
        "a silent node is waited for for ever",
        _HOME,
        "    if entry.lease and entry.lease <= now:\n",
        "    if False:\n",
    ),
    Mutant(
        "driving anew keeps the epoch",
        _OWNED,
        "    entry.epoch = max(entry.epoch, above) + 1\n",
        "",
    ),
    Mutant(
        "driving anew goes on from the fence of the node only",
        _OWNED,
        "    entry.message = driven(m, entry.epoch, fresh=fresh)\n",
        "    entry.message = m\n",
    ),
    Mutant(
        "what home sends is not sent again",
        _HOME,
        "    if entry.retry and entry.retry <= now:\n",
        "    if False:\n",
    ),
    Mutant(
        "an effect is begun before that is on record",
        _OWNED,
        "        persist(node, held(entry), *records)\n        node.out.append(Perform(m, effect_key(m)))\n",
        "        node.out.append(Perform(m, effect_key(m)))\n        persist(node, held(entry), *records)\n",
    ),
    Mutant(
        "an effect that may be under way is begun again",
        _OWNED,
        "    if m.flags & ONCE:\n",
        "    if False:\n",
    ),
    Mutant(
        "an effect that may be repeated is called unknown",
        _OWNED,
        "    if m.flags & ONCE:\n",
        "    if True:\n",
    ),
    Mutant(
        "the result of an effect is not put on record",
        _HOME,
        "    go_on(node, entry, given, value, [done])\n",
        "    go_on(node, entry, given, value, [done])\n    node.out = [c for c in node.out if type(c).__name__ != 'Persist']\n",
    ),
    Mutant(
        "an effect that ends after its continuation wakes it",
        _PROTOCOL,
        "if entry is not None and entry.state == RUNNING and entry.message.kind == PERFORM:",
        "if entry is not None and entry.message.kind == PERFORM:",
    ),
    Mutant(
        "an effect has another key when it is repeated",
        _OWNED,
        '    return m.id + m.hop.to_bytes(4, "little")',
        '    return m.id + bytes(str(id(m)), "ascii")',
    ),
    Mutant(
        "home goes back behind an effect",
        _OWNED,
        '    if entry.fallback:\n        entry.fallback = b""\n',
        '    if False:\n        entry.fallback = b""\n',
    ),
    Mutant(
        "home goes on with a state whose rows are lost",
        _OWNED,
        "    if back:\n",
        "    if False:\n",
    ),
    Mutant(
        "the way back is not put on record",
        _OWNED,
        '        records.append(Stepped(entry.id, 0, entry.epoch, "", entry.data, b""))\n',
        "",
    ),
    Mutant(
        "an answer is told before it is on record",
        _OWNED,
        "    persist(node, *records)\n    node.out += [Release(k.resource, k.id) for k in here.values()]\n",
        "    node.out.append(Report(entry.id, failed, value))\n    persist(node, *records)\n"
        "    node.out += [Release(k.resource, k.id) for k in here.values()]\n",
    ),
    Mutant(
        "an answer is not put on record",
        _OWNED,
        "    records.append(Answered(entry.id, failed, value, node.wall))\n",
        "",
    ),
    Mutant(
        "an ended one is not forgotten on record",
        _OWNED,
        "    records.append(held(entry) if entry.holders else ForgottenRecord(entry.id))\n",
        "    records.append(held(entry))\n",
    ),
    Mutant(
        "nodes are asked to forget only once",
        _HOME,
        "    if entry.state == ENDED:\n        ask_to_forget(node, entry)\n        return\n",
        "    if entry.state == ENDED:\n        return\n",
    ),
    Mutant(
        "home asks a dead node to forget for ever",
        _OWNED,
        "    if entry.tries > 2 * node.timing.tries:\n",
        "    if False:\n",
    ),
    Mutant(
        "a parked one stays in memory",
        _OWNED,
        "    entry.due = 0\n    del node.entries[entry.id]\n    if event:\n",
        "    entry.due = 0\n    if event:\n",
    ),
    Mutant(
        "a parked one has no time to wake at",
        _OWNED,
        "persist(node, held(entry, wake_ns=wake, event=event), *records)",
        "persist(node, held(entry, event=event), *records)",
    ),
    Mutant(
        "an event that came before is not looked for",
        _OWNED,
        "    if event:\n        match(node, event)\n",
        "",
    ),
    Mutant(
        "an event is not marked as taken",
        _HOME,
        "[Signal(s.name, s.number, s.payload, entry.id)]",
        "[]",
    ),
    Mutant(
        "an event that is taken is not looked past",
        _PROTOCOL,
        "        del self.matching[name]\n        match(self, name)\n",
        "        del self.matching[name]\n",
    ),
    Mutant(
        "an event is not put on record",
        _PROTOCOL,
        "        persist(self, Signal(event.name, event.number, event.payload))\n",
        "",
    ),
    Mutant(
        "waiting events are not looked for at start",
        _PROTOCOL,
        "    def _pending(self, event: Pending) -> None:\n        match(self, event.name)\n",
        "    def _pending(self, event: Pending) -> None:\n        pass\n",
    ),
    Mutant(
        "one that is due is woken twice",
        _NODE,
        "    elif len(waiting) < LOADING_MAX or not isinstance(event, Received):\n        waiting.append(event)\n",
        "    else:\n        node.out.append(Load(id_))\n        waiting.append(event)\n",
    ),
    Mutant(
        "a clock that went back wakes too early",
        _PROTOCOL,
        "wake_ns and (isinstance(event, Resume) or wake_ns <= self.wall)",
        "isinstance(event, Resume | Woken)",
    ),
    Mutant(
        "a deadline is not set again after a crash",
        _HOME,
        "    node.entries[entry.id] = entry\n    set_deadline(node, entry)\n    if h.state",
        "    node.entries[entry.id] = entry\n    if h.state",
    ),
    Mutant(
        "a migrated one goes back to where it was",
        _HOME,
        "    if (m.epoch, m.hop) != (to.epoch, to.hop) or to.program not in node.programs:\n",
        "    if to.program not in node.programs:\n",
    ),
    Mutant(
        "a migrated one has no event to wait for",
        _HOME,
        "persist(node, held(entry, wake_ns=wake_ns, event=parking(m.operand)[1]))",
        "persist(node, held(entry, wake_ns=wake_ns))",
    ),
    Mutant(
        "a restored state is not driven",
        _HOME,
        "        entry.lease = node.now + m.lease_ms * MS\n        if h.state == AWAY:\n",
        "        if h.state == AWAY:\n",
    ),
    Mutant(
        "a step of home is not carried out after a crash",
        _HOME,
        "    elif h.state == RUNNING:\n        node.out.append(Execute(m))\n",
        "    elif h.state == RUNNING:\n        pass\n",
    ),
    Mutant(
        "a caller that comes again is told nothing",
        _HOME,
        "            node.out.append(Report(r.id, r.failed, r.value))\n",
        "            pass\n",
    ),
    Mutant(
        "a state that cannot be read is passed over",
        _PROTOCOL,
        "        if damage and self.owns:\n            home.damaged(self, event.id, damage, kept)\n        elif damage:\n",
        "        if damage:\n",
    ),
    Mutant(
        "a parked state that cannot be read is passed over",
        _PROTOCOL,
        "        if damage:\n            home.damaged(self, kept.id, damage, kept.records)\n        elif h is",
        "        if damage:\n            pass\n        elif h is",
    ),
    # What a journal and a carrier must do
    Mutant(
        "a row's checksum is not checked",
        _JOURNAL,
        '        if crc32(body) != int.from_bytes(row[:4], "little"):\n            return None\n',
        "",
    ),
    Mutant(
        "a batch's checksum is not checked",
        _JOURNAL,
        "    if len(rows) != length or crc32(rows) != checksum:\n",
        "    if len(rows) != length:\n",
    ),
    Mutant(
        "a batch is written in part",
        _JOURNAL,
        "            for record in _recovered(frame):\n",
        "            for record in batch[:1] if number == survive else _recovered(frame):\n",
    ),
    Mutant(
        "commands do not wait for the batch before them",
        _CARRY,
        "        site.held = []\n",
        "",
    ),
)
