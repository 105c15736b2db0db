"""What a schedule of faults did wrong: nothing, one hopes.

answers     each caller that waits is told once, and what it is told is right: the value, or an error
            that says what truly happened
effects     one that may take place once takes place at most once, and exactly once if the answer
            does not say that it is unknown; one with a key is only repeated with that key
rest        no state, timer, lease, row kept or message that waits is left anywhere
receipts    what home has on record is what each node counted, exactly
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from wherry.run.records import Receipted
from wherry.sim.faults import model
from wherry.sim.faults.journal import ANSWERED, CODE, EFFECT, RECEIPTED, SIGNAL
from wherry.sim.faults.world import EVENTS_MAX, Site, World


def check(world: World) -> list[str]:
    """Give every violation of a schedule that was run."""
    return [*_rest(world), *_answers(world), *_effects(world), *_receipts(world)]


def _rest(world: World) -> Iterator[str]:
    if world.handled >= EVENTS_MAX:
        yield f"no rest after {EVENTS_MAX} events"
        return
    for site in world.sites.values():
        yield from _at_rest(site, world)


def _at_rest(site: Site, world: World) -> Iterator[str]:
    node = site.node
    if node is None:
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
        stay = {CODE, RECEIPTED, ANSWERED, EFFECT, SIGNAL} if site.name == "home" else {CODE}
        for key in site.journal.rows:
            if key[0] not in stay and (site.name, *key) not in world.flipped:
                yield f"{site.name} has a row left: {key}"


def _answers(world: World) -> Iterator[str]:
    for id_, ops in world.programs.items():
        reports = world.reports.get(id_, [])
        if world.waiting.get(id_):
            yield f"the caller of {id_[:1].hex()} {ops} still waits"
        elif len(reports) != 1:
            yield f"{id_[:1].hex()} {ops} was reported {len(reports)} times"
        for failed, value in reports:
            wrong = _wrong_error(world, id_, value) if failed else _wrong(world, id_, value)
            if wrong:
                yield f"{id_[:1].hex()} {ops}: {wrong}"


def _wrong(world: World, id_: bytes, value: bytes) -> str:
    ops = world.programs[id_]
    unknown = struct.unpack("<QH", value)[1]
    if value != model.expected(ops, id_, unknown):
        return f"the answer is {value.hex()}, not {model.expected(ops, id_, unknown).hex()}"
    if unknown and not world.crashes:
        return "an effect is unknown, and nothing crashed"
    for op, letter in enumerate(ops):
        count = world.effects.get((id_, op), 0)
        if letter in "ei" and not unknown >> op & 1 and count < 1:
            return f"effect {op} did not take place"
        if unknown >> op & 1 and letter != "e":
            return f"op {op} is unknown, and may be repeated"
    return ""


def _wrong_error(world: World, id_: bytes, value: bytes) -> str:
    if value == b"cancelled":
        return "" if id_ in world.cancelled else "cancelled by nobody"
    if value == model.LOST:
        return "" if world.lost_rows else "rows are said to be lost, and none were"
    kind, text = msgspec.msgpack.decode(value)
    if kind == "timed out":
        return "" if world.messages[id_][0].deadline_ns else "no deadline was set"
    if kind == "damaged":
        return "" if any(f[0] == "home" for f in world.flipped) else "no row was damaged"
    return f"error {kind!r}: {text}"


def _effects(world: World) -> Iterator[str]:
    for (id_, op), count in world.effects.items():
        if world.programs[id_][op] == "e" and count > 1:
            yield f"effect {op} of {id_[:1].hex()} took place {count} times"
        if len(world.keys[id_, op]) > 1:
            yield f"effect {op} of {id_[:1].hex()} was asked for under several keys"


def _receipts(world: World) -> Iterator[str]:
    home = world.sites["home"].journal
    assert home is not None
    billed: dict[tuple[Any, ...], bytes] = {}
    for key in tuple(home.rows):
        if key[0] == RECEIPTED and isinstance(r := home.read(key), Receipted):
            billed[r.node, r.id, r.epoch, r.hop, r.run] = r.receipt
    counted: dict[tuple[Any, ...], bytes] = {}
    for site in world.sites.values():
        counted |= site.counted if site.journal is None else site.journal.counted(site.name)
    excused = set(world.unsure)
    for name, table, *rest in world.flipped:
        if table == RECEIPTED:
            id_, epoch, hop, node, life = rest
            excused.add((node, id_, epoch, hop, life))
    for key in sorted(counted.keys() | billed.keys(), key=repr):
        if key not in excused and counted.get(key) != billed.get(key):
            yield f"receipt {key}: counted {counted.get(key)!r}, billed {billed.get(key)!r}"
