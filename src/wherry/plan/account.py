"""An account of what a placement asks of each resource of a system, every figure modelled.

Parts of a placement have accounts of their own, which are added up: what placements have in common
is charged once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from wherry.base.units import Modelled
from wherry.devices.charge import (
    latency_ns,
    media_latency_ns,
    media_ns,
    memory_ns,
    receive_ns,
    start_ns,
    transfer_ns,
)
from wherry.devices.profile import Profile
from wherry.devices.system import System, lanes
from wherry.devices.work import Work, core_ns, load_reference

MESSAGE_BYTES = 160
"""Size of a continuation for estimates; a run counts the real bytes."""

Way = dict[str, int]
"""Where one chunk spends its nanoseconds: resources by name, "alone" for latencies."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A predicted cost, every time of it modelled.

    Attributes
    ----------
    setup, fill, barrier : int
        Nanoseconds that nothing overlaps.
    busy : dict of str to int
        Nanoseconds each resource is busy: `media csd0`, `link csd0->pcie0`, `cores host0`.
    link_bytes : dict of str to int
        Predicted bytes over each direction of each link.
    """

    setup: int
    fill: int
    barrier: int
    busy: dict[str, int]
    link_bytes: dict[str, int]

    @property
    def bottleneck(self) -> str:
        """The resource that is busy longest."""
        return max(self.busy, key=lambda name: self.busy[name], default="nothing")

    @property
    def time(self) -> Modelled:
        """The predicted time of the whole query."""
        return Modelled(self.setup + max(self.busy.values(), default=0) + self.fill + self.barrier)


@dataclass
class Account:
    """What each resource is asked for by a part of a placement.

    Attributes
    ----------
    setup, barrier : int
        Nanoseconds that nothing overlaps, before the first chunk and after the last.
    ways : list of Way
        One chunk's way from each home.
    busy, link_bytes : dict
        As in `Cost`.
    """

    system: System
    setup: int = 0
    barrier: int = 0
    ways: list[Way] = field(default_factory=list)
    busy: dict[str, int] = field(default_factory=dict)
    link_bytes: dict[str, int] = field(default_factory=dict)

    def use(self, resource: str, ns: int) -> None:
        """Keep a resource busy."""
        self.busy[resource] = self.busy.get(resource, 0) + ns

    def carry(self, source: str, target: str, nbytes: int, times: int = 1) -> Way:
        """Charge `times` transfers to every lane of the way; give where one of them spends time."""
        way: Way = {}
        for lane in lanes(self.system, source, target):
            link = self.system.links[lane.link]
            occupied = transfer_ns(link, nbytes)
            self.use(f"link {lane}", occupied * times)
            self.link_bytes[str(lane)] = self.link_bytes.get(str(lane), 0) + nbytes * times
            spend(way, {f"link {lane}": occupied, "alone": latency_ns(link)})
        return way

    def message(self, source: str, target: str) -> int:
        """Charge a continuation; give the time until it is opened."""
        way = self.carry(source, target, MESSAGE_BYTES)
        return sum(way.values()) + receive_ns(self.profile(target))

    def profile(self, device: str) -> Profile:
        """Give a device's profile."""
        return self.system.devices[device]

    def read(self, device: str, nbytes: int, times: int) -> Way:
        """Charge `times` reads from the media; give where one of them spends time."""
        profile = self.profile(device)
        occupied = media_ns(profile, nbytes)
        if profile.media is not None:
            self.use(f"media {device}", occupied * times)
        return {f"media {device}": occupied, "alone": media_latency_ns(profile)}

    def compute(self, work: Work, device: str, times: int) -> Way:
        """Charge `times` runs of a program; give where one of them spends time."""
        profile = self.profile(device)
        core = start_ns(profile) + core_ns(work, profile, load_reference())
        cores = 1 if profile.cores is None else profile.cores.count.value
        share = max(core // cores, memory_ns(profile, work.memory_bytes))
        self.use(f"cores {device}", share * times)
        return {f"cores {device}": share, "alone": max(0, core - share)}

    def cost(self) -> Cost:
        """Give the cost of the placement whose account this is."""
        longest = max(self.busy.values(), default=0)
        # What is busiest may lie beyond the chunks' ways, where answers leave.
        fill = max(0, max(map(self._through, self.ways), default=longest) - longest)
        return Cost(self.setup, fill, self.barrier, self.busy, self.link_bytes)

    def _through(self, way: Way) -> int:
        """Give the time until one home's chunks are through: the busiest part, and the rest."""
        busiest = max(way, key=lambda name: self.busy.get(name, 0))
        return self.busy.get(busiest, 0) + sum(way.values()) - way[busiest]


def spend(way: Way, more: Way) -> None:
    """Add what is spent further along a way."""
    for resource, ns in more.items():
        way[resource] = way.get(resource, 0) + ns


def added(system: System, parts: Iterable[Account]) -> Account:
    """Give the account of parts together."""
    whole = Account(system)
    for part in parts:
        whole.setup += part.setup
        whole.barrier += part.barrier
        whole.ways += part.ways
        spend(whole.busy, part.busy)
        spend(whole.link_bytes, part.link_bytes)
    return whole
