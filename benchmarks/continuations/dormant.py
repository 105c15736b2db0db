"""A million dormant continuations: disk and memory, waking one, finding all after a restart.

They are in a journal that another process fills, so that what it needs to fill it does not count.
Memory is what this process grows by while it opens the journal and goes through all of them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from wherry.benchmarks.continuations.figure import Figure, of_samples, single
from wherry.benchmarks.continuations.sample import dormant, id_of
from wherry.run.journal_sqlite import SqliteJournal, open_sqlite
from wherry.run.records import RUNNING

FIGURES: Final = (
    "dormant_disk_bytes",
    "dormant_ram_bytes",
    "wake_us",
    "wake_marked_us",
    "recover_1e6_s",
)

COUNT: Final = 1_000_000
_AT_ONCE: Final = 5_000
_WAKES: Final = 300
_PROBES: Final = 1_000
_SPREAD: Final = 7_919
"""Coprime to the count: wakes come in another order than the rows lie."""


def measure(folder: Path) -> Iterator[Figure]:
    """Measure in a folder on the disk in question; what is written there stays until it goes."""
    path = folder / "dormant"
    program = "import sys; from wherry.benchmarks.continuations import dormant; dormant.fill()"
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    disk = sum(one.stat().st_size for one in folder.glob("dormant*"))
    yield single("dormant_disk_bytes", "B", disk / COUNT)
    before = _resident()
    begun = time.perf_counter()
    with closing(open_sqlite(path)) as journal:
        _address(journal)
        took = time.perf_counter() - begun
        for number in range(0, COUNT, COUNT // _PROBES):
            journal.held(id_of(number))
        yield single("dormant_ram_bytes", "B", max(0, _resident() - before) / COUNT)
        found, marked = _wakes(journal)
        yield of_samples("wake_us", "us", found)
        yield of_samples("wake_marked_us", "us", marked)
    yield single("recover_1e6_s", "s", took)


def fill() -> None:
    """Fill the journal that the command line names."""
    with closing(open_sqlite(sys.argv[1])) as journal:
        for first in range(0, COUNT, _AT_ONCE):
            numbers = range(first, first + _AT_ONCE)
            journal.write([dormant(n, 1 + n * _SPREAD % COUNT) for n in numbers])


def _address(journal: SqliteJournal) -> None:
    """Do what a home does at its start, then find 1,000 of them by id, and all by their index."""
    assert list(journal.live()) == []
    assert journal.next_wake() == 1
    for number in range(0, COUNT, COUNT // _PROBES):
        assert journal.held(id_of(number)) is not None
    assert journal.counts().rows["held"] == COUNT


def _wakes(journal: SqliteJournal) -> tuple[list[float], list[float]]:
    """Give how long it takes until a due state is there, and until it is marked awake."""
    found, marked = [], []
    for now in range(1, 1 + _WAKES):
        begun = time.perf_counter_ns()
        (held,) = journal.due(now, 1)
        assert held.message
        there = time.perf_counter_ns()
        journal.write([msgspec.structs.replace(held, state=RUNNING, wake_ns=0)])
        marked.append((time.perf_counter_ns() - begun) / 1e3)
        found.append((there - begun) / 1e3)
    return found, marked


def _resident() -> int:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * 4096
