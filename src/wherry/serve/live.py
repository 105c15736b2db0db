"""A system some of whose devices are agents: connected, checked, with the datasets they have."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from wherry.base.errors import InputError, Refused, Retryable, WherryError
from wherry.devices.driver import Driver
from wherry.devices.emulated import EmulatedDriver
from wherry.devices.here import HereDriver
from wherry.devices.profile import Profile
from wherry.devices.topology import Dataset, System, dataset_of, lanes
from wherry.run.crew import crew
from wherry.serve import requests
from wherry.serve.catalogue import Catalogue
from wherry.serve.deadline import Overdue, together
from wherry.serve.directory import Directory
from wherry.serve.far import FarSource, directories, named
from wherry.serve.links import (
    PLANNING,
    SILENCE_S,
    AgentLost,
    Connection,
    InProcess,
    Link,
)
from wherry.serve.load import TAKEN_MAX
from wherry.serve.peer import Peer
from wherry.serve.probing import kept, with_measured
from wherry.serve.station import Settings, Station
from wherry.serve.suppliers import Suppliers
from wherry.serve.tenants import Tenant, Tenants
from wherry.serve.watchman import Watchman

_CALLER: Final = "caller"
_profiles: Final = msgspec.json.Decoder(Profile)  # see wherry.base.decoders
_MINE: Final = Tenants({_CALLER: Tenant(_CALLER, ("*",))})

AGAIN_S: Final = 0.5
"""Agents that were lost are looked for again no sooner."""
_AGAIN_WITHIN_S: Final = 2.0
"""They are given so long to say that they are there: a query waits for it."""

LOAD_STEP: Final = 0.05
Connecting = Callable[[str], Link]
R = TypeVar("R", bound=requests.Message)
Dial = Callable[[str, str], Connection]
"""Connects to the agent at an address; the second argument is its name."""


class Live:
    """A system, with a way to each of its devices.

    Attributes
    ----------
    system : System
        As its file says.
    links : dict of str to Link
        Of every device that runs programs; those without an agent are stations of this process.
        A lost one is replaced by a new one once its agent is there again.
    emulated : bool
        Whether its agents model their time.
    """

    def __init__(
        self,
        system: System,
        links: dict[str, Link],
        connect: Connecting,
        suppliers: Suppliers,
        *,
        emulated: bool,
    ) -> None:
        self.system, self.links, self.emulated = system, links, emulated
        self._connect, self._tried_s = connect, time.monotonic()
        self._suppliers = suppliers
        self.watchman = Watchman(links)
        for link in links.values():
            link.awaited = self.watchman.wake
        self._sources: dict[str, FarSource] = {}

    def revive(self) -> None:
        """Look whether agents that were lost are there again, now and then."""
        lost = [device for device in self.system.agents if self.links[device].lost]
        if not lost or time.monotonic() - self._tried_s < AGAIN_S:
            return
        self._tried_s = time.monotonic()
        anew = {device: self._connect(device) for device in lost}
        emulated, reasons, _ = _checked(self.system, anew, _AGAIN_WITHIN_S)
        if reasons:
            _close(anew)
            raise Refused(f"agents of {self.system.name} came back as others", reasons)
        for device, link in anew.items():
            if not link.lost and emulated == self.emulated:
                link.awaited = self.watchman.wake
                self.links[device] = link
            else:
                link.close()

    def names(self) -> list[str]:
        """Give what the datasets of all agents are called."""
        return sorted(directories(self._listed())[0])

    def source(self, name: str) -> FarSource:
        """Give a dataset of the agents, as it is now.

        Raises
        ------
        InputError
            If there is none of that name, or agents have different columns under it; if it cannot
            be read, with the reason.
        """
        unreadable: dict[str, str] = {}
        found, odd = directories(self._listed(unreadable))
        unreadable |= odd
        if name in unreadable:
            raise InputError(unreadable[name])
        self._check_reached(name, found=name in found)
        listed = named(found, name)
        self._check_whole(listed)
        known = self._sources.get(name)
        if known is None or known.directory != listed:
            known = self._sources[name] = FarSource(listed, self.links)
        return known

    def _check_reached(self, name: str, *, found: bool) -> None:
        """Refuse a dataset of which an agent that is lost may have a part, or everything."""
        entry = dataset_of(self.system, name)
        if found and entry is not None and entry.parts is not None:
            return
        holders = self.system.agents if entry is None else entry.devices
        lost = [device for device in holders if self._lost(device)]
        if lost:
            raise Refused(
                f"dataset {name!r} may have parts at {', '.join(lost)}, not reached; a [[dataset]] "
                "of the system that says its devices, or how many parts it has, would tell",
                [str(self.links[device].why) for device in lost],
            )

    def _check_whole(self, listed: Directory) -> None:
        entry = dataset_of(self.system, listed.name)
        if entry is not None and entry.parts not in {None, len(listed.places)}:
            lost = [device for device in self.system.agents if self._lost(device)]
            raise Refused(
                f"dataset {listed.name!r} has {entry.parts} parts, and the agents that are reached "
                f"have {len(listed.places)} of them",
                [str(self.links[device].why) for device in lost],
            )

    def seen(self, source: FarSource) -> System:
        """Give the system as far as it can be used, knowing where each part of a dataset lies.

        Raises
        ------
        Refused
            If all agents that have some part are lost; parts and agents are named.
        """
        left = {d: p for d, p in self.system.devices.items() if not self._lost(d)}
        homes, missing = [], []
        for place, holders in zip(source.directory.places, source.holders, strict=True):
            home = next((holder for holder in holders if holder in left), None)
            if home is None:
                why = "; ".join(str(self.links[holder].why) for holder in holders)
                missing.append(f"{place.part.label} is at {', '.join(holders)} alone: {why}")
            else:
                homes.append(home)
        if missing:
            raise Refused(f"part of dataset {source.name!r} cannot be reached", missing)
        if self.system.host not in left:
            raise Refused(f"the host {self.system.host} was lost; nothing else can run everything")
        where = Dataset(name=source.name, devices=tuple(homes), layout="files")
        lost = self.system.devices.keys() - left.keys()
        links = tuple(link for link in self.system.links if not lost & set(link.ends))
        agents = {d: a for d, a in self.system.agents.items() if d in left}
        found = replace(self.system, devices=left, links=links, datasets=(where,), agents=agents)
        self._check_joined(found, sorted(lost))
        # An emulated device is where its system says, whatever its process is reached by.
        return found if self.emulated else with_measured(found, kept(self.system))

    def _check_joined(self, found: System, lost: list[str]) -> None:
        """Refuse what is left of a system if what was lost carried for others."""
        apart = []
        for device in found.devices if lost else ():
            try:
                lanes(found, found.client, device)
            except InputError:
                apart.append(device)
        if apart:
            raise Refused(
                f"without {', '.join(lost)} no link of {found.name} leads from {found.client} to "
                f"{', '.join(apart)}",
                [str(self.links[device].why) for device in lost],
            )

    def load(self) -> dict[str, float]:
        """Give what others keep busy of each agent, in steps of `LOAD_STEP`, where it is some."""
        found = {}
        replies = self._of_each(requests.Health(), "asking how busy it is", requests.Healthy)
        for device, said in replies.items():
            taken = round(min(max(said.taken, 0.0), TAKEN_MAX) / LOAD_STEP) * LOAD_STEP
            if taken:
                found[device] = taken
        return found

    def close(self) -> None:
        """Close all connections."""
        _close(self.links)
        self._suppliers.close()

    def _of_each(self, ask: requests.Message, doing: str, kind: type[R]) -> dict[str, R]:
        """Ask all agents at once; give what those say that are there."""

        def said(device: str) -> R | None:
            link = self.links[device]
            try:
                found: R = link.ask(ask, doing, kind)
            except AgentLost as lost:
                link.lose(lost)
                return None
            return found

        here = [device for device in self.system.agents if not self._lost(device)]
        return {d: reply for d, reply in together(said, here).items() if reply is not None}

    def _lost(self, device: str) -> bool:
        link = self.links.get(device)
        return link is not None and link.lost

    def _listed(
        self, unreadable: dict[str, str] | None = None
    ) -> dict[str, tuple[requests.Dataset, ...]]:
        found = {}
        replies = self._of_each(requests.List(), "listing its datasets", requests.Listed)
        for device, reply in replies.items():
            found[device] = reply.datasets
            if unreadable is not None:
                unreadable.update(
                    {name: f"{device}: {why} ({PLANNING})" for name, why in reply.unreadable}
                )
        return found


def open_live(system: System, dial: Dial) -> Live:
    """Connect to the agents of a system, and check that they are what it says.

    An agent that cannot be reached is lost from the beginning: what it has is not there, and what
    it would do others do.

    Raises
    ------
    Refused
        With every reason: agents of another name or profile, some emulated and some not, none
        that answers.
    """

    def connect(device: str) -> Link:
        address = system.agents[device]
        return Link(device, address, partial(dial, address, device))

    links = {device: connect(device) for device in system.agents}
    emulated, reasons, unreached = _checked(system, links, SILENCE_S)
    if len(unreached) == len(links):
        raise Refused(f"no agent of {system.name} can be reached", unreached)
    if reasons:
        _close(links)
        raise Refused(f"the agents of {system.name} are not what its file says", reasons)
    suppliers = Suppliers(lambda address: dial(address, ""))
    here = [name for name in system.devices if name not in links]
    for device in here:
        profile = system.devices[device]
        if profile.runs_programs:
            links[device] = _here(device, profile, suppliers, emulated=emulated)
    return Live(system, links, connect, suppliers, emulated=emulated)


def _close(links: Mapping[str, Link]) -> None:
    for link in links.values():
        link.close()


def _checked(
    system: System, links: Mapping[str, Link], within_s: float
) -> tuple[bool, list[str], list[str]]:
    kinds: dict[bool, list[str]] = {}
    reasons, unreached = [], []
    for device, welcome in together(partial(_welcome, links, within_s), links).items():
        link = links[device]
        if isinstance(welcome, Retryable):
            lost = welcome
            if not isinstance(lost, AgentLost):
                lost = AgentLost(device, "saying hello", PLANNING, welcome)
            link.lose(lost)
            unreached.append(str(lost))
            continue
        if isinstance(welcome, WherryError):
            reasons.append(str(welcome))
            continue
        kinds.setdefault(welcome.emulated, []).append(device)
        if welcome.name != device:
            reasons.append(f"{link.address} is {welcome.name!r}, not {device!r}")
        reasons += _profile_problems(device, welcome.profile, system.devices[device])
    if len(kinds) > 1:
        reasons.append(
            f"{', '.join(kinds[True])} model their time and {', '.join(kinds[False])} do not; "
            "modelled and measured times cannot be added: start all with --emulate, or none"
        )
    return next(iter(kinds), False), reasons, unreached


def _welcome(
    links: Mapping[str, Link], within_s: float, device: str
) -> requests.Welcome | WherryError:
    try:
        return links[device].welcome(within_s=within_s)
    except Overdue:
        raise
    except WherryError as problem:
        return problem


def _profile_problems(device: str, said: bytes, wanted: Profile) -> list[str]:
    try:
        profile = _profiles.decode(said)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        return [f"{device} tells a profile that is none: {problem}"]
    if profile == wanted:
        return []
    if profile.device.name != wanted.device.name:
        return [f"{device} is a {profile.device.name}, the system says {wanted.device.name}"]
    return [f"{device} has other figures in its profile {wanted.device.name} than this machine"]


def _here(device: str, profile: Profile, suppliers: Suppliers, *, emulated: bool) -> Link:
    """Give the way to a device that is in the caller's process."""
    driver: Driver = EmulatedDriver(device, profile) if emulated else HereDriver(device, profile)

    team = crew()
    settings = Settings(lambda: _MINE, emulated)
    if not emulated:
        settings = replace(settings, team=lambda work: (team.run(work), None)[1])
    take = partial(suppliers.take, within_s=requests.TAKE_S)
    station = Station(driver, Catalogue(None), take, settings)
    peer = Peer(_CALLER, f"process {os.getpid()}")
    return Link(device, "", lambda: InProcess(station, peer))


_OPEN_MAX: Final = 16
"""Systems whose connections are kept: a process that asks of more opens those of old ones anew."""
_open: dict[tuple[int, bytes], Live] = {}
_lock = threading.Lock()


def live(system: System, dial: Dial) -> Live:
    """Give a system's connections, which this process opens once and again after a loss."""
    key = (os.getpid(), system.identity)
    with _lock:
        found = _open.get(key)
        if found is None:
            found = _open[key] = open_live(system, dial)
            while len(_open) > _OPEN_MAX:
                del _open[next(iter(_open))]
    found.revive()
    return found
