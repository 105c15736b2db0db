"""The devices with memory of their own that queries of this process run on, begun when needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import pyarrow as pa
from msgspec.structs import replace

from wherry.base.errors import InputError, Refused, unknown_name
from wherry.devices.cards import cards
from wherry.devices.cuda import CudaDevice, cuda_devices
from wherry.devices.device_readers import open_reader
from wherry.devices.gpu_paths import gpu_paths
from wherry.devices.loading import DeviceReader
from wherry.devices.pinned import PinnedReader
from wherry.devices.system import Dataset, System
from wherry.devices.this_machine import card_names
from wherry.kernels.objects import object_folder
from wherry.plan.placement import Unable
from wherry.plan.query import Query
from wherry.render.cuda.compile import compile_text
from wherry.render.cuda.share import refuse_share
from wherry.run.installed import on_card
from wherry.run.on_device import Card, card_of, hold

_begun: dict[str, Card] = {}
_readers: dict[tuple[str, str, bool], DeviceReader] = {}
_lock = Lock()


def card(name: str, reader: str | None = None, *, strict: bool = False) -> Card:
    """Give a card of this machine; from the first time on this process uses it.

    Parameters
    ----------
    reader : str, optional
        "pinned", "kvikio" or "gds": what brings stored bytes there; `pinned` unless given.
    strict : bool
        Whether to refuse a reader that cannot be, or bytes that take another way.

    Raises
    ------
    InputError
        If there is no such reader, or it is refused.
    """
    with _lock:
        if name not in _begun:
            there = {each.name: each for each in cuda_devices()}
            if name not in there:
                raise unknown_name("card", name, there)
            found = there[name]
            device = CudaDevice(found, _compiled)
            _begun[name] = card_of(device, PinnedReader(device))
        made = _begun[name]
        if reader is None or reader == made.reader.name:
            return made
        key = name, reader, strict
        if key not in _readers:
            _readers[key] = open_reader(made.device, reader, gpu_paths(), strict=strict)
        return replace(made, reader=_readers[key])


def _compiled(text: str, arch: str) -> bytes:
    return compile_text(text, arch, object_folder()).image


@contextmanager
def using(*given: Card) -> Iterator[None]:
    """Use these devices by their names as if they were this machine's."""
    before = dict(_begun)
    _readers.clear()
    _begun.update({each.device.name: each for each in given})
    try:
        yield
    finally:
        _begun.clear()
        _begun.update(before)
        _readers.clear()


def load(query: Query, device: str, system: System) -> None:
    """Load the stored columns that a query reads onto a card, where they stay with their source.

    Raises
    ------
    InputError
        If there is no such card, or the columns are decoded when they are read.
    Retryable
        If they have no room there.
    """
    if device not in card_names(system):
        known = ", ".join(card_names(system)) or "none (wherry doctor says why)"
        raise InputError(f"{device} is no card of this machine; cards: {known}")
    source = query.scan.source
    hold(card(device), source, _kept(query), lambda ref: source.read(ref, _kept(query)))


def _kept(query: Query) -> tuple[str, ...]:
    """Give the columns of a query that a card can hold."""
    return tuple(name for name, t in query.plan.fields if not pa.types.is_struct(t))


def where_it_lies(query: Query, system: System) -> System:
    """Give a machine as it is to a query: a card is the home of what was loaded there."""
    for name in card_names(system):
        begun = _begun.get(name)
        if begun is not None and begun.held.stays(query.scan.source, _kept(query)):
            return _with_home(system, name)
    return system


_homes: dict[tuple[int, str], tuple[System, System]] = {}


def _with_home(system: System, device: str) -> System:
    """Give a system in which a device stores every dataset; the same one whenever it is asked."""
    key = id(system), device
    if key not in _homes:
        everything = Dataset(name="*", devices=(device,), layout="files")
        # The system is kept, so that its id does not come again.
        _homes[key] = system, replace(system, datasets=(everything,))
    return _homes[key][1]


def unable(query: Query, system: System) -> Unable:
    """Give what the cards of a machine have no programs for, segment by segment."""
    names = card_names(system)
    reasons = _reasons(query, names) if names else ()
    return tuple((name, number, reason) for number, reason in reasons for name in names)


def _reasons(query: Query, names: tuple[str, ...]) -> list[tuple[int, str]]:
    """Give the segments that have no CUDA form, with every reason."""
    shared_bytes = min(map(_shared_bytes, names))
    key = "cuda", shared_bytes
    if key not in query.known:
        query.known[key] = list(_found(query, shared_bytes))
    found: list[tuple[int, str]] = query.known[key]
    return found


def _shared_bytes(name: str) -> int:
    """Give the memory on chip that a block of a card may have."""
    begun = _begun.get(name)
    if begun is not None:
        return begun.device.shared_bytes
    there = {each.name: each.shared_bytes for each in cards()}
    if name not in there:
        raise unknown_name("card", name, there)
    return there[name]


def _found(query: Query, shared_bytes: int) -> Iterator[tuple[int, str]]:
    near: int | None = None
    for number, segment in enumerate(query.segments):
        if segment.kind not in {"near", "partial"}:
            yield number, f"{segment.kind} runs on the host of a CUDA device"
            continue
        # By itself, and as one program with what runs before it.
        firsts = (number,) if near is None else (number, near)
        every = [_lacking(query, first, number, shared_bytes) for first in firsts]
        reasons = [reason for lacking in every for reason in lacking]
        yield from ((number, reason) for reason in dict.fromkeys(reasons))
        near = number if segment.kind == "near" and not reasons else near


def _lacking(query: Query, first: int, last: int, shared_bytes: int) -> tuple[str, ...]:
    try:
        plan = on_card(query.plan, first, last).plan
    except Refused as refused:
        return refused.reasons
    stored = query.flows[0]
    begins = not any(segment.steps for segment in query.segments[:first])
    full = {n for n, known in stored.columns.items() if begins and known.nulls == 0}
    return refuse_share(plan, plan.columns - full, stored.distinct, shared_bytes)
