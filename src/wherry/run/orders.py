"""What a machine is told of a query that was placed on a system."""

from __future__ import annotations

import os
from typing import Final

from wherry.devices.system import System, home
from wherry.devices.this_machine import THIS_MACHINE
from wherry.ir.build import image_of
from wherry.ir.stage import Take
from wherry.plan.placement import Placement, gates_of, stages_of
from wherry.plan.query import Query
from wherry.plan.watch import Watch
from wherry.plan.window import windows_of
from wherry.run.continuation import Continuation
from wherry.run.machine import Orders

_QUERY_BYTES: Final = 16


def orders_of(
    query: Query,
    placement: Placement,
    system: System,
    key: bytes,
    watch: Watch | None = None,
) -> Orders:
    """Give the orders of one run; its messages are sealed with `key`.

    A query that stops once it has enough rows is not watched: what is left is not what it reads.
    """
    enough = enough_of(query)
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
        stages=stages_of(query.segments, placement),
        homes=homes,
        gates=gates_of(system, dict.fromkeys(homes.values())),
        ways=placement.ways,
        windows=_windows(system),
        enough=enough,
        key=key,
        watch=watch if enough is None else None,
    )


def _windows(system: System) -> dict[str, int]:
    if system.name == THIS_MACHINE:
        # One share keeps all cores busy, and its answer is given away before the next is made.
        return dict.fromkeys(system.devices, 1)
    return windows_of(system)


def enough_of(query: Query) -> int | None:
    """Give the rows after which a query that only wants its first rows can stop reading."""
    for segment in query.segments:
        if segment.kind == "merge" and segment.steps and isinstance(segment.steps[0], Take):
            return segment.steps[0].count
    return None
