"""What the measuring process is told, and what it tells: one JSON document a line."""

from __future__ import annotations

import msgspec

from wherry.benchmarks.kernels.row import Row


class Job(msgspec.Struct, frozen=True):
    """What one process measures, on `cores`, with as many threads."""

    folder: str
    scale_factor: float
    workloads: tuple[str, ...]
    cores: tuple[int, ...]
    rounds: int


class Begun(msgspec.Struct, frozen=True, tag=True):
    """A workload is next."""

    workload: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """A workload has been measured."""

    row: Row


class Bandwidth(msgspec.Struct, frozen=True, tag=True):
    """What this many threads read, in GB/s (1e9 bytes), measured in the same process."""

    threads: int
    read_gb_per_s: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The process gives up, and why."""

    message: str


Message = Begun | Done | Bandwidth | Failed
