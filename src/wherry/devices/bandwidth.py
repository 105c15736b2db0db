"""How fast this machine reads memory: one number per number of threads, measured and kept."""

from __future__ import annotations

import mmap
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wherry.devices.machine_facts import keep_facts, kept_facts, kept_path
from wherry.devices.proc import cpu_name, memory_bytes, usable_cores

# Large against any core's own cache. The first touch of fresh memory costs more than all the
# reading (0.2 s for this much, in huge pages), so it is touched once and read several times.
ARRAY_BYTES = 128 << 20
_PASSES = 5


def measured_gb_per_s(threads: int) -> float:
    """Give the best of five passes of `threads` threads over 128 MiB, in GB/s (1e9 bytes).

    The best and not the mean, because what is wanted is what the memory can do, and a neighbour
    can only slow it down. numpy's reduction stays up to a sixth below what a fused kernel reads
    (16-17 against 19 GB/s on the development machine). Measured once in a process.
    """
    return _measured(_counts(threads))[threads]


def _counts(threads: int) -> tuple[int, ...]:
    """Give the numbers of threads that are measured together."""
    usual = (1, usable_cores())
    return usual if threads in usual else (threads,)


def read_gb_per_s(threads: int, *, anew: bool = False) -> float:
    """Give what `measured_gb_per_s` found at best on this machine, in any process.

    Measuring takes longer than many a query, so what was found is kept in the user's cache for
    this processor, these cores and this memory.

    Parameters
    ----------
    anew : bool
        Measure once more in this process; what is kept is the best of all.
    """
    counts = _counts(threads)
    kept = kept_facts(_kept_path(), dict[str, float], {})
    if anew or not all(str(count) in kept for count in counts):
        for count, rate in _measured(counts).items():
            kept[str(count)] = max(rate, kept.get(str(count), 0.0))
        keep_facts(_kept_path(), kept)
    return kept[str(threads)]


def _kept_path() -> Path:
    return kept_path(f"{cpu_name()} {usable_cores()} {memory_bytes()}")


@cache
def _measured(counts: tuple[int, ...]) -> dict[int, float]:
    """Measure numbers of threads over one array, which goes when they are known."""
    array = _touched()
    return {threads: _rate(array, threads) for threads in counts}


def _rate(array: npt.NDArray[np.int64], threads: int) -> float:
    parts = np.array_split(array, threads)
    with ThreadPoolExecutor(threads) as pool:
        times = [_pass_ns(pool, parts) for _ in range(_PASSES)]
    return float(f"{ARRAY_BYTES / min(times):.3g}")


def _touched() -> npt.NDArray[np.int64]:
    memory = mmap.mmap(-1, ARRAY_BYTES)
    memory.madvise(mmap.MADV_HUGEPAGE)
    array = np.frombuffer(memory, dtype=np.int64)
    array[:] = 1  # pages never written are all the one zero page, and that one is in cache
    return array


def _pass_ns(pool: ThreadPoolExecutor, parts: list[npt.NDArray[np.int64]]) -> int:
    start = time.perf_counter_ns()
    for _ in pool.map(np.bitwise_or.reduce, parts):
        pass
    return time.perf_counter_ns() - start
