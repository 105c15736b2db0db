"""What is asked: once for Wherry, for arrays and for SQL, with the bytes that it has to move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.benchmarks.gpu import arrays
from wherry.benchmarks.gpu.arrays import Arrays
from wherry.benchmarks.gpu.lineitem import FLAGS, KEYS, SCHEMA, STATUSES, STORED, Lineitem
from wherry.benchmarks.kernels.families import q1 as kernels_q1
from wherry.benchmarks.kernels.families import q6 as kernels_q6
from wherry.benchmarks.workloads import q1 as tpch_q1
from wherry.devices.proc import usable_cores
from wherry.ir.builder import col
from wherry.pipeline import Pipeline

TOLERANCE: Final = 1e-9
"""Of sums of floats, whose order is everybody's own."""
SECTOR: Final = 32
"""Bytes that a card's memory gives at least."""
_PIECE: Final = 1 << 20


class Question(Struct, frozen=True):
    """One question over lineitem.

    Attributes
    ----------
    columns : tuple of str
        Those it reads.
    pipeline : callable
        From a scan, what Wherry is asked.
    arrays : callable
        From a module of arrays and the columns, arrays (see `arrays.py`).
    read : callable
        From Wherry's answer, the same arrays.
    gives : "totals" or "rows"
        Whether pieces' arrays add up or follow each other.
    sql : str
        For DuckDB, over `t`.
    polars : callable
        From the module and a lazy frame, a lazy frame.
    limit : "read" or "copy"
        What a card's memory does at best that moves as many bytes.
    row_bytes : float
        Bytes a row that have to be moved in the card's memory; whole sectors.
    """

    name: str
    columns: tuple[str, ...]
    pipeline: Callable[[Pipeline], Pipeline]
    arrays: Callable[[Any, Arrays], list[Any]]
    read: Callable[[pa.Table], list[Any]]
    gives: Literal["totals", "rows"]
    sql: str
    polars: Callable[[Any, Any], Any]
    limit: Literal["read", "copy"]
    row_bytes: float

    @property
    def stored_bytes(self) -> int:
        """Give the bytes a row of its columns."""
        return sum(np.dtype(STORED.get(name, np.float64)).itemsize for name in self.columns)


def questions() -> dict[str, Question]:
    """Give all of them by name."""
    found = [_q6(), _q1(), *(_filter(percent) for percent in (1, 10, 50))]
    return {question.name: question for question in found}


def wanted(question: Question, data: Lineitem, threads: int | None = None) -> list[Any]:
    """Give numpy's answer, piece by piece on all cores."""

    def piece(at: int) -> list[Any]:
        cut = {name: data.columns[name][at : at + _PIECE] for name in question.columns}
        return question.arrays(np, cut)

    with ThreadPoolExecutor(threads or usable_cores()) as crew:
        pieces = list(crew.map(piece, range(0, data.rows, _PIECE)))
    together = np.concatenate if question.gives == "rows" else partial(np.sum, axis=0)
    return [together(parts) for parts in zip(*pieces, strict=True)]


def differs(seen: Sequence[Any], right: Sequence[Any], *, exact: bool) -> str | None:
    """Say how arrays are not the right ones; None if they are.

    Parameters
    ----------
    exact : bool
        Of rows; sums may differ by a relative TOLERANCE.
    """
    for number, (one, other) in enumerate(zip(seen, right, strict=True)):
        if np.shape(one) != np.shape(other):
            return f"array {number} has the shape {np.shape(one)}, not {np.shape(other)}"
        equal = np.equal(one, other) if exact else np.isclose(one, other, rtol=TOLERANCE, atol=0)
        if not np.all(equal):
            at = int(np.argmin(np.atleast_1d(equal)))
            pair = (np.atleast_1d(array)[at] for array in (one, other))
            return "array {} is {!r}, not {!r}, at {:,}".format(number, *pair, at)
    return None


def _q6() -> Question:
    same = kernels_q6.over("float64", exact=False)

    def pipeline(rows: Pipeline) -> Pipeline:
        return rows.filter(
            col("l_shipdate") >= date(1994, 1, 1),
            col("l_shipdate") < date(1995, 1, 1),
            col("l_discount") >= 0.05,
            col("l_discount") <= 0.07,
            col("l_quantity") < 24.0,
        ).agg(revenue=(col("l_extendedprice") * col("l_discount")).sum())

    return Question(
        name="q6",
        columns=kernels_q6.COLUMNS,
        pipeline=pipeline,
        arrays=arrays.q6,
        read=lambda table: [table["revenue"].to_numpy()[0]],
        gives="totals",
        sql=str(same.sql),
        polars=lambda pl, frame: same.polars(pl, {"t": frame}),
        limit="read",
        row_bytes=28,
    )


def _q1() -> Question:
    names = [name for name in SCHEMA.names if name != "key"]

    def pipeline(rows: Pipeline) -> Pipeline:
        return (
            rows.filter(col("l_shipdate") <= tpch_q1.UNTIL)
            .group_by(*tpch_q1.KEYS)
            .agg(**tpch_q1.aggregates())
        )

    def read(table: pa.Table) -> list[Any]:
        columns = {name: table[name].to_pylist() for name in table.schema.names}
        keys = zip(*(columns[key] for key in tpch_q1.KEYS), strict=True)
        places = [FLAGS.index(f) * len(STATUSES) + STATUSES.index(s) for f, s in keys]

        def placed(values: Any, kind: Any = np.float64) -> Any:
            found = np.zeros(arrays.GROUPS, kind)
            found[places] = values
            return found

        counts = np.array(columns["count_order"])
        summed = ("sum_qty", "sum_base_price", "sum_disc_price", "sum_charge")
        discounts = np.array(columns["avg_disc"]) * counts
        return [*(placed(columns[n]) for n in summed), placed(discounts), placed(counts, np.int64)]

    return Question(
        name="q1",
        columns=tuple(names),
        pipeline=pipeline,
        arrays=arrays.q1,
        read=read,
        gives="totals",
        sql=tpch_q1.GROUPED.replace("lineitem", "t"),
        polars=lambda pl, frame: kernels_q1.polars_plan(pl, {"t": frame}, exact=False),
        limit="read",
        row_bytes=38,
    )


def _filter(percent: int) -> Question:
    bound = KEYS * percent // 100
    names = ("key", "l_extendedprice", "l_discount")
    # A sector is read for one value of it; the bits between the two passes are 1/4 byte a row.
    touched = 1 - (1 - percent / 100) ** (SECTOR / 8)

    def pipeline(rows: Pipeline) -> Pipeline:
        return rows.filter(col("key") < bound).select("l_extendedprice", "l_discount")

    return Question(
        name=f"filter-{percent}%",
        columns=names,
        pipeline=pipeline,
        arrays=partial(arrays.kept, bound=bound),
        read=lambda table: [table[name].to_numpy() for name in names[1:]],
        gives="rows",
        sql=f"select l_extendedprice, l_discount from t where key < {bound}",
        polars=lambda pl, frame: frame.filter(pl.col("key") < bound).select(*names[1:]),
        limit="copy",
        row_bytes=8 + 0.25 + 16 * touched + 16 * percent / 100,
    )
