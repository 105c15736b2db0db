"""The process that measures: pinned to its cores before an engine starts a thread.

Run by `runs.py`, with a Job as its only argument; it writes Messages to its standard output.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from wherry.base.errors import WherryError
from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.families import questions
from wherry.benchmarks.kernels.limits import pinned_crew
from wherry.benchmarks.kernels.measure import measure
from wherry.benchmarks.kernels.messages import Bandwidth, Begun, Done, Failed, Job, Message
from wherry.benchmarks.kernels.peers import installed
from wherry.devices.bandwidth import measured_gb_per_s

_PR_SET_PDEATHSIG: Final = 1  # of <linux/prctl.h>


def main() -> None:
    """Measure the workloads of the job, one after the other."""
    # Whatever ends the parent ends this process too; nobody would read what it measures.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    job = msgspec.json.decode(sys.argv[1], type=Job)
    os.sched_setaffinity(0, job.cores)
    try:
        _measure(job)
    except WherryError as error:
        _tell(Failed(str(error)))
    except BrokenPipeError:
        # Nobody reads any more: the parent was ended, and this process will be in a moment.
        os._exit(1)


def _measure(job: Job) -> None:
    threads = len(job.cores)
    _tell(Bandwidth(threads, measured_gb_per_s(threads)))
    data = Data(Path(job.folder), job.scale_factor)
    asked, peers = questions(data), installed()
    with pinned_crew(job.cores) as crew:
        for name in job.workloads:
            _tell(Begun(name))
            row = measure(name, asked[name], data, peers, crew, threads=threads, rounds=job.rounds)
            _tell(Done(row))


def _tell(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
