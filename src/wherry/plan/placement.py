"""Which devices run which stages: placements, and what makes one impossible.

A placement gives a site to every segment. A site is a device, or `home`: for each chunk the device
that stores it, or `gate`: for each chunk the first device that runs programs on the way from its
home to the host. Neighbouring chunkwise segments on one site are one stage, that is one program.

A placement may be split: shares of the chunks go different ways, which meet where the chunks do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import product

from msgspec import Struct

from wherry.base.units import format_bytes
from wherry.devices.profile import Profile
from wherry.devices.system import System, home, kind_of, lanes
from wherry.devices.work import absent_rates, load_reference
from wherry.ir.work import kinds_of_work, reading_work
from wherry.plan.query import Query, builds_of, segment_schemas
from wherry.plan.segments import Segment, chunkwise, type_families

HOME = "home"
GATE = "gate"


class Stage(Struct, frozen=True):
    """Segments first..last of the plan, run as one program at a site."""

    first: int
    last: int
    site: str
    chunkwise: bool


class Way(Struct, frozen=True):
    """Sites for some of the chunks: `weight` of them in as many as the weights add up to."""

    sites: tuple[str, ...]
    weight: int


def _shares(weights: dict[str, int]) -> str:
    if len(weights) == 1:
        return next(iter(weights))
    whole = sum(weights.values())
    return "+".join(f"{site}:{100 * weight / whole:.0f}%" for site, weight in weights.items())


def dealt(weights: Sequence[int], count: int) -> list[int]:
    """Give the way of each of `count` chunks of one home, at any point nearly as weights say.

    Deterministic, and the first n of more chunks are dealt as n are.
    """
    if len(weights) == 1:
        return [0] * count
    whole, given, found = sum(weights), [0] * len(weights), []
    for number in range(1, count + 1):
        behind = [
            weight * number - whole * done for weight, done in zip(weights, given, strict=True)
        ]
        way = behind.index(max(behind))
        given[way] += 1
        found.append(way)
    return found


class Placement(Struct, frozen=True):
    """A site for every segment, in the order of the plan.

    Attributes
    ----------
    split : tuple of Way
        Empty if all chunks go one way, `sites`; else the ways, heaviest first, `sites` being the
        first one's. They differ in sites of chunkwise segments only, and cut the same stages.
    """

    sites: tuple[str, ...]
    split: tuple[Way, ...] = ()

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways that chunks go, one at least."""
        return self.split or (Way(self.sites, 1),)

    def describe(self, segments: tuple[Segment, ...]) -> str:
        """Give the placement as one line: `routing@dpu0 near@home ...`."""
        words = []
        for number, segment in enumerate(segments):
            weights: dict[str, int] = {}
            for way in self.ways:
                site = way.sites[number]
                weights[site] = weights.get(site, 0) + way.weight
            words.append(f"{segment.kind}@{_shares(weights)}")
        return " ".join(words)


class Homes(Struct, frozen=True):
    """Where the chunks of a query lie: the device of each chunk, and all of them once.

    `gates` gives the gate of each of them that has one.
    """

    of_chunk: tuple[str, ...]
    devices: tuple[str, ...]
    gates: dict[str, str]

    def device(self, site: str, home: str) -> str:
        """Give the device that `site` is for chunks of `home`."""
        return resolved(site, home, self.gates)

    def at(self, site: str) -> tuple[str, ...]:
        """Give the devices that `site` is, for the chunks of the query; of all homes if none."""
        homes = dict.fromkeys(self.of_chunk) or self.devices
        return tuple(dict.fromkeys(self.device(site, home) for home in homes))


def resolved(site: str, home: str, gates: Mapping[str, str]) -> str:
    """Give the device that a site is for a chunk of `home`."""
    if site == HOME:
        return home
    return gates[home] if site == GATE else site


def gates_of(system: System, homes: Iterable[str]) -> dict[str, str]:
    """Give the gate of each home that has one: neither itself nor the host."""
    found = {}
    for home_device in homes:
        way = [lane.target for lane in lanes(system, home_device, system.host)]
        between = (n for n in way if n in system.devices and n != system.host)
        gate = next((n for n in between if system.devices[n].runs_programs), None)
        if gate is not None:
            found[home_device] = gate
    return found


def homes_of(query: Query, system: System) -> Homes:
    """Give the device that stores each chunk of the query."""
    name = query.scan.source.name
    by_file = {
        fragment: home(system, name, fragment)
        for fragment in {ref.fragment for ref in query.chunks}
    }
    of_chunk = tuple(by_file[ref.fragment] for ref in query.chunks)
    every = {home(system, name, f) for f in range(max(1, query.scan.source.fragments))}
    return Homes(of_chunk, tuple(sorted(every)), gates_of(system, sorted(every)))


def stages_of(segments: tuple[Segment, ...], placement: Placement) -> tuple[Stage, ...]:
    """Give the stages that run: neighbours on one site together, unless chunks meet between.

    Of a split placement, those of its first way.
    """
    return stages_on(segments, placement.sites)


def stages_on(segments: tuple[Segment, ...], sites: tuple[str, ...]) -> tuple[Stage, ...]:
    """Give the stages that run if all chunks go one way."""
    found: list[Stage] = []
    apart = True
    for index, (segment, site) in enumerate(zip(segments, sites, strict=True)):
        apart = apart and segment.kind != "merge"
        if not segment.runs:
            continue
        last = found[-1] if found else None
        if last and last.site == site and last.chunkwise == apart:
            found[-1] = Stage(last.first, index, site, apart)
        else:
            found.append(Stage(index, index, site, apart))
    return tuple(found)


def possible_sites(
    query: Query, system: System, also: Collection[str] = ()
) -> tuple[dict[str, None], ...]:
    """Give, for each segment, the sites to be tried, before anything is refused.

    Of devices that differ in nothing but their name one is tried, and those of `also`.
    """
    homes = homes_of(query, system)
    devices = unlike(system, also)
    single = dict.fromkeys(devices)
    # One gate of all homes is a device like any other; a home without one has no such site.
    several = len(set(homes.gates.values())) > 1 and len(homes.gates) == len(homes.devices)
    near = (HOME, GATE) if several else (HOME,)
    apart = dict.fromkeys([*near, *(d for d in devices if d not in homes.devices)])
    merges = any(segment.kind == "merge" for segment in query.segments)
    spread = single if merges else dict.fromkeys([*near, *single])
    sites = {"near": apart, "partial": apart, "respond": spread}
    return tuple(sites.get(segment.kind, single) for segment in query.segments)


def unlike(system: System, also: Collection[str] = ()) -> list[str]:
    """Give the devices that run programs, one of those that are alike, and those of `also`.

    Two are alike if they have one profile and equal links lead to the host and to the client.
    """
    seen: dict[object, str] = {}
    for name, profile in system.devices.items():
        if profile.runs_programs:
            only = name == system.host or name in also
            seen.setdefault(name if only else kind_of(system, name), name)
    return list(seen.values())


Unable = tuple[tuple[str, int, str], ...]
"""What devices have no programs for: the device, the segment's number, and why."""


def refusals(
    query: Query, system: System, also: Collection[str] = (), unable: Unable = ()
) -> tuple[dict[str, tuple[str, ...]], ...]:
    """Give, for each segment, the sites that cannot run it, each with every reason.

    Parameters
    ----------
    unable : tuple
        What was found out of devices besides what their profiles say.
    """
    homes = homes_of(query, system)
    schemas = segment_schemas(query.plan)
    found = []
    every = zip(query.segments, schemas, possible_sites(query, system, also), strict=True)
    for number, (segment, schema, sites) in enumerate(every):
        families = type_families(segment.steps, schema) if segment.runs else frozenset()
        refused = {}
        for site in sites:
            names = dict.fromkeys(homes.device(site, home) for home in homes.devices)
            reasons = [r for n in names for r in _reasons(n, system, segment, families, query)]
            reasons += [why for name, of, why in unable if of == number and name in names]
            if reasons:
                refused[site] = tuple(dict.fromkeys(reasons))
        found.append(refused)
    return tuple(found)


def _reasons(
    name: str, system: System, segment: Segment, families: frozenset[str], query: Query
) -> Iterator[str]:
    profile = system.devices[name]
    where = f"{name} ({profile.device.name})"
    able = profile.capabilities
    if able is None or not profile.runs_programs:
        yield runs_nothing(name, profile)
        return
    for operator in segment.operators:
        if operator not in able.operators:
            yield f"{where} has no {operator}; it has {', '.join(able.operators)}"
    for family in sorted(families - set(able.types)):
        yield f"{where} does not handle {family} values; it handles {', '.join(able.types)}"
    yield from _memory_reasons(where, profile, segment, query)
    yield from _rate_reasons(where, profile, segment, query)


def _rate_reasons(where: str, profile: Profile, segment: Segment, query: Query) -> Iterator[str]:
    if not segment.runs:
        return
    work = kinds_of_work(segment.steps, segment.encoding)
    if segment is next(s for s in query.segments if s.runs):
        work += reading_work(query.reading)
    absent = absent_rates(work, profile, load_reference())
    if absent:
        yield f"{where} has no {', '.join(absent)} in its profile, which its time would follow from"


def runs_nothing(name: str, profile: Profile) -> str:
    """Give the reason why a device that runs no programs is no site."""
    return f"{name} ({profile.device.name}) is a {profile.device.kind} and runs no programs"


def _memory_reasons(where: str, profile: Profile, segment: Segment, query: Query) -> Iterator[str]:
    if profile.memory is None or not segment.runs or profile.memory.beyond_gb_per_s is not None:
        return
    index = query.segments.index(segment)
    flow = query.flows[index - 1] if index else query.flows[0]
    rows = flow.rows
    if chunkwise(query.segments, index):
        rows = max((ref.rows for ref in query.chunks), default=0)
    tables = sum(build.table_bytes for build in builds_of(query, index, index))
    needed = int(2 * rows * flow.row_bytes) + tables
    capacity = profile.memory.capacity_bytes.value
    if needed > capacity:
        joins = f", {format_bytes(tables)} of it for the tables of joins" if tables else ""
        yield (
            f"{where} has {format_bytes(capacity)} of memory; the segment may need "
            f"{format_bytes(needed)} at once{joins}"
        )


def placements(
    query: Query,
    system: System,
    refused: tuple[dict[str, tuple[str, ...]], ...],
    also: Collection[str] = (),
) -> Iterator[Placement]:
    """Give every placement that nothing refuses.

    An answer assembled at `home` or `gate` leaves from the devices that made its parts, so it
    needs the last program there too.
    """
    allowed = [
        [site for site in sites if site not in no]
        for sites, no in zip(possible_sites(query, system, also), refused, strict=True)
    ]
    for sites in product(*allowed):
        if sites[-1] in (HOME, GATE) and sites[-2] != sites[-1]:
            continue
        yield Placement(sites)
