"""Where offload stops paying: the selectivity at which two placements are predicted equal."""

from __future__ import annotations

from msgspec.structs import replace

from wherry.devices.system import System
from wherry.plan.cost import predict
from wherry.plan.objective import BY_TIME, Score
from wherry.plan.placement import Placement
from wherry.plan.query import Query, near_flow, with_near

_STEPS = 20
"""Halvings of [0, 1]: the answer is good to a millionth."""


def break_even(
    query: Query,
    system: System,
    near: Placement,
    baseline: Placement,
    *,
    cold: bool = False,
    score: Score = BY_TIME,
) -> float | None:
    """Give the share of rows at which `near` stops being predicted cheaper than `baseline`.

    Returns
    -------
    float or None
        Below it `near` wins. None if one of the two wins at every selectivity from 0 to 1, or if
        the query has no predicate whose selectivity could vary.
    """
    if not _filters(query):
        return None

    def gains(share: float) -> bool:
        other = with_selectivity(query, share)
        ours, theirs = (predict(other, system, p, cold=cold) for p in (near, baseline))
        return score.of(ours) < score.of(theirs)

    if gains(0.0) == gains(1.0):
        return None
    low, high = 0.0, 1.0
    first = gains(0.0)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if gains(middle) == first else (low, middle)
    return (low + high) / 2


def _filters(query: Query) -> bool:
    scanned = query.flows[0]
    near = [f for s, f in zip(query.segments, query.flows, strict=True) if s.kind == "near"]
    return any(flow.rows < scanned.rows or not flow.exact for flow in near)


def with_selectivity(query: Query, share: float) -> Query:
    """Give the query as if its filter let this share of the scanned rows pass."""
    rows = query.flows[0].rows * share
    return with_near(query, replace(near_flow(query), rows_low=rows, rows=rows, rows_high=rows))
