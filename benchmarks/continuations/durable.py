"""Durable steps: alone, beside what the disk alone takes; in batches; the first and the 10,000th.

A step is what home writes for a hop: its new state and the receipt, in one batch. The file is on
the disk of the folder given, and steps and raw syncs take turns, since a disk's pace changes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final

from wherry.benchmarks.continuations.figure import Figure, of_samples, single
from wherry.benchmarks.continuations.sample import id_of, step
from wherry.run.journal_sqlite import SqliteJournal, open_sqlite

FIGURES: Final = ("fdatasync_us", "durable_step_us", "durable_batch_us", "step_growth")

_STEPS: Final = 400
_BATCHES: Final = 60
_BATCH: Final = 256
_LONG: Final = 10_000
_COMPARED: Final = 300
_RAW_BYTES: Final = 12_360
"""Three pages with their headers: what such a step adds to the log."""


def measure(folder: Path) -> Iterator[Figure]:
    """Measure in a folder on the disk in question; what is written there is removed."""
    with closing(open_sqlite(folder / "durable")) as journal:
        alone, raw = _alone(journal, folder)
        yield of_samples("fdatasync_us", "us", raw)
        yield of_samples("durable_step_us", "us", alone)
        yield of_samples("durable_batch_us", "us", list(_batches(journal)))
        yield single("step_growth", "ratio", _growth(journal))


def step_us(folder: Path, steps: int) -> list[float]:
    """Give the times of steps of one continuation, one after the other."""
    with closing(open_sqlite(folder / "steps")) as journal:
        return [_timed(journal, id_of(1), hop) for hop in range(steps)]


def _alone(journal: SqliteJournal, folder: Path) -> tuple[list[float], list[float]]:
    alone, raw = [], []
    image = os.urandom(_RAW_BYTES)
    with (folder / "raw").open("wb+", buffering=0) as file:
        file.write(bytes(_RAW_BYTES * _STEPS))
        os.fsync(file.fileno())
        for hop in range(_STEPS):
            alone.append(_timed(journal, id_of(0), hop))
            begun = time.perf_counter_ns()
            os.pwrite(file.fileno(), image, hop * _RAW_BYTES)
            os.fdatasync(file.fileno())
            raw.append((time.perf_counter_ns() - begun) / 1e3)
    (folder / "raw").unlink()
    return alone, raw


def _timed(journal: SqliteJournal, id_: bytes, hop: int) -> float:
    records = step(id_, hop)
    begun = time.perf_counter_ns()
    journal.write(records)
    return (time.perf_counter_ns() - begun) / 1e3


def _batches(journal: SqliteJournal) -> Iterator[float]:
    ids = [id_of(1000 + n) for n in range(_BATCH)]
    for hop in range(_BATCHES):
        records = [one for id_ in ids for one in step(id_, hop)]
        begun = time.perf_counter_ns()
        journal.write(records)
        yield (time.perf_counter_ns() - begun) / 1e3 / _BATCH


def _growth(journal: SqliteJournal) -> float:
    """Give the time of the steps around the 10,000th over that of the first, taken in turns."""
    old, young = id_of(1), [id_of(2 + n) for n in range(_COMPARED)]
    for first in range(0, _LONG, 500):
        journal.write([one for hop in range(first, first + 500) for one in step(old, hop)])
    late, early = [], []
    for n in range(_COMPARED):
        late.append(_timed(journal, old, _LONG + n))
        early.append(_timed(journal, young[n], 0))
    return median(late) / median(early)
