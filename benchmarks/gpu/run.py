"""All of it in order: the machine, the limits, then every workload, within a time."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import unknown_name
from wherry.benchmarks.gpu.budget import Budget
from wherry.benchmarks.gpu.card import Cuda
from wherry.benchmarks.gpu.engines import ABSENT, versions
from wherry.benchmarks.gpu.goals import GOALS, described
from wherry.benchmarks.gpu.limits import Limits, measured
from wherry.benchmarks.gpu.lineitem import made, rows_of
from wherry.benchmarks.gpu.machine import machine
from wherry.benchmarks.gpu.measure import OURS
from wherry.benchmarks.gpu.row import Row
from wherry.benchmarks.gpu.workloads import judged, workloads
from wherry.benchmarks.gpu.world import World, available_bytes, chosen, stored
from wherry.devices.accelerator import Accelerator
from wherry.devices.proc import usable_cores
from wherry.session.options import SystemLike

SECONDS: Final = 480.0
_THREADS: Final = (1, 2, 4, 8, 16)


class Size(Struct, frozen=True):
    """How much is measured.

    Attributes
    ----------
    scale_factor, file_scale_factor : float
        At most, of rows in memory and of rows in a file.
    seconds : float
        For all of it; scale factors and workloads are left out to keep it.
    limit_bytes, host_bytes : int
        Of the memories that limits are measured with.
    patience_s : float
        For the rounds of one workload.
    memory_bytes : int or None
        Of the host's memory that may be taken; None: as much as Linux says.
    """

    scale_factor: float = 100.0
    file_scale_factor: float = 10.0
    seconds: float = SECONDS
    limit_bytes: int = 16 << 30
    host_bytes: int = 2 << 30
    patience_s: float = 8.0
    memory_bytes: int | None = None


QUICK: Final = Size(1.0, 1.0, 90.0, 4 << 30, 512 << 20, 1.0)


class Report(Struct, frozen=True):
    """What was measured.

    Attributes
    ----------
    dropped : list of str
        What was left out or made smaller, and why.
    seconds : float
        How long all of it took.
    """

    machine: dict[str, Any]
    limits: Limits
    rows: list[Row]
    dropped: list[str]
    seconds: float


def checked(names: Sequence[str]) -> list[str]:
    """Give the workloads to measure, in order; all of them if none is named.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    for name in names:
        if name not in GOALS:
            raise unknown_name("workload", name, GOALS)
    return [name for name in GOALS if not names or name in names]


def run(
    cp: Any,
    device: Accelerator,
    system: SystemLike,
    *,
    size: Size,
    names: Sequence[str],
    folder: Path,
    begin: Callable[[str], None],
) -> Report:
    """Measure the workloads that are named.

    Parameters
    ----------
    cp : module
        CuPy, for limits and for array code.
    device, system : Accelerator and System
        The card as Wherry has it, and this machine, of which it is a device by its name.
    folder : Path
        A file is written there, and gone in the end.
    begin : callable
        Is told what begins.
    """
    budget = Budget(size.seconds)
    begin("rows")
    free = Cuda(cp).free_bytes
    scale = chosen(size.scale_factor, budget, free, size.memory_bytes or available_bytes())
    data = made(scale)
    with tempfile.TemporaryDirectory(prefix="wherry-gpu-", dir=folder) as inside:
        begin("a file")
        file, rows = stored(data, rows_of(size.file_scale_factor), Path(inside), budget)
        limits = measured(
            Cuda(cp),
            file,
            nbytes=min(size.limit_bytes, free // 2),
            host_bytes=size.host_bytes,
            threads=[n for n in _THREADS if n <= max(2, usable_cores())],
            begin=begin,
        )
        world = World(
            cp, _torch(), device, system, data, file, rows, limits, budget, size.patience_s
        )
        where = machine(Path(inside), versions())
        found = list(_measured(world, names, begin))
    return Report(where, limits, found, budget.dropped, round(budget.used, 1))


def _measured(world: World, names: Sequence[str], begin: Callable[[str], None]) -> Iterator[Row]:
    """Give the rows; what the time does not allow is noted, what fails says why and is passed."""
    every, took = workloads(), 0.0
    for name in names:
        begun = time.monotonic()
        if not world.budget.affords(name, took):
            continue
        begin(name)
        try:
            row = every[name](world)
        except Exception as error:  # noqa: BLE001  a card is rare: the rest is worth having
            said = f"{type(error).__name__}: {error}"
            row = Row(
                workload=name,
                scale_factor=world.data.scale_factor,
                rows=world.data.rows,
                goal=described(GOALS[name]),
                failed={OURS: said},
            )
        else:
            row = judged(name, row, world)
        yield row
        _give_back(world)
        took = time.monotonic() - begun


def _give_back(world: World) -> None:
    """Let go of what array code keeps of the card's memory for the next time."""
    gc.collect()
    world.cp.get_default_memory_pool().free_all_blocks()
    if world.torch is not None:
        world.torch.cuda.empty_cache()


def _torch() -> Any | None:
    return None if versions()["torch"] == ABSENT else import_module("torch")
