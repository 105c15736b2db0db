"""The same program, pipeline and pool used by several threads at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pyarrow as pa

import wherry as wh
from wherry import col, when
from wherry.data.segment import SegmentPool
from wherry.ir.builder import count
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call, resolve_condition
from wherry.ir.stage import Groups, Pass, Rows, Stage
from wherry.render.program import render

THREADS = 6


def batch_of(seed: int, rows: int) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    texts = [None if i == 9 else f"text {(i + seed) % 11}" for i in rng.integers(0, 10, rows)]
    numbers = rng.integers(-50, 50, rows)
    gone = rng.random(rows) < (0.2 if seed % 2 else 0.0)
    return pa.record_batch(
        {
            "x": pa.array(numbers, mask=gone),
            "s": pa.array(texts),
            "d": pa.array(texts).dictionary_encode(),
        }
    )


BATCHES = [batch_of(seed, 500 + 37 * seed) for seed in range(24)]
SCHEMA = BATCHES[0].schema


def together(work: Callable[[int], Any]) -> list[Any]:
    """Give what `work(0)` to `work(THREADS - 1)` give, all begun at the same moment."""
    begin = Barrier(THREADS)

    def one(number: int) -> Any:
        begin.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def stage_of(name: str) -> Stage:
    where = resolve_condition(
        ((col("x") > 0) | col("s").str.like("%t 3") | (col("d") == "text 2")).node, SCHEMA
    )
    if name == "rows":
        outputs = [(n, resolve(col(n).node, SCHEMA)) for n in SCHEMA.names]
        return Stage((Pass(where, Rows((*outputs, ("y", resolve((col("x") * 3).node, SCHEMA))))),))
    keys = tuple((n, resolve(col(n).node, SCHEMA)) for n in "xd")
    calls = (
        ("n", resolve_call(count().call, SCHEMA)),
        ("t", resolve_call(col("s").max().call, SCHEMA)),
    )
    return Stage((Pass(where, Groups(keys, calls)),))


def test_a_program_that_no_thread_has_compiled_yet(tmp_path):
    pool = SegmentPool()
    for name in ("rows", "groups"):
        stage, literals = lift(stage_of(name))

        def run(folder: str, stage: Stage = stage, literals: Any = literals) -> list[Any]:
            program = render(stage, SCHEMA, {}, tmp_path / folder)
            return [program.run(b, literals, pool).batch.to_pydict() for b in BATCHES]

        found = together(lambda _, name=name, run=run: run(f"many {name}"))
        alone = run(f"alone {name}")
        assert all(made == alone for made in found)


def test_a_pipeline_run_at_once():
    table = pa.Table.from_batches(BATCHES)
    base = wh.scan(table).filter(col("x") > -20)
    queries = [
        base.group_by("d").agg(n=wh.count(), s=col("x").sum()),
        base.select("s", y=when(col("d") == "text 1").then(1).otherwise(0) + col("x")),
        base.top_k(50, by="x"),
    ]
    alone = [query.collect() for query in queries]
    found = together(lambda number: [queries[(number + i) % 3].collect() for i in range(6)])
    for number, made in enumerate(found):
        assert all(made[i].equals(alone[(number + i) % 3]) for i in range(6))


def test_answers_that_are_kept_are_not_overwritten():
    pool = SegmentPool(region_bytes=1 << 16)
    stage, literals = lift(stage_of("rows"))
    program = render(stage, SCHEMA, {})
    wanted = [program.run(b, literals, pool).batch.to_pydict() for b in BATCHES]

    def work(number: int) -> bool:
        rng, kept = np.random.default_rng(number), []
        for _ in range(120):
            chosen = int(rng.integers(len(BATCHES)))
            kept.append((chosen, program.run(BATCHES[chosen], literals, pool).batch))
            if rng.random() < 0.6:
                kept.pop(int(rng.integers(len(kept))))
        return len(kept) > 20 and all(made.to_pydict() == wanted[i] for i, made in kept)

    assert all(together(work))
    assert pool.bytes_in_use == 0
