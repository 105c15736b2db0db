"""An account of what a placement asks of each resource of a system, every figure modelled.

Parts of a placement have accounts of their own, which are added up: what placements have in common
is charged once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from wherry.base.units import Modelled
from wherry.devices.charge import (
    latency_ns,
    media_alone_ns,
    media_latency_ns,
    media_ns,
    memory_ns,
    receive_ns,
    transfer_ns,
)
from wherry.devices.demand import Demand, programs_at_once
from wherry.devices.profile import Profile
from wherry.devices.routes import Link
from wherry.devices.system import System, lanes
from wherry.devices.topology import legs
from wherry.plan.ways import OnWay, Shape, Way, shapes_of, spend
from wherry.plan.window import window_of

MESSAGE_BYTES = 160
"""Size of a continuation for estimates; a run counts the real bytes."""

_LONG = 1 << 40
"""Bytes of a transfer whose rounding does not matter."""


class Cost(Struct, frozen=True):
    """A predicted cost, every time of it modelled.

    Attributes
    ----------
    setup, fill, barrier : int
        Nanoseconds that nothing overlaps.
    busy : dict of str to int
        Nanoseconds each resource is busy: `media csd0`, `link csd0->pcie0`, `cores host0`,
        `bandwidth host0` (of its memory), `engine dpu0 compress-lz4`; `window csd0` while as many
        chunks are on their way as the device works on at once.
    link_bytes : dict of str to int
        Predicted bytes over each direction of each link.
    outside : dict of str to int
        Nanoseconds each device's cores are busy besides, within setup and barrier: choosing chunks,
        merging them. They overlap nothing, but draw as much.
    """

    setup: int
    fill: int
    barrier: int
    busy: dict[str, int]
    link_bytes: dict[str, int]
    outside: dict[str, int] = field(default_factory=dict)

    def used(self, resource: str) -> int:
        """Give for how long a resource is used, whatever overlaps it."""
        return self.busy.get(resource, 0) + self.outside.get(resource, 0)

    @property
    def bottleneck(self) -> str:
        """The resource that is busy longest."""
        return max(self.busy, key=lambda name: self.busy[name], default="nothing")

    @property
    def time(self) -> Modelled:
        """The predicted time of the whole query."""
        return Modelled(self.setup + max(self.busy.values(), default=0) + self.fill + self.barrier)


class Account(Struct):
    """What each resource is asked for by a part of a placement.

    Attributes
    ----------
    setup, barrier : int
        Nanoseconds that nothing overlaps, before the first chunk and after the last.
    ways : list of OnWay
        One chunk's way from each home.
    shapes : list of Shape
        The ways that differ in more than names; `shape` finds them.
    begins : dict of str to int
        Nanoseconds after setup until a device can begin: it has its message, and builds.
    busy, link_bytes, outside : dict
        As in `Cost`; that both ways of a link are busy at once is not in it yet.
    slowed : dict of str to (str, Link)
        Lanes that are slower while the other way is busy: its name, and the link.
    rounds : dict of str to (int, int)
        How many programs cores run at once, and the longest run of one.
    """

    system: System
    setup: int = 0
    barrier: int = 0
    ways: list[OnWay] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    begins: dict[str, int] = field(default_factory=dict)
    busy: dict[str, int] = field(default_factory=dict)
    link_bytes: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    slowed: dict[str, tuple[str, Link]] = field(default_factory=dict)
    rounds: dict[str, tuple[int, int]] = field(default_factory=dict)

    def use(self, resource: str, ns: int) -> None:
        """Keep a resource busy."""
        self.busy[resource] = self.busy.get(resource, 0) + ns

    def used(self, resource: str) -> int:
        """Give for how long a resource is used, whatever overlaps it."""
        return self.busy.get(resource, 0) + self.outside.get(resource, 0)

    def occupy(self, device: str, ns: int) -> None:
        """Keep one core busy while no chunk is on its way; its time is setup's or the barrier's."""
        share = ns // programs_at_once(self.profile(device))
        spend(self.outside, {f"cores {device}": share})

    def carry(self, source: str, target: str, nbytes: int, times: int = 1) -> Way:
        """Charge `times` transfers to every lane of the way; give where one of them spends time."""
        way: Way = {}
        alone = 0
        for leg in legs(self.system, source, target):
            link, occupied = leg.link, transfer_ns(leg.link, nbytes)
            for device in leg.relays:
                memory = memory_ns(self.profile(device), nbytes)
                self.use(f"bandwidth {device}", memory * times)
                occupied = max(occupied, memory)
            if leg.back is not None:
                self.slowed[leg.name] = leg.back, link
            self.use(leg.name, occupied * times)
            self.link_bytes[leg.lane] = self.link_bytes.get(leg.lane, 0) + nbytes * times
            way[leg.name] = way.get(leg.name, 0) + occupied
            alone += latency_ns(link)
        way["alone"] = alone
        return way

    def signal(self, source: str, target: str) -> Way:
        """Give where a request of no size spends time."""
        way = lanes(self.system, source, target)
        return {"alone": sum(latency_ns(self.system.links[lane.link]) for lane in way)}

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
        # A small read stripes over some of the channels only.
        rest = max(0, media_alone_ns(profile, nbytes) - occupied)
        return {f"media {device}": occupied, "alone": rest + media_latency_ns(profile)}

    def window(self, device: str, inside: int, times: int) -> None:
        """Charge `times` chunks that are on their way for so long.

        Little's law: a device has only so many on their way at once (gds-doc-cpuonly).
        """
        self.use(f"window {device}", inside * times // max(1, window_of(self.profile(device))))

    def compute(self, asked: Demand, device: str, times: int) -> Way:
        """Charge `times` runs of a program; give where one of them spends time."""
        alone = asked.alone_ns
        share = alone // programs_at_once(self.profile(device))
        self.use(f"cores {device}", share * times)
        self.use(f"bandwidth {device}", asked.memory_ns * times)
        units = programs_at_once(self.profile(device))
        longest = max(alone, self.rounds.get(f"cores {device}", (units, 0))[1])
        self.rounds[f"cores {device}"] = units, longest
        way = {f"cores {device}": share, "alone": alone - share}
        for job in (*asked.before, *asked.after):
            name, each = f"engine {device} {job.engine}", job.ns // job.jobs
            self.use(name, each * times)
            spend(way, {name: each, "alone": job.ns - each})
        return way

    def cost(self) -> Cost:
        """Give the cost of the placement whose account this is."""
        self._slow_both_ways()
        longest = max(self.busy.values(), default=0)
        begins = [self._begin(one) for one in self.ways]
        first = min(begins, default=max(self.begins.values(), default=0))
        ends = (self._through(shape, begins) for shape in self.shapes)
        # What is busiest may lie beyond the chunks' ways, where answers leave.
        fill = max(0, max(ends, default=first + longest) - first - longest)
        setup = self.setup + first
        return Cost(setup, fill, self.barrier, self.busy, self.link_bytes, self.outside)

    def shape(self) -> None:
        """Find the ways that are alike, once all are known."""
        self.shapes = shapes_of(self.ways, self.busy, self.rounds)

    def _begin(self, one: OnWay) -> int:
        return sum(self.begins.get(device, 0) for device in one.devices)

    def _slow_both_ways(self) -> None:
        """Stretch lanes for as long as both ways of their link are busy, if that is all the time.

        The less busy way is slowed throughout, the other one for as long (nvbandwidth-pcie4-bidir).
        """
        found = {}
        for name, (back, link) in self.slowed.items():
            both = min(self.busy.get(name, 0), self.busy.get(back, 0))
            if both:
                alone = transfer_ns(link, _LONG)
                found[name] = both * (transfer_ns(link, _LONG, both=True) - alone) // alone
        for name, more in found.items():
            self.use(name, more)
        self.slowed = {}

    def _through(self, shape: Shape, begins: Sequence[int]) -> int:
        """Give the time until the chunks of a home are through.

        Each resource on the way is busy with all that it is asked, and one chunk's way beside it is
        overlapped by nothing; whichever takes longest decides.
        """
        one, whole = shape.one, shape.one.ns
        mine, same = begins[shape.number], min(begins) == max(begins)
        longest, way = mine + self._windows(shape), one.way
        for name, burst in shape.bursts.items():
            # What several ways share begins with the first of them.
            begin = mine if same else min(begins[number] for number in shape.users[name])
            until = begin + self._until(name, way[name], whole) + burst
            longest = max(longest, until)
        return longest

    def _windows(self, shape: Shape) -> int:
        """Give the time of windows that follow each other: a chunk waits for one to be through.

        Within a window chunks follow each other as fast as the busiest resource lets them.
        """
        one = shape.one
        size = max(1, window_of(self.profile(one.devices[0])))
        rounds, more = divmod(shape.chunks - 1, size)
        pace = max(self.busy.get(name, 0) for name in one.way) // shape.chunks
        return (rounds + 1) * one.inside + more * pace + one.ns - one.inside

    def _until(self, name: str, alone_ns: int, whole: int) -> int:
        busy, rest = self.busy.get(name, 0), whole - alone_ns
        if name not in self.rounds:
            return busy + rest
        # Cores run chunks side by side: what does not fill a round of them takes a whole one.
        units, alone = self.rounds[name]
        runs = -(-busy * units // max(1, alone))
        rounds = -(-runs // units) * alone
        return max(busy, rounds) + rest - (alone - alone // units)


def added(system: System, parts: Iterable[Account]) -> Account:
    """Give the account of parts together."""
    whole = Account(system)
    for part in parts:
        whole.setup += part.setup
        whole.barrier += part.barrier
        whole.ways += part.ways
        whole.shapes += part.shapes
        whole.begins |= part.begins
        spend(whole.busy, part.busy)
        spend(whole.link_bytes, part.link_bytes)
        spend(whole.outside, part.outside)
        whole.slowed |= part.slowed
        whole.rounds |= part.rounds
    return whole
