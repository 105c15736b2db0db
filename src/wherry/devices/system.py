"""Reads and checks `device_profiles/systems/<name>.toml`: which devices, links and datasets.

`this-machine` is not a file: it is measured when it is asked for.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from importlib.resources.abc import Traversable
from itertools import starmap
from pathlib import Path

import msgspec

from wherry.base.errors import InputError, Refused, listed, unknown_name
from wherry.devices.figures import read_toml, refuse, struct_of
from wherry.devices.groups import (
    DeviceEntry,
    Group,
    LinkEntry,
    Switch,
    Written,
    as_link,
    brace_problems,
    dealt,
    devices_of,
    links_of,
    switches_of,
)
from wherry.devices.profile import (
    OPERATOR_NAMES,
    REFERENCE_NAME,
    TYPE_FAMILIES,
    Profile,
    check_profiles,
    is_path,
    load_profile,
    problems_in,
    profile_folder,
    toml_names,
)
from wherry.devices.routes import Lane, Link, shortest
from wherry.devices.this_machine import THIS_MACHINE, this_machine
from wherry.devices.topology import Dataset, System, home, kind_of, lanes, nodes, route
from wherry.devices.work import load_reference

__all__ = [
    "Dataset",
    "Lane",
    "Link",
    "System",
    "check_shipped",
    "check_systems",
    "home",
    "kind_of",
    "lanes",
    "load_system",
    "nodes",
    "route",
    "system_names",
]


UNIX = "unix:"
"""Begins the address of an agent on this host: the path of its socket follows."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of a system file."""


class _Head(_Table, frozen=True):
    name: str
    title: str
    host: str
    client: str
    keys: str = ""


class _SystemFile(_Table, frozen=True):
    system: _Head
    device: tuple[DeviceEntry, ...]
    link: tuple[LinkEntry, ...]
    dataset: tuple[Dataset, ...] = ()
    switch: tuple[Switch, ...] = ()
    group: tuple[Group, ...] = ()


def load_system(name_or_path: str | Path) -> System:
    """Give `this-machine`, a shipped system by name, or any system by the path of its file.

    A file's `profile` is a shipped profile's name, or the path of a `.toml` file relative to the
    system's own.

    Raises
    ------
    InputError
        No such system, or no such file, or not TOML.
    Refused
        With every problem as a reason: first all of the file's form; once it has a form, all of
        what it says (names, profiles, connections, homes).
    """
    if name_or_path == THIS_MACHINE:
        return this_machine()
    if is_path(name_or_path):
        path = Path(name_or_path)
        return _load(path, str(name_or_path), path.stem, path.parent)
    return _load_shipped(str(name_or_path))


def system_names() -> list[str]:
    """Give the names of all systems: the shipped files, sorted, then `this-machine`."""
    return [*toml_names(profile_folder() / "systems"), THIS_MACHINE]


def check_systems() -> list[str]:
    """Give every problem of every shipped system file; an empty list when there is none."""
    shipped = [name for name in system_names() if name != THIS_MACHINE]
    return [problem for name in shipped for problem in problems_in(load_system, name)]


def check_shipped() -> list[str]:
    """Give every problem of every shipped file: profiles, the reference core, systems."""
    reference = problems_in(lambda _: load_reference(), REFERENCE_NAME)
    return [*check_profiles(), *reference, *check_systems()]


@cache
def _load_shipped(name: str) -> System:
    if name not in system_names():
        raise unknown_name("system", name, system_names())
    file = f"systems/{name}.toml"
    return _load(profile_folder() / "systems" / f"{name}.toml", f"device_profiles/{file}", name)


def _load(file: Traversable | Path, label: str, stem: str, beside: Path | None = None) -> System:
    form = struct_of(read_toml(file, label), _SystemFile, label)
    devices = devices_of(form.device, form.group)
    switches = switches_of(form.switch, form.group)
    links = links_of(form.link, form.group)
    profiles, problems = _profiles(devices, beside)
    names = [written for written, _ in devices]
    homes = [dealt(entry, names) for entry in form.dataset]
    system = System(
        name=form.system.name,
        title=form.system.title,
        host=form.system.host,
        client=form.system.client,
        devices=profiles,
        switches=tuple(written.names[0] for written, _ in switches),
        links=tuple(starmap(as_link, links)),
        datasets=tuple(dataset for dataset, _ in homes),
        agents=_agents(devices, beside),
        keys=str((beside or Path()) / form.system.keys) if form.system.keys else "",
    )
    if form.system.name != stem:
        problems.append(f"[system] name is {form.system.name!r}, but the file is {stem}.toml")
    every = [written for written, _ in (*devices, *switches, *links)]
    problems += brace_problems(every)
    declared = [written.names[0] for written, _ in (*devices, *switches)]
    problems += _name_problems(system, declared) + _host_problems(system, declared)
    problems += _link_problems(system, declared, [written.where for written, _ in links])
    if not form.dataset and not system.agents:
        problems.append(
            "table [[dataset]] is missing; only agents tell by themselves what they have"
        )
    problems += _dataset_problems(system, declared, [none for _, none in homes])
    refuse(label, problems)
    return system


def _agents(devices: list[tuple[Written, DeviceEntry]], beside: Path | None) -> dict[str, str]:
    """Give the addresses of agents; a socket's path is relative to the system's file."""
    found = {}
    for written, entry in devices:
        address = entry.agent
        if address is None:
            continue
        address = address.replace("{n}", str(written.member)).replace("{m}", str(written.index))
        if address.startswith(UNIX) and beside is not None:
            address = f"{UNIX}{beside / address.removeprefix(UNIX)}"
        found[written.names[0]] = address
    return found


def _profiles(
    devices: list[tuple[Written, DeviceEntry]], beside: Path | None
) -> tuple[dict[str, Profile], list[str]]:
    found: dict[str, Profile] = {}
    known: dict[str, Profile | None] = {}
    problems: list[str] = []
    for written, entry in devices:
        if entry.profile not in known:
            known[entry.profile] = None
            name: str | Path = entry.profile
            if beside is not None and is_path(name):
                name = beside / name
            try:
                known[entry.profile] = load_profile(name)
            except Refused as error:
                problems += [f"[[device]] {entry.name!r}: {reason}" for reason in error.reasons]
            except InputError as error:
                problems.append(f"[[device]] {entry.name!r}: {error}")
        profile = known[entry.profile]
        if profile is not None:
            found[written.names[0]] = profile
    return found, problems


def _name_problems(system: System, declared: list[str]) -> list[str]:
    found = [
        f"name {name!r} is given to {count} nodes; a node's name is its own"
        for name, count in Counter(declared).items()
        if count > 1
    ]
    if system.client in system.switches:
        found.append(f"[system] client {system.client!r} is a switch; a switch asks nothing")
    return found


def _host_problems(system: System, declared: list[str]) -> list[str]:
    host = system.host
    if host not in declared:
        return [f"[system] host: {unknown_name('device', host, declared)}"]
    if host in system.switches:
        return [f"[system] host {host!r} is a switch; the host must be a cpu"]
    profile = system.devices.get(host)
    if profile is None:  # its profile could not be loaded, which is reported already
        return []
    if profile.device.kind != "cpu" or profile.capabilities is None:
        return [f"[system] host {host!r} is a {profile.device.kind}; the host must be a cpu"]
    able = {*profile.capabilities.types, *profile.capabilities.operators}
    lacking = [word for word in (*TYPE_FAMILIES, *OPERATOR_NAMES) if word not in able]
    if lacking:
        return [f"[system] host {host!r} must run everything, but lacks: {', '.join(lacking)}"]
    return []


def _link_problems(system: System, declared: list[str], places: list[str]) -> list[str]:
    possible = dict.fromkeys((*declared, system.client))
    # What an entry of a group does wrong, it does in every member: the first of them says it.
    found: dict[tuple[str, int], str] = {}
    for where, link in zip(places, system.links, strict=True):
        for side, end in enumerate(link.ends):
            if end not in possible and (where, side) not in found:
                found[where, side] = f"{where} ends: {unknown_name('node', end, possible)}"
        if link.ends[0] == link.ends[1]:
            found.setdefault((where, 2), f"{where} joins {link.ends[0]!r} to itself")
    reached = shortest(system.links, system.client)
    apart = [name for name in possible if name not in reached]
    problems = list(found.values())
    if apart:
        problems.append(f"no link leads from client {system.client!r} to: {listed(apart)}")
    return problems


def _dataset_problems(system: System, declared: list[str], unmatched: list[list[str]]) -> list[str]:
    devices = [name for name in dict.fromkeys(declared) if name not in system.switches]
    found = []
    for entry, globs in zip(system.datasets, unmatched, strict=True):
        where = f"[[dataset]] {entry.name!r} devices"
        found += [
            f"{where}: no device matches {glob!r}; devices: {listed(devices)}" for glob in globs
        ]
        if not entry.devices and not globs:
            found.append(f"{where} is empty; a dataset lives somewhere")
        found += [r for name in entry.devices for r in _home_problems(system, name, devices, where)]
    return found


def _home_problems(system: System, name: str, devices: list[str], where: str) -> list[str]:
    if name not in devices:
        return [f"{where}: {unknown_name('device', name, devices)}"]
    profile = system.devices.get(name)
    if profile is None:  # its profile could not be loaded, which is reported already
        return []
    if profile.media is None:
        return [f"{where}: {name!r} is a {profile.device.kind} without [media]; it stores nothing"]
    return []
