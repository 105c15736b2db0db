"""Answers that stay on a card of this machine, which is a stand-in, and who takes them there."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from support.cards import card
from support.chunks import batch_of
from support.compare import assert_same

import wherry as wh
from wherry import col
from wherry.base.errors import InputError, Refused, Retryable
from wherry.data.arrow_write import write_ipc

LARGE = 1 << 28
CARRIED = ("i8", "u16", "f32", "b", "t", "m", "w", "c", "e")


def everything(q):
    """Every type, stored and computed, of rows that pass."""
    test = (col("s") != "b") & (col("f64") > -1.5)
    return q.filter(test).select(
        *CARRIED, twice=col("i64") * 2, less=col("f64") < 1, known=col("s").is_null()
    )


def plain(q):
    """Without a test: nothing is waited for."""
    return q.select("i64", "f64", "d", "c")


def few(q):
    return q.filter(col("i64") == 5, col("c") == "abc").select("f64", "b")


PIPELINES = [everything, plain, few]


def table_of(*rows, nulls=0.2):
    return pa.Table.from_batches([batch_of(n, nulls, seed) for seed, n in enumerate(rows)])


TABLE = table_of(33_000, 700, 1_500)


def taken(found):
    """Give what pyarrow takes of each batch, in memory of the card."""
    batches = [pa.record_batch(batch) for batch in found.batches]
    return pa.Table.from_batches(batches, schema=found.schema)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Give the same rows as a table, an Arrow file and a Parquet file."""
    folder = tmp_path_factory.mktemp("rows")
    arrow, plain = folder / "rows.arrow", folder / "rows.parquet"
    write_ipc(arrow, TABLE.schema, TABLE.to_batches())
    parquet.write_table(TABLE, plain, row_group_size=20_000)
    return {"table": TABLE, "arrow": arrow, "parquet": plain}


@pytest.mark.parametrize(
    ("make", "kind"),
    [(everything, "arrow"), (plain, "table"), (few, "table"), (few, "arrow"), (few, "parquet")],
)
def test_answers_are_those_of_the_host(make, kind, stored):
    q = make(wh.scan(stored[kind]))
    wanted = q.collect()
    with card(LARGE) as (system, made):
        found = q.collect_on("gpu0", system)
        assert found.schema.equals(q.schema)
        assert found.num_rows == wanted.num_rows
        assert_same(found.to_arrow(), wanted, ordered=True)
        there = taken(found)
        there.validate(full=True)
        kept = made.device.taken
        del found
        assert_same(there, wanted, ordered=True)
        del there
        freed = made.device.taken
        assert freed < kept
        assert_same(q.collect_on("gpu0", system).to_arrow(), wanted, ordered=True)
        assert made.device.taken == freed


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.sampled_from([1, 31, 32, 33, 2048, 2049, 3000]), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.sampled_from(PIPELINES),
)
def test_however_rows_are_cut(rows, nulls, make):
    q = make(wh.scan(table_of(*rows, nulls=nulls)))
    with card(LARGE) as (system, _):
        found = q.collect_on("gpu0", system)
        there = taken(found)
        assert_same(there, q.collect(), ordered=True)
        for batch in found.batches:
            assert batch.num_rows > 0
            for column, wanted in zip(batch.columns, batch.to_arrow().columns, strict=True):
                if wanted.null_count == 0 and pa.types.is_floating(wanted.type):
                    one = np.from_dlpack(column)
                    assert one.tolist() == wanted.to_pylist()
                    assert one.ctypes.data == column.column.values


def test_codes_have_one_dictionary_however_it_grew(tmp_path):
    path = tmp_path / "rows.parquet"
    words = [["a", "b"], ["c", "a", None]]
    columns = [pa.array((some * 17_000)[:33_000]).dictionary_encode() for some in words]
    parquet.write_table(pa.table({"c": pa.chunked_array(columns)}), path, row_group_size=33_000)
    q = wh.scan(path).filter(col("c") != "b")
    assert pa.types.is_dictionary(q.schema.field("c").type)
    with card(LARGE) as (system, _):
        found = q.collect_on("gpu0", system)
        one, *others = [batch.columns[0].texts for batch in found.batches]
        assert one.array.to_pylist() == ["a", "b", "c"]
        assert others
        assert all(other is one for other in others)
        there = taken(found)
        assert there.column("c").to_pylist() == q.collect().column("c").to_pylist()
        assert found.to_arrow().column("c").to_pylist() == there.column("c").to_pylist()


@pytest.mark.parametrize(("make", "memory"), [(few, 800_000), (plain, 3_200_000)])
def test_what_has_no_room_goes_through_windows(make, memory):
    q = make(wh.scan(table_of(33_000, 700, 60_000)))
    with card(LARGE) as (system, _):
        wanted = q.collect_on("gpu0", system).to_arrow()
    with card(memory) as (system, made):
        found = q.collect_on("gpu0", system)
        assert not sum(made.held.nbytes.values())
        assert taken(found).combine_chunks().equals(wanted.combine_chunks())


def test_an_answer_without_room(stored):
    q = plain(wh.scan(stored["arrow"]))
    with card(1_300_000) as (system, made):
        with pytest.raises(Retryable):
            q.collect_on("gpu0", system)
        before = made.device.taken
        with pytest.raises(Retryable):
            q.collect_on("gpu0", system)
        assert made.device.taken == before
        found = few(wh.scan(TABLE.slice(0, 5000))).collect_on("gpu0", system)
        assert found.num_rows


def test_others_keep_what_they_took_beyond_the_card():
    q = plain(wh.scan(table_of(5000, nulls=0.0)))
    with card(LARGE) as (system, _):
        values = [np.from_dlpack(b.column("i64")) for b in q.collect_on("gpu0", system).batches]
    assert np.concatenate(values).tolist() == q.collect().column("i64").to_pylist()


def test_the_ledger_says_what_was_written():
    q = wh.scan(table_of(5000, nulls=0.0)).select("f64", "c")
    with card(LARGE) as (system, _):
        cold, warm = (q.collect_on("gpu0", system) for _ in range(2))
    written = 5000 * 9
    assert cold.nbytes == warm.nbytes == written
    whys = {e.why: e.copied_bytes for e in warm.ledger.entries}
    assert whys.pop("written on gpu0, and left there") == written
    assert whys.keys() == {"dictionaries put onto gpu0"}
    loaded = [e for e in cold.ledger.entries if e.why.startswith("loaded onto gpu0")]
    assert sum(e.copied_bytes for e in loaded) >= written
    assert {e.device for e in cold.ledger.entries} == {"gpu0"}


def test_no_rows():
    q = wh.scan(table_of(100)).filter(col("i64") > 1000).select("i8", "c")
    with card(LARGE) as (system, _):
        found = q.collect_on("gpu0", system)
    assert (
        repr(found) == f"<0 rows of i8: int8, c: {q.schema.field('c').type} in 0 batches on gpu0>"
    )
    assert (found.batches, found.num_rows, found.nbytes) == ((), 0, 0)
    assert found.to_arrow().equals(q.schema.empty_table())


def joined(q):
    return q.join(q.select("i64"), on="i64", how="semi").select("i64")


REFUSED = {
    "aggregate: rows of all chunks come together on the host": lambda q: q.agg(n=wh.count()),
    "group_by: rows of all chunks": lambda q: q.group_by("i8").agg(n=wh.count()),
    "sort: rows": lambda q: q.select("i8").sort("i8"),
    "top_k: rows": lambda q: q.select("i8").top_k(3, by="i8"),
    "limit: rows": lambda q: q.select("i8").limit(3),
    "join: a card has no joins": joined,
    "respond: a stream is written on the host": lambda q: q.select("i8").respond(),
    "column 's': the host adds a string; column 'v': the host adds a string_view": lambda q: (
        q.select("i8", "s", "v")
    ),
    "then $1 else $2 end: string as output has no CUDA form": lambda q: q.select(
        x=wh.when(col("i8") > 0).then("a").otherwise("b")
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_stay_is_refused(said):
    with card(LARGE) as (system, made):
        with pytest.raises(Refused, match=re.escape(said)) as refused:
            REFUSED[said](wh.scan(TABLE)).collect_on("gpu0", system)
        assert not made.device.taken
    text = str(refused.value)
    assert text.startswith("the answer cannot stay on gpu0; ")
    assert "possible: filter, select and with_columns" in text


def test_cards_that_there_are_not():
    q = wh.scan(TABLE).select("i8")
    with (
        card(LARGE) as (system, _),
        pytest.raises(InputError, match=r"no card 'gpu1'; .* really there: gpu0"),
    ):
        q.collect_on("gpu1", system)
    with pytest.raises(InputError, match=r"dpu-csd-host has no card 'gpu0'; .* there: none"):
        q.collect_on("gpu0", "dpu-csd-host")
