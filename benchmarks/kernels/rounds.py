"""Rounds that alternate between all who are compared, and the medians of the quiet ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

from msgspec import Struct

DISTURBED: Final = 0.12
"""Share of one core that others use in a round; notes of the prototypes found 12 % to matter."""

_QUIET_ROUNDS = 3
"""Fewer quiet rounds make no median; then all rounds count, and the row says so."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Timing(Struct, frozen=True):
    """What rounds gave.

    Attributes
    ----------
    ms, cpu_ms : dict of str to float
        Median wall milliseconds by name, over the rounds that count, and those of this process's
        threads together: what the wall would show on quiet cores, if memory is no bottleneck.
    rounds, disturbed : int
        All rounds, and those in which other processes used more than DISTURBED of a core.
    """

    ms: dict[str, float]
    cpu_ms: dict[str, float]
    rounds: int
    disturbed: int


def timed(work: Mapping[str, Callable[[], Any]], rounds: int) -> Timing:
    """Call everything in each of `rounds` rounds; each round begins one further along.

    So nobody always comes after the same neighbour, whose use of the caches he would inherit.
    Rounds are numbered from 1; results are dropped outside the timing.
    """
    names = list(work)
    seen: list[tuple[bool, dict[str, tuple[float, float]]]] = []
    for number in range(rounds):
        start = number % len(names)
        before = _others_seconds()
        begin = time.perf_counter()
        times = {name: _milliseconds(work[name]) for name in names[start:] + names[:start]}
        took = time.perf_counter() - begin
        seen.append((_others_seconds() - before < DISTURBED * took, times))
    quiet = [times for is_quiet, times in seen if is_quiet]
    counted = quiet if len(quiet) >= _QUIET_ROUNDS else [times for _, times in seen]
    return Timing(
        {name: median(times[name][0] for times in counted) for name in names},
        {name: median(times[name][1] for times in counted) for name in names},
        rounds,
        rounds - len(quiet),
    )


def _milliseconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Give the wall's and the processors' milliseconds of one call."""
    start, start_cpu = time.perf_counter_ns(), time.process_time_ns()
    found = work()
    took, took_cpu = time.perf_counter_ns() - start, time.process_time_ns() - start_cpu
    del found  # Freeing an answer is not part of giving it.
    return took / 1e6, took_cpu / 1e6


def _others_seconds() -> float:
    """Give the processor seconds since boot that were not this process's."""
    line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, line.split()[1:9])
    busy = user + nice + system + irq + soft + steal
    return busy / _TICKS - time.process_time()
