"""Rows of Parquet that are read as they are needed give what the same rows in memory give."""

from itertools import count
from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from pyarrow import parquet
from support.compare import assert_same
from support.expressions import condition
from support.pipelines import Relation, drawn_pipeline
from support.tables import drawn_table

import wherry as wh
from wherry.base.errors import CorruptError, InputError
from wherry.data import fragments, parquet_late
from wherry.data.chunk import column_bytes
from wherry.data.late import count as count_rows
from wherry.data.late import narrowed, rows_of
from wherry.data.parquet_late import LateParquet
from wherry.data.source import open_source
from wherry.run import shares

LAYOUTS = st.fixed_dictionaries(
    {
        "row_group_size": st.sampled_from([50, 200, 1000]),
        "compression": st.sampled_from(["none", "snappy", "snappy", "zstd", "gzip"]),
        "use_dictionary": st.booleans() | st.just(True),
        "dictionary_pagesize_limit": st.sampled_from([20, 1 << 20]),  # 20: pages fall back to PLAIN
        "data_page_size": st.sampled_from([16, 256, 1 << 20]),
        "write_batch_size": st.sampled_from([3, 64]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "write_statistics": st.booleans(),
    }
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("late")
    return (root / f"{number}.parquet" for number in count())


@settings(max_examples=max(100, settings().max_examples))
@given(st.data())
def test_late_rows_give_what_rows_in_memory_give(files, data):
    table, columns = drawn_table(data.draw)
    path = next(files)
    parquet.write_table(table, path, **data.draw(LAYOUTS))
    stored = parquet.read_table(path)
    columns = {n: k for n, k in columns.items() if stored.schema.field(n).type.equals(k.type)}
    start = wh.scan(path).select(*columns)
    relation = Relation(start, "t", columns, None)
    for _ in range(data.draw(st.integers(1, 3))):
        test = condition(data.draw, columns, 2).expr
        relation = replace(relation, pipeline=relation.pipeline.filter(test))
    found = drawn_pipeline(data.draw, relation).pipeline
    cuts = data.draw(st.sampled_from([(64, 128), (128, 1024), (1 << 18, 1 << 20)]))
    with (
        patch.object(fragments, "MAX_CHUNK_ROWS", cuts[0]),
        patch.object(shares, "MOST_TOGETHER", cuts[1]),
        patch.object(parquet_late, "_VALUES_PER_ROW", data.draw(st.sampled_from([0.5, 1.0]))),
    ):
        seen = _outcome(replace(found, source=open_source(path)))
        wanted = _outcome(replace(found, source=open_source(stored)))
    if isinstance(wanted, pa.Table):
        assert isinstance(seen, pa.Table), seen
        assert_same(seen, wanted, ordered=True)
    else:
        assert type(seen) is type(wanted), (seen, wanted)


def _outcome(pipeline):
    try:
        return pipeline.collect()
    except InputError as error:
        return error


ROWS = 6000
NUMBERS = pa.table(
    {
        "day": pa.array(np.arange(ROWS, dtype=np.int32) // 100).cast(pa.date32()),  # sorted
        "few": pa.array([None if i % 11 == 0 else i % 7 for i in range(ROWS)], pa.int64()),
        "kind": [f"kind {i % 5}" for i in range(ROWS)],
        "price": np.arange(ROWS) * 0.25,
        "note": [f"row number {i}" for i in range(ROWS)],
    }
)


@pytest.fixture
def numbers(tmp_path):
    path = tmp_path / "numbers.parquet"
    pages = {"data_page_size": 256, "write_batch_size": 50, "row_group_size": 3000}
    parquet.write_table(NUMBERS, path, use_dictionary=["day", "few", "kind"], **pages)
    return path


@pytest.fixture
def asked(monkeypatch):
    """What is asked of row groups: the columns told by value, and rows of the others."""
    seen = []
    for name in ("matching", "column"):
        plain = getattr(LateParquet, name)

        def remember(late, column, *rest, plain=plain, name=name):
            if name == "column":
                seen.append((name, column, count_rows(rest[0], late.stored_rows)))
            else:
                seen.append((name, column))
            return plain(late, column, *rest)

        monkeypatch.setattr(LateParquet, name, remember)
    choose = LateParquet.choose

    def remember_tests(late, tests, kept):
        seen.extend(("tested", test.name) for test in tests)
        return choose(late, tests, kept)

    monkeypatch.setattr(LateParquet, "choose", remember_tests)
    return seen


def test_only_rows_that_pass_are_decoded(numbers, asked):
    query = wh.scan(numbers).filter(wh.col("few") == 3, wh.col("kind").str.starts_with("kind 2"))
    seen = query.select("note", "price").collect()
    few = pc.equal(NUMBERS["few"], 3)
    wanted = NUMBERS.filter(pc.and_(few, pc.equal(NUMBERS["kind"], "kind 2")))
    assert seen.equals(wanted.select(["note", "price"]).combine_chunks())
    each = [pc.sum(pc.less(wanted["price"], 750.0)).as_py()]
    each.append(wanted.num_rows - each[0])
    told = [("tested", "few"), ("matching", "kind")] * 2
    decoded = [("column", name, rows) for name in ("note", "price") for rows in each]
    assert sorted(asked) == sorted(told + decoded)


def test_nothing_is_decompressed_when_no_value_passes(numbers, asked):
    query = wh.scan(numbers).filter(wh.col("few") * 2 == 7, wh.col("price") > 3.0)
    result = query.agg(n=wh.count(), s=wh.col("note").max()).run()
    assert result.table.to_pylist() == [{"n": 0, "s": None}]
    assert asked == [("tested", "few")] * 2
    written = sum(entry.copied_bytes for entry in result.ledger.entries if "Parquet" in entry.why)
    assert 0 < written <= 2 * 8 * 8  # the dictionaries


def test_nulls_that_pass_are_told_by_row(numbers, asked):
    query = wh.scan(numbers).filter(wh.col("few").is_null(), wh.col("kind") != "kind 1")
    wanted = NUMBERS.filter(
        pc.and_(pc.is_null(NUMBERS["few"]), pc.not_equal(NUMBERS["kind"], "kind 1"))
    )
    assert query.collect().equals(wanted.combine_chunks())
    assert not {("matching", "few"), ("tested", "few")} & set(asked)


def test_later_terms_read_only_pages_with_rows_left(numbers, asked):
    query = wh.scan(numbers).filter(wh.col("price") < 10.0, wh.col("note").str.contains("number 3"))
    wanted = NUMBERS.filter(
        pc.and_(pc.less(NUMBERS["price"], 10.0), pc.match_substring(NUMBERS["note"], "number 3"))
    )
    result = query.select("note", "price").run()
    assert result.table.equals(wanted.select(["note", "price"]).combine_chunks())
    assert {("column", "price", 3000), ("column", "note", 40)} == set(asked)
    (run,) = [found for found in result.evidence if found.stage == 0]
    whole = wh.scan(numbers).select("note", "price").run().evidence[0].work.decode_bytes
    assert 0 < run.work.decode_bytes < whole / 3


def test_a_term_through_pyarrow_that_fails_on_an_excluded_row_still_fails(tmp_path):
    rows = {"a": list(range(100)), "f": [float(i) if i else 0.5 for i in range(100)]}
    parquet.write_table(pa.table(rows), tmp_path / "t.parquet", use_dictionary=["a"])
    query, whole = wh.scan(tmp_path / "t.parquet"), wh.col("f").cast(pa.int64())
    with pytest.raises(InputError, match="truncated"):
        query.filter(wh.col("a") > 90, whole > 95).collect()
    with pytest.raises(InputError, match="truncated"):
        query.filter(wh.col("a") * 2 == 7, whole > 95).collect()
    good = query.filter(wh.col("a") > 90).select(n=whole)
    assert good.collect()["n"].to_pylist() == list(range(91, 100))


def test_damage_among_rows_that_are_read_is_found(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"k": [1, 2] * 500, "s": [f"text {i}" for i in range(1000)]})
    parquet.write_table(table, path, use_dictionary=["k"], compression="none")
    stored = bytearray(path.read_bytes())
    at = stored.index(b"text 501")
    stored[at] = 0xFF
    path.write_bytes(stored)
    query = wh.scan(path)
    with pytest.raises(CorruptError, match=r"'s'.*UTF-?8"):
        query.filter(wh.col("k") == 2).collect()


@pytest.mark.parametrize(("offset", "rows"), [(0, 300), (64, 128), (7, 100), (299, 1), (0, 1)])
def test_rows_are_bits(offset, rows):
    stored, generator = 300, np.random.default_rng(offset)
    first = rows_of(offset, rows, stored)
    assert (first is None) == (rows == stored)
    assert count_rows(first, stored) == rows
    passed = generator.random(rows) < 0.4
    words = np.zeros(rows // 64 + 2, np.uint64)
    words.view(np.uint8)[: (rows + 7) // 8] = np.packbits(passed, bitorder="little")
    kept = narrowed(first, words, stored)
    bits = np.unpackbits(kept.view(np.uint8), bitorder="little")
    wanted = offset + np.flatnonzero(passed)
    assert np.flatnonzero(bits).tolist() == wanted.tolist()


def test_the_ledger_tells_rows_read_from_rows_compacted(numbers):
    query = wh.scan(numbers).filter(wh.col("price") < 10.0, wh.col("note").str.contains("number 3"))
    result = query.select("note", "price", "day").run()
    found = {entry.why: entry for entry in result.ledger.entries}
    note, price, day = (column_bytes(column.chunk(0)) for column in result.table.columns)
    compacted = found["rows that passed are compacted"]
    assert (compacted.referenced_bytes, compacted.copied_bytes) == (day, note + price)
    # Of 3000 prices, of the 40 notes of rows that were left, of the days of rows that passed.
    notes = column_bytes(NUMBERS.column("note").chunk(0).slice(0, 40))
    assert found["decoded from Parquet"].copied_bytes == 3000 * 8 + notes + day
