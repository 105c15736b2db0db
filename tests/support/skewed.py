"""Rows whose statistics tell nothing of how many pass, and that may lie in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import ipc
from support.runs import faster_link

from wherry import Pipeline, col, load_system, scan
from wherry.devices.system import System

FILES = 4
PASSING = col("k") > 50
SHAPES: dict[str, Callable[[float], float]] = {
    "none": lambda _: 0.0,
    "all": lambda _: 1.0,
    "half": lambda _: 0.5,
    "rising": lambda place: float(place >= 0.5),
    "falling": lambda place: float(place < 0.5),
}
"""The share of a chunk's rows that pass, by its place in its file, from 0 to 1."""


def skewed(folder: Path, shape: str, *, batches: int = 60, rows: int = 2048) -> Pipeline:
    """Write files of `batches` chunks of `rows` rows, every chunk with the same bounds."""
    values, share = np.random.default_rng(3), SHAPES[shape]
    for number in range(FILES):
        writer = None
        for batch in range(batches):
            k = np.where(values.random(rows) < share(batch / batches), 75, 25)
            k[:2] = 0, 100
            columns = {f"v{i}": values.integers(0, 1 << 40, rows) for i in range(6)}
            made = pa.record_batch({"k": k, **columns})
            writer = writer or ipc.new_file(folder / f"part{number}.arrow", made.schema)
            writer.write_batch(made)
        assert writer is not None
        writer.close()
    return scan(folder)


def slow_drives(factor: float) -> System:
    """Give dpu-csd-host with slower links to its drives: there it matters how many rows pass."""
    system = load_system("dpu-csd-host")
    for number, link in enumerate(system.links):
        if any(end.startswith("csd") for end in link.ends):
            system = faster_link(system, number, factor)
    return system
