"""How many groups there may be: of statistics where they bound keys, guessed otherwise."""

from __future__ import annotations

from math import expm1, isinf

from msgspec.structs import replace

from wherry.ir.expr import Column, Node
from wherry.ir.resolve import type_of
from wherry.ops.estimate import Estimate
from wherry.ops.operator import Operator
from wherry.ops.partials import Calls, Outputs, counted_value
from wherry.ops.select import type_bytes

_GROUP_SHARE = 0.1
"""Guessed groups a row where nothing bounds them; a wrong guess costs a worse placement."""


def groups_estimate(keys: Outputs, calls: int, given: Estimate) -> Estimate:
    """Give at most one row a key; small integer ranges bound the number of keys.

    Parameters
    ----------
    calls : int
        How many aggregates stand beside the keys.
    """
    domain = 1.0
    for _, node in keys:
        domain *= _domain(node, given)
    width = sum(type_bytes(type_of(node)) for _, node in keys) + 16.0 * calls
    return replace(
        given,
        rows_low=min(1.0, given.rows_low),
        rows=_distinct(given.rows, domain),
        rows_high=min(given.rows_high, domain),
        row_bytes=width,
        columns={},
        distinct={},
    )


def near_estimate(operator: Operator, calls: Calls, keys: Outputs, given: Estimate) -> Estimate:
    """Give what each chunk makes of `given`: a row a value where different ones are counted."""
    counted = counted_value(calls)
    if counted is None:
        return operator.estimate(given)
    return groups_estimate((*keys, ("", counted)), len(calls), given)


def _distinct(rows: float, domain: float) -> float:
    """Give the expected number of different values among `rows` drawn evenly from a domain."""
    if isinf(domain):
        return max(min(1.0, rows), rows * _GROUP_SHARE)
    return min(rows, -domain * expm1(-rows / domain))


def _domain(node: Node, given: Estimate) -> float:
    if isinstance(node, Column) and node.name in given.columns:
        known = given.columns[node.name]
        if isinstance(known.min, int) and isinstance(known.max, int):
            return known.max - known.min + 2.0
        if isinstance(known.min, str) and known.min == known.max:
            return 2.0
    if isinstance(node, Column) and node.name in given.distinct:
        return given.distinct[node.name] + 1.0
    return float("inf")
