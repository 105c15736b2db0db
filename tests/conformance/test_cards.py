"""Queries on a card of this machine, which is a stand-in: what it loads, keeps, runs and gives.

The answer is the host's, whatever lies on the card already, and however little fits there.
"""

import gc
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cards import ON_CARD, card
from support.chunks import batch_of
from support.compare import assert_same

import wherry as wh
from wherry import col
from wherry.base.errors import InputError, Refused, Retryable
from wherry.render.cuda.totals import SPAN

BATCHES = (33_000, 700, 40_000)
"""Rows: cells of 32,768 begin inside of batches, and batches inside of cells."""
SMALL = 1 << 22
"""Bytes of a card on which nothing can be kept."""


def stored(*, nulls=0.2):
    batches = [batch_of(rows, nulls, number) for number, rows in enumerate(BATCHES)]
    return pa.Table.from_batches(batches)


TABLE = stored()


def totals(q):
    return q.filter(col("i64") != 2).agg(
        x=col("f64").sum(), m=(col("m") * 2).sum(), d=col("d").max(), n=wh.count(),
        t=col("t").count(),
    )  # fmt: skip


def groups(q):
    return q.filter(col("f64") > -1).group_by("c", "b").agg(x=col("f64").sum(), n=wh.count())


def hashed(q):
    return q.group_by("i64", "w").agg(m=col("m").sum(), least=col("d").min())


def rows(q):
    test = (col("s") != "b") & (col("c") != "a")
    return q.filter(test, col("d") > date(1950, 1, 1)).select(
        "i8", "f64", "c", twice=col("i64") * 2, t=col("v").str.starts_with("w")
    )


def taken(q):
    return q.filter(col("i64") > 0).select("i64", "f64").limit(50)


PIPELINES = [totals, groups, hashed, rows, taken]


def sources(folder):
    """Give the same rows as they may be stored; one kind a call is enough for a test."""
    path = folder / "rows.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, TABLE.schema) as writer:
        for batch in TABLE.unify_dictionaries().to_batches():
            writer.write_batch(batch)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return sources(tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("make", PIPELINES)
@pytest.mark.parametrize("memory", [1 << 28, SMALL], ids=["kept", "windows"])
@pytest.mark.parametrize("kind", ["table", "file"])
def test_answers_are_those_of_the_host(make, memory, kind, file):
    q = make(wh.scan(TABLE if kind == "table" else file))
    wanted = q.collect()
    with card(memory) as (system, made):
        cold, warm = (q.run(system, placement=ON_CARD) for _ in range(2))
        assert_same(cold.table, wanted, ordered=True)
        assert warm.table.equals(cold.table)
        loaded = [e.copied_bytes for e in warm.ledger.entries if e.why.startswith("loaded")]
        assert bool(loaded) == (memory == SMALL)
        assert bool(made.held.nbytes) == (memory != SMALL)
