"""One measured figure, and what it is to reach."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Final

import msgspec
from msgspec import Struct


class Figure(msgspec.Struct, frozen=True):
    """A figure of the report.

    Attributes
    ----------
    figure : str
        Its name; the unit is part of it.
    value : float
        The median where `n` is more than 1.
    p50, p99 : float or None
        Of single measurements; None where there are none.
    n : int
        Measurements.
    """

    figure: str
    value: float
    unit: str
    p50: float | None
    p99: float | None
    n: int


class Goal(Struct, frozen=True):
    """What a figure is to reach: at most, or at least, so much."""

    limit: float
    most: bool = True
    beyond: str = ""
    """The figure that is not counted: what the disk alone takes."""


GOALS: Final = {
    "freeze_us": Goal(0.15),
    "freeze_authenticate_us": Goal(1.0),
    "thaw_run_us": Goal(2.5),
    "frame_bytes": Goal(64.0),
    "message_bytes": Goal(192.0),
    "hop_us": Goal(10.0),
    "static_check_ms": Goal(5.0),
    "durable_step_us": Goal(150.0, beyond="fdatasync_us"),
    "durable_batch_us": Goal(10.0),
    "step_growth": Goal(1.05),
    "dormant_disk_bytes": Goal(300.0),
    "dormant_ram_bytes": Goal(16.0),
    "wake_us": Goal(1000.0),
    "recover_1e6_s": Goal(2.0),
    "durable_vs_best_peer": Goal(5.0, most=False),
}


def of_samples(name: str, unit: str, samples: Sequence[float]) -> Figure:
    """Give the figure of measurements in the unit they were taken in."""
    if len(samples) < 2:
        return single(name, unit, samples[0])
    cuts = quantiles(samples, n=100, method="inclusive")
    return Figure(name, median(samples), unit, median(samples), cuts[98], len(samples))


def single(name: str, unit: str, value: float) -> Figure:
    """Give a figure that was measured once."""
    return Figure(name, value, unit, None, None, 1)


def met(found: dict[str, Figure], name: str) -> bool | None:
    """Say whether a figure reaches its goal; None if it has none."""
    goal = GOALS.get(name)
    if goal is None:
        return None
    value = found[name].value - (found[goal.beyond].value if goal.beyond else 0.0)
    return value <= goal.limit if goal.most else value >= goal.limit
