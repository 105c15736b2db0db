"""What workloads are measured in: a card, rows in memory and in a file, limits, and time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from wherry.benchmarks.gpu import lineitem
from wherry.benchmarks.gpu.budget import Budget
from wherry.benchmarks.gpu.card import Cuda
from wherry.benchmarks.gpu.goals import Limit
from wherry.benchmarks.gpu.limits import Limits
from wherry.benchmarks.gpu.lineitem import Lineitem
from wherry.data.arrow_write import write_ipc
from wherry.devices.accelerator import Accelerator
from wherry.session.options import SystemLike

SCALES: Final = (100.0, 30.0, 10.0, 3.0, 1.0)
SMALL_ROWS: Final = 1 << 20
_SAMPLE: Final = 0.5
_CARD_BYTES: Final = 200
"""A row, of the card's memory: columns and rows that are kept, ours and the array code's, what that
makes on its way, and what each of three pools of memory does not give back."""
_HOST_BYTES: Final = 80
"""A row, of the host's: the columns, and answers of filters that are compared."""
_MAKINGS: Final = 12
"""How many times as long as making the rows everything takes that depends on how many they are."""
_OTHERWISE_S: Final = 100.0
"""What takes as long with few rows: limits, rounds."""


class World(Struct, frozen=True, dict=True):
    """All that workloads need.

    Attributes
    ----------
    system : System
        This machine with the device, whose name is a site of it.
    file, file_rows : Path and int
        The first rows of `data`, as an Arrow file.
    torch : module or None
        None where it is not installed.
    patience_s : float
        What the rounds of one workload may take.
    """

    cp: Any
    torch: Any | None
    device: Accelerator
    system: SystemLike
    data: Lineitem
    file: Path
    file_rows: int
    limits: Limits
    budget: Budget
    patience_s: float

    @property
    def site(self) -> str:
        """Give what the system calls the device."""
        return self.device.name

    @cached_property
    def cuda(self) -> Cuda:
        """Give the card as limits see it."""
        return Cuda(self.cp)

    def limit_ms(self, limit: Limit, nbytes: float) -> float:
        """Give the milliseconds that so many bytes take at best."""
        return float(f"{nbytes / self.rate(limit) / 1e6:.4g}")

    def rate(self, limit: Limit) -> float:
        """Give a limit in GB/s."""
        found = self.limits
        rates: Mapping[str, Callable[[], float]] = {
            "read": lambda: found.read,
            "copy": lambda: found.copy,
            "to device": lambda: found.to_device,
            "page cache and link": lambda: min(found.to_device, max(found.cached.values())),
            "drive": lambda: min(found.to_device, max((found.direct or found.cached).values())),
        }
        return rates[limit]()


def chosen(most: float, budget: Budget, card_bytes: int, host_bytes: int) -> float:
    """Give the largest scale factor that fits into memory and time; what does not is noted.

    The smallest of SCALES is taken as it is, and so is what is smaller.
    """
    begun = time.perf_counter()
    lineitem.made(_SAMPLE)
    making_s = (time.perf_counter() - begun) / _SAMPLE
    for scale in dict.fromkeys((most, *SCALES)):
        if scale > most or scale <= SCALES[-1]:
            continue
        rows = lineitem.rows_of(scale)
        if rows * _CARD_BYTES > card_bytes:
            budget.dropped.append(f"scale factor {scale:g}: the card's memory is too small")
        elif rows * _HOST_BYTES > host_bytes:
            budget.dropped.append(f"scale factor {scale:g}: the host's memory is too small")
        elif budget.affords(f"scale factor {scale:g}", scale * making_s * _MAKINGS + _OTHERWISE_S):
            return scale
    return min(most, SCALES[-1])


def stored(data: Lineitem, most_rows: int, folder: Path, budget: Budget) -> tuple[Path, int]:
    """Write the first rows to a file, as many as there is room for; give how many."""
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize // 2
    rows = min(most_rows, data.rows)
    if rows * lineitem.ROW_BYTES > free:
        rows = max(1, free // lineitem.ROW_BYTES)
        budget.dropped.append(f"a file of {most_rows} rows: {folder} has room for {rows}")
    path = folder / "lineitem.arrow"
    write_ipc(path, lineitem.SCHEMA, lineitem.batches(data.first(rows).columns))
    return path, rows


def available_bytes(file: Path = Path("/proc/meminfo")) -> int:
    """Give the bytes of the host's memory that programs may still take."""
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024
