"""Pipelines that are answered again and again without being planned: the same answers."""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cards import ON_CARD, card

import wherry as wh
from wherry import col
from wherry.base.errors import InputError

ROWS = 5000
RNG = np.random.default_rng(5)
TABLE = pa.table(
    {
        "k": RNG.integers(0, 50, ROWS),
        "x": RNG.random(ROWS),
        "s": pa.array([None if n % 7 == 0 else f"text {n % 11}" for n in range(ROWS)]),
    }
)
TABLE = pa.Table.from_batches(TABLE.to_batches(max_chunksize=900))


def totals(q):
    return q.filter(col("k") > 10).agg(x=col("x").sum(), n=wh.count(), least=col("s").min())


def mean(q):
    return q.filter(col("k") > 10).agg(m=col("x").mean())


def nothing(q):
    return q.filter(col("k") * 2 > 200).agg(x=col("x").sum(), n=wh.count())


def groups(q):
    return q.group_by("k").agg(x=col("x").sum()).top_k(5, by="x")


def rows(q):
    return q.filter(col("x") < 0.3).select("k", "s", y=col("x") * 2)


def ordered(q):
    return q.filter(col("k") == 3).sort("x")


def first(q):
    return q.filter(col("k") > 5).limit(7)


def encoded(q):
    return rows(q).respond("lz4")


PIPELINES = [totals, mean, nothing, groups, rows, ordered, first, encoded]


@pytest.mark.parametrize("make", PIPELINES)
@pytest.mark.parametrize("stored", ["table", "arrow", "parquet"])
def test_answers_are_those_of_a_run(make, stored, tmp_path):
    path = tmp_path / f"x.{stored}"
    if stored == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, TABLE.schema) as writer:
            writer.write_table(TABLE)
    elif stored == "parquet":
        pq.write_table(TABLE, path, row_group_size=700)
    q = make(wh.scan(TABLE if stored == "table" else path))
    soon, wanted = q.prepare(), q.collect()
    assert soon.schema == wanted.schema
    for _ in range(3):
        assert soon.collect().combine_chunks().equals(wanted.combine_chunks())


@pytest.mark.parametrize("make", [mean, nothing, rows])
def test_answers_of_a_card(make):
    q = make(wh.scan(TABLE))
    with card() as (system, made):
        soon = q.prepare(system, placement=ON_CARD)
        assert "near@gpu0" in soon.placement
        wanted = q.run(system, placement=ON_CARD).table
        before = len(made.device.launches)
        for _ in range(2):
            assert soon.collect().combine_chunks().equals(wanted.combine_chunks())
        assert len(made.device.launches) > before


def test_threads_may_ask_at_once():
    soon = groups(wh.scan(TABLE)).prepare()
    wanted, seen = soon.collect(), []
    threads = [threading.Thread(target=lambda: seen.append(soon.collect())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [table.equals(wanted) for table in seen] == [True] * 8


def test_a_file_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(TABLE, path)
    soon = rows(wh.scan(path)).prepare()
    pq.write_table(TABLE.slice(0, 10), path)
    with pytest.raises(InputError, match="changed"):
        soon.collect()


def test_what_is_not_prepared():
    q = wh.scan(TABLE)
    with pytest.raises(InputError, match="a pipeline with joins is not prepared"):
        q.join(wh.scan(TABLE).select("k").distinct(), on="k").prepare()
    with pytest.raises(InputError, match="prepared for this-machine, not for dpu-csd-host"):
        q.prepare("dpu-csd-host")
