"""Which devices exist, what connects them, and where each dataset lives.

A system is a graph: devices, switches and the client are its nodes, links its edges. Routes are a
property of the graph alone, so that an account of bytes per link never depends on the load.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal, NamedTuple

import msgspec

from wherry.base.errors import InputError, unknown_name
from wherry.base.ids import digest
from wherry.devices.charge import latency_ns, rate_of
from wherry.devices.profile import Profile
from wherry.devices.routes import Graph, Lane, Link


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the datasets whose name matches the glob `name` live.

    Layout `files`: file i lies whole on `devices[i mod n]`; agents tell by themselves what they
    have. `parts` is how many files there are: with it, a dataset is known to be whole although an
    agent that may have some of it cannot be reached.
    """

    name: str
    devices: tuple[str, ...]
    layout: Literal["files"]
    parts: int | None = None


class Leg(NamedTuple):
    """One lane of a way, and what carrying bytes over it occupies.

    `name` is the resource (both directions of a half-duplex link are one), `back` the other
    direction if being busy there slows this one, `relays` the memories that stage its bytes.
    `rate` is the bytes a nanosecond as a fraction, `both_rate` those while `back` is busy too.
    """

    lane: str
    source: str
    number: int
    link: Link
    name: str
    back: str | None
    relays: tuple[str, ...]
    latency_ns: int
    rate: tuple[int, int]
    both_rate: tuple[int, int]


class System(msgspec.Struct, frozen=True, dict=True):
    """Devices and the profile of each, links, datasets; JSON-able by msgspec.

    `host` is the cpu that can run everything and takes what no other device can; `client` is the
    node that asks: an endpoint without a profile, or a device's name when the asker runs there.
    `agents` has the addresses of those devices that are real places; the others are in the caller's
    process. `keys` is the folder of the caller's certificate, if agents ask for one.
    """

    name: str
    title: str
    host: str
    client: str
    devices: dict[str, Profile]
    switches: tuple[str, ...]
    links: tuple[Link, ...]
    datasets: tuple[Dataset, ...]
    agents: dict[str, str] = {}
    keys: str = ""

    @cached_property
    def nodes(self) -> dict[str, None]:
        """Every place a link can end: devices, switches, client, each once."""
        return dict.fromkeys((*self.devices, *self.switches, self.client))

    @cached_property
    def kinds(self) -> dict[str, int]:
        """What kind each device is of; see `kind_of`."""
        numbers: dict[object, int] = {}
        ends = (self.host, self.client)
        return {
            name: numbers.setdefault(
                (profile, *(_links(self, name, end) for end in ends)), len(numbers)
            )
            for name, profile in self.devices.items()
        }

    @cached_property
    def legs(self) -> dict[tuple[str, str], tuple[Leg, ...]]:
        """The ways that were asked for, with what their lanes occupy; see `legs`."""
        return {}

    @cached_property
    def holders(self) -> dict[str, tuple[str, ...]]:
        """The devices of the datasets that were asked for; see `home`."""
        return {}

    @cached_property
    def identity(self) -> bytes:
        """Digest of everything that the system says."""
        return digest(msgspec.msgpack.encode(self))

    @cached_property
    def graph(self) -> Graph:
        """The links, ready to be searched; built once, as the links never change."""
        return Graph(self.links)


def nodes(system: System) -> tuple[str, ...]:
    """Give every place a link can end: devices, switches, client, each once."""
    return tuple(system.nodes)


def route(system: System, a: str, b: str) -> tuple[Link, ...]:
    """Give the links from node `a` to node `b`: fewest hops, then least latency, then file order.

    Raises
    ------
    InputError
        A node that does not exist, or no way between the two.
    """
    return tuple(system.links[lane.link] for lane in lanes(system, a, b))


def kind_of(system: System, name: str) -> int:
    """Give the kind of a device.

    Two are of one kind if they have one profile, and equal links lead to the host and the client.
    """
    return system.kinds[name]


def _links(system: System, name: str, end: str) -> tuple[object, ...]:
    return tuple(
        (link.bandwidth_gb_per_s, link.latency_us, link.duplex, link.both_ways_share)
        for link in route(system, name, end)
    )


def lanes(system: System, a: str, b: str) -> tuple[Lane, ...]:
    """Give the route from `a` to `b` with the direction in which each link is used."""
    for node in (a, b):
        if node not in system.nodes:
            raise unknown_name("node", node, system.nodes)
    found = system.graph.way(a, b)
    if found is None:
        raise InputError(f"system {system.name!r}: no link leads from {a!r} to {b!r}")
    return found


def legs(system: System, a: str, b: str) -> tuple[Leg, ...]:
    """Give the route from `a` to `b` with what its lanes occupy; found once."""
    found = system.legs.get((a, b))
    if found is None:
        way = lanes(system, a, b)
        staged = relays(system, way)
        found = tuple(_leg(system, lane, names) for lane, names in zip(way, staged, strict=True))
        system.legs[a, b] = found
    return found


def _leg(system: System, lane: Lane, staged: tuple[str, ...]) -> Leg:
    link = system.links[lane.link]
    name, back = f"link {lane}", None
    if link.duplex == "half":
        name = f"link {'<->'.join(link.ends)}"
    elif link.both_ways_share is not None:
        back = f"link {lane.target}->{lane.source}"
    return Leg(
        str(lane), lane.source, lane.link, link, name, back, staged, latency_ns(link),
        rate_of(link, both=False), rate_of(link, both=True),
    )  # fmt: skip


def relays(system: System, way: Sequence[Lane]) -> tuple[tuple[str, ...], ...]:
    """Give, for each lane of a way, the devices on the way that stage its bytes in their memory.

    What passes through a device is written to its memory and read from it again; a switch, and a
    device without [memory], hand it on.
    """
    between = [lane.target for lane in way[:-1]]
    stages = [name if _stages(system, name) else None for name in between]
    ends = zip([None, *stages], [*stages, None], strict=True)
    return tuple(tuple(name for name in pair if name is not None) for pair in ends) if way else ()


def _stages(system: System, node: str) -> bool:
    profile = system.devices.get(node)
    return profile is not None and profile.memory is not None


def home(system: System, dataset: str, file_index: int) -> str:
    """Give the device that holds file `file_index` of `dataset`; the first pattern that fits wins.

    Raises
    ------
    InputError
        No pattern of the system fits the name, or the index is negative.
    """
    if file_index < 0:
        raise InputError(f"file index {file_index} of dataset {dataset!r} is negative")
    devices = system.holders.get(dataset)
    if devices is None:
        devices = system.holders[dataset] = _holders(system, dataset)
    return devices[file_index % len(devices)]


def dataset_of(system: System, name: str) -> Dataset | None:
    """Give the first of the system's patterns that fits the name of a dataset."""
    return next((entry for entry in system.datasets if fnmatchcase(name, entry.name)), None)


def _holders(system: System, dataset: str) -> tuple[str, ...]:
    entry = dataset_of(system, dataset)
    if entry is not None:
        return entry.devices
    known = ", ".join(repr(entry.name) for entry in system.datasets) or "none"
    raise InputError(
        f"system {system.name!r} has no home for dataset {dataset!r}; known patterns: {known}"
    )
