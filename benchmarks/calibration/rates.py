"""What one core of this machine does in a second, family by family, as profiles count it.

A rate is a number of units over the time that they take longer: most families are told by two
queries that differ in them alone, asked in turns, so that what both have (binding, the scan of what
lies in the cache) cancels. A figure is the median of rounds; rounds that another process disturbed
are in it, which is why it is the median.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct
from pyarrow import parquet

from wherry.base.errors import WherryError
from wherry.ir.builder import Expr, col, count
from wherry.pipeline import Pipeline, scan

_ROUNDS: Final = 7
_BATCH: Final = 1 << 14
"""Rows of a batch that stays in a core's own cache: 0.6 MB in all columns."""
_REPEATS: Final = 512
_MEMORY_ROWS: Final = 1 << 23
"""64 MiB a column of 8 bytes: far more than caches hold."""
_GROUPS: Final = 1 << 20
_FEW: Final = 1 << 12
"""Groups whose table is far larger than a core's own cache, and that fit in it."""
_SORTED: Final = 1 << 20
_WORDS: Final = ("ash", "birch", "cedar", "elder", "hawthorn", "juniper", "rowan", "sycamore")

Ask = Callable[[], object]


class Rate(Struct, frozen=True):
    """A measured rate of one core.

    Attributes
    ----------
    name : str
        As `device_profiles/reference-core.toml` has it; `..._cached` for what fits in the cache.
    value : float
        In the unit that the name ends with.
    how : str
        What was measured.
    """

    name: str
    value: float
    how: str


@contextmanager
def pinned() -> Iterator[int]:
    """Let this thread, and the crew of queries it asks, run on one core only; give its number."""
    before = os.sched_getaffinity(0)
    core = max(before)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


def _difference_ns(more: Ask, less: Ask | None = None) -> float:
    """Give by how much `more` takes longer than `less`, the median of rounds that take turns."""
    more()
    if less is not None:
        less()
    found = []
    for _ in range(_ROUNDS):
        took = _ns(more)
        found.append(took - (0 if less is None else _ns(less)))
    return median(found)


def _ns(ask: Ask) -> int:
    begin = time.perf_counter_ns()
    ask()
    return time.perf_counter_ns() - begin


def _rate(name: str, units: float, ns: float, per: float, how: str) -> Rate:
    if ns <= 0:
        raise WherryError(
            f"{name} cannot be told: the query that has more to do was no slower; this machine is "
            "too busy to be calibrated, try again"
        )
    return Rate(name, float(f"{units / ns * per:.3g}"), f"{how}, one pinned thread, median")


def _cached() -> Pipeline:
    """Give 8.4 M rows that are the same 16,384 again and again."""
    values = np.random.default_rng(1)
    columns: dict[str, Any] = {
        name: values.integers(0, 1000, _BATCH).astype("int32") for name in "abcde"
    }
    columns |= {name: values.random(_BATCH) for name in ("x", "y", "z")}
    columns["key"] = values.integers(0, 1 << 62, 1024)[values.integers(0, 1024, _BATCH)]
    columns["text"] = pa.array(np.array(_WORDS)[values.integers(0, len(_WORDS), _BATCH)].tolist())
    batch = pa.record_batch(columns)
    return scan(pa.Table.from_batches([batch] * _REPEATS))


_CACHED_ROWS: Final = _BATCH * _REPEATS


def _scan() -> list[Rate]:
    rows = scan(pa.table({"v": np.arange(4 * _MEMORY_ROWS) % 1000}))
    nbytes = 8 * 4 * _MEMORY_ROWS
    took = _difference_ns(rows.agg(v=col("v").sum()).collect)
    cached = _cached()
    fast = _difference_ns(
        cached.agg(x=col("x").sum(), y=col("y").sum()).collect, cached.agg(x=col("x").sum()).collect
    )
    how = "sum of a column of 268 MB of int64"
    return [
        _rate("scan_gb_per_s", nbytes, took, 1, how),
        _rate("scan_cached_gb_per_s", 8 * _CACHED_ROWS, fast, 1, "a column more, in the cache"),
    ]


def _filter() -> list[Rate]:
    rows, one = _cached(), col("a") < 900
    terms = one & (col("b") < 900) & (col("c") < 900) & (col("d") < 900) & (col("e") < 900)
    took = _difference_ns(_counting(rows, terms), _counting(rows, one))
    how = "4 more terms on int32 in the cache"
    return [_rate("filter_gterms_per_s", 4 * _CACHED_ROWS, took, 1, how)]


def _arithmetic() -> list[Rate]:
    rows, (x, y, z) = _cached(), (col(name) for name in "xyz")
    value = x
    for _ in range(6):
        value = (value * y + z) * x - y
    plain = rows.agg(x=(x + y + z).sum())
    took = _difference_ns(rows.agg(x=value.sum()).collect, plain.collect)
    how = "22 values more of float64 in the cache"
    return [_rate("arithmetic_gvalues_per_s", 22 * _CACHED_ROWS, took, 1, how)]


def _string() -> list[Rate]:
    rows = _cached()
    tests: list[Any] = [
        col("text") == "juniper",
        col("text").str.starts_with("el"),
        col("text").str.contains("war"),
    ]
    base = _counting(rows, col("a") < 900)
    times = [_difference_ns(_counting(rows, test), base) for test in tests]
    if min(times) <= 0:
        return [_rate("string_mrows_per_s", 1, 0, 1, "")]
    took = prod(times) ** (1 / len(times))
    how = "equality, prefix and substring of utf8 in the cache, geometric mean"
    return [_rate("string_mrows_per_s", _CACHED_ROWS, took, 1000, how)]


def _hash() -> list[Rate]:
    found, rows = [], _MEMORY_ROWS // 2
    for name, groups in (("hash_mrows_per_s", _GROUPS), ("hash_cached_mrows_per_s", _FEW)):
        values = np.random.default_rng(2)
        keys = values.integers(0, 1 << 62, groups)[values.integers(0, groups, rows)]
        table = scan(pa.table({"key": keys}))
        grouped, read = table.group_by("key").agg(n=count()), table.agg(k=col("key").max())
        took = _difference_ns(grouped.collect, read.collect)
        how = f"group_by of {rows:,} int64 keys, {groups:,} groups, less their scan"
        found.append(_rate(name, rows, took, 1000, how))
    return found


def _write() -> list[Rate]:
    values = np.random.default_rng(3)
    columns = {name: values.random(_MEMORY_ROWS) for name in ("x", "y", "z")}
    rows = scan(
        pa.table({"pick": values.integers(0, 1000, _MEMORY_ROWS).astype("int32"), **columns})
    )
    kept = rows.filter(col("pick") < 500)
    sums = kept.agg(x=col("x").sum(), y=col("y").sum(), z=col("z").sum())
    written = 24 * kept.agg(n=count()).collect().column("n")[0].as_py()
    took = _difference_ns(kept.select("x", "y", "z").collect, sums.collect)
    how = "3 columns of float64, half of the rows compacted, less reading and adding them"
    return [_rate("write_gb_per_s", written, took, 1, how)]


def _sort() -> list[Rate]:
    rows = scan(pa.table({"x": np.random.default_rng(4).random(_SORTED)}))
    took = _difference_ns(rows.sort("x").collect)
    steps = _SORTED * (_SORTED - 1).bit_length()
    return [_rate("sort_msteps_per_s", steps, took, 1000, "sort of 1,048,576 float64")]


def _decode() -> list[Rate]:
    table = _mixed()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        parquet.write_table(table, path, compression="snappy", row_group_size=1 << 17)
        rows = scan(path)
        took = _difference_ns(rows.select(*table.column_names).collect)
    how = "all columns of a snappy Parquet file (integers, floats, dates, text)"
    return [_rate("decode_gb_per_s", table.nbytes, took, 1, how)]


def _compress() -> list[Rate]:
    table = _mixed()
    rows, found = scan(table), []
    for codec in ("lz4", "zstd"):
        took = _difference_ns(rows.respond(codec).run)
        how = f"an answer of integers, floats, dates and text as a {codec.upper()} stream"
        found.append(_rate(f"{codec}_gb_per_s", table.nbytes, took, 1, how))
    return found


def _mixed() -> pa.Table:
    values, rows = np.random.default_rng(5), 1 << 19
    words = np.array(_WORDS)[values.integers(0, len(_WORDS), rows)]
    return pa.table(
        {
            "id": np.arange(rows),
            "quantity": values.integers(1, 51, rows).astype("int32"),
            "price": np.round(values.random(rows) * 1e5, 2),
            "day": pa.array(values.integers(8000, 10500, rows).astype("int32")).cast(pa.date32()),
            "text": pa.array(words.tolist()),
        }
    )


def _counting(rows: Pipeline, test: Expr) -> Ask:
    return rows.filter(test).agg(n=count()).collect


MEASURES: Final[Mapping[str, Callable[[], list[Rate]]]] = {
    "scan": _scan,
    "filter": _filter,
    "arithmetic": _arithmetic,
    "string": _string,
    "hash": _hash,
    "write": _write,
    "sort": _sort,
    "decode": _decode,
    "compress": _compress,
}
"""What is measured, by the name of the step; each on the thread that asks."""
