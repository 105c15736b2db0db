"""Workloads that only bring a file's bytes to the card, by each reader there is."""

from __future__ import annotations

import os
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from wherry.base.errors import InputError, WherryError
from wherry.benchmarks.gpu.anew import forget, read_all
from wherry.benchmarks.gpu.goals import Limit
from wherry.benchmarks.gpu.measure import several
from wherry.benchmarks.gpu.row import Row, row_of
from wherry.benchmarks.gpu.world import World
from wherry.data.extents import plan_extents
from wherry.data.ipc_footer import open_descriptor
from wherry.devices.accelerator import Accelerator, Block
from wherry.devices.device_readers import open_reader
from wherry.devices.found import Found
from wherry.devices.gpu_paths import gpu_paths
from wherry.devices.loading import WAYS, DeviceReader, Evidence, FileRanges

_LOOKED: Final = 1 << 20
"""Bytes at either end of a file that are compared."""
_RANGE: Final = 4 << 20
"""Bytes of a range: about what a column has in a cell."""


class Load(Struct, frozen=True):
    """How a file is loaded.

    Attributes
    ----------
    reader : str
        "pinned", "kvikio" or "gds"; no other takes its place.
    files : "cached" or "direct"
        How `pinned` reads it.
    warm : bool
        Whether its pages lie in the page cache.
    """

    reader: str
    files: Literal["cached", "direct"]
    warm: bool


LOADS: Final = {
    "load-cached": Load("pinned", "cached", warm=True),
    "load-kvikio": Load("kvikio", "cached", warm=True),
    "load-direct": Load("pinned", "direct", warm=False),
    "load-gds": Load("gds", "direct", warm=False),
}


def load(name: str, world: World) -> Row:
    """Load all of a file, again and again, and see that it is there.

    A reader that this machine does not have is noted as dropped.

    Raises
    ------
    WherryError
        If what was loaded is not the file.
    """
    how, size = LOADS[name], world.file.stat().st_size
    limit: Limit = "page cache and link" if how.warm else "drive"
    row = row_of(name, world.data.first(world.file_rows), limit, size)
    try:
        reader = open_reader(world.device, how.reader, ways(), strict=True, files=how.files)
    except InputError as error:
        world.budget.dropped.append(f"{name}: {error}")
        return row
    block = world.device.room(size)
    with closing(reader):
        if how.warm:
            read_all(world.file)

        def once() -> float:
            if not how.warm:
                forget(world.file)
            begun = time.perf_counter_ns()
            _loaded(reader, world.file, block)
            return (time.perf_counter_ns() - begun) / 1e6

        evidence = _loaded(reader, world.file, block)
        _check(world.device, block, world.file)
        half, rounds = several(once, world.patience_s / 2)
    return replace(
        row,
        answer_ms=half,
        ways={way: n for way in WAYS if (n := getattr(evidence, way))},
        rounds=rounds,
    )


def _loaded(reader: DeviceReader, path: Path, block: Block) -> Evidence:
    offsets = np.arange(0, block.nbytes, _RANGE, dtype=np.int64)
    sizes = np.minimum(_RANGE, block.nbytes - offsets)
    extents, places = plan_extents(offsets, sizes, reader.gap)
    file = open_descriptor(path)
    try:
        ranges = FileRanges(file, extents, places, sizes, offsets + block.address)
        with reader.begin(ranges, keep=block) as loading:
            return loading.wait()
    finally:
        os.close(file.descriptor)


@cache
def ways() -> dict[str, Found]:
    """Give which ways this machine has, which a child process is asked once."""
    return gpu_paths()


def _check(device: Accelerator, block: Block, path: Path) -> None:
    size = min(_LOOKED, block.nbytes)
    with path.open("rb") as file:
        for at in (0, block.nbytes - size):
            file.seek(at)
            if device.get(block.address + at, size).tobytes() != file.read(size):
                raise WherryError(f"{path} is not what was loaded, near byte {at}")
