"""How near the kernels come to the memory: Q6 against the read bandwidth of the same bytes.

Bytes: 65,536 rows x (4 + 8 + 8 + 8) = 1.8 MB a batch, 168 MB in all for float64, 52 B a row and
312 MB for decimal128. At 35 GB/s of two cores that is 4.8 ms and 8.9 ms: the floor. Rounds of
program and read alternate, medians are compared, and the answer is checked.
Run: python -m wherry.benchmarks.kernels [rows]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types

from wherry.data.segment import SegmentPool
from wherry.ir.builder import Expr, col, count
from wherry.ir.expr import Literal
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call, resolve_condition
from wherry.ir.stage import Groups, Pass, Sink, Stage, Totals
from wherry.kernels import engine
from wherry.kernels.numba.vector import load_i64
from wherry.render import program as programs
from wherry.render.program import Program, render
from wherry.render.reference import run_reference

ROWS, THREADS, ROUNDS = 6_000_000, 2, 21
BATCHES = (1 << 16, 1 << 20)
BOUNDS = {"quantity": (100, 5000), "price": (90_000, 10_500_000), "discount": (0, 10)}


def lineitem(rows: int, batch: int, *, exact: bool) -> list[pa.RecordBatch]:
    """Give batches like TPC-H's lineitem: uniform ship dates, quantities, prices, discounts."""
    rng = np.random.default_rng(6)
    days = rng.integers(8036, 10561, rows, dtype=np.int32)
    whole = {k: rng.integers(low, high + 1, rows) for k, (low, high) in BOUNDS.items()}
    columns = {"shipdate": pa.array(days).view(pa.date32())}
    for name, values in whole.items():
        columns[name] = _decimals(values) if exact else pa.array(values / 100.0)
    columns["orderkey"] = pa.array(rng.integers(0, rows // 4, rows))
    return pa.table(columns).combine_chunks().to_batches(max_chunksize=batch)


def _decimals(values: np.ndarray[Any, Any]) -> pa.Array:
    pairs = np.stack([values, values >> 63], axis=1)
    t = pa.decimal128(15, 2)
    return pa.Array.from_buffers(t, len(values), [None, pa.py_buffer(pairs)])


def staged(
    schema: pa.Schema, predicate: Expr | None, sink: Sink
) -> tuple[Stage, tuple[Literal, ...]]:
    """Give the lifted stage of one pass."""
    test = None if predicate is None else resolve_condition(predicate.node, schema)
    return lift(Stage((Pass(test, sink),)))


def q6(schema: pa.Schema, *, exact: bool) -> tuple[Stage, tuple[Literal, ...]]:
    """Give TPC-H Q6."""
    low, high, most = (Decimal("0.05"), Decimal("0.07"), 24) if exact else (0.05, 0.07, 24.0)
    test = (
        (col("shipdate") >= date(1994, 1, 1))
        & (col("shipdate") < date(1995, 1, 1))
        & col("discount").is_between(low, high)
        & (col("quantity") < most)
    )
    call = resolve_call((col("price") * col("discount")).sum().call, schema)
    return staged(schema, test, Totals((("revenue", call),)))


def by_order(schema: pa.Schema) -> tuple[Stage, tuple[Literal, ...]]:
    """Give the sum and count of every order."""
    calls = (
        ("total", resolve_call(col("price").sum().call, schema)),
        ("n", resolve_call(count().call, schema)),
    )
    keys = (("orderkey", resolve(col("orderkey").node, schema)),)
    return staged(schema, None, Groups(keys, calls))


@njit(types.int64(types.int64[:, ::1]), nogil=True, error_model="numpy")
def _read(columns):  # type: ignore[no-untyped-def]
    """Add up all 64-bit words of columns given as rows of (address, words), in step as Q6 does."""
    total = 0
    most = 0
    for c in range(columns.shape[0]):
        most = max(most, columns[c, 1])
    for start in range(0, most, 64):
        for c in range(columns.shape[0]):
            width = 64 * columns[c, 1] // most
            first = start * columns[c, 1] // most
            at = columns[c, 0] + first * 8
            for i in range(min(width, columns[c, 1] - first)):
                total += load_i64(at + i * 8)
    return total


def _places(batch: pa.RecordBatch, names: Sequence[str]) -> np.ndarray[Any, Any]:
    found = []
    for name in names:
        array = batch.column(name)
        size = array.type.bit_width // 8
        found.append((array.buffers()[1].address + array.offset * size, len(array) * size // 8))
    return np.array(found, np.int64)


def _timed(work: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Give the seconds in which THREADS threads, each on its own core, get through all items."""
    cores, waiting = iter(sorted(os.sched_getaffinity(0))), iter(items)

    def drain(_: int) -> None:
        for item in waiting:
            work(item)

    # Woken after idle, both workers often share one core for milliseconds; pinned they do not.
    with ThreadPoolExecutor(
        THREADS, initializer=lambda: os.sched_setaffinity(0, {next(cores)})
    ) as threads:
        list(threads.map(time.sleep, [0.002] * THREADS))
        begin = time.perf_counter()
        list(threads.map(drain, range(THREADS)))
        return time.perf_counter() - begin


def rate_of(
    program: Program,
    literals: tuple[Literal, ...],
    batches: Sequence[pa.RecordBatch],
    names: Sequence[str],
) -> dict[str, float]:
    """Give milliseconds of the program and of reading its bytes, and the ratio of the two."""
    pool = SegmentPool()
    places = [_places(batch, names) for batch in batches]
    times: dict[str, list[float]] = {"program": [], "read": []}
    for _ in range(ROUNDS):
        times["program"].append(_timed(lambda b: program.run(b, literals, pool), batches))
        times["read"].append(_timed(_read, places))
    nbytes = sum(b.num_rows * b.schema.field(n).type.bit_width // 8 for b in batches for n in names)
    run, read = median(times["program"]), median(times["read"])
    return {
        "program_ms": run * 1e3,
        "read_ms": read * 1e3,
        "program_gb_per_s": nbytes / run / 1e9,
        "read_gb_per_s": nbytes / read / 1e9,
        "ratio": read / run,
    }


def compile_times(stage: Stage, schema: pa.Schema) -> dict[str, float]:
    """Give milliseconds until a new program can run, and until one can whose object is on disk."""
    found = {}
    with TemporaryDirectory() as folder:
        for name in ("compile_ms", "cached_ms"):
            programs._rendered.cache_clear()
            engine.engine.cache_clear()
            engine.engine(Path(folder))
            begin = time.perf_counter()
            made = render(stage, schema, BOUNDS, Path(folder))
            assert made.text
            found[name] = (time.perf_counter() - begin) * 1e3
    return found


def check(program: Program, stage: Stage, literals: Any, batch: pa.RecordBatch) -> None:
    """Compare one batch with the reference."""
    made = program.run(batch, literals, SegmentPool()).batch.to_pydict()
    wanted = run_reference(stage, batch, literals).to_pydict()
    for name, values in wanted.items():
        for seen, right in zip(made[name], values, strict=True):
            assert abs(float(seen) - float(right)) <= 1e-9 * abs(float(right)), (name, seen, right)


def main() -> None:
    """Measure and print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    for exact in (False, True):
        kind, bounds = ("decimal128", BOUNDS) if exact else ("float64", {})
        for batch in BATCHES:
            batches = lineitem(rows, batch, exact=exact)
            schema = batches[0].schema
            stage, literals = q6(schema, exact=exact)
            program = render(stage, schema, bounds)
            check(program, stage, literals, batches[0])
            names = ["shipdate", "discount", "quantity", "price"]
            figures = rate_of(program, literals, batches, names)
            print("measured:", kind, f"q6 in batches of {batch}:", _shown(figures))
        print("measured:", kind, "q6:", _shown(compile_times(stage, schema)))
        _print_groups(kind, batches, bounds)


def _print_groups(kind: str, batches: Sequence[pa.RecordBatch], bounds: Any) -> None:
    schema, pool = batches[0].schema, SegmentPool()
    stage, literals = by_order(schema)
    program = render(stage, schema, bounds)
    check(program, stage, literals, batches[0].slice(0, 1 << 16))
    whole = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
    program.run(whole, literals, pool)
    begin = time.perf_counter()
    made = program.run(whole, literals, pool).batch.num_rows
    each = (time.perf_counter() - begin) / whole.num_rows * 1e9
    print("measured:", kind, f"group by {made} keys: {each:.1f} ns a row")


def _shown(figures: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.2f}" for name, value in figures.items())


if __name__ == "__main__":
    main()
