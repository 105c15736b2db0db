"""Queries as sessions run them, taken apart: to test the machine and the simulator alone."""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from wherry import Pipeline, load_system
from wherry.data.chunk import ChunkRef
from wherry.devices.system import System
from wherry.plan.placement import Placement, Stage, Way, placements, refusals
from wherry.plan.query import Query, prepare
from wherry.plan.watch import Watch
from wherry.run.commands import Orders
from wherry.run.continuation import Continuation

KEY = bytes(32)


def emulated() -> System:
    return load_system("dpu-csd-host")


def query_of(pipeline: Pipeline) -> Query:
    return prepare(pipeline.source, pipeline.operators, pipeline.schema)


def all_placements(
    pipeline: Pipeline, system: System
) -> Iterator[tuple[Placement, dict[str, str]]]:
    """Give every placement of a pipeline that nothing refuses, and the pins that ask for it."""
    query = query_of(pipeline)
    for placement in placements(query, system, refusals(query, system)):
        pairs = zip(query.segments, placement.sites, strict=True)
        yield placement, {segment.kind: site for segment, site in pairs}


def faster_link(system: System, number: int, factor: float) -> System:
    """Give the system with one link's bandwidth multiplied."""
    links = list(system.links)
    figure = links[number].bandwidth_gb_per_s
    wider = type(figure)(figure.value * factor, figure.source)
    links[number] = replace_struct(links[number], bandwidth_gb_per_s=wider)
    return replace_struct(system, links=tuple(links))


def faster_media(system: System, factor: float) -> System:
    """Give the system with the bandwidth of all media multiplied."""
    devices = {}
    for name, profile in system.devices.items():
        media = profile.media
        if media is not None:
            figure = media.read_gb_per_s
            wider = type(figure)(figure.value * factor, figure.source)
            media = replace_struct(media, read_gb_per_s=wider)
        devices[name] = replace_struct(profile, media=media)
    return replace_struct(system, devices=devices)


def replace_struct(struct: object, **changes: object) -> object:
    return msgspec.structs.replace(struct, **changes)


class World(Struct, frozen=True):
    """What a machine is told in tests: devices a to c, two homes and their gates, and chunks."""

    stages: tuple[Stage, ...]
    sites: tuple[str, ...]
    chunks: tuple[ChunkRef, ...]
    window: int
    enough: int | None
    split: tuple[Way, ...] = ()
    watch: Watch | None = None
    done: tuple[ChunkRef, ...] = ()
    held: int | None = None
    stop: int | None = None

    def orders(self) -> Orders:
        continuation = Continuation(b"q" * 16, 0, 0, b"p" * 16, 0, 0, (1,), (), self.sites)
        return Orders(
            client="client",
            continuation=continuation,
            stages=self.stages,
            homes={0: "a", 1: "b"},
            gates={"a": "c", "b": "a"},
            ways=Placement(self.sites, self.split).ways,
            windows=dict.fromkeys("abc", self.window),
            enough=self.enough,
            key=KEY,
            watch=self.watch,
            done=self.done,
            held=self.held,
            stop=self.stop,
        )
