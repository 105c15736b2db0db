"""How fast this machine reads memory now: one number per number of threads, measured once."""

from __future__ import annotations

import mmap
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt

from wherry.devices.proc import usable_cores

# Large against any core's own cache. The first touch of fresh memory costs more than all the
# reading (0.2 s for this much, in huge pages), so it is touched once and read several times.
ARRAY_BYTES = 128 << 20
_PASSES = 5


def read_gb_per_s(threads: int) -> float:
    """Give the best of five passes of `threads` threads over 128 MiB, in GB/s (1e9 bytes).

    The best and not the mean, because what is wanted is what the memory can do, and a neighbour
    can only slow it down. numpy's reduction stays up to a sixth below what a fused kernel reads
    (16-17 against 19 GB/s on the development machine). Kept, so that one process has one answer.
    """
    usual = (1, usable_cores())
    found = _measured(usual if threads in usual else (threads,))
    return found[threads]


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
