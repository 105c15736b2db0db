"""What a placement is predicted to cost: modelled, per resource, from profiles and statistics.

    time = setup + max over resources of (demand / capacity) + fill + barrier

Setup is what happens before the first byte is read, until the first device has the builds of its
joins; resources are media, links and cores, each busy for the sum of what it is asked; fill is what
one chunk spends outside the busiest resource on its way, which nothing overlaps, and how much later
its devices may begin than the first one; barrier is what follows the last chunk: the merge, and the
answer's way to the client. It is a bottleneck model with a pipeline's fill; the simulator is the
judge of it.

A placement has three parts that hardly depend on each other: the way to where chunks are read, the
chunks' ways, and what happens where they meet. `Costs` charges each part once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from wherry.devices.charge import install_ns, latency_ns, receive_ns, start_ns, transfer_ns
from wherry.devices.demand import Demand, demand
from wherry.devices.system import System, lanes
from wherry.devices.work import Work, core_ns, load_reference
from wherry.ir.build import Known
from wherry.ir.work import keep_work, reading_work
from wherry.ops.estimate import Estimate
from wherry.plan.account import MESSAGE_BYTES, Account, Cost, added
from wherry.plan.expected import stage_work
from wherry.plan.placement import (
    HOME,
    Homes,
    Placement,
    Stage,
    dealt,
    homes_of,
    stages_on,
)
from wherry.plan.placement import Way as ChunksWay
from wherry.plan.query import Query, builds_of
from wherry.plan.ways import Way, on_way, spend

__all__ = ["Cost", "Costs", "alone_ns", "predict", "readers_of"]

Ways = tuple[ChunksWay, ...]


def predict(query: Query, system: System, placement: Placement, *, cold: bool = False) -> Cost:
    """Give the predicted cost of a query placed so.

    Parameters
    ----------
    cold : bool
        Whether devices lack the plan; setup then includes installing it, first where chunks are
        chosen, then wherever stages run.
    """
    return Costs(query, system, cold=cold).of(placement)


def alone_ns(query: Query, system: System, placement: Placement) -> int:
    """Give the modelled time of one chunk along its way if nothing else runs; the longest way's."""
    ways = Costs(query, system).chunks(placement.ways).ways
    return max((way.ns for way in ways), default=0)


class Costs(Struct, dict=True):
    """The costs of placements of one query on one system; what they share is charged once.

    Parameters
    ----------
    cold : bool
        As for `predict`.
    kept : dict
        What whoever searches found out of how chunks lie, which is the same for all rows.
    """

    query: Query
    system: System
    cold: bool = False
    _parts: dict[object, Account] = field(default_factory=dict)
    _works: dict[object, Work] = field(default_factory=dict)
    _demands: dict[object, Demand] = field(default_factory=dict)
    _cuts: dict[object, tuple[Stage, ...]] = field(default_factory=dict)
    _flows_of: dict[object, list[_Flow]] = field(default_factory=dict)
    _routes: dict[object, Account] = field(default_factory=dict)
    _sites: dict[str, Counter[str]] = field(default_factory=dict)
    kept: dict[object, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.homes = homes_of(self.query, self.system)
        self.chunks_at = Counter(self.homes.of_chunk)
        self.merges = any(segment.kind == "merge" for segment in self.query.segments)
        last = -1 if self.merges else None
        kinds = [segment.kind for segment in self.query.segments]
        self.places = [n for n in range(len(kinds))[1:last] if kinds[n] != "merge"]

    def with_query(self, query: Query) -> Costs:
        """Give the costs of the same query with other numbers of rows on its way.

        How chunks lie and stages are cut, and the way to them, are the same.
        """
        names = ("_cuts", "_flows_of", "_routes", "_sites", "kept")
        shared = {name: getattr(self, name) for name in names}
        return Costs(query, self.system, self.cold, **shared)

    def of(self, placement: Placement) -> Cost:
        """Give the cost of a placement."""
        return self.together(
            self.route(placement), self.chunks(placement.ways), *self.gather(placement)
        )

    def together(self, *parts: Account) -> Cost:
        """Give the cost of parts: no more than of any placement that has them all.

        Nothing that a part asks for makes another term of the cost smaller.
        """
        return added(self.system, parts).cost()

    def route(self, placement: Placement) -> Account:
        """Give what is charged before the first chunk is read."""
        router, (first, users, builds) = placement.sites[0], self.before(placement)

        def made() -> Account:
            account = Account(self.system)
            _route(account, self.query, router, [d for s in first for d in _at(s, self.homes)])
            if self.cold:
                installs = [install_ns(account.profile(device)) for device in users - {router}]
                account.setup += install_ns(account.profile(router)) + max(installs, default=0)
                for device in users | {router}:
                    account.occupy(device, install_ns(account.profile(device)))
            for device, ns in _ship(account, self.query, self.homes, builds).items():
                account.begins[device] = account.begins.get(device, 0) + ns
            return account

        return _once(self._routes, (router, first, users, builds), made)

    def before(
        self, placement: Placement
    ) -> tuple[tuple[str, ...], frozenset[str], tuple[Stage, ...]]:
        """Give what `route` follows from besides the router.

        The sites that begin, the devices that get the plan, and the stages that need builds.
        """
        stages = self._stages(placement)
        begins = dict.fromkeys(s.site for s in stages if s.first == stages[0].first)
        users = self._users(stages) if self.cold else frozenset()
        return tuple(begins), users, stages if any(self.query.builds) else ()

    def opens(self, router: str) -> int:
        """Give the nanoseconds of setup that a router takes at least."""
        account = Account(self.system)
        _route(account, self.query, router, [])
        return account.setup

    def chunks(self, ways: Ways) -> Account:
        """Give what is charged for chunks on these ways, until they meet."""
        key = tuple((self._apart(way), way.weight) for way in ways)

        def made() -> Account:
            account = Account(self.system)
            self._chunks(account, self._flows(ways))
            account.shape()
            return account

        return _once(self._parts, ("chunks", key), made)

    def gather(self, placement: Placement) -> tuple[Account, ...]:
        """Give what is charged for the way to where chunks meet, and what is charged after."""
        if not self.merges:
            return ()
        tail = placement.sites[-2:]
        return self.meet(placement.ways, tail[0]), self.after(tail)

    def meet(self, ways: Ways, site: str) -> Account:
        """Give what is charged for the way of chunks to where they meet."""
        ends = tuple([(way.sites[self.places[-1]], way.weight) for way in ways])
        key = ("meet", ends, site)
        return _once(self._parts, key, lambda: self._meet(self._flows(ways), site))

    def after(self, tail: tuple[str, ...]) -> Account:
        """Give what is charged once chunks have met, the sites of merge and answer being given."""

        def made() -> Account:
            # Which stages follow each other hangs on no site before the merge.
            sites = (HOME,) * (len(self.query.segments) - len(tail))
            cut = self._cut((*sites, *tail))
            return self._after([stage for stage in cut if not stage.chunkwise], tail[-1])

        return _once(self._parts, ("after", tail), made)

    def chunks_of(self, site: str) -> Counter[str]:
        """Give the devices that a site is, each with the chunks that come to it."""
        found = self._sites.get(site)
        if found is None:
            found = self._sites[site] = Counter()
            for home, chunks in self.chunks_at.items():
                found[self.homes.device(site, home)] += chunks
        return found

    def _apart(self, way: ChunksWay) -> tuple[str, ...]:
        """Give the sites of the segments that chunks go through, and of an answer of them."""
        return tuple([way.sites[number] for number in self.places])

    def _stages(self, placement: Placement) -> tuple[Stage, ...]:
        """Give the stages of all ways, each once."""
        if not placement.split:
            return self._cut(placement.sites)
        every = (stage for way in placement.ways for stage in self._cut(way.sites))
        return tuple(dict.fromkeys(every))

    def _cut(self, sites: tuple[str, ...]) -> tuple[Stage, ...]:
        if sites[1:] not in self._cuts:  # routing is no stage
            self._cuts[sites[1:]] = stages_on(self.query.segments, sites)
        return self._cuts[sites[1:]]

    def _users(self, stages: tuple[Stage, ...]) -> frozenset[str]:
        return frozenset(d for stage in stages for d in _at(stage.site, self.homes))

    def _flows(self, ways: Ways) -> list[_Flow]:
        weights, homes, found = [way.weight for way in ways], self.homes, list[_Flow]()
        key = tuple((self._apart(way), way.weight) for way in ways)
        if key in self._flows_of:
            return self._flows_of[key]
        every = [self._cut(way.sites) for way in ways]
        for home, chunks in self.chunks_at.items():
            counts = Counter(dealt(weights, chunks)) if len(ways) > 1 else {0: chunks}
            for number, way in enumerate(ways):
                stages = tuple(stage for stage in every[number] if stage.chunkwise)
                sites = tuple(homes.device(stage.site, home) for stage in stages)
                answers = homes.device(way.sites[-1], home)
                if counts[number]:
                    found.append(_Flow(home, number, counts[number], stages, sites, answers))
        self._flows_of[key] = found
        return found

    def _work(self, stage: Stage, parts: int) -> Work:
        key = (stage.first, stage.last, parts)
        if key not in self._works:
            self._works[key] = stage_work(self.query, stage, parts)
        return self._works[key]

    def _chunks(self, account: Account, flows: list[_Flow]) -> None:
        """Charge reading, moving and running chunks, and keep one chunk's way of each flow."""
        query = self.query
        for flow in flows:
            nbytes, place, inside = query.reading.media_bytes, flow.home, 0
            legs = [account.read(place, nbytes, flow.times)]
            if flow.sites and flow.sites[0] != place:
                legs.append(account.signal(flow.sites[0], place))
            for stage, target in zip(flow.stages, flow.sites, strict=True):
                if target != place:
                    legs.append(account.carry(place, target, nbytes, flow.times))
                first = stage is flow.stages[0]
                asked = self.asked(target, stage, len(query.chunks), reads=first)
                legs.append(account.compute(asked, target, flow.times))
                if first:
                    inside = sum(sum(leg.values()) for leg in legs)
                    account.window(target, inside, flow.times)
                place, nbytes = target, self.out_bytes(stage.last)
            if not self.merges:
                # The parts of the answer travel while other chunks are on their way.
                legs.append(_answer(account, place, flow.answers, self.out_bytes(-1), flow.times))
            devices = tuple(dict.fromkeys(flow.sites or (flow.home,)))
            account.ways.append(on_way(legs, flow.number, devices, flow.times, inside))

    def asked(self, device: str, stage: Stage, parts: int, *, reads: bool = False) -> Demand:
        """Give what one of `parts` runs of a stage asks of a device."""
        key = (device, stage.first, stage.last, parts, reads)
        if key not in self._demands:
            work, packed = self._work(stage, parts), self.query.reading.packed
            if reads:
                work += reading_work(self.query.reading)
            self._demands[key] = demand(
                self.system.devices[device],
                work,
                rows=int(self.query.flows[stage.first - 1].rows / parts),
                packed=packed if reads else (),
            )
        return self._demands[key]

    def out_bytes(self, segment: int) -> int:
        """Give the bytes that come out of a segment for one chunk."""
        flow: Estimate = self.query.flows[segment]
        return int(flow.rows * flow.row_bytes / max(1, len(self.query.chunks)))

    def _meet(self, flows: list[_Flow], site: str) -> Account:
        """Charge the way of chunks to where they meet."""
        account = Account(self.system)
        nbytes = self.out_bytes(self.places[-1])
        for flow in flows:
            if flow.last != site:
                account.carry(flow.last, site, nbytes, flow.times)
        return account

    def _after(self, stages: list[Stage], responds: str) -> Account:
        """Charge what happens once chunks have met, and the answer's way to the client."""
        account, query, place = Account(self.system), self.query, ""
        for stage in stages:
            if place:
                # Rows that were merged travel at once, and nothing else does meanwhile.
                account.barrier += _moved(account, query, stage, place)
            place = stage.site
            asked = self.asked(place, stage, 1)
            memory = account.profile(place).memory
            meets = query.flows[stage.first - 1], query.flows[stage.last]
            held = sum(flow.rows * flow.row_bytes for flow in meets)
            beyond = memory is not None and held > memory.capacity_bytes.value
            alone = max(asked.alone_ns, asked.beyond_ns if beyond else 0)
            account.barrier += alone + asked.waiting_ns
            account.occupy(place, alone)
        nbytes = int(query.flows[-1].rows * query.flows[-1].row_bytes)
        account.barrier += sum(_answer(account, place, responds, nbytes, 1).values())
        return account


class _Flow(Struct, frozen=True):
    """Chunks that lie on one device and go way `number`: `times`, through `stages` at `sites`.

    `last` is where they are when they are through, `answers` where an answer made of them alone
    leaves from.
    """

    home: str
    number: int
    times: int
    stages: tuple[Stage, ...]
    sites: tuple[str, ...]
    answers: str

    @property
    def last(self) -> str:
        return self.sites[-1] if self.sites else self.home


def _once(parts: dict[object, Account], key: object, made: Callable[[], Account]) -> Account:
    found = parts.get(key)
    if found is None:
        found = parts[key] = made()
    return found


def _at(site: str, homes: Homes) -> tuple[str, ...]:
    """Give the devices of a site; of all that store chunks one, if the query needs none."""
    found = homes.at(site)
    return found if homes.of_chunk else found[:1]


def _route(account: Account, query: Query, router: str, first: list[str]) -> None:
    """Charge the continuation's way to the router, its choice, and the way to the first devices."""
    profile = account.profile(router)
    work = Work(filter_terms=len(query.chunks))
    account.setup += account.message(account.system.client, router)
    chosen = start_ns(profile) + core_ns(work, profile, load_reference())
    account.setup += chosen
    account.occupy(router, chosen)
    for device in dict.fromkeys(first):
        account.begins[device] = account.message(router, device)


def _ship(
    account: Account, query: Query, homes: Homes, stages: tuple[Stage, ...]
) -> dict[str, int]:
    """Give the time until each device has the builds it reads, all sent by the client.

    They share its links, first come first served: the fullest lane of those before it and its own
    decides, then what the device does with them.
    """
    client, system = account.system.client, account.system
    busy: dict[str, int] = {}
    found: dict[str, int] = {}
    for device, builds in readers_of(query, homes, stages).items():
        profile, alone, fullest = account.profile(device), 0, 0
        for build in builds:
            for lane in lanes(system, client, device):
                link, name = system.links[lane.link], str(lane)
                busy[name] = busy.get(name, 0) + transfer_ns(link, build.nbytes)
                fullest = max(fullest, busy[name])
                sent = account.link_bytes.get(name, 0)
                account.link_bytes[name] = sent + build.nbytes + MESSAGE_BYTES
                # The device's refusal, the rows, and the message once more.
                alone += 3 * latency_ns(link)
            kept = core_ns(keep_work(build), profile, load_reference())
            account.occupy(device, kept)
            alone += receive_ns(profile) + kept
        found[device] = fullest + alone
    return found


def readers_of(
    query: Query, homes: Homes, stages: tuple[Stage, ...]
) -> dict[str, tuple[Known, ...]]:
    """Give the devices that need builds, and which; each is sent to a device once."""
    found: dict[str, dict[Known, None]] = {}
    for stage in stages:
        for build in builds_of(query, stage.first, stage.last):
            for device in _at(stage.site, homes):
                found.setdefault(device, {})[build] = None
    return {device: tuple(builds) for device, builds in found.items()}


def _moved(account: Account, query: Query, stage: Stage, source: str) -> int:
    """Charge the way of what the stage before made, all of it; give the time it takes."""
    if source == stage.site:
        return 0
    flow = query.flows[stage.first - 1]
    return sum(account.carry(source, stage.site, int(flow.rows * flow.row_bytes)).values())


def _answer(account: Account, place: str, sender: str, nbytes: int, times: int) -> Way:
    """Charge `times` parts of an answer from where they are made to the client; give one's way."""
    way: Way = {}
    if sender != place:
        spend(way, account.carry(place, sender, nbytes, times))
    spend(way, account.carry(sender, account.system.client, nbytes, times))
    return way
