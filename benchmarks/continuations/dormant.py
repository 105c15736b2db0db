"""A million dormant continuations: disk and memory, waking one, finding all after a restart.

One process fills the journal. Another, fresh one opens it; memory is what that grows by while it
finds all of them, the page caches of both connections included.
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


class _Found(msgspec.Struct):
    """What a fresh process found: seconds until all could be addressed, bytes it grew by."""

    took_s: float
    grown: int
    found_us: list[float]
    marked_us: list[float]


def measure(folder: Path) -> Iterator[Figure]:
    """Measure in a folder on the disk in question; what is written there stays until it goes."""
    path = folder / "dormant"
    _process("fill", path)
    disk = sum(one.stat().st_size for one in folder.glob("dormant*"))
    found = msgspec.json.decode(_process("recover", path), type=_Found)
    yield single("dormant_disk_bytes", "B", disk / COUNT)
    yield single("dormant_ram_bytes", "B", found.grown / COUNT)
    yield of_samples("wake_us", "us", found.found_us)
    yield of_samples("wake_marked_us", "us", found.marked_us)
    yield single("recover_1e6_s", "s", found.took_s)


def _process(function: str, path: Path) -> bytes:
    program = f"from wherry.benchmarks.continuations import dormant; dormant.{function}()"
    command = [sys.executable, "-c", program, str(path)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def recover() -> None:
    """Open the journal that the command line names, and wake some of it; print what was found."""
    before = _resident()
    begun = time.perf_counter()
    with closing(open_sqlite(sys.argv[1])) as journal:
        _address(journal)
        took = time.perf_counter() - begun
        grown = _resident() - before
        found, marked = _wakes(journal)
    told = _Found(took, grown, found, marked)
    sys.stdout.buffer.write(msgspec.json.encode(told))


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
