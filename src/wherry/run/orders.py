"""What a machine is told of a query that was placed on a system."""

from __future__ import annotations

import os
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from wherry.data.chunk import ChunkRef
from wherry.devices.system import System, home
from wherry.ir.build import image_of
from wherry.ir.stage import Take
from wherry.plan.placement import HOME, Placement, gates_of, stages_of
from wherry.plan.query import Query
from wherry.plan.segments import chunkwise
from wherry.plan.watch import Watch
from wherry.plan.window import windows_of
from wherry.run.commands import Orders
from wherry.run.continuation import Continuation

_QUERY_BYTES: Final = 16


class Leg(Struct, frozen=True):
    """The part of a query's way that one run carries out.

    Attributes
    ----------
    done : tuple of ChunkRef
        What went through the chunkwise stages before.
    held : int or None
        Rows that came of it and lie with the client.
    stop : int or None
        Chunks after which to stop.
    """

    done: tuple[ChunkRef, ...] = ()
    held: int | None = None
    stop: int | None = None

    def placed(self, query: Query, placement: Placement) -> Placement:
        """Give the placement of this leg: where it stops before chunks meet, they do not meet.

        What comes after them is at no device, so pieces leave from the devices that make them, as
        rows that are written.
        """
        if self.stop is None:
            return placement
        whole = range(len(query.segments))
        apart = [chunkwise(query.segments, number) for number in whole]
        if all(apart):
            return placement

        def cut(sites: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(s if here else HOME for s, here in zip(sites, apart, strict=True))

        ways = tuple(replace(way, sites=cut(way.sites)) for way in placement.split)
        return Placement(cut(placement.sites), ways)


WHOLE: Final = Leg()
"""A query carried out by one run."""


def orders_of(
    query: Query,
    placement: Placement,
    system: System,
    key: bytes,
    watch: Watch | None = None,
    *,
    leg: Leg = WHOLE,
    whole: bool = False,
) -> Orders:
    """Give the orders of one run; its messages are sealed with `key`.

    A query that stops early, because it has enough rows or was told so, is not watched: what is
    left is not what it reads. `whole` says that a share keeps all cores of a device busy.
    """
    enough = enough_of(query)
    stages = stages_of(query.segments, placement)
    placement = leg.placed(query, placement)
    if leg.stop is not None:
        stages = tuple(stage for stage in stages if stage.chunkwise)
    source = query.scan.source
    homes = {f: home(system, source.name, f) for f in range(source.fragments)}
    continuation = Continuation(
        query=os.urandom(_QUERY_BYTES),
        epoch=0,
        hop=0,
        plan=query.plan_digest,
        first=0,
        last=0,
        values=tuple(map(image_of, query.literals)),
        chunks=(),
        sites=placement.sites,
    )
    return Orders(
        client=system.client,
        continuation=continuation,
        stages=stages,
        homes=homes,
        gates=gates_of(system, dict.fromkeys(homes.values())),
        ways=placement.ways,
        windows=_windows(system, whole=whole),
        enough=enough,
        key=key,
        watch=watch if enough is None and leg.stop is None else None,
        done=leg.done,
        held=leg.held,
        stop=leg.stop,
    )


def _windows(system: System, *, whole: bool) -> dict[str, int]:
    if not whole:
        return windows_of(system)
    # On this machine an answer is given away before the next is made; an agent finds the next
    # share waiting when it is done with one.
    return dict.fromkeys(system.devices, 2 if system.agents else 1)


def enough_of(query: Query) -> int | None:
    """Give the rows after which a query that only wants its first rows can stop reading."""
    for segment in query.segments:
        if segment.kind == "merge" and segment.steps and isinstance(segment.steps[0], Take):
            return segment.steps[0].count
    return None
