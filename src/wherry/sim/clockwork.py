"""A system in virtual time: its cores, media, memories and links as simpy resources.

Bytes over a link occupy each lane of the way in turn (store and forward, a chunk at a time); media
stripe a read over all channels, so reads queue one behind the other; a program occupies one core
for its modelled time, stretched if the memory's bandwidth, shared among the cores busy when it
starts, is what holds it. All times are whole nanoseconds and nothing is random: the same commands
give the same timeline.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from wherry.base.events import Span, SpanKind
from wherry.devices.charge import (
    latency_ns,
    media_latency_ns,
    media_ns,
    memory_ns,
    receive_ns,
    transfer_ns,
)
from wherry.devices.profile import Profile
from wherry.devices.system import Lane, Link, System, lanes

Steps = Generator[Any, Any, Any]
"""A simpy process; what it returns is what `yield from` gives."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a resource is used for: the fields of a span that are known beforehand."""

    kind: SpanKind
    stage: int
    chunk: int = -1
    nbytes: int = 0
    rows: int = 0

    def span(self, resource: str, device: str, start_ns: int, end_ns: int) -> Span:
        """Give the span of this use of `resource`."""
        return Span(
            self.kind, resource, device, start_ns, end_ns,
            self.stage, self.chunk, self.nbytes, self.rows,
        )  # fmt: skip


@dataclass
class Clockwork:
    """The resources of a system; each use is noted in the log of whoever used them.

    Attributes
    ----------
    system : System
        What is simulated.
    env : simpy.Environment
        Virtual nanoseconds.
    """

    system: System
    env: simpy.Environment = field(default_factory=simpy.Environment)
    _servers: dict[str, simpy.Resource] = field(default_factory=dict)

    def server(self, name: str, capacity: int = 1) -> simpy.Resource:
        """Give the resource of a name, made when first asked for."""
        if name not in self._servers:
            self._servers[name] = simpy.Resource(self.env, capacity)
        return self._servers[name]

    def profile(self, device: str) -> Profile:
        """Give a device's profile."""
        return self.system.devices[device]

    @property
    def now(self) -> int:
        """The virtual time, in nanoseconds."""
        return int(self.env.now)

    def carry(self, log: list[Span], source: str, target: str, use: Use) -> Steps:
        """Move bytes from node to node, lane by lane."""
        for lane in lanes(self.system, source, target):
            link = self.system.links[lane.link]
            with self.server(_lane_name(link, lane)).request() as turn:
                yield turn
                start = self.now
                yield self.env.timeout(transfer_ns(link, use.nbytes))
                log.append(use.span(f"link {lane}", lane.source, start, self.now))
            yield self.env.timeout(latency_ns(link))

    def signal(self, source: str, target: str) -> Steps:
        """Let a request of no size travel: latency only."""
        way = lanes(self.system, source, target)
        yield self.env.timeout(sum(latency_ns(self.system.links[lane.link]) for lane in way))

    def read(self, log: list[Span], device: str, use: Use) -> Steps:
        """Read bytes from a device's media; data in memory is there at once."""
        profile = self.profile(device)
        if profile.media is None:
            return
        with self.server(f"media {device}").request() as turn:
            yield turn
            start = self.now
            yield self.env.timeout(media_ns(profile, use.nbytes))
            log.append(use.span(f"media {device}", device, start, self.now))
        yield self.env.timeout(media_latency_ns(profile))

    def receive(self, device: str) -> Steps:
        """Receive, check and decode a continuation on one of the device's cores."""
        with self.cores(device).request() as turn:
            yield turn
            yield self.env.timeout(receive_ns(self.profile(device)))

    def cores(self, device: str) -> simpy.Resource:
        """Give the cores of a device."""
        cores = self.profile(device).cores
        return self.server(f"cores {device}", 1 if cores is None else cores.count.value)

    def stretched(self, device: str, core_ns: int, nbytes: int) -> int:
        """Give a program's time with memory bandwidth shared among the cores busy now."""
        busy = self.cores(device).count
        return max(core_ns, memory_ns(self.profile(device), nbytes) * busy)


def _lane_name(link: Link, lane: Lane) -> str:
    """Give the name of what a transfer occupies: one direction, or both of a half-duplex link."""
    if link.duplex == "half":
        return f"link {'<->'.join(link.ends)}"
    return f"link {lane}"
