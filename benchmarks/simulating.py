"""How fast queries are simulated: chunk-hops a second of one core, over shipped systems.

A chunk-hop is one step of one chunk's way: it is read from its media, moved to another device (all
lanes of the way are one hop), worked on by a program, or delivered to the client. To simulate one
is to carry out a command of the machine, let every resource that it uses be used, and hand the
event back. `python -m wherry.benchmarks.simulating` prints medians, in processor time of the one
thread that simulates, from counts that were taken before.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from wherry.devices.system import System, load_system
from wherry.ir.builder import col
from wherry.pipeline import scan
from wherry.plan.place import host_only, place
from wherry.plan.placement import Placement
from wherry.session import record
from wherry.sim.recorded import Counts
from wherry.sim.replay import Replayed, replay

_SYSTEMS = ("dpu-csd-host", "nvme-host", "nvmeof-dpu", "rack-16")
_FILES, _CHUNKS, _ROWS = 16, 32, 64
_ROUNDS = 9
_HOPS = frozenset({"read", "move", "run", "deliver"})


def counts(folder: Path) -> dict[str, Counts]:
    """Give the counts of queries over many small chunks; how small does not matter to a hop."""
    values = np.random.default_rng(1)
    rows = _CHUNKS * _ROWS
    for number in range(_FILES):
        table = pa.table(
            {
                "day": values.integers(0, 2500, rows).astype("int32"),
                "price": values.random(rows),
                "flag": values.integers(0, 3, rows).astype("int8"),
            }
        )
        with ipc.new_file(folder / f"{number:02}.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=_ROWS)
    kept = scan(folder).filter(col("day") < 100)
    grouped = kept.group_by("flag").agg(total=col("price").sum())
    return {"rows": record(kept), "groups": record(grouped)}


def hops(run: Replayed) -> int:
    """Give how many chunk-hops a run was; data that are in memory are read without one."""
    return len({(span.kind, span.stage, span.chunk) for span in run.spans if span.kind in _HOPS})


def simulated(system: System, placement: Placement, of: Counts) -> tuple[int, float]:
    """Give the chunk-hops of a run, and the median of how many were simulated in a second."""
    found, taken = hops(replay(system, placement, of)), []
    for _ in range(_ROUNDS):
        begin = time.thread_time_ns()
        replay(system, placement, of)
        taken.append(time.thread_time_ns() - begin)
    return found, found / median(taken) * 1e9


def main() -> None:
    """Print a line for each query, system and placement, and what all of them come to."""
    whole, seconds = 0, 0.0
    with TemporaryDirectory() as folder:
        taken = counts(Path(folder))
    for title, of in taken.items():
        for name in _SYSTEMS:
            system = load_system(name)
            pins = host_only(of.query, system)
            for who, choice in (
                ("planner", place(of.query, system)),
                ("host only", place(of.query, system, pins=pins)),
            ):
                found, rate = simulated(system, choice.chosen.placement, of)
                whole, seconds = whole + found, seconds + found / rate
                print(f"{title} on {name}, {who}: {found:,} chunk-hops, {rate:,.0f} a second")
    print(f"all: {whole:,} chunk-hops, {whole / seconds:,.0f} a second")


if __name__ == "__main__":
    main()
