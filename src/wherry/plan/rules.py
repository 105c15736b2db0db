"""Rules that others place by, as baselines: what a fixed rule loses against the planner.

Each is written from its published description; what it needs to know of times it is told by the
same cost model as the planner, so that rules differ in judgement and not in knowledge.

    always-host      every chunk goes to the host
    always-near      every chunk is worked on where it lies
    arbiter          FlexPushdownDB: request by request, push while it is faster with waiting
                     (Yang et al., VLDB Journal 2024)
    dual-profile     lambda-IO: the first requests run both ways, the faster one serves the rest
                     (Yang et al., FAST 2023)
    relative-costs   PG-Strom: constants relative to a sequential page read (its documentation)
    row-costs        Spark-RAPIDS: seconds a row, a transition between devices (its documentation)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil

from wherry.base.errors import Refused
from wherry.devices.system import System
from wherry.plan.cost import alone_ns
from wherry.plan.place import Alternative, host_only, place
from wherry.plan.placement import GATE, HOME, Placement, Way, homes_of, unlike
from wherry.plan.query import Query
from wherry.plan.split import agree

_PAGE_BYTES = 8192
"""PostgreSQL's page, the unit of its costs."""
_SEQ_PAGE, _CPU_TUPLE, _CPU_OPERATOR = 1.0, 0.01, 0.0025
"""PostgreSQL's defaults: seq_page_cost, cpu_tuple_cost, cpu_operator_cost."""
_SETUP, _NEAR_PAGE, _NEAR_OPERATOR = 100 * _SEQ_PAGE, _SEQ_PAGE / 4, 1.2 * _CPU_OPERATOR
"""PG-Strom's defaults for a device beside the drive: dpu_setup, dpu_seq_page, dpu_operator."""
_HOST_ROW_S, _NEAR_ROW_S = 2e-4, 1e-4
"""Spark-RAPIDS' defaults: seconds a row on a cpu and on its accelerator."""
_HOST_MEMORY, _NEAR_MEMORY = 30e9, 320e9
"""Spark-RAPIDS' defaults: bytes a second through the memory of each, for a transition."""

Rule = Callable[[Query, System], Placement]


def always_host(query: Query, system: System) -> Placement:
    """Give the placement that runs everything on the host."""
    return place(query, system, pins=host_only(query, system)).chosen.placement


def always_near(query: Query, system: System) -> Placement:
    """Give the placement that works on chunks where they lie, or as always-host if none can."""
    near = _near(query, system)
    return always_host(query, system) if near is None else near


def arbiter(query: Query, system: System) -> Placement:
    """Give FlexPushdownDB's: each request is pushed iff w t_pull > t_push + t_wait.

    t_wait is what the requests pushed before still take on the device's cores, and w the rounds
    that the requests pulled so far take on the host's: greedy, in order, nothing taken back.
    """
    host, near = always_host(query, system), _near(query, system)
    if near is None or near == host:
        return host
    t_pull, t_push = alone_ns(query, system, host), alone_ns(query, system, near)
    homes = homes_of(query, system).of_chunk
    pushed: dict[str, int] = {}
    pulled = 0
    for device in homes:
        weight = max(1, ceil((pulled + 1) / _cores(system, system.host)))
        waiting = pushed.get(device, 0) // _cores(system, device) * t_push
        if weight * t_pull > t_push + waiting:
            pushed[device] = pushed.get(device, 0) + 1
        else:
            pulled += 1
    return _mixed(query, near, host, sum(pushed.values()), pulled)


def dual_profile(query: Query, system: System) -> Placement:
    """Give lambda-IO's: the way on which one request alone is faster; equal goes to the host."""
    host, near = always_host(query, system), _near(query, system)
    if near is None:
        return host
    return host if alone_ns(query, system, host) <= alone_ns(query, system, near) else near


def relative_costs(query: Query, system: System) -> Placement:
    """Give PG-Strom's: pages, tuples and operators at fixed costs, near the data or not."""
    near, host = _near(query, system), always_host(query, system)
    if near is None:
        return host
    pages = query.reading.media_bytes * len(query.chunks) / _PAGE_BYTES
    rows, kept = query.flows[0].rows, _kept(query)
    operators = max(1, len(query.operators) - 1)
    on_host = pages * _SEQ_PAGE + rows * (_CPU_TUPLE + operators * _CPU_OPERATOR)
    beside = _SETUP + pages * _NEAR_PAGE + rows * operators * _NEAR_OPERATOR + kept * _CPU_TUPLE
    return near if beside < on_host else host


def row_costs(query: Query, system: System) -> Placement:
    """Give Spark-RAPIDS': a cost a row and operator, and a transition for what changes sides."""
    near, host = _near(query, system), always_host(query, system)
    if near is None:
        return host
    operators = max(1, len(query.operators) - 1)
    rows, kept = query.flows[0].rows, _kept(query)
    nbytes = kept * query.flows[1].row_bytes
    transition = nbytes / _HOST_MEMORY + nbytes / _NEAR_MEMORY
    beside = rows * operators * _NEAR_ROW_S + transition
    return near if beside < rows * operators * _HOST_ROW_S else host


RULES: Mapping[str, Rule] = {
    "always-host": always_host,
    "always-near": always_near,
    "arbiter": arbiter,
    "dual-profile": dual_profile,
    "relative-costs": relative_costs,
    "row-costs": row_costs,
}
"""Every rule by the name that reports give it."""


def _near(query: Query, system: System) -> Placement | None:
    """Give the placement with chunks where they lie and all else as on the host, if it can be.

    Where chunks lie on drives that run nothing, the device nearest to them that does is near.
    """
    pins = host_only(query, system)
    merges = any(segment.kind == "merge" for segment in query.segments)
    near = {"near", "partial"} if merges else {"near", "partial", "respond"}
    others = [name for name in unlike(system) if name != system.host]
    for sites in ((HOME,), (GATE,), others):
        found = [
            _pinned(query, system, {k: site if k in near else s for k, s in pins.items()})
            for site in sites
        ]
        possible = [alternative for alternative in found if alternative is not None]
        if possible:
            return min(possible, key=lambda one: one.cost.time).placement
    return None


def _pinned(query: Query, system: System, pins: Mapping[str, str]) -> Alternative | None:
    try:
        return place(query, system, pins=pins).chosen
    except Refused:
        return None


def _mixed(query: Query, near: Placement, host: Placement, pushed: int, pulled: int) -> Placement:
    if not pulled or not pushed:
        return near if pushed else host
    if not agree(query, near, host):
        return near if pushed >= pulled else host
    ways = sorted([Way(near.sites, pushed), Way(host.sites, pulled)], key=lambda w: -w.weight)
    return Placement(ways[0].sites, tuple(ways))


def _kept(query: Query) -> float:
    """Give the rows that the chunkwise segments let through, as estimated."""
    apart = [s.kind in {"near", "partial"} for s in query.segments]
    return query.flows[max(n for n, is_apart in enumerate(apart) if is_apart)].rows


def _cores(system: System, device: str) -> int:
    cores = system.devices[device].cores
    return 1 if cores is None else cores.count.value
