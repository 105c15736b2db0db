"""What the card, its link and the host allow at best, measured before anything is judged by it.

Of several passes the fastest counts, because a limit is what could be reached. GB are 10^9 bytes.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct

from wherry.benchmarks.gpu.card import FROM_DEVICE, TO_DEVICE, WITHIN, Cuda, address_of

PASSES: Final = 5
_BLOCK: Final = 256
_AT_ONCE: Final = 8
"""Blocks on a core: with 256 threads of 32 registers all that fit, and no second turn."""
_PIECE: Final = 1 << 20
"""Bytes of a request, as `data/readers.py` has it."""
_SLOT: Final = 4 << 20
"""Bytes that a thread copies into, over and over: as much as a slot of a ring of registered
memory, and less than a core's share of the last cache."""

READ: Final = """
typedef unsigned long long u64;
struct alignas(16) Pair { u64 one, other; };
extern "C" __global__ void __launch_bounds__(256) read_all(
    const Pair* data, const u64 pairs, u64* out) {
  const u64 step = (u64)gridDim.x * blockDim.x;
  u64 seen = 0;
  u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  for (; at + 7 * step < pairs; at += 8 * step) {
    Pair held[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) held[k] = data[at + k * step];
#pragma unroll
    for (int k = 0; k < 8; ++k) seen |= held[k].one ^ held[k].other;
  }
  for (; at < pairs; at += step) seen |= data[at].one ^ data[at].other;
  if (seen == 42) out[0] = seen;  // Nothing is left out that might be written.
}
"""


class Limits(Struct, frozen=True):
    """GB/s, the best that was seen.

    Attributes
    ----------
    read, copy : float
        Of the card's memory; a copy counts the bytes read and the bytes written.
    to_device, from_device : float
        Over the link, from and to registered memory of the host.
    to_device_pageable, from_device_pageable : float
        The same of memory that is not registered.
    memory, cached, direct : dict of str to float
        By number of threads: memory copied into slots of a ring; a file read into them from the
        page cache; and past it. `direct` is empty where the file system does not do that.
    why : str
        Why `direct` is empty; "" if it is not.
    """

    read: float
    copy: float
    to_device: float
    from_device: float
    to_device_pageable: float
    from_device_pageable: float
    memory: dict[str, float]
    cached: dict[str, float]
    direct: dict[str, float]
    why: str = ""


def measured(
    cuda: Cuda,
    file: Path,
    *,
    nbytes: int,
    host_bytes: int,
    threads: Sequence[int],
    begin: Callable[[str], None],
) -> Limits:
    """Measure all limits.

    Parameters
    ----------
    file : Path
        A file that is read from the page cache and past it.
    nbytes, host_bytes : int
        Sizes of memory on the card and of the host, several times what caches hold.
    threads : sequence of int
        Numbers of threads to try.
    """
    begin("limits: the card's memory")
    read, copied = _device(cuda, nbytes)
    begin("limits: the link")
    link = _link(cuda, host_bytes)
    begin("limits: the page cache and the memory")
    memory = {str(n): _of_memory(host_bytes, n) for n in threads}
    cached = {str(n): _file(file, n, os.O_RDONLY) for n in threads}
    begin("limits: the drive")
    try:
        direct = {str(n): _file(file, n, os.O_RDONLY | os.O_DIRECT) for n in threads}
        why = ""
    except OSError as error:
        direct, why = {}, f"{file} is not read past the page cache: {error.strerror}"
    return Limits(read, copied, *link, memory, cached, direct, why)


def _device(cuda: Cuda, nbytes: int) -> tuple[float, float]:
    """Give the rates of reading and copying `nbytes` of the card's memory."""
    run = cuda.kernel(READ, "read_all")
    half = nbytes // 2
    with cuda.memory(nbytes) as data, cuda.memory(16) as out:
        _scatter(cuda, data, nbytes)
        words = tuple(map(np.uint64, (data, nbytes // 16, out)))

        def read() -> None:
            run((cuda.cores * _AT_ONCE,), (_BLOCK,), words)
            cuda.wait()

        def copy() -> None:
            cuda.copy(data + half, data, half, WITHIN)

        return _best(read, nbytes), _best(copy, 2 * half)


def _scatter(cuda: Cuda, data: int, nbytes: int) -> None:
    """Fill memory of the card with bytes that look random: zeros may move faster."""
    size = min(nbytes, 64 << 20)
    noise = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    for at in range(0, nbytes, size):
        cuda.copy(data + at, noise.ctypes.data, min(size, nbytes - at), TO_DEVICE)


def _link(cuda: Cuda, nbytes: int) -> tuple[float, float, float, float]:
    host = _noise(nbytes)
    address = address_of(host)
    with cuda.memory(nbytes) as data:

        def rates() -> tuple[float, float]:
            return (
                _best(lambda: cuda.copy(data, address, nbytes, TO_DEVICE), nbytes),
                _best(lambda: cuda.copy(address, data, nbytes, FROM_DEVICE), nbytes),
            )

        pageable = rates()
        with cuda.pinned(host):
            return *rates(), *pageable


Step = Callable[[int, int], Any]
"""Copies one piece: from which byte on, and into what address."""


def _of_memory(nbytes: int, threads: int) -> float:
    host = _noise(nbytes)
    base = address_of(host)

    def step(at: int, target: int) -> None:
        ctypes.memmove(target, base + at, min(_PIECE, nbytes - at))

    return _by_threads(step, nbytes, threads)


def _file(path: Path, threads: int, flags: int) -> float:
    file = os.open(path, flags)
    try:
        nbytes = os.fstat(file).st_size

        def step(at: int, target: int) -> None:
            slot = (ctypes.c_char * _PIECE).from_address(target)
            done = os.preadv(file, [slot], at)
            if done != min(_PIECE, nbytes - at):
                raise OSError(errno.EIO, f"{done} bytes were read at {at}")

        return _by_threads(step, nbytes, threads)
    finally:
        os.close(file)


def _by_threads(step: Step, nbytes: int, threads: int) -> float:
    """Give the rate at which so many threads copy all pieces, each into a slot of its own."""
    slots = [mmap.mmap(-1, _SLOT) for _ in range(threads)]

    def drain(slot: mmap.mmap, places: Iterator[int]) -> None:
        base = address_of(slot)
        for at in places:
            step(at, base + at % _SLOT)

    with ThreadPoolExecutor(threads) as crew:

        def once() -> None:
            places = iter(range(0, nbytes, _PIECE))
            for part in [crew.submit(drain, slot, places) for slot in slots]:
                part.result()

        return _best(once, nbytes)


def _noise(nbytes: int) -> mmap.mmap:
    """Give memory of whole pages with bytes that look random."""
    found = mmap.mmap(-1, nbytes)
    words = np.frombuffer(found, np.uint64)
    size = min(len(words), 8 << 20)
    words[:size] = np.random.default_rng(2).integers(0, 1 << 63, size, np.uint64)
    for at in range(size, len(words), size):
        part = words[at : at + size]
        part[:] = words[: len(part)]
    return found


def _best(work: Callable[[], Any], nbytes: int) -> float:
    """Give GB/s of the fastest of several passes, after one that does not count."""
    work()
    took = []
    for _ in range(PASSES):
        begun = time.perf_counter_ns()
        work()
        took.append(time.perf_counter_ns() - begun)
    return float(f"{nbytes / min(took):.4g}")
