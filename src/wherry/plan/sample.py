"""Look at some of the rows: how many pass and how many groups they make, where statistics guess.

A few thousand rows, in short runs spread evenly over the chunks, go through the reference of what
is asked of a row. Only rows that are read by reference are looked at: decoding a row group for a
look costs what a wrong guess does. Nothing is drawn at random, so a query has one plan.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.ir.build import Build
from wherry.ir.expr import Node
from wherry.ir.literals import bind
from wherry.ir.reference import evaluate
from wherry.ir.stage import Groups as AsGroups
from wherry.ir.stage import Pass
from wherry.ir.types import is_build
from wherry.ops.estimate import Estimate
from wherry.plan.looked import look, simple
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
    # Queries whose joins are of the same size share it, but not their rows.
    builds = (literal.value for literal in query.literals if is_build(literal.type))
    key = ("sampled", *(build.digest for build in builds if isinstance(build, Build)))
    if key not in query.known:
        found = _sampled(query)
        query.known[key] = (found.flows, found.within, found.sampled, found.known)
    flows, within, rows, known = query.known[key]
    if not rows:
        return query
    return replace(query, flows=flows, within=within, sampled=rows, known=known)


def _sampled(query: Query) -> Query:
    near, keys = near_flow(query), _keys(query)
    if not _rows_here(query):
        return query
    bound = bind(query.plan.segments, query.literals)
    steps = next((s.steps for s in bound if s.kind == "near"), ())
    if (near.exact and not keys) or not simple(steps):
        return query
    if not query.chunks or query.scan.source.decodes:
        return query
    try:
        rows = _rows(query)
        looked = look(steps, rows)
        passed = pa.table(
            [evaluate(key, looked.rows) for _, key in keys], [name for name, _ in keys]
        )
    except (InputError, pa.ArrowException):
        return query  # a run will say what no row can be computed for
    scanned = query.flows[0].rows
    counts = np.bincount(looked.origin, minlength=rows.num_rows)
    near = _passing(near, scanned, counts)
    found = _groups(passed, near.rows) if keys else None
    if found is None:
        groups = Groups()
    else:
        groups = Groups(_different(found, near.rows / len(query.chunks)), found)
    reached = scanned * looked.passed / max(1, rows.num_rows)
    return replace(with_near(query, near, groups, reached), sampled=rows.num_rows)


def _rows_here(query: Query) -> bool:
    """Tell whether the rows of all joins are at hand, not only what is expected of them."""
    builds = (literal.value for literal in query.literals if is_build(literal.type))
    return all(isinstance(build, Build) for build in builds)


def _keys(query: Query) -> tuple[tuple[str, Node], ...]:
    """Give what the rows that pass are grouped by, if they are."""
    steps = next((s.steps for s in query.segments if s.kind == "partial"), ())
    step = steps[0] if len(steps) == 1 else None
    if isinstance(step, Pass) and isinstance(step.sink, AsGroups):
        return step.sink.keys
    return ()


def _rows(query: Query) -> pa.RecordBatch:
    """Give short runs of rows, spread evenly over the chunks; all rows if they are no more."""
    source, columns = query.scan.source, query.scan.columns
    runs = SAMPLE_ROWS // RUN_ROWS
    total = sum(ref.rows for ref in query.chunks)
    if total <= SAMPLE_ROWS:
        return _one(source.few(query.chunks, columns))
    starts = [total * (2 * number + 1) // (2 * runs) - RUN_ROWS // 2 for number in range(runs)]
    wanted, begin, waiting = [], 0, iter(starts)
    start = next(waiting, None)
    for ref in query.chunks:
        while start is not None and start < begin + ref.rows:
            rows = min(RUN_ROWS, begin + ref.rows - start)
            wanted.append(replace(ref, offset=ref.offset + start - begin, rows=rows))
            start = next(waiting, None)
        begin += ref.rows
    return _one(source.few(wanted, columns))


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _passing(
    near: Estimate, scanned: float, counts: np.ndarray[Any, np.dtype[np.int64]]
) -> Estimate:
    """Give how many rows come of all, by how many come of each row of the sample.

    The share of the sample, and Wilson's interval around it; neighbours are often alike, so a row
    is worth as much as the spread between runs says. Where rows match several, a normal interval.
    """
    each = float(counts.mean())
    if counts.size == scanned:
        made = float(counts.sum())
        return replace(near, rows_low=made, rows=made, rows_high=made)
    runs = counts[: counts.size // RUN_ROWS * RUN_ROWS].reshape(-1, RUN_ROWS).mean(axis=1)
    spread = float(runs.var(ddof=1)) / runs.size
    if counts.max() > 1:
        middle, half = each, _Z * sqrt(spread)
    else:
        worth = each * (1 - each) / spread if spread else counts.size
        n, z2 = min(max(worth, runs.size), counts.size), _Z * _Z
        middle = (each + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z * sqrt(each * (1 - each) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low = max(near.rows_low, scanned * max(0.0, middle - half))
    high = min(near.rows_high, scanned * (middle + half))
    guess = min(max(scanned * each, low), high)
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
