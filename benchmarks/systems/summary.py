"""What all cells come to: how much the planner and each rule lose against the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from wherry.benchmarks.systems.cell import Row
from wherry.benchmarks.systems.judge import PLANNER

TWICE = 1.0
"""The regret of what takes twice as long as the best."""


class Losses(Struct, frozen=True):
    """Regrets over all cells: mean, 95th percentile by nearest rank, largest and where.

    Attributes
    ----------
    twice : int
        Cells in which it takes at least twice as long as the best.
    """

    mean: float
    p95: float
    max: float
    worst: str
    twice: int


def summary(rows: Sequence[Row]) -> dict[str, Losses]:
    """Give the losses of the planner and of each rule, the planner first."""
    found = {PLANNER: _losses(rows, {id(row): row.regret for row in rows})}
    for name in rows[0].rules:
        found[name] = _losses(rows, {id(row): row.rules[name] for row in rows})
    return found


def _losses(rows: Sequence[Row], regret: Mapping[int, float]) -> Losses:
    ordered = sorted(rows, key=lambda row: regret[id(row)])
    values = [regret[id(row)] for row in ordered]
    return Losses(
        mean=sum(values) / len(values),
        p95=values[-(-95 * len(values) // 100) - 1],
        max=values[-1],
        worst=f"{ordered[-1].workload} on {ordered[-1].system}",
        twice=sum(value >= TWICE for value in values),
    )
