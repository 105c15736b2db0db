"""Run the measuring processes, one for each number of threads, and gather what they tell."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from wherry.base.errors import InputError, WherryError
from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.messages import Bandwidth, Begun, Done, Failed, Job, Message
from wherry.benchmarks.kernels.peers import versions
from wherry.benchmarks.kernels.row import Row
from wherry.devices.proc import cpu_features, cpu_name, kernel_release, memory_bytes, usable_cores

_CHILD: Final = "wherry.benchmarks.kernels.child"
_PATIENCE_S: Final = 10.0
"""For a process that was asked to end; after that it is ended."""


def machine() -> dict[str, Any]:
    """Give what the figures depend on; `run` adds the bandwidth it measures."""
    return {
        "cpu": cpu_name(),
        "instructions": list(cpu_features()),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "kernel": kernel_release(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "peers": versions(),
        "origin": "measured",
        "read_gb_per_s": {},
    }


def possible_threads(asked: Sequence[int]) -> list[int]:
    """Give the numbers of threads once each, in order.

    Raises
    ------
    InputError
        When one of them is not a number of cores this process may use.
    """
    cores = usable_cores()
    for threads in asked:
        if not 1 <= threads <= cores:
            raise InputError(f"--threads {threads}: possible are 1 to {cores}, the cores there are")
    return sorted(set(asked))


def run(
    data: Data,
    workloads: Sequence[str],
    *,
    threads: int,
    rounds: int,
    begin: Callable[[str], None],
    bandwidth: dict[str, float],
) -> Iterator[Row]:
    """Give the rows of one scale factor and number of threads as they are measured.

    Parameters
    ----------
    begin : callable
        Is told the name of each workload as it begins.
    bandwidth : dict
        Gets the GB/s that so many threads read.

    Raises
    ------
    WherryError
        When the process fails. It is ended whenever the caller stops listening.
    """
    cores = tuple(sorted(os.sched_getaffinity(0))[:threads])
    job = Job(str(data.folder), data.scale_factor, tuple(workloads), cores, rounds)
    with _child(job) as lines:
        for line in lines:
            match msgspec.json.decode(line, type=Message):
                case Begun(workload):
                    begin(workload)
                case Bandwidth(number, gb_per_s):
                    bandwidth[str(number)] = gb_per_s
                case Done(row):
                    yield row
                case Failed(message):
                    raise WherryError(message)


@contextmanager
def _child(job: Job) -> Iterator[Iterator[bytes]]:
    command = [sys.executable, "-m", _CHILD, msgspec.json.encode(job).decode()]
    # Polars reads its number of threads when it is loaded. A session of its own, because Ctrl-C
    # goes to every process of a terminal's: this one is told by us, and says nothing.
    environment = {**os.environ, "POLARS_MAX_THREADS": str(len(job.cores))}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    try:
        yield iter(process.stdout)
        if process.wait():
            raise WherryError(f"the measuring process ended with {process.returncode}")
    finally:
        process.stdout.close()
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
