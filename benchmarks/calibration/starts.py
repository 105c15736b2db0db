"""What must happen on this machine before a program works: microseconds, medians, one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pyarrow as pa

from wherry.benchmarks.calibration.rates import Rate
from wherry.data.segment import SegmentPool
from wherry.devices.system import load_system
from wherry.devices.this_machine import THIS_MACHINE
from wherry.ir.builder import col
from wherry.pipeline import scan
from wherry.plan.place import place
from wherry.plan.placement import stages_of
from wherry.plan.query import Query, prepare, segment_schemas
from wherry.plan.segments import stage_of
from wherry.render.program import render
from wherry.run.continuation import freeze, thaw
from wherry.run.orders import orders_of

_TIMES: Final = 400
_INSTALLS: Final = 9
_ROWS: Final = 64
_KEY: Final = bytes(32)


def starts() -> list[Rate]:
    """Give `kernel_start_us`, `hop_receive_us` and `program_install_us`."""
    system, pool = load_system(THIS_MACHINE), SegmentPool()
    query = _query()
    placement = place(query, system).chosen.placement
    stage = stages_of(query.segments, placement)[0]
    program = stage_of(query.plan.segments[stage.first : stage.last + 1])
    schema, bounds = segment_schemas(query.plan)[stage.first], query.plan.bounds_map()
    batch = query.scan.source.read(query.chunks[0], query.scan.columns)
    ready = render(program, schema, bounds)
    message = freeze(orders_of(query, placement, system, _KEY).continuation, _KEY)

    def install() -> None:
        # Machine code is made when a chunk comes, for columns as it has them.
        with TemporaryDirectory() as folder:
            render(program, schema, bounds, Path(folder)).run(batch, query.literals, pool)

    def start() -> None:
        ready.run(batch, query.literals, pool)

    begun = _median_ns(start, _TIMES)
    return [
        _us("kernel_start_us", begun, f"one batch of {_ROWS} rows, 5 columns in and 4 out"),
        _us(
            "hop_receive_us",
            _median_ns(lambda: thaw(message, _KEY), _TIMES),
            f"checking and decoding a message of {len(message)} bytes",
        ),
        _us(
            "program_install_us",
            _median_ns(install, _INSTALLS) - begun,
            "compiling a filter of 5 columns, nothing kept",
        ),
    ]


def _query() -> Query:
    values = np.random.default_rng(6)
    rows = scan(pa.table({name: values.random(_ROWS) for name in ("a", "b", "c", "d", "e")}))
    kept = rows.filter((col("a") < 0.9) & (col("b") < 0.9))
    asked = kept.select("b", "c", "d", total=col("d") * col("e") + col("a"))
    return prepare(asked.source, asked.operators, asked.schema)


def _median_ns(ask: Callable[[], object], times: int) -> float:
    for _ in range(1 + times // 10):
        ask()
    found = []
    for _ in range(times):
        begin = time.perf_counter_ns()
        ask()
        found.append(time.perf_counter_ns() - begin)
    return median(found)


def _us(name: str, ns: float, how: str) -> Rate:
    return Rate(name, float(f"{ns / 1000:.3g}"), f"{how}, one pinned thread, median")
