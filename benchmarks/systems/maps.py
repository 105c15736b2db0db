"""Where offload wins as one link gets wider: the sweep's shares by the bandwidth of a link.

The link is the one between drives and host that is narrowest for the drives that share it, with all
links of the same bandwidth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from wherry.benchmarks.systems.cell import NS_PER_S
from wherry.devices.figures import Figure
from wherry.devices.system import System, lanes
from wherry.plan.place import host_only, place
from wherry.plan.placement import homes_of
from wherry.sim.recorded import Counts
from wherry.sim.replay import replay

BANDWIDTHS: Final = (1.0, 3.0, 6.0, 12.0, 25.0, 50.0)
"""GB/s: from 10 Gb Ethernet to PCIe 5 x16."""
WIDTH: Final = 4
"""Columns of the sweep's workloads that are mapped."""
SYSTEMS: Final = ("nvmeof-dpu", "dpu-csd-host")
"""Mapped, if they are among those asked for: one with a network between drives and host, one with
processors in the drives."""


class Point(Struct, frozen=True):
    """A share of the rows at a bandwidth of the link, every time modelled, in seconds."""

    share: float
    gb_per_s: float
    placement: str
    modelled_s: float
    host_only_s: float


class Map(Struct, frozen=True):
    """What a wider or narrower link does to a system.

    Attributes
    ----------
    link : str
        The narrowest between drives and host, shared by so many; all of its bandwidth change.
    gb_per_s : float
        What it has in the system as it is.
    """

    system: str
    link: str
    gb_per_s: float
    points: tuple[Point, ...]


def map_of(system: System, by_share: Mapping[float, Counts]) -> Map:
    """Give the map of a system over the sweep's workloads of `WIDTH` columns."""
    homes = homes_of(next(iter(by_share.values())).query, system)
    shared = Counter(lane for home in homes.devices for lane in lanes(system, home, system.host))
    widths = {lane: system.links[lane.link].bandwidth_gb_per_s for lane in shared}
    lane = min(shared, key=lambda lane: widths[lane].value / shared[lane])
    narrow = widths[lane]
    points = []
    for gb_per_s in BANDWIDTHS:
        changed = _with_bandwidth(system, narrow, gb_per_s)
        for share, counts in by_share.items():
            chosen = place(counts.query, changed).chosen.placement
            pins = host_only(counts.query, changed)
            alone = place(counts.query, changed, pins=pins).chosen.placement
            points.append(
                Point(
                    share=share,
                    gb_per_s=gb_per_s,
                    placement=chosen.describe(counts.query.segments),
                    modelled_s=replay(changed, chosen, counts).time.ns / NS_PER_S,
                    host_only_s=replay(changed, alone, counts).time.ns / NS_PER_S,
                )
            )
    return Map(system.name, str(lane), narrow.value, tuple(points))


def _with_bandwidth(system: System, narrow: Figure, gb_per_s: float) -> System:
    wide = msgspec.structs.replace(narrow, value=gb_per_s)
    links = tuple(
        msgspec.structs.replace(link, bandwidth_gb_per_s=wide)
        if link.bandwidth_gb_per_s.value == narrow.value
        else link
        for link in system.links
    )
    return msgspec.structs.replace(system, links=links)
