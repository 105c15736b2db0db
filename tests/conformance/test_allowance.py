"""Inputs ten times the memory that a process may allocate are queried within it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet
from support.allowance import OUTPUT_SHARE, watched

from wherry.kernels.skeletons import modules, warm

BATCH_ROWS = 1 << 16
WORDS = 10_000
MOST_BEFORE = 100 << 20
"""Bytes of a process that has answered small queries: nothing large is kept for nothing."""
MOST_BESIDES = 256 << 20
"""Bytes of the whole process, beyond its output."""


def _batches(rows: int):
    """Give about 98 bytes a row: two integers, a float, text longer than a view holds."""
    values = np.random.default_rng(11)
    words = pa.array(f"a text that no view holds by itself, number {i}" for i in range(WORDS))
    for begin in range(0, rows, BATCH_ROWS):
        size = min(BATCH_ROWS, rows - begin)
        chosen = words.take(pa.array(values.integers(0, WORDS, size)))
        yield pa.record_batch(
            {
                "k": values.integers(0, 8, size),
                "q": values.integers(0, 100, size),
                "p": values.random(size),
                "word": chosen.cast(pa.string_view()),
            }
        )


def _write(path: Path, rows: int, form: str) -> int:
    """Write a file; give the bytes of its rows in memory."""
    schema, size = next(_batches(1)).schema, 0
    if form == "parquet":
        writer = parquet.ParquetWriter(path, schema, use_dictionary=False)
    else:
        options = ipc.IpcWriteOptions(compression="lz4" if form == "lz4" else None)
        writer = ipc.new_file(path, schema, options=options)
    with writer:
        for batch in _batches(rows):
            writer.write_batch(batch)
            size += batch.nbytes
    return size


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """Let the process that is watched find its skeletons: compiling them takes memory, once."""
    for module in modules():
        warm(module)


@pytest.mark.parametrize("form", ["arrow", "lz4", "parquet"])
@pytest.mark.parametrize("rows", [4_000_000, pytest.param(24_000_000, marks=pytest.mark.soak)])
def test_ten_times_the_memory(tmp_path, form, rows):
    path = tmp_path / "rows"
    given = _write(path, rows, form)
    before, peak, answers = watched(path, given // 10)
    path.unlink()
    kept = {name: count for name, count, _ in answers}
    assert kept["filter"] == kept["filter, streamed"] == pytest.approx(rows / 20, rel=0.02)
    assert (kept["agg"], kept["groups"]) == (1, 8)
    output = max(nbytes for _, _, nbytes in answers)
    print(f"{form}: {given >> 20} MiB, {before >> 20} before, {peak >> 20} MiB at the peak")
    assert before <= MOST_BEFORE
    assert peak - before <= given // 10 + OUTPUT_SHARE * output
    assert peak <= MOST_BESIDES + OUTPUT_SHARE * output
