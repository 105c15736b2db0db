"""What a schedule of faults did wrong: nothing, one hopes.

answers     each caller that waits is told once, and what it is told is right: the value, or an
            error that says what truly happened
effects     one that may take place once takes place at most once, and exactly once if the
            answer does not say that it is unknown; one with a key is only repeated with that key
rest        no state, timer, lease, row kept or message that waits is left anywhere
receipts    what home has on record is what each node counted, exactly
invariants  what is elsewhere has a lease, what is parked a time or an event that wakes it, what
            has ended no timer but that which asks nodes to forget
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import msgspec

from wherry.run.records import Receipted, Signal
from wherry.sim.faults import model
from wherry.sim.faults.journal import ANSWERED, CODE, EFFECT, RECEIPTED, SIGNAL, STEPPED, Key
from wherry.sim.faults.world import EVENTS_MAX, Site, World


def check(world: World) -> list[str]:
    """Give every violation of a schedule that was run."""
    return [
        *world.wrong,
        *_rest(world),
        *_answers(world),
        *_effects(world),
        *_receipts(world),
        *_events(world),
    ]


def _rest(world: World) -> Iterator[str]:
    if world.handled >= EVENTS_MAX:
        yield f"no rest after {EVENTS_MAX} events"
        return
    for site in world.sites.values():
        yield from _at_rest(site, world)


def _at_rest(site: Site, world: World) -> Iterator[str]:
    node = site.node
    if node is None:
        if site.name != world.plan.gone:
            yield f"{site.name} is down"
        return
    for what in ("entries", "telling", "keeping", "lacking", "loading", "matching"):
        left = getattr(node, what)
        if left:
            yield f"{site.name} has {len(left)} {what} left"
    if node.next_ns:
        yield f"{site.name} has a timer left"
    if site.segments:
        yield f"{site.name} keeps rows: {sorted(site.segments)}"
    if site.journal is not None:
        stay = {CODE, RECEIPTED, ANSWERED, EFFECT, SIGNAL} if site is world.home else {CODE}
        for key in site.journal.rows:
            if key[0] not in stay and (site.name, *key) not in world.flipped:
                yield f"{site.name} has a row left: {key}"


def _answers(world: World) -> Iterator[str]:
    for id_, job in world.jobs.items():
        name = f"{id_[:1].hex()} {job.ops}"
        if world.waiting.get(id_, True):
            yield f"the caller of {name} still waits"
        elif len(world.reports[id_]) != 1:
            yield f"{name} was reported {len(world.reports[id_])} times"
        for failed, value in world.reports[id_]:
            wrong = _wrong_error(world, id_, value) if failed else _wrong(world, id_, value)
            if wrong:
                yield f"{name}: {wrong}"


def _wrong(world: World, id_: bytes, value: bytes) -> str:
    if len(value) != 10:
        return f"the answer is {value!r}"
    ops = world.jobs[id_].ops
    unknown = struct.unpack("<QH", value)[1]
    right = model.expected(ops, unknown)
    if value != right:
        return f"the answer is {value.hex()}, not {right.hex()}"
    if unknown and not world.crashes:
        return "an effect is unknown, and nothing crashed"
    for op, letter in enumerate(ops):
        if letter in "ei" and not unknown >> op & 1 and not world.effects.get((id_, op)):
            return f"effect {op} did not take place"
        if unknown >> op & 1 and letter != "e":
            return f"op {op} is unknown, and may be repeated"
    return ""


def _wrong_error(world: World, id_: bytes, value: bytes) -> str:
    if value == model.CANCELLED:
        return "" if id_ in world.cancelled else "cancelled by nobody"
    if value == model.LOST:
        return _wrongly_lost(world, world.jobs[id_].ops)
    try:
        kind, text = msgspec.msgpack.decode(value, type=tuple[str, str])
    except msgspec.DecodeError:
        return f"the error is {value!r}"
    if kind == "timed out":
        return "" if world.jobs[id_].message.deadline_ns else "no deadline was set"
    if kind == "damaged":
        return "" if any(f[0] == "home" for f in world.flipped) else "no row was damaged"
    return f"the error is {kind}: {text}"


def _wrongly_lost(world: World, ops: str) -> str:
    """Home can go back behind lost rows unless it did something itself since they were made."""
    if not world.lost_rows:
        return "rows are said to be lost, and none were"
    flipped = any(f[:2] == ("home", STEPPED) for f in world.flipped)
    if not flipped and not re.search("q[^ur]*[eiswt][^ur]*[ur]", ops):
        return "rows are said to be lost, and home could go back behind them"
    return ""


def _events(world: World) -> Iterator[str]:
    home = world.home.journal
    assert home is not None
    rows = [home.read(key) for key in home.rows if key[0] == SIGNAL]
    taken = [row.taken for row in rows if isinstance(row, Signal)]
    if any(f[:2] == ("home", SIGNAL) for f in world.flipped):
        return
    for id_, job in world.jobs.items():
        waited = job.ops.count("w")
        if any(not failed for failed, _ in world.reports[id_]) and taken.count(id_) != waited:
            yield f"{id_[:1].hex()} {job.ops} took {taken.count(id_)} events, not {waited}"


def _effects(world: World) -> Iterator[str]:
    for (id_, op), keys in world.effects.items():
        if world.jobs[id_].ops[op] == "e" and len(keys) > 1:
            yield f"effect {op} of {id_[:1].hex()} took place {len(keys)} times"
        if len(set(keys)) > 1:
            yield f"effect {op} of {id_[:1].hex()} was asked for under several keys"


def _receipts(world: World) -> Iterator[str]:
    home = world.home.journal
    assert home is not None
    billed: dict[Key, bytes] = {}
    for key in home.rows:
        if key[0] == RECEIPTED and isinstance(r := home.read(key), Receipted):
            billed[r.node, r.id, r.epoch, r.hop, r.run] = r.receipt
    counted: dict[Key, bytes] = {}
    for site in world.sites.values():
        if site.name == world.plan.gone and site.node is None:
            billed = {key: receipt for key, receipt in billed.items() if key[0] != site.name}
            continue
        counted |= site.counted if site.journal is None else site.journal.counted(site.name)
    excused = set(world.unsure)
    for _, table, *rest in world.flipped:
        if table == RECEIPTED:
            id_, epoch, hop, node, run = rest
            excused.add((node, id_, epoch, hop, run))
    if not excused and not world.plan.gone:
        yield from _unbilled(world, billed)
    for key in sorted(counted.keys() | billed.keys(), key=repr):
        if key not in excused and counted.get(key) != billed.get(key):
            yield f"receipt {key}: counted {counted.get(key)!r}, billed {billed.get(key)!r}"


def _unbilled(world: World, billed: dict[Key, bytes]) -> Iterator[str]:
    """Whether what came to an answer was billed for fewer hops than it has steps."""
    for id_, job in world.jobs.items():
        hops = {key[3] for key in billed if key[1] == id_}
        if any(not failed for failed, _ in world.reports[id_]) and len(hops) < len(job.ops):
            yield f"{id_[:1].hex()} {job.ops} was billed for hops {sorted(hops)} only"
