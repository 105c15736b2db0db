"""How the nodes of a schedule have their commands carried out, and what goes wrong in that.

Commands are carried out in order, and what follows a batch waits until it is durable. A node can
end before any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from wherry.run.delivery import (
    Command,
    Execute,
    Executed,
    Load,
    Loaded,
    Match,
    Matched,
    Perform,
    Performed,
    Persist,
    Place,
    Placed,
    Received,
    Release,
    Report,
    Send,
    Stop,
    Submit,
    own_error,
)
from wherry.run.message import VALUE, Message
from wherry.run.records import PARKED, Held, Receipted, Signal
from wherry.sim.faults import model
from wherry.sim.faults.journal import HELD, SIGNAL, Journal
from wherry.sim.faults.plan import HORIZON, MS, NAMES, ops_of
from wherry.sim.faults.shown import shown

if TYPE_CHECKING:
    from wherry.sim.faults.world import Site, World

_UNKNOWN_HERE: Final = own_error("not known", "")[:11]


def out(world: World, site: Site, commands: list[Command]) -> None:
    """Carry commands out in order; one that waits for a batch holds up the rest."""
    life = site.life
    crashing = world.crashing if world.now < HORIZON else 0.0
    for command in commands:
        if site.held is not None:
            site.held.append(command)
            continue
        if crashing and world.random.random() < crashing:
            world.crash(site)
        if site.life != life:
            return
        if world.watch is not None:
            world.watch.said(site, command)
        if world.trace is not None:
            world.say(site.name, "->", shown(command, world.key))
        _HOW[type(command)](world, site, command)


def _persist(world: World, site: Site, command: Persist) -> None:
    journal = site.journal
    if journal is None:
        for x in command.records:
            if type(x) is Receipted and not x.told:
                site.counted[site.name, x.id, x.epoch, x.hop, x.run] = x.receipt
        return
    journal.pending.append(command.records)
    if world.slow and world.now < HORIZON and world.random.random() < world.slow:
        site.held = []
        time = world.now + world.random.randint(2, 30) * MS
        world.at(time, _durable, world, site, site.life)
        if world.crashing and world.random.random() < 0.15:
            world.at(time - MS, _torn, world, site, site.life)
    else:
        _sync(world, journal)


def _torn(world: World, site: Site, life: int) -> None:
    """End a node while it waits for a batch to be durable."""
    if site.life == life and site.held is not None:
        world.crash(site)


def _durable(world: World, site: Site, life: int) -> None:
    if site.life != life or site.held is None or site.journal is None:
        return
    if site.paused > world.now:
        world.at(site.paused, _durable, world, site, life)
        return
    _sync(world, site.journal)
    held, site.held = site.held, None
    out(world, site, held)


def _sync(world: World, journal: Journal) -> None:
    for parked in journal.sync():
        world.alarm(parked.wake_ns, parked.id)


def _send(world: World, site: Site, command: Send) -> None:
    target, data = world.sites[command.target], command.data
    r, copies = world.random, 1
    if world.now < HORIZON:
        if world.cut and world.cut.get((site.name, target.name), 0) > world.now:
            return
        if world.loss and r.random() < world.loss:
            return
        if world.copies and r.random() < world.copies:
            copies = 2
        if world.noise and r.random() < world.noise:
            data = _noisy(data, r.getrandbits(30))
    event = Received(site.name, data)
    for _ in range(copies):
        world.at(world.now + int(r.random() * world.spread) + 1, world.deliver, target, event)


def _noisy(data: bytes, chance: int) -> bytes:
    """Turn a bit, or cut the end off."""
    if chance & 1:
        return data[: (chance >> 1) % len(data)]
    noisy = bytearray(data)
    noisy[(chance >> 4) % len(data)] ^= 1 << (chance >> 1 & 7)
    return bytes(noisy)


def _execute(world: World, site: Site, command: Execute) -> None:
    r = world.random
    chance = r.random()
    time = r.randint(100, 700) * MS if chance < 0.05 else int(chance * 5 * MS)
    world.at(world.now + time, _executed, world, site, site.life, command.message)


def _executed(world: World, site: Site, life: int, m: Message) -> None:
    if site.life != life or site.node is None:
        return
    if site.paused > world.now:
        world.at(site.paused, _executed, world, site, life, m)
        return
    world.used += 1
    ops = ops_of(site.node.programs[m.program])
    used = world.used.to_bytes(4, "little") if m.position else b""
    place = model.Place(ops, site.name, NAMES, [x.segments for x in world.sites.values()])
    world.deliver(site, Executed(m, model.step(place, m, used)), life)


def _perform(world: World, site: Site, command: Perform) -> None:
    r = world.random
    chance = r.random()
    time = r.randint(50, 300) * MS if chance < 0.2 else int(chance * 5 * MS)
    world.performing[command.message.id] = command
    world.at(world.now + time, _performed, world, site, site.life, command)


def _performed(world: World, site: Site, life: int, command: Perform) -> None:
    """Have an effect take place; its node may end before it knows."""
    m = command.message
    if site.life != life or world.performing.pop(m.id, None) is not command:
        return
    op, total = m.operand[0], int.from_bytes(m.operand[1:], "little")
    world.say("effect", op, "of", m.id[:1].hex(), "takes place")
    world.effects.setdefault((m.id, op), []).append(command.key)
    if world.crashing and world.now < HORIZON and world.random.random() < 0.1:
        world.crash(site)
        return
    event = Performed(m, VALUE, model.effect_result(total))
    world.at(world.now + int(world.random.random() * 5 * MS), world.deliver, site, event, life)


def _place(world: World, site: Site, command: Place) -> None:
    m = command.message
    target = model.placed(world.jobs[m.id].ops, m, NAMES, command.avoid)
    world.at(world.now + 1, world.deliver, site, Placed(m, target), site.life)


def _load(world: World, site: Site, command: Load) -> None:
    assert site.journal is not None
    records, damage = site.journal.of(command.id)
    time = world.now + int(world.random.random() * 2 * MS)
    world.at(time, world.deliver, site, Loaded(command.id, records, damage), site.life)


def _match(world: World, site: Site, command: Match) -> None:
    journal, name = site.journal, command.name
    assert journal is not None
    rows = [journal.read(key) for key in journal.rows if key[0] in {SIGNAL, HELD}]
    signal = next(
        (x for x in rows if isinstance(x, Signal) and x.name == name and not x.taken), None
    )
    parked = next(
        (x for x in rows if isinstance(x, Held) and x.state == PARKED and x.event == name), None
    )
    event = Matched(name)
    if signal is not None and parked is not None:
        event = Matched(name, parked.id, signal)
    time = world.now + int(world.random.random() * 2 * MS)
    world.at(time, world.deliver, site, event, site.life)


def _report(world: World, _site: Site, command: Report) -> None:
    id_ = command.id
    if not world.waiting[id_]:
        world.say("nobody waits for", id_[:1].hex())
        damaged = any(f[0] == "home" for f in world.flipped)
        if not damaged and (command.failed, command.value) not in world.reports[id_]:
            world.wrong.append(f"{id_[:1].hex()} ended twice, in two ways")
    elif command.failed and command.value.startswith(_UNKNOWN_HERE):
        world.say("the caller asks again")
        job = world.jobs[id_]
        world.ask(Submit(job.message, job.code))
    else:
        world.waiting[id_] = False
        world.reports[id_].append((command.failed, command.value))


def _release(world: World, site: Site, command: Release) -> None:
    if site.segments.pop(command.resource, None) is not None:
        world.lost_rows += world.waiting[command.id]


def _stop(world: World, site: Site, command: Stop) -> None:
    """Hurry an effect; let a step go on: both come to something that nobody asks for."""
    performing = world.performing.get(command.id)
    if performing is not None:
        world.at(world.now + 1, _performed, world, site, site.life, performing)


_HOW: Final[dict[type, Callable[[World, Site, Any], None]]] = {
    Persist: _persist,
    Send: _send,
    Execute: _execute,
    Perform: _perform,
    Place: _place,
    Load: _load,
    Match: _match,
    Report: _report,
    Release: _release,
    Stop: _stop,
}
