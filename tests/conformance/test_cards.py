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


def test_dictionaries_that_differ_are_one_on_the_card():
    def batch(values, texts):
        codes = pa.array(values, pa.int8())
        return pa.record_batch({"c": pa.DictionaryArray.from_arrays(codes, pa.array(texts))})

    batches = [
        batch([0, 1, None, 1], ["x", "y"]),
        batch([0, 1, 2], ["z", "x", "y"]),
        batch([0, 1, 2], ["w", "w", "x"]),
    ]
    scan = wh.scan(pa.Table.from_batches(batches))
    with card() as (system, _):
        for q in (
            scan.group_by("c").agg(n=wh.count()),
            scan.filter(col("c") != "x").select("c"),
            scan.filter(col("c").is_null()).agg(n=wh.count()),
        ):
            found = q.run(system, placement=ON_CARD).table
            assert_same(found, q.collect(), ordered=True)


def test_parquet_goes_through_cell_by_cell(tmp_path):
    path = tmp_path / "rows.parquet"
    names = ["i64", "f64", "s", "d", "b"]
    pq.write_table(TABLE.select(names), path, row_group_size=20_000)
    q = wh.scan(path).filter(col("i64") > 0, col("s") != "a").group_by("b").agg(
        x=col("f64").sum(), d=col("d").max()
    )  # fmt: skip
    with card() as (system, made):
        result = q.run(system, placement=ON_CARD)
        assert not sum(made.held.nbytes.values())
    assert_same(result.table, q.collect(), ordered=True)
    assert {e.why for e in result.ledger.entries if "decoded" in e.why or "Parquet" in e.why}


def test_rows_between_chunks_that_are_not_needed():
    """Runs begin anywhere: sums are those of the rows, and the same whatever lies there already."""
    n = 5 * SPAN
    keys = np.repeat(np.arange(10), n // 10)
    table = pa.table({"k": keys, "x": np.random.default_rng(1).random(n)})
    batches = table.to_batches(max_chunksize=n // 10)
    scan = wh.scan(pa.Table.from_batches(batches))
    q = scan.filter(col("k").is_in([1, 2, 5])).agg(x=col("x").sum(), n=wh.count())
    whole = scan.agg(x=col("x").sum())
    with card() as (system, made):
        cold = q.run(system, placement=ON_CARD)
        held = made.held.nbytes["x"]
        assert held < table["x"].nbytes / 2
        whole.run(system, placement=ON_CARD)
        warm = q.run(system, placement=ON_CARD)
    assert cold.table.equals(warm.table)
    assert_same(cold.table, q.collect(), ordered=True)


def test_no_rows_at_all():
    empty = wh.scan(TABLE.slice(0, 0))
    with card() as (system, _):
        for make in PIPELINES:
            q = make(empty)
            assert_same(q.run(system, placement=ON_CARD).table, q.collect(), ordered=True)
            q = make(wh.scan(TABLE.slice(0, 3000)).filter(col("i64") > 100))
            assert_same(q.run(system, placement=ON_CARD).table, q.collect(), ordered=True)


def test_columns_go_with_their_source():
    with card() as (system, made):
        q = totals(wh.scan(TABLE))
        q.run(system, placement=ON_CARD)
        assert sum(made.held.nbytes.values())
        del q
        gc.collect()
        assert not made.held.nbytes


def test_other_columns_make_room():
    first, second = (wh.scan(pa.table({"x": np.random.rand(3 * SPAN)})) for _ in range(2))
    one, other = first.agg(x=col("x").sum()), second.agg(x=col("x").max())
    with card(1_200_000) as (system, made):
        for q in (one, other, one, other):
            assert_same(q.run(system, placement=ON_CARD).table, q.collect(), ordered=True)
        assert len(made.held.nbytes) == 1
        assert sum(made.held.nbytes.values()) < 900_000


def test_a_card_with_no_room_says_so():
    q = wh.scan(TABLE).agg(x=col("f64").sum())
    with card(100_000) as (system, made):
        with pytest.raises(Retryable, match="free"):
            q.run(system, placement=ON_CARD)
        made.device.memory_bytes = 1 << 28
        assert_same(q.run(system, placement=ON_CARD).table, q.collect(), ordered=True)


def test_what_has_no_cuda_form_is_refused_when_it_is_planned():
    scan = wh.scan(TABLE)
    with card() as (system, _):
        q = scan.filter(col("i64") > 0).group_by("s").agg(n=wh.count())
        with pytest.raises(Refused) as refused:
            q.run(system, placement={"partial": "gpu0", **ON_CARD})
        assert "partial at gpu0: s: string as key has no CUDA form" in refused.value.reasons
        text = str(q.explain(system))
        assert "refused: partial at gpu0: s: string as key has no CUDA form" in text
        q = scan.sort("i64")
        with pytest.raises(Refused, match="merge runs on the host of a CUDA device"):
            q.run(system, placement={"merge": "gpu0"})


def test_rows_of_the_host_go_to_the_card_as_they_come():
    q = totals(wh.scan(TABLE))
    with card() as (system, made):
        result = q.run(system, placement={"near": "home", "partial": "gpu0"})
        assert "total_pass" in made.device.launches
    assert_same(result.table, q.collect(), ordered=True)


def test_an_error_leaves_the_card_as_it_was():
    table = pa.table({"m": pa.array([10**17] * 3000, pa.decimal128(18, 0))})
    q = wh.scan(table).agg(x=(col("m") * col("m") * 1000).sum())
    with card() as (system, _):
        for _ in range(2):
            with pytest.raises(InputError):
                q.run(system, placement=ON_CARD)
        assert_same(
            wh.scan(table).agg(x=col("m").sum()).run(system, placement=ON_CARD).table,
            wh.scan(table).agg(x=col("m").sum()).collect(),
            ordered=True,
        )


def test_what_was_loaded_to_stay_is_run_where_it_lies():
    scan, other = wh.scan(TABLE), wh.scan(TABLE.select(["f64"]))
    q = totals(scan)
    with card(10_000_000) as (system, made):
        assert q.to("gpu0", system) is q
        there = dict(made.held.nbytes)
        assert "near@home partial@home" in str(q.explain(system))
        result = q.run(system)
        assert "total_pass" in made.device.launches
        assert not [e for e in result.ledger.entries if e.why.startswith("loaded")]
        assert_same(result.table, q.collect(), ordered=True)
        # Others go through, and what stays does.
        for rest in (rows(scan), other.agg(x=col("f64").max())):
            assert_same(rest.run(system, placement=ON_CARD).table, rest.collect(), ordered=True)
        assert all(made.held.nbytes[name] >= nbytes for name, nbytes in there.items())
        assert "near@home" in q.run(system, placement=ON_CARD).placement
        assert q.run(system, placement="host-only").placement.startswith("routing@cpu0 near@cpu0")


def test_a_card_is_no_home_of_what_was_not_loaded():
    """A query that reads nothing that a card holds finds nothing lacking there."""
    with card() as (system, _):
        totals(wh.scan(TABLE)).to("gpu0", system)
        other = wh.scan(pa.table({"s": [{"x": 1}, {"x": 2}]})).select("s")
        assert other.run(system, placement="host-only").placement.startswith(
            "routing@cpu0 near@home"
        )


def test_what_cannot_be_loaded_to_stay(tmp_path):
    q = totals(wh.scan(TABLE))
    with card(1_000_000) as (system, _):
        with pytest.raises(Retryable, match=r"gpu0 has .* free of .* need"):
            q.to("gpu0", system)
        with pytest.raises(InputError, match="gpu1 is no card of this machine; cards: gpu0"):
            q.to("gpu1", system)
        pq.write_table(TABLE.select(["f64"]), tmp_path / "x.parquet")
        parquet = wh.scan(tmp_path / "x.parquet").agg(x=col("f64").sum())
        with pytest.raises(InputError, match="x is decoded whenever it is read"):
            parquet.to("gpu0", system)
    with pytest.raises(InputError, match="gpu0 is no card of this machine; cards: none"):
        q.to("gpu0")


def test_another_reader_is_told_or_refused(file):
    q = wh.scan(file).agg(x=col("f64").sum())
    with card() as (system, _):
        result = q.run(system, placement=ON_CARD, reader="kvikio")
        whys = [e.why for e in result.ledger.entries if e.why.startswith("loaded")]
        # Values as they are stored, bitmaps put together.
        assert {why.split(" (")[0] for why in whys} == {
            "loaded onto gpu0: cached", "loaded onto gpu0: staged",
        }  # fmt: skip
        assert all("(gpu0 has no reader 'kvikio': no device" in why for why in whys)
    with card() as (system, _):
        with pytest.raises(InputError, match="gpu0 has no reader 'gds': "):
            q.run(system, placement=ON_CARD, reader="gds", strict=True)
        with pytest.raises(InputError, match="no reader 'gsd'; did you mean 'gds'"):
            q.run(system, placement=ON_CARD, reader="gsd")
    with pytest.raises(InputError, match="a reader 'gds' on this-machine, which has no card"):
        q.run(reader="gds")


def test_the_ledger_says_what_was_written_where():
    table = pa.table({"k": [1, 2, 3, 4], "s": ["a", "bb", None, "dddd"]})
    table = table.append_column("c", table["s"].fill_null("x").dictionary_encode())
    q = wh.scan(table).filter(col("k") > 1).select("k", "s", "c")
    with card() as (system, _):
        result = q.run(system, placement=ON_CARD)
    (made,) = [e for e in result.ledger.entries if "written on gpu0" in e.why]
    # Three keys, codes and offsets beside a bit each of three texts, and those; four texts stay.
    assert made.copied_bytes == 3 * 8 + 3 * 4 + (4 * 4 + 1 + 6)
    assert made.referenced_bytes == 5 * 4 + len("abbxdddd")
    assert made.why == "written on gpu0, and copied from there; s picked on the host"
