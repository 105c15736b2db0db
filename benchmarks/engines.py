"""Whole queries on this machine: Wherry and DuckDB over the same mapped Arrow files.

Rounds of the two alternate in one process, medians are compared, and the answers must be equal.
What favours whom: DuckDB parses SQL each time (about a millisecond) and may not use its own storage
or its statistics; Wherry plans each time, and its per-batch statistics exclude nothing here. Both
use as many threads as there are cores.
Run: python -m wherry.benchmarks.engines [scale factor] [folder]
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import pyarrow as pa

from wherry.benchmarks.compare import difference
from wherry.benchmarks.second_opinion import mapped
from wherry.benchmarks.tpch import generate
from wherry.benchmarks.workload import Tables
from wherry.benchmarks.workloads import q1, q6
from wherry.devices.bandwidth import read_gb_per_s
from wherry.devices.proc import cpu_name, usable_cores

ROUNDS = 11


def milliseconds(work: Callable[[], object]) -> float:
    """Give the wall time of one call."""
    start = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start) / 1e6


def compare_engines(tables: Tables, rounds: int = ROUNDS) -> dict[str, dict[str, Any]]:
    """Give, for each query, the median milliseconds of both engines, and the bytes scanned.

    Raises
    ------
    AssertionError
        If the answers differ.
    """
    found = {}
    with duckdb.connect(config={"threads": usable_cores()}) as connection:
        connection.register("lineitem", mapped(tables["lineitem"]))
        for name, module in (("q6", q6), ("q1", q1)):
            pipeline = module.pipeline(tables)

            def ask(sql: str = module.SQL) -> pa.Table:
                return connection.sql(sql).to_arrow_table()

            differs = difference(pipeline.collect(), ask(), ordered=True)
            assert differs is None, f"{name}: {differs}"
            pairs = [(milliseconds(pipeline.collect), milliseconds(ask)) for _ in range(rounds)]
            ours, theirs = (median(times) for times in zip(*pairs, strict=True))
            scanned = sum(e.work.scan_bytes for e in pipeline.run().evidence if e.stage == 0)
            found[name] = {
                "wherry_ms": round(ours, 2),
                "duckdb_ms": round(theirs, 2),
                "duckdb_over_wherry": round(theirs / ours, 2),
                "scanned_gb_per_s": round(scanned / ours / 1e6, 1),
            }
    return found


def main() -> None:
    """Print the machine and the figures, all measured, as JSON."""
    scale = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else f"data/tpch-{scale:g}")
    tables = generate(folder, scale)
    machine = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "kernel": os.uname().release,
        "read_gb_per_s": round(read_gb_per_s(usable_cores()), 1),
        "duckdb": duckdb.__version__,
        "pyarrow": pa.__version__,
    }
    figures = compare_engines(tables)
    print(json.dumps({"scale_factor": scale, "machine": machine, "measured": figures}, indent=1))


if __name__ == "__main__":
    main()
