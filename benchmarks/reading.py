"""How fast columns of Arrow IPC files are read at once, and how long finding them takes.

`python -m wherry.benchmarks.reading [FOLDER]` writes two files there (a temporary folder unless
given; 290 MB), and prints medians of rounds in which everything takes its turn. Metadata are told
in processor time of the one thread that decodes. Rates are of bytes that were asked for. What is
read through the page cache lies there; the limit is one thread that reads as many bytes to memory
that is warm. Answers are compared with pyarrow's.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from wherry.base.errors import InputError
from wherry.data.arrow_file import ArrowFile
from wherry.data.file_reads import Way
from wherry.data.readers import Posix

_ROUNDS = 9
_BATCHES, _COLUMNS, _ROWS = 1000, 16, 256
_WIDE_ROWS, _WIDE_BATCH = 4_000_000, 1_000_000
_WANTED = ["c1", "c5"]


def files(folder: Path) -> tuple[Path, Path]:
    """Write a file of many small batches, and one of few large ones."""
    values = np.random.default_rng(1)
    many, wide = folder / "many.arrow", folder / "wide.arrow"
    small = {f"c{i}": values.integers(0, 1 << 40, _BATCHES * _ROWS) for i in range(_COLUMNS)}
    large = {f"c{i}": values.random(_WIDE_ROWS) for i in range(8)}
    for path, table, rows in (
        (many, pa.table(small), _ROWS),
        (wide, pa.table(large), _WIDE_BATCH),
    ):
        with ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    return many, wide


def decoded(path: Path) -> list[tuple[int, int]]:
    """Give offset and size of every buffer, by Wherry."""
    with ArrowFile(path) as file:
        there = file.layout.sizes > 0
        offsets, sizes = file.layout.offsets[there], file.layout.sizes[there]
    return list(zip(offsets.tolist(), sizes.tolist(), strict=True))


def opened(path: Path) -> None:
    """Have Wherry find every buffer."""
    ArrowFile(path).close()


def by_pyarrow(path: Path) -> list[tuple[int, int]]:
    """Give offset and size of every buffer, by pyarrow: their addresses in a mapping."""
    whole = pa.memory_map(str(path)).read_buffer()
    reader = ipc.open_file(whole)
    batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
    buffers = (b for batch in batches for column in batch.columns for b in column.buffers())
    return [(b.address - whole.address, b.size) for b in buffers if b]


def _read(path: Path, reader: Posix) -> pa.Table:
    with ArrowFile(path) as file:
        return file.read(_WANTED, reader=reader).table()


def _pyarrow_read(path: Path) -> pa.Table:
    numbers = [int(name[1:]) for name in _WANTED]
    with pa.OSFile(str(path)) as source:
        return ipc.open_file(source, options=ipc.IpcReadOptions(included_fields=numbers)).read_all()


def _limit(path: Path) -> Callable[[], object]:
    """Give what reads as many bytes by one thread, to where it read them to before."""
    needed = 8 * _WIDE_ROWS * len(_WANTED)
    room = memoryview(bytearray(needed))

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            for at in range(0, needed, 1 << 20):
                os.preadv(file.fileno(), [room[at : at + (1 << 20)]], at)

    return read


def timed(
    work: Mapping[str, Callable[[], object]], clock: Callable[[], int], rounds: int
) -> dict[str, float]:
    """Give the median nanoseconds of everything, each in its turn; the first round warms up."""
    taken: dict[str, list[int]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, do in work.items():
            begin = clock()
            do()
            taken[name].append(clock() - begin)
    return {name: median(times[1:]) for name, times in taken.items()}


def main(folder: Path, rounds: int = _ROUNDS) -> None:
    """Print what was measured."""
    many, wide = files(folder)
    if decoded(many) != by_pyarrow(many):
        raise InputError(f"{many}: pyarrow finds other buffers")
    metadata = timed(
        {"wherry": partial(opened, many), "pyarrow": partial(by_pyarrow, many)},
        time.thread_time_ns,
        rounds,
    )
    for name, ns in metadata.items():
        print(f"metadata, {name}: {ns / _BATCHES / 1e3:.1f} us a batch of {_COLUMNS} columns")
    ways: tuple[Way, ...] = ("cached", "direct")
    readers = {f"{way}, {n} threads": Posix(way, n) for way in ways for n in (1, 2)}
    work: dict[str, Callable[[], object]] = {"pyarrow": partial(_pyarrow_read, wide)}
    wanted = _pyarrow_read(wide)
    for name, reader in readers.items():
        try:
            seen = _read(wide, reader)
        except InputError as error:
            print(f"reading, {name}: {error}")
            continue
        if not seen.equals(wanted):
            raise InputError(f"{wide}, {name}: pyarrow reads other values")
        work[name] = partial(_read, wide, reader)
    work["limit"] = _limit(wide)
    needed = 8 * _WIDE_ROWS * len(_WANTED)
    for name, ns in timed(work, time.perf_counter_ns, rounds).items():
        print(f"reading, {name}: {needed / ns:.2f} GB/s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as name:
            main(Path(name))
