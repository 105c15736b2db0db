"""How time grows with the data: processor time a row, at several scale factors of TPC-H.

Processor time of all threads and not wall time, so that a busy neighbour counts less. Every file
is read once before; the scale factors take turns; a figure is the median of all queries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from msgspec import Struct

from wherry.benchmarks.generated import kept_tables, leave_statistics
from wherry.benchmarks.tpch_layout import store
from wherry.benchmarks.workload import Tables
from wherry.benchmarks.workloads import q1, q6
from wherry.data.source import open_source
from wherry.ir.builder import col
from wherry.pipeline import Pipeline, scan

_ROUND_ROWS: Final = 20_000_000
"""A small table is asked several times a round, until as many rows were read,"""
_MOST_TIMES: Final = 40
"""but no more often than this."""
_TABLE: Final = "lineitem"
LAYOUT: Final = 1
"""Raise it when what follows changes, so that older files are made again."""
_BATCH_ROWS: Final = 1 << 18
"""At every scale factor: what a batch costs besides its rows is not growth."""


def _filter(tables: Tables) -> Pipeline:
    """Give half of the rows, four columns of them."""
    out = ("l_orderkey", "l_extendedprice", "l_discount", "l_shipdate")
    return scan(tables[_TABLE]).filter(col("l_quantity") <= 25).select(*out)


QUESTIONS: Final[Mapping[str, Callable[[Tables], Pipeline]]] = {
    "q6": q6.pipeline,
    "q1": q1.pipeline,
    "filter 50 %": _filter,
}


class Growth(Struct, frozen=True):
    """Processor time of one question at one scale factor, measured.

    Attributes
    ----------
    rows : int
        Of lineitem.
    query_ms : float
        Processor time of all threads for one query, median, in milliseconds.
    row_ns : float
        That, a row, in nanoseconds.
    against_first : float
        `row_ns` over that of the first scale factor: 1 is linear.
    """

    question: str
    scale_factor: float
    rows: int
    query_ms: float
    row_ns: float
    against_first: float


def generate(directory: Path, scale_factor: float) -> dict[str, Path]:
    """Make lineitem, unless it is there already, and give its folder by name (`kept_tables`)."""
    names = (_TABLE,)
    return kept_tables(
        directory, scale_factor, tables=names, folders=names, layout=LAYOUT, lay_out=_lay_out
    )


def _lay_out(parquet: Path, into: Path) -> None:
    folder = into / _TABLE
    store(parquet / f"{_TABLE}.parquet", folder, files=2, batch_rows=_BATCH_ROWS)
    leave_statistics(folder)


def measure(scales: Mapping[float, Tables], rounds: int) -> list[Growth]:
    """Give how every question grows.

    Parameters
    ----------
    scales : mapping of float to mapping of str to Path
        The tables of each scale factor, as `generate` gives them.
    rounds : int
        That medians are taken of.
    """
    rows = {scale: _rows(tables[_TABLE]) for scale, tables in scales.items()}
    found = []
    for question, build in QUESTIONS.items():
        pipelines = {scale: build(tables) for scale, tables in scales.items()}
        for pipeline in pipelines.values():
            pipeline.collect()
        taken: dict[float, list[int]] = {scale: [] for scale in scales}
        for _ in range(rounds):
            for scale, pipeline in pipelines.items():
                times = min(_MOST_TIMES, max(1, _ROUND_ROWS // rows[scale]))
                taken[scale] += (_processor_ns(pipeline) for _ in range(times))
        found += _grown(question, rows, taken)
    return found


def _grown(
    question: str, rows: Mapping[float, int], taken: Mapping[float, Sequence[int]]
) -> list[Growth]:
    row_ns = {scale: median(times) / rows[scale] for scale, times in taken.items()}
    first = next(iter(row_ns.values()))
    return [
        Growth(question, scale, rows[scale], each * rows[scale] / 1e6, each, each / first)
        for scale, each in row_ns.items()
    ]


def _processor_ns(pipeline: Pipeline) -> int:
    """Give the processor time of one query, all threads together."""
    start = time.process_time_ns()
    pipeline.collect()
    return time.process_time_ns() - start


def _rows(lineitem: Path) -> int:
    return sum(ref.rows for ref in open_source(lineitem).chunks())
