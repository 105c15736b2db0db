"""Rows that queries of the planner are about: days, prices and flags, in several files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from wherry import Pipeline, scan


def days(folder: Path, *, files: int = 4, rows: int = 400_000, batch: int = 50_000) -> Pipeline:
    """Write `files` files of `rows` rows in batches, always the same ones, and scan them."""
    values = np.random.default_rng(7)
    for number in range(files):
        table = pa.table(
            {
                "day": values.integers(0, 2500, rows).astype("int32"),
                "price": values.integers(90_000, 10_500_000, rows),
                "flag": values.integers(0, 3, rows).astype("int8"),
            }
        )
        with ipc.new_file(folder / f"part{number}.arrow", table.schema) as writer:
            for part in table.to_batches(max_chunksize=batch):
                writer.write_batch(part)
    return scan(folder)
