"""What a placement is predicted to cost: modelled, per resource, from profiles and statistics.

    time = setup + max over resources of (demand / capacity) + fill + barrier

Setup is what happens before the first byte is read, the way of the builds of joins included;
resources are media, links and cores, each busy for the sum of what it is asked; fill is what one
chunk spends outside the busiest resource on its way, which nothing overlaps; barrier is what
follows the last chunk: the merge, and the answer's way to the client. It is a bottleneck model with
a pipeline's fill; the simulator is the judge of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from wherry.base.units import Modelled
from wherry.devices.charge import (
    install_ns,
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
from wherry.ir.build import Known
from wherry.ir.expr import Column
from wherry.ir.stage import Matches, Pass, Rows, Step, expressions
from wherry.ir.work import Counter as WorkCounter
from wherry.ir.work import costs_of, encoding_work, keep_work, reading_work
from wherry.ops.estimate import Estimate
from wherry.ops.select import TEXT_BYTES
from wherry.plan.placement import Homes, Placement, Stage, dealt, homes_of, stages_of, stages_on
from wherry.plan.query import Query, builds_of
from wherry.plan.segments import stage_of

MESSAGE_BYTES = 160
"""Size of a continuation for estimates; a run counts the real bytes."""


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


Way = dict[str, int]
"""Where one chunk spends its nanoseconds: resources by name, "alone" for latencies."""


@dataclass
class _Sum:
    """The account that `predict` fills: what each resource is asked for."""

    system: System
    setup: int = 0
    barrier: int = 0
    ways: list[Way] = field(default_factory=list)
    busy: dict[str, int] = field(default_factory=dict)
    link_bytes: dict[str, int] = field(default_factory=dict)

    def use(self, resource: str, ns: int) -> None:
        self.busy[resource] = self.busy.get(resource, 0) + ns

    def carry(self, source: str, target: str, nbytes: int, times: int = 1) -> Way:
        """Charge `times` transfers to every lane of the way; give where one of them spends time."""
        way: Way = {}
        for lane in lanes(self.system, source, target):
            link = self.system.links[lane.link]
            occupied = transfer_ns(link, nbytes)
            self.use(f"link {lane}", occupied * times)
            self.link_bytes[str(lane)] = self.link_bytes.get(str(lane), 0) + nbytes * times
            _spend(way, {f"link {lane}": occupied, "alone": latency_ns(link)})
        return way

    def message(self, source: str, target: str) -> int:
        """Charge a continuation; give the time until it is opened."""
        way = self.carry(source, target, MESSAGE_BYTES)
        return sum(way.values()) + receive_ns(self.profile(target))

    def profile(self, device: str) -> Profile:
        return self.system.devices[device]

    def cost(self) -> Cost:
        longest = max(self.busy.values(), default=0)
        fill = max(map(self._through, self.ways), default=longest) - longest
        return Cost(self.setup, fill, self.barrier, self.busy, self.link_bytes)

    def _through(self, way: Way) -> int:
        """Give the time until one home's chunks are through: the busiest part, and the rest."""
        busiest = max(way, key=lambda name: self.busy.get(name, 0))
        return self.busy.get(busiest, 0) + sum(way.values()) - way[busiest]


def _spend(way: Way, more: Way) -> None:
    for resource, ns in more.items():
        way[resource] = way.get(resource, 0) + ns


def predict(query: Query, system: System, placement: Placement, *, cold: bool = False) -> Cost:
    """Give the predicted cost of a query placed so.

    Parameters
    ----------
    cold : bool
        Whether devices lack the plan; setup then includes installing it, first where chunks are
        chosen, then wherever stages run.
    """
    account = _Sum(system)
    homes = homes_of(query, system)
    stages = stages_of(query.segments, placement)
    _route(account, query, placement, homes, stages, cold=cold)
    account.setup += _ship(account, query, homes, stages)
    flows = _flows(query, placement, homes)
    _chunks(account, query, flows)
    _gather(account, query, placement, flows, stages)
    return account.cost()


@dataclass(frozen=True, slots=True)
class _Flow:
    """Chunks that lie on one device and go one way: `times` of them, through `stages` at `sites`.

    `last` is where they are when they are through, `answers` where an answer made of them alone
    leaves from.
    """

    home: str
    times: int
    stages: tuple[Stage, ...]
    sites: tuple[str, ...]
    answers: str

    @property
    def last(self) -> str:
        return self.sites[-1] if self.sites else self.home


def _flows(query: Query, placement: Placement, homes: Homes) -> list[_Flow]:
    weights = [way.weight for way in placement.ways]
    found = []
    for home in dict.fromkeys(homes.of_chunk):
        counts = Counter(dealt(weights, homes.of_chunk.count(home)))
        for number, way in enumerate(placement.ways):
            stages = tuple(s for s in stages_on(query.segments, way.sites) if s.chunkwise)
            sites = tuple(homes.device(stage.site, home) for stage in stages)
            answers = homes.device(way.sites[-1], home)
            if counts[number]:
                found.append(_Flow(home, counts[number], stages, sites, answers))
    return found


def _at(site: str, homes: Homes) -> tuple[str, ...]:
    """Give the devices of a site; of all that store chunks one, if the query needs none."""
    found = homes.at(site)
    return found if homes.of_chunk else found[:1]


def _route(
    account: _Sum,
    query: Query,
    placement: Placement,
    homes: Homes,
    stages: tuple[Stage, ...],
    *,
    cold: bool,
) -> None:
    router = placement.sites[0]
    profile = account.profile(router)
    work = Work(filter_terms=len(query.chunks))
    account.setup += account.message(account.system.client, router)
    account.setup += start_ns(profile) + core_ns(work, profile, load_reference())
    account.setup += max(account.message(router, d) for d in _at(stages[0].site, homes))
    if cold:
        users = {d for stage in stages for d in _at(stage.site, homes)} - {router}
        installs = [install_ns(account.profile(device)) for device in users]
        account.setup += install_ns(profile) + max(installs, default=0)


def _ship(account: _Sum, query: Query, homes: Homes, stages: tuple[Stage, ...]) -> int:
    """Give the time until every device has the builds it reads, all sent by the client.

    They share its links: the fullest lane decides, then what the slowest device does with them.
    """
    client, system = account.system.client, account.system
    busy: dict[str, int] = {}
    longest = 0
    for device, builds in readers_of(query, homes, stages).items():
        profile, alone = account.profile(device), 0
        for build in builds:
            for lane in lanes(system, client, device):
                link, name = system.links[lane.link], str(lane)
                busy[name] = busy.get(name, 0) + transfer_ns(link, build.nbytes)
                sent = account.link_bytes.get(name, 0)
                account.link_bytes[name] = sent + build.nbytes + MESSAGE_BYTES
                # The device's refusal, the rows, and the message once more.
                alone += 3 * latency_ns(link)
            alone += receive_ns(profile) + core_ns(keep_work(build), profile, load_reference())
        longest = max(longest, alone)
    return max(busy.values(), default=0) + longest


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


def _chunks(account: _Sum, query: Query, flows: list[_Flow]) -> None:
    """Charge reading, moving and running the chunks, and keep one chunk's way of each flow."""
    for flow in flows:
        nbytes, place = query.reading.media_bytes, flow.home
        way = _read(account, place, nbytes, flow.times)
        for stage, target in zip(flow.stages, flow.sites, strict=True):
            if target != place:
                _spend(way, account.carry(place, target, nbytes, flow.times))
            work = _stage_work(query, stage, len(query.chunks))
            if stage is flow.stages[0]:
                work += reading_work(query.reading)
            _spend(way, _compute(account, work, target, flow.times))
            place, nbytes = target, _out_bytes(query, stage.last)
        account.ways.append(way)


def _read(account: _Sum, device: str, nbytes: int, times: int) -> Way:
    profile = account.profile(device)
    occupied = media_ns(profile, nbytes)
    if profile.media is not None:
        account.use(f"media {device}", occupied * times)
    return {f"media {device}": occupied, "alone": media_latency_ns(profile)}


def _compute(account: _Sum, work: Work, device: str, times: int) -> Way:
    profile = account.profile(device)
    core = start_ns(profile) + core_ns(work, profile, load_reference())
    cores = 1 if profile.cores is None else profile.cores.count.value
    share = max(core // cores, memory_ns(profile, work.memory_bytes))
    account.use(f"cores {device}", share * times)
    return {f"cores {device}": share, "alone": max(0, core - share)}


def _stage_work(query: Query, stage: Stage, parts: int) -> Work:
    """Give the estimated work of one of `parts` equal runs of a stage."""
    encoding = query.segments[stage.last].encoding
    if encoding is None:
        return _steps_work(query, stage, parts)
    rows_bytes, stream_bytes = (
        int(flow.rows * flow.row_bytes / parts)
        for flow in (query.flows[stage.last - 1], query.flows[stage.last])
    )
    work = encoding_work(encoding, rows_bytes, stream_bytes)
    before = replace(stage, last=stage.last - 1)
    return work if stage.first == stage.last else work + _steps_work(query, before, parts)


def _steps_work(query: Query, stage: Stage, parts: int) -> Work:
    program = stage_of(query.segments[stage.first : stage.last + 1])
    near, made = query.flows[stage.first], query.flows[stage.last]
    rows = int(query.flows[stage.first - 1].rows / parts)
    counter = WorkCounter()
    for step in program.steps:
        if isinstance(step, Pass):
            selected = rows if step.predicate is None else int(near.rows / parts)
            costs = costs_of(step)
            counter.add_pass(costs, rows, selected, int(rows * TEXT_BYTES * len(costs.texts)))
            if isinstance(step.sink, Matches):
                counter.hash_rows += int(made.rows / parts)
            rows = selected if isinstance(step.sink, Rows) else int(made.rows / parts)
        else:
            counter.add_after((step,), rows)
            rows = rows if step.count is None else min(rows, step.count)
    return counter.work(_written(program.steps, int(made.rows * made.row_bytes / parts)))


def _written(steps: tuple[Step, ...], nbytes: int) -> int:
    """Give the bytes a stage writes: none if its columns only pass through."""
    first = steps[0]
    passes = isinstance(first, Pass) and first.predicate is None and isinstance(first.sink, Rows)
    columns = passes and all(isinstance(n, Column) for n in expressions(first))
    return 0 if columns and len(steps) == 1 else nbytes


def _out_bytes(query: Query, segment: int) -> int:
    """Give the bytes that come out of a segment for one chunk."""
    flow: Estimate = query.flows[segment]
    return int(flow.rows * flow.row_bytes / max(1, len(query.chunks)))


def _gather(
    account: _Sum,
    query: Query,
    placement: Placement,
    flows: list[_Flow],
    stages: tuple[Stage, ...],
) -> None:
    """Charge what happens where the chunks meet, and the answer's way to the client."""
    place = ""
    for stage in stages:
        if stage.chunkwise:
            continue
        if place:
            # Rows that were merged travel at once, and nothing else does meanwhile.
            account.barrier += _moved(account, query, stage, place)
        else:
            nbytes = _out_bytes(query, stage.first - 1)
            for flow in flows:
                if flow.last != stage.site:
                    account.carry(flow.last, stage.site, nbytes, flow.times)
        place = stage.site
        profile = account.profile(place)
        core = core_ns(_stage_work(query, stage, 1), profile, load_reference())
        account.barrier += start_ns(profile) + core
    if place:
        nbytes = int(query.flows[-1].rows * query.flows[-1].row_bytes)
        account.barrier += _answer(account, place, placement.sites[-1], nbytes, 1)
    else:
        # The parts of the answer travel meanwhile; what follows the last chunk is one part's way.
        nbytes = _out_bytes(query, -1)
        ways = [_answer(account, flow.last, flow.answers, nbytes, flow.times) for flow in flows]
        account.barrier += max(ways, default=0)


def _moved(account: _Sum, query: Query, stage: Stage, source: str) -> int:
    """Charge the way of what the stage before made, all of it; give the time it takes."""
    if source == stage.site:
        return 0
    flow = query.flows[stage.first - 1]
    return sum(account.carry(source, stage.site, int(flow.rows * flow.row_bytes)).values())


def _answer(account: _Sum, place: str, sender: str, nbytes: int, times: int) -> int:
    """Charge `times` parts of an answer from where they are made to the client; give one's time."""
    way: Way = {}
    if sender != place:
        _spend(way, account.carry(place, sender, nbytes, times))
    _spend(way, account.carry(sender, account.system.client, nbytes, times))
    return sum(way.values())
