"""Queries on a card of this machine, which is a stand-in: what it loads, keeps, runs and gives.

The answer is the host's, whatever lies on the card already, and however little fits there.
"""

from datetime import date

import pyarrow as pa
import pytest
from support.cards import ON_CARD, card
from support.chunks import batch_of
from support.compare import assert_same

import wherry as wh
from wherry import col

BATCHES = (33_000, 700, 60_000)
"""Rows: cells of 32,768 begin inside of batches, and batches inside of cells."""
LARGE = 1 << 28


def stored(*, nulls=0.2):
    batches = [batch_of(rows, nulls, number) for number, rows in enumerate(BATCHES)]
    return pa.Table.from_batches(batches)


TABLE = stored()


def totals(q):
    return q.filter(col("i64") != 2).agg(
        x=col("f64").sum(), m=(col("m") * 2).sum(), d=col("d").max(), n=wh.count(),
        s=col("s").count(),
    )  # fmt: skip


def groups(q):
    return q.filter(col("f64") > -1).group_by("c", "b").agg(x=col("f64").sum(), n=wh.count())


def hashed(q):
    return q.group_by("i64", "w").agg(m=col("m").sum(), least=col("d").min())


def rows(q):
    test = (col("s") != "b") & (col("c") != "a")
    return q.filter(test, col("d") > date(1950, 1, 1)).select(
        "i8", "s", "f64", "v", "c", twice=col("i64") * 2, t=col("v").str.starts_with("w")
    )


def taken(q):
    return q.filter(col("i64") > 0).select("i64", "f64").limit(50)


def first(q):
    return (
        q.filter(col("i64") > 0)
        .select("i8", "f64", "s", "c")
        .top_k(40, by=("f64", "i8"), descending=(True, False))
    )


PIPELINES = [totals, groups, hashed, rows, taken, first]
TINY = {totals: 2.0, groups: 0.6, hashed: 9.2, rows: 4.3, first: 1.6}
"""MB of a card on which one cell of 32,768 rows has room, and nothing can be kept."""


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


def ran(q, memory):
    """Give the answers of two runs on a card, and what the second one loaded."""
    with card(int(memory)) as (system, made):
        cold, warm = (q.run(system, placement=ON_CARD) for _ in range(2))
        assert bool(sum(made.held.nbytes.values())) == (memory == LARGE)
    loaded = [e.copied_bytes for e in warm.ledger.entries if e.why.startswith("loaded")]
    return [cold.table, warm.table], sum(loaded)


@pytest.mark.parametrize("make", PIPELINES)
@pytest.mark.parametrize("kind", ["table", "file"])
def test_answers_are_those_of_the_host(make, kind, file):
    q = make(wh.scan(TABLE if kind == "table" else file))
    (cold, warm), loaded = ran(q, LARGE)
    assert_same(cold, q.collect(), ordered=True)
    assert loaded == 0
    assert warm.equals(cold)


@pytest.mark.parametrize("make", TINY)
def test_what_has_no_room_goes_through_windows(make, file):
    q = make(wh.scan(file))
    (kept, _), _ = ran(q, LARGE)
    (cold, warm), loaded = ran(q, TINY[make] * 1e6)
    assert loaded > 0
    # Sums too, bit for bit.
    assert cold.combine_chunks().equals(kept.combine_chunks())
    assert warm.equals(cold)
