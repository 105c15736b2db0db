"""Systems with some figures changed: what a planner is asked to imagine.

A figure is multiplied, and its source says so; names, links and datasets stay, so that a placement
of one system is a placement of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, TypeVar

import msgspec

from wherry.base.errors import InputError, unknown_name
from wherry.devices.figures import Count, Figure
from wherry.devices.parts import Engine
from wherry.devices.profile import Media, Profile, Rates
from wherry.devices.topology import System

_DIGITS = 9
"""Significant digits of a changed figure: more would only make exact fractions long."""

StructT = TypeVar("StructT", bound=msgspec.Struct)


def loaded(system: System, load: Mapping[str, float]) -> System:
    """Give the system as it is to somebody else, while other tenants keep parts of it busy.

    A use of a resource that others keep busy for the share u of the time takes 1 / (1 - u) times as
    long: they leave the share 1 - u of its capacity, and that is also the mean time that a use is
    there, waiting included, of an M/G/1 queue that is shared equally, and of one that is served in
    turn if service times vary as exponential ones do and others' are as long as ours. Latencies of
    media and links occupy nobody and stay.

    Parameters
    ----------
    load : mapping of str to float
        Busy share, from 0 to below 1, of a device (its media, cores and engines) or of a resource:
        `media csd0`, `cores csd0`, `engine csd0` (all of them), `bandwidth csd0` (of its memory),
        `link csd0->pcie0` (both directions of that link).

    Raises
    ------
    InputError
        A share out of range, or no such device or resource.
    """
    check_load(load)
    return reduce(lambda found, item: _loaded(found, item[0], 1.0 - item[1]), load.items(), system)


def check_load(load: Mapping[str, float]) -> None:
    """Refuse a busy share that is no number from 0 to below 1, as `loaded` does."""
    for name, share in load.items():
        number: Any = share
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1:
            raise InputError(f"load of {name!r} is {share!r}; a busy share is from 0 to below 1")


def _loaded(system: System, name: str, left: float) -> System:
    word, _, rest = name.partition(" ")
    if word == "link" and rest:
        return with_links(system, _links_named(system, rest), left)
    device = rest or word
    profile = system.devices.get(device)
    parts = _PARTS if not rest else {word: _PARTS[word]} if word in _PARTS else None
    if profile is None or parts is None:
        resources = [f"{part} {found}" for part in _PARTS for found in system.devices]
        links = [f"link {link.ends[0]}->{link.ends[1]}" for link in system.links]
        raise unknown_name("device or resource", name, [*system.devices, *resources, *links])
    for part, slower in parts.items():
        if rest or part != "bandwidth":
            profile = slower(profile, left)
    return _with_device(system, device, profile)


def with_links(system: System, numbers: frozenset[int], factor: float) -> System:
    """Give the system with the bandwidth of some links multiplied; they are named by index."""
    links = tuple(
        _times(link, factor, "bandwidth_gb_per_s") if number in numbers else link
        for number, link in enumerate(system.links)
    )
    return _like(system, links=links)


def with_cores(system: System, devices: frozenset[str], factor: float) -> System:
    """Give the system with the cores of some devices multiplied: a whole number, at least one."""
    found = system
    for name in sorted(devices):
        profile = system.devices[name]
        if profile.cores is not None:
            number = cores_times(profile, factor)
            count = Count(number, f"{profile.cores.count.source}; times {factor:g}")
            cores = msgspec.structs.replace(profile.cores, count=count)
            found = _with_device(found, name, msgspec.structs.replace(profile, cores=cores))
    return found


def cores_times(profile: Profile, factor: float) -> int:
    """Give the cores of a device times a factor: a whole number, at least one."""
    return 0 if profile.cores is None else max(1, round(profile.cores.count.value * factor))


def _links_named(system: System, name: str) -> frozenset[int]:
    ends = frozenset(name.replace("<->", "->").split("->"))
    found = {n for n, link in enumerate(system.links) if frozenset(link.ends) == ends}
    if not found:
        known = [f"{link.ends[0]}->{link.ends[1]}" for link in system.links]
        raise unknown_name("link", name, known)
    return frozenset(found)


def _with_device(system: System, name: str, profile: Profile) -> System:
    return _like(system, devices={**system.devices, name: profile})


def _like(system: System, **changes: object) -> System:
    """Give the system with changes that leave all ways as they are: they need not be found anew."""
    found = msgspec.structs.replace(system, **changes)
    vars(found)["graph"] = system.graph
    return found


def _busy_media(profile: Profile, left: float) -> Profile:
    if profile.media is None:
        return profile
    media: Media = _times(profile.media, left, "read_gb_per_s")
    if media.random_read_iops is not None:
        found = media.random_read_iops
        number = max(1, round(found.value * left))
        iops = Count(number, f"{found.source}; times {left:g}")
        media = msgspec.structs.replace(media, random_read_iops=iops)
    return msgspec.structs.replace(profile, media=media)


def _busy_cores(profile: Profile, left: float) -> Profile:
    if profile.rates is None or profile.start is None:
        return profile
    rates = _times(profile.rates, left, *_known(profile.rates))
    start = _times(profile.start, 1 / left, *_known(profile.start))
    if profile.cache is None:
        return msgspec.structs.replace(profile, rates=rates, start=start)
    cache = _times(profile.cache, left, "relative_scan", "relative_hash")
    return msgspec.structs.replace(profile, rates=rates, start=start, cache=cache)


def _busy_engines(profile: Profile, left: float) -> Profile:
    def slower(engine: Engine) -> Engine:
        begun = _times(engine, 1 / left, "job_start_us")
        return _times(begun, left, "input_gb_per_s")

    return msgspec.structs.replace(profile, engine=tuple(map(slower, profile.engine)))


def _busy_memory(profile: Profile, left: float) -> Profile:
    if profile.memory is None:
        return profile
    memory = _times(profile.memory, left, "bandwidth_gb_per_s")
    return msgspec.structs.replace(profile, memory=memory)


_PARTS: dict[str, Callable[[Profile, float], Profile]] = {
    "media": _busy_media,
    "cores": _busy_cores,
    "engine": _busy_engines,
    "bandwidth": _busy_memory,
}


def _known(table: Rates | msgspec.Struct) -> list[str]:
    """Give the names of the figures of a table that are there."""
    fields = [field.name for field in msgspec.structs.fields(table)]
    return [name for name in fields if isinstance(getattr(table, name), Figure)]


def _times(table: StructT, factor: float, *names: str) -> StructT:
    changed = {}
    for name in names:
        figure = getattr(table, name)
        value = float(f"{figure.value * factor:.{_DIGITS}g}")
        changed[name] = Figure(value, f"{figure.source}; times {factor:g}")
    return msgspec.structs.replace(table, **changed)
