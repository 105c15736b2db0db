"""Which devices run which stages: placements, and what makes one impossible.

A placement gives a site to every segment. A site is a device, or `home`: for each chunk the device
that stores it. Neighbouring chunkwise segments on one site are one stage, that is one program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from wherry.base.units import format_bytes
from wherry.devices.profile import Profile
from wherry.devices.system import System, home
from wherry.plan.query import Query, builds_of, segment_schemas
from wherry.plan.segments import Segment, chunkwise, type_families

HOME = "home"


@dataclass(frozen=True, slots=True)
class Stage:
    """Segments first..last of the plan, run as one program at a site."""

    first: int
    last: int
    site: str
    chunkwise: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """A site for every segment, in the order of the plan."""

    sites: tuple[str, ...]

    def describe(self, segments: tuple[Segment, ...]) -> str:
        """Give the placement as one line: `routing@dpu0 near@home ...`."""
        pairs = zip(segments, self.sites, strict=True)
        return " ".join(f"{segment.kind}@{site}" for segment, site in pairs)


@dataclass(frozen=True, slots=True)
class Homes:
    """Where the chunks of a query lie: the device of each chunk, and all of them once."""

    of_chunk: tuple[str, ...]
    devices: tuple[str, ...]


def homes_of(query: Query, system: System) -> Homes:
    """Give the device that stores each chunk of the query."""
    name = query.scan.source.name
    by_file = {
        fragment: home(system, name, fragment)
        for fragment in {ref.fragment for ref in query.chunks}
    }
    of_chunk = tuple(by_file[ref.fragment] for ref in query.chunks)
    every = {home(system, name, f) for f in range(max(1, query.scan.source.fragments))}
    return Homes(of_chunk, tuple(sorted(every)))


def stages_of(segments: tuple[Segment, ...], placement: Placement) -> tuple[Stage, ...]:
    """Give the stages that run: neighbours on one site together, unless chunks meet between."""
    found: list[Stage] = []
    for index, (segment, site) in enumerate(zip(segments, placement.sites, strict=True)):
        if not segment.runs:
            continue
        last, apart = found[-1] if found else None, chunkwise(segments, index)
        if last and last.site == site and last.chunkwise == apart:
            found[-1] = Stage(last.first, index, site, apart)
        else:
            found.append(Stage(index, index, site, apart))
    return tuple(found)


def possible_sites(query: Query, system: System) -> tuple[dict[str, None], ...]:
    """Give, for each segment, the sites to be tried, before anything is refused."""
    homes = homes_of(query, system)
    devices = [name for name, profile in system.devices.items() if profile.runs_programs]
    single = dict.fromkeys(devices)
    apart = dict.fromkeys([HOME, *(d for d in devices if d not in homes.devices)])
    merges = any(segment.kind == "merge" for segment in query.segments)
    spread = single if merges else {HOME: None, **single}
    sites = {"near": apart, "partial": apart, "respond": spread}
    return tuple(sites.get(segment.kind, single) for segment in query.segments)


def refusals(query: Query, system: System) -> tuple[dict[str, tuple[str, ...]], ...]:
    """Give, for each segment, the sites that cannot run it, each with every reason."""
    homes = homes_of(query, system)
    schemas = segment_schemas(query.plan)
    found = []
    for segment, schema, sites in zip(
        query.segments, schemas, possible_sites(query, system), strict=True
    ):
        families = type_families(segment.steps, schema) if segment.runs else frozenset()
        refused = {}
        for site in sites:
            names = homes.devices if site == HOME else (site,)
            reasons = [r for n in names for r in _reasons(n, system, segment, families, query)]
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
    if profile.cores is None or able is None:
        yield f"{where} is a {profile.device.kind} and runs no programs"
        return
    for operator in segment.operators:
        if operator not in able.operators:
            yield f"{where} has no {operator}; it has {', '.join(able.operators)}"
    for family in sorted(families - set(able.types)):
        yield f"{where} does not handle {family} values; it handles {', '.join(able.types)}"
    yield from _memory_reasons(where, profile, segment, query)


def _memory_reasons(where: str, profile: Profile, segment: Segment, query: Query) -> Iterator[str]:
    if profile.memory is None or not segment.runs:
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
    query: Query, system: System, refused: tuple[dict[str, tuple[str, ...]], ...]
) -> Iterator[Placement]:
    """Give every placement that nothing refuses.

    An answer assembled `home` leaves from the devices that made its parts, so it needs the last
    program there too.
    """
    allowed = [
        [site for site in sites if site not in no]
        for sites, no in zip(possible_sites(query, system), refused, strict=True)
    ]
    for sites in product(*allowed):
        if sites[-1] == HOME and sites[-2] != HOME:
            continue
        yield Placement(sites)
