"""Tables of a profile that only some devices have: what they lack is absent, never guessed.

What needs an absent table is refused by name.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wherry.devices.figures import Count, Figure


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of a profile."""


class Cache(Table, frozen=True):
    """Speed of one core while what it touches fits in its share of the caches.

    `[rates]` holds for what lies in memory. What a kernel touches again and again (a hash table, a
    dictionary) counts; what it streams does not.
    """

    core_bytes: Count
    relative_scan: Figure
    relative_hash: Figure


class Engine(Table, frozen=True):
    """Something that turns bytes into others at a fixed rate: an accelerator, or a codec on a core.

    A job takes `job_start_us` and its input over `input_gb_per_s`; `jobs` run at once.
    """

    name: str
    runs_on: Literal["engine", "core"]
    input_gb_per_s: Figure
    job_start_us: Figure
    jobs: Count


class Path(Table, frozen=True):
    """A way of bytes inside a device, or between it and what it is plugged into.

    A transfer takes `start_us` and its size over `bandwidth_gb_per_s`. `both_ways_share` is the
    share of that which each way has while the other is busy too.
    """

    name: str
    bandwidth_gb_per_s: Figure
    start_us: Figure
    both_ways_share: Figure | None = None


class Launch(Table, frozen=True):
    """What a GPU needs to begin: the time of a queued launch, and threads enough.

    Reads reach `thread_mb_per_s` for every resident thread until memory is the bound.
    """

    stream_us: Figure
    graph_us: Figure | None = None
    thread_mb_per_s: Figure | None = None


class Network(Table, frozen=True):
    """Ports to the outside, and the link between them and the device's own cores."""

    line_gbit_per_s: Figure
    core_gbit_per_s: Figure | None = None


class Power(Table, frozen=True):
    """Electrical draw of the whole device."""

    busy_watts: Figure
    idle_watts: Figure | None = None


class Price(Table, frozen=True):
    """What the device costs: once, or by the hour as the cheapest rented machine that has it."""

    device_usd: Figure | None = None
    hour_usd: Figure | None = None
