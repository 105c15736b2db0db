"""The rows that are asked about, and what is right: what Wherry answers from the same rows here."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import ipc

import wherry as wh
from chaos.plan import APART, CSDS, MIRRORED, QUERIES
from wherry import Pipeline, col, count

_BATCHES = 4
_ROWS = 16_384
"""Of a batch; each drive has `_BATCHES` of them."""


def make(folder: Path) -> dict[str, Path]:
    """Write each drive's parts of both datasets into a folder of its own; give the folders."""
    made = {drive: folder / drive for drive in CSDS}
    for drive in CSDS:
        for dataset in (APART, MIRRORED):
            (folder / drive / dataset).mkdir(parents=True)
    for number, drive in enumerate(CSDS):
        path = folder / drive / APART / f"part-{number}.arrow"
        batches = [_batch(number * _BATCHES + n) for n in range(_BATCHES)]
        with ipc.new_file(path, batches[0].schema) as file:
            for batch in batches:
                file.write_batch(batch)
        for other in CSDS:  # The same part, so it has the same time.
            shutil.copy2(path, folder / other / MIRRORED)
    return made


def _batch(number: int) -> pa.RecordBatch:
    r = np.random.default_rng(number)
    key = np.arange(number * _ROWS, (number + 1) * _ROWS)
    cents = r.integers(90_000, 10_000_000, _ROWS)
    return pa.record_batch(
        {
            "key": pa.array(key),
            "day": pa.array(r.integers(0, 2500, _ROWS).astype(np.int32), pa.date32()),
            "quantity": pa.array(r.integers(1, 51, _ROWS)),
            "cents": pa.array(cents),
            "flag": pa.array(r.integers(0, 3, _ROWS).astype(np.int8)),
        }
    )


def pipeline(query: str, rows: Pipeline) -> Pipeline:
    """Give a query over the rows: each shows a row that is there twice, or not at all."""
    if query == "totals":
        asked = rows.filter(col("quantity") < 24)
        return asked.agg(n=count(), cents=col("cents").sum(), keys=col("key").sum())
    if query == "groups":
        grouped = rows.filter(col("quantity") > 3).group_by("flag")
        return grouped.agg(n=count(), cents=col("cents").sum(), last=col("key").max()).sort("flag")
    if query == "rows":
        return rows.filter(col("quantity") < 10).select("key", "cents", "quantity")
    if query == "top":
        return (
            rows.filter(col("quantity") > 5).top_k(500, by=("cents", "key")).select("cents", "key")
        )
    raise ValueError(query)


def expected(folders: dict[str, Path]) -> dict[str, pa.Table]:
    """Give the right answers."""
    paths = [path for f in folders.values() for path in sorted(f.glob(f"{APART}/*.arrow"))]
    return {name: pipeline(name, wh.scan(paths)).collect() for name in QUERIES}


def to_stream(table: pa.Table) -> bytes:
    """Give an answer as bytes that outlive its caller."""
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue().to_pybytes()


def of_stream(stream: bytes) -> pa.Table:
    """Give the answer back."""
    return ipc.open_stream(stream).read_all()


def difference(seen: pa.Table, right: pa.Table) -> str:
    """Say how an answer differs from the right one; nothing if it does not.

    Rows that are there once more than they should be are called duplicates, those that are not
    there lost, and all else wrong.
    """
    if seen.schema.names != right.schema.names:
        return f"wrong: columns {seen.schema.names}, not {right.schema.names}"
    if seen.equals(right):
        return ""
    rows, should = (Counter(map(_row, t.to_pylist())) for t in (seen, right))
    more, less = rows - should, should - rows
    copies = sum(n for row, n in more.items() if row in should)
    strange = sum(n for row, n in more.items() if row not in should)
    if strange:
        return f"wrong: {strange} rows of {len(right)} are none of the answer"
    if copies:
        return f"duplicate: {copies} rows of {len(right)} are there again"
    if less:
        return f"lost: {sum(less.values())} rows of {len(right)} are missing"
    return "wrong: the rows are in another order, or of other types"


def _row(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row.values())
