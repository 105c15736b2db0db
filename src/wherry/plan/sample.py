"""Look at some of the rows: how many pass and how many groups they make, where statistics guess.

A few thousand rows, in short runs spread evenly over the chunks, go through the reference of what
is asked of a row. Only rows that are read by reference are looked at: decoding a row group for a
look costs what a wrong guess does. Nothing is drawn at random, so a query has one plan.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wherry.base.errors import InputError
from wherry.ir.expr import Node, columns_of
from wherry.ir.reference import evaluate
from wherry.ir.stage import Groups as AsGroups
from wherry.ir.stage import Pass, Rows
from wherry.ops.estimate import Estimate
from wherry.plan.query import Groups, Query, near_flow, with_near

SAMPLE_ROWS = 4096
"""Of so many rows a share of one half is known to 1.6 points (95 of 100 times)."""
RUN_ROWS = 64
"""Rows taken in a row: one block of a program, and few enough that neighbours are no harm."""
_Z = 1.96
"""Half-width of a normal interval that holds 95 of 100 draws, in standard deviations."""


def sampled(query: Query) -> Query:
    """Give the query with sizes from a sample; itself if they are known, or rows decoded."""
    if query.sampled:
        return query
    # What is known of a query outlives its source, so a query must not be kept there.
    if "sampled" not in query.known:
        found = _sampled(query)
        query.known["sampled"] = (found.flows, found.sampled, found.known)
    flows, rows, known = query.known["sampled"]
    return replace(query, flows=flows, sampled=rows, known=known) if rows else query


def _sampled(query: Query) -> Query:
    near, keys = near_flow(query), _keys(query)
    step = _step(query, "near")
    whole = step is not None and isinstance(step.sink, Rows)
    if (near.exact and not keys) or not whole or any(query.builds):
        return query
    if not query.chunks or query.scan.source.decodes:
        return query
    assert step is not None
    try:
        rows = _rows(query)
        mask = _mask(step, rows)
        passed = _keys_of(step, rows.filter(pa.array(mask)), keys)
    except (InputError, pa.ArrowException):
        return query  # a run will say what no row can be computed for
    near = _passing(near, query.flows[0].rows, mask)
    found = _groups(passed, near.rows) if keys else None
    if found is None:
        groups = Groups()
    else:
        groups = Groups(_different(found, near.rows / len(query.chunks)), found)
    return replace(with_near(query, near, groups), sampled=rows.num_rows)


def _step(query: Query, kind: str) -> Pass | None:
    """Give the one pass that a segment is, if it is one."""
    steps = next((s.steps for s in query.segments if s.kind == kind), ())
    return steps[0] if len(steps) == 1 and isinstance(steps[0], Pass) else None


def _keys(query: Query) -> tuple[tuple[str, Node], ...]:
    """Give what the rows that pass are grouped by, if they are."""
    step = _step(query, "partial")
    return step.sink.keys if step is not None and isinstance(step.sink, AsGroups) else ()


def _mask(step: Pass, rows: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell of each row whether it passes."""
    if step.predicate is None:
        return np.ones(rows.num_rows, bool)
    passes = pc.fill_null(evaluate(step.predicate, rows), False)
    return np.asarray(passes.to_numpy(zero_copy_only=False))


def _keys_of(step: Pass, rows: pa.RecordBatch, keys: tuple[tuple[str, Node], ...]) -> pa.Table:
    """Give what rows that pass are grouped by."""
    outputs = dict(step.sink.outputs) if isinstance(step.sink, Rows) else {}
    needed = {name: outputs[name] for _, key in keys for name in columns_of(key)}
    given = pa.RecordBatch.from_arrays(
        [evaluate(node, rows) for node in needed.values()], names=list(needed)
    )
    return pa.table([evaluate(key, given) for _, key in keys], [name for name, _ in keys])


def _rows(query: Query) -> pa.RecordBatch:
    """Give short runs of rows, spread evenly over the chunks; all rows if they are no more."""
    source, columns = query.scan.source, query.scan.columns
    runs = SAMPLE_ROWS // RUN_ROWS
    total = sum(ref.rows for ref in query.chunks)
    if total <= SAMPLE_ROWS:
        return _one([source.read(ref, columns) for ref in query.chunks])
    starts = [total * (2 * number + 1) // (2 * runs) - RUN_ROWS // 2 for number in range(runs)]
    batches, begin, waiting = [], 0, iter(starts)
    start = next(waiting, None)
    for ref in query.chunks:
        batch = None
        while start is not None and start < begin + ref.rows:
            batch = source.read(ref, columns) if batch is None else batch
            batches.append(batch.slice(start - begin, RUN_ROWS))
            start = next(waiting, None)
        begin += ref.rows
    return _one(batches)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _passing(near: Estimate, scanned: float, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Estimate:
    """Give how many rows pass: the share of the sample, and Wilson's interval around it.

    Neighbours are often alike, so a row is worth as much as the spread between runs says.
    """
    share = float(mask.mean())
    if mask.size == scanned:
        passed = float(mask.sum())
        return replace(near, rows_low=passed, rows=passed, rows_high=passed)
    runs = mask[: mask.size // RUN_ROWS * RUN_ROWS].reshape(-1, RUN_ROWS).mean(axis=1)
    spread = float(runs.var(ddof=1)) / runs.size
    worth = share * (1 - share) / spread if spread else mask.size
    n, z2 = min(max(worth, runs.size), mask.size), _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low = max(near.rows_low, scanned * max(0.0, middle - half))
    high = min(near.rows_high, scanned * min(1.0, middle + half))
    guess = min(max(scanned * share, low), high)
    return replace(near, rows_low=min(low, guess), rows=guess, rows_high=max(high, guess))


def _groups(keys: pa.Table, expected: float) -> float | None:
    """Give how many groups `expected` rows make, by the groups that the sample makes.

    Groups that a sample of n of N rows has once stand for sqrt(N / n) others (the guaranteed-error
    estimator, Charikar et al., PODS 2000). None if pyarrow cannot group by these keys.
    """
    if not keys.num_rows:
        return 1.0
    try:
        counts = keys.group_by(keys.column_names).aggregate([([], "count_all")])
    except pa.ArrowException:
        return None
    sizes = counts.column("count_all").to_pylist()
    once = sizes.count(1)
    scale = sqrt(max(1.0, expected / keys.num_rows))
    return min(expected, scale * once + len(sizes) - once)


def _different(values: float, rows: float) -> float:
    """Give how many of `values` equally frequent values `rows` rows have."""
    return float(min(rows, values * (1 - (1 - 1 / max(1.0, values)) ** rows)))
