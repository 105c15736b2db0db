"""Which devices exist, what connects them, and where each dataset lives.

A system is a graph: devices, switches and the client are its nodes, links its edges. Routes are a
property of the graph alone, so that an account of bytes per link never depends on the load.
"""

from __future__ import annotations

import heapq
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import msgspec

from wherry.base.errors import InputError, unknown_name
from wherry.devices.figures import Figure
from wherry.devices.profile import Profile


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A connection of two nodes; the bandwidth is the usable one, one way.

    `duplex` says whether both ways have that bandwidth at once (full) or share it (half);
    `both_ways_share` is the share of it that each way of a full link keeps while both are busy.
    """

    ends: tuple[str, str]
    bandwidth_gb_per_s: Figure
    latency_us: Figure
    duplex: Literal["full", "half"]
    both_ways_share: Figure | None = None


class Lane(msgspec.Struct, frozen=True):
    """One direction of one link, the unit in which bytes are accounted; `link` is its index."""

    link: int
    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}->{self.target}"


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the datasets whose name matches the glob `name` live.

    Layout `files`: file i lies whole on `devices[i mod n]`.
    """

    name: str
    devices: tuple[str, ...]
    layout: Literal["files"]


class System(msgspec.Struct, frozen=True):
    """Devices and the profile of each, links, datasets; JSON-able by msgspec.

    `host` is the cpu that can run everything and takes what no other device can; `client` is the
    node that asks: an endpoint without a profile, or a device's name when the asker runs there.
    """

    name: str
    title: str
    host: str
    client: str
    devices: dict[str, Profile]
    switches: tuple[str, ...]
    links: tuple[Link, ...]
    datasets: tuple[Dataset, ...]


def nodes(system: System) -> tuple[str, ...]:
    """Give every place a link can end: devices, switches, client, each once."""
    return tuple(dict.fromkeys((*system.devices, *system.switches, system.client)))


def route(system: System, a: str, b: str) -> tuple[Link, ...]:
    """Give the links from node `a` to node `b`: fewest hops, then least latency, then file order.

    Raises
    ------
    InputError
        A node that does not exist, or no way between the two.
    """
    return tuple(system.links[lane.link] for lane in lanes(system, a, b))


def lanes(system: System, a: str, b: str) -> tuple[Lane, ...]:
    """Give the route from `a` to `b` with the direction in which each link is used."""
    for node in (a, b):
        if node not in nodes(system):
            raise unknown_name("node", node, nodes(system))
    found = shortest(system.links, a).get(b)
    if found is None:
        raise InputError(f"system {system.name!r}: no link leads from {a!r} to {b!r}")
    return found


@lru_cache(maxsize=1024)
def shortest(links: tuple[Link, ...], start: str) -> dict[str, tuple[Lane, ...]]:
    """Give the best way from `start` to every node that can be reached, `start` included."""
    done: dict[str, tuple[Lane, ...]] = {}
    # The indices of the links break ties, so that equal ways are chosen alike in every process.
    waiting: list[tuple[int, Fraction, tuple[int, ...], str, tuple[Lane, ...]]]
    waiting = [(0, Fraction(0), (), start, ())]
    while waiting:
        hops, latency, order, node, way = heapq.heappop(waiting)
        if node in done:
            continue
        done[node] = way
        for lane in _leaving(links, node):
            further = latency + Fraction(repr(links[lane.link].latency_us.value))
            step = (hops + 1, further, (*order, lane.link), lane.target, (*way, lane))
            heapq.heappush(waiting, step)
    return done


def home(system: System, dataset: str, file_index: int) -> str:
    """Give the device that holds file `file_index` of `dataset`; the first pattern that fits wins.

    Raises
    ------
    InputError
        No pattern of the system fits the name, or the index is negative.
    """
    if file_index < 0:
        raise InputError(f"file index {file_index} of dataset {dataset!r} is negative")
    for entry in system.datasets:
        if fnmatchcase(dataset, entry.name):
            return entry.devices[file_index % len(entry.devices)]
    known = ", ".join(repr(entry.name) for entry in system.datasets) or "none"
    raise InputError(
        f"system {system.name!r} has no home for dataset {dataset!r}; known patterns: {known}"
    )


def _leaving(links: tuple[Link, ...], node: str) -> list[Lane]:
    found = []
    for index, link in enumerate(links):
        if node in link.ends:
            other = link.ends[1] if node == link.ends[0] else link.ends[0]
            found.append(Lane(index, node, other))
    return found
