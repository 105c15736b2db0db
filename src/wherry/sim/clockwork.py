"""A system in virtual time: its cores, engines, media, memories and links as queues.

All times are whole nanoseconds and nothing is random: the same commands give the same timeline.
Bytes over a link occupy each lane of the way in turn (store and forward, a chunk at a time); what
is decided when a transfer begins holds until it ends: whether the other way is busy, and how much
of a relay's memory bandwidth is left.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import simpy
from msgspec import Struct, field

from wherry.base.events import Span, SpanKind
from wherry.devices.charge import (
    channel_ns,
    media_latency_ns,
    memory_ns,
    quotient,
    receive_ns,
    requests,
)
from wherry.devices.demand import Demand, Job, programs_at_once
from wherry.devices.profile import Profile
from wherry.devices.system import System
from wherry.devices.topology import Leg as Charged
from wherry.devices.topology import legs
from wherry.sim.servers import Bandwidth, Channels, Room, Server

Steps = Generator[Any, Any, Any]
"""A simpy process; what it returns is what `yield from` gives."""


class Use(NamedTuple):
    """What a resource is used for: the fields of a span that are known beforehand."""

    kind: SpanKind
    stage: int
    chunk: int = -1
    nbytes: int = 0
    rows: int = 0

    def span(self, resource: str, device: str, start_ns: int, end_ns: int) -> Span:
        """Give the span of this use of `resource`."""
        kind, stage, chunk, nbytes, rows = self
        return Span(kind, resource, device, start_ns, end_ns, stage, chunk, nbytes, rows)


class Leg(Struct, frozen=True):
    """One lane of a way in use: its queue, and the other direction's if that slows this one."""

    name: str
    of: Charged
    server: Server
    back: Server | None


class Clockwork(Struct):
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
    _servers: dict[str, Server] = field(default_factory=dict)
    _cores: dict[str, Server] = field(default_factory=dict)
    _ways: dict[tuple[str, str], tuple[Leg, ...]] = field(default_factory=dict)
    _channels: dict[str, Channels] = field(default_factory=dict)
    _reads: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    _bandwidth: dict[str, Bandwidth] = field(default_factory=dict)
    _rooms: dict[str, Room | None] = field(default_factory=dict)

    def server(self, name: str, units: int = 1) -> Server:
        """Give the queue of a name, made when first asked for."""
        found = self._servers.get(name)
        if found is None:
            found = self._servers[name] = Server(self.env, units)
        return found

    def cores(self, device: str) -> Server:
        """Give the cores of a device: as many units as programs run at the same time."""
        found = self._cores.get(device)
        if found is None:
            found = self._cores[device] = Server(self.env, programs_at_once(self.profile(device)))
        return found

    def profile(self, device: str) -> Profile:
        """Give a device's profile."""
        return self.system.devices[device]

    def bandwidth(self, device: str) -> Bandwidth:
        """Give the memory bandwidth of a device."""
        found = self._bandwidth.get(device)
        if found is None:
            found = self._bandwidth[device] = Bandwidth()
        return found

    def room(self, node: str) -> Room | None:
        """Give the memory of a node; None if it has none that is known."""
        if node not in self._rooms:
            profile = self.system.devices.get(node)
            memory = None if profile is None else profile.memory
            self._rooms[node] = None
            if memory is not None:
                beyond = memory.beyond_gb_per_s is not None
                self._rooms[node] = Room(node, self.env, memory.capacity_bytes.value, beyond)
        return self._rooms[node]

    @property
    def full(self) -> list[str]:
        """The devices whose memory somebody waits for."""
        rooms = (room for room in self._rooms.values() if room is not None)
        return [room.device for room in rooms if room.queue]

    @property
    def now(self) -> int:
        """The virtual time, in nanoseconds."""
        now: int = self.env.now  # type: ignore[assignment]  # every delay is a whole number
        return now

    def way(self, source: str, target: str) -> tuple[Leg, ...]:
        """Give the lanes from node to node with what they occupy."""
        found = self._ways.get((source, target))
        if found is None:
            found = tuple([self._leg(leg) for leg in legs(self.system, source, target)])
            self._ways[source, target] = found
        return found

    def _leg(self, leg: Charged) -> Leg:
        # Links beside each other, between the same two nodes, are different queues.
        server = self.server(f"{leg.name} {leg.number}")
        back = None if leg.back is None else self.server(f"{leg.back} {leg.number}")
        return Leg(f"link {leg.lane}", leg, server, back)

    def carry(self, log: list[Span], source: str, target: str, use: Use) -> Steps:
        """Move bytes from node to node, lane by lane."""
        env, nbytes = self.env, use.nbytes
        for leg in self.way(source, target):
            of, server, back = leg.of, leg.server, leg.back
            turn = server.take()
            if turn is not None:
                yield turn
            start = self.now
            both = back is not None and back.busy > 0
            took = quotient(nbytes, *(of.both_rate if both else of.rate))
            if of.relays:
                yield from self._through(of.relays, nbytes, took)
            else:
                yield env.timeout(took)
            log.append(use.span(leg.name, of.source, start, self.now))
            server.give()
            yield env.timeout(of.latency_ns)

    def _through(self, staged: tuple[str, ...], nbytes: int, alone: int) -> Steps:
        """Let a transfer's time pass, stretched by the memories that write or read its bytes."""
        parts, longest = [], alone
        for device in staged:
            memory = memory_ns(self.profile(device), nbytes)
            part, took = self.bandwidth(device).share(max(alone, memory), memory)
            parts.append((device, part))
            longest = max(longest, took)
        yield self.env.timeout(longest)
        for device, part in parts:
            self.bandwidth(device).end(part)

    def signal(self, source: str, target: str) -> Steps:
        """Let a request of no size travel: latency only."""
        yield self.env.timeout(sum([leg.of.latency_ns for leg in self.way(source, target)]))

    def read(self, log: list[Span], device: str, use: Use) -> Steps:
        """Read bytes from a device's media; data in memory is there at once."""
        profile = self.profile(device)
        if profile.media is None:
            return
        channels = self._channels.get(device)
        if channels is None:
            channels = Channels([0] * profile.media.channels.value)
            self._channels[device] = channels
        begin, end = channels.use(self.now, self._channel_times(device, use.nbytes))
        yield self.env.timeout(end - self.now)
        log.append(use.span(f"media {device}", device, begin, end))
        yield self.env.timeout(media_latency_ns(profile))

    def _channel_times(self, device: str, nbytes: int) -> list[int]:
        """Give how long a read occupies each channel it uses, the longest first."""
        found = self._reads.get((device, nbytes))
        if found is None:
            media = self.profile(device).media
            assert media is not None
            each, more = divmod(requests(media, nbytes), media.channels.value)
            found = [channel_ns(media, nbytes, each + 1)] * more
            found += [channel_ns(media, nbytes, each)] * (
                media.channels.value - more if each else 0
            )
            self._reads[device, nbytes] = found
        return found

    def receive(self, device: str) -> Steps:
        """Receive, check and decode a continuation on one of the device's cores."""
        cores = self.cores(device)
        turn = cores.take()
        if turn is not None:
            yield turn
        yield self.env.timeout(receive_ns(self.profile(device)))
        cores.give()

    def compute(self, log: list[Span], device: str, use: Use, took: int) -> Steps:
        """Occupy a core for so long, whatever the memory does."""
        cores = self.cores(device)
        turn = cores.take()
        if turn is not None:
            yield turn
        start = self.now
        yield self.env.timeout(took)
        log.append(use.span(f"cores {device}", device, start, self.now))
        cores.give()

    def run(self, device: str, asked: Demand) -> Steps:
        """Let the time of a program pass on a core that was taken."""
        room = self.room(device)
        if room is not None and room.beyond and room.overfull:
            # Not a slope: every page is fetched again, however little does not fit.
            yield self.env.timeout(max(asked.alone_ns, asked.beyond_ns))
            return
        bandwidth = self.bandwidth(device)
        part, took = bandwidth.share(asked.alone_ns, asked.memory_ns)
        yield self.env.timeout(took)
        bandwidth.end(part)

    def work_off(self, log: list[Span], device: str, jobs: tuple[Job, ...], use: Use) -> Steps:
        """Let engines of a device do jobs, one after the other; each engine has its own queue."""
        for job in jobs:
            name = f"engine {device} {job.engine}"
            engine = self.server(name, job.jobs)
            turn = engine.take()
            if turn is not None:
                yield turn
            start = self.now
            yield self.env.timeout(job.ns)
            log.append(use.span(name, device, start, self.now))
            engine.give()
