"""Parquet: equal to what pyarrow reads, pruned by bounds that hold, decoded once, never a crash."""

import datetime as dt
import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import wherry as wh
from wherry.base.errors import CorruptError, InputError
from wherry.data import decoded
from wherry.data import parquet as parquet_fragment
from wherry.data.bloom import xxh64
from wherry.data.fragments import MAX_CHUNK_ROWS
from wherry.data.source import column_bounds, open_source
from wherry.data.types import date_of, datetime_of

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_DAYS = st.integers(-800_000, 3_000_000)
VALUES = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-(2**7), 2**7 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint8(): st.integers(0, 2**8 - 1),
    pa.uint32(): st.integers(0, 2**32 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.date32(): _DAYS,
    pa.timestamp("s"): st.integers(-(2**40), 2**40),
    pa.timestamp("ms", "Asia/Tokyo"): st.integers(-(2**50), 2**50),
    pa.timestamp("us", "UTC"): st.integers(-(2**60), 2**60),
    pa.timestamp("ns"): st.integers(-(2**62), 2**62),
    pa.decimal128(9, 2): st.integers(-(10**9) + 1, 10**9 - 1),
    pa.decimal128(38, 10): st.integers(-(10**38) + 1, 10**38 - 1),
    pa.utf8(): _TEXT,
    pa.large_utf8(): _TEXT,
    pa.string_view(): _TEXT,
    pa.dictionary(pa.int32(), pa.utf8()): _TEXT,
}


def _array(values, t):
    if pa.types.is_decimal(t):
        scaled = (None if v is None else Decimal(f"{v}e{-t.scale}") for v in values)
        return pa.array(list(scaled), t)
    if pa.types.is_dictionary(t):
        return pa.array(values, t.value_type).dictionary_encode()
    return pa.array(values, t)


@st.composite
def _columns(draw):
    rows = draw(st.integers(0, 40))
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=4))
    arrays = []
    for t in kinds:
        value = VALUES[t] | st.none() if draw(st.booleans()) else VALUES[t]
        arrays.append(_array(draw(st.lists(value, min_size=rows, max_size=rows)), t))
    return pa.table(arrays, [f"c{i}" for i in range(len(arrays))])


_LAYOUTS = st.fixed_dictionaries(
    {
        "row_group_size": st.integers(1, 50),
        "compression": st.sampled_from(["none", "snappy", "zstd", "lz4", "gzip", "brotli"]),
        "use_dictionary": st.booleans(),
        "data_page_size": st.sampled_from([16, 1 << 20]),
        "write_batch_size": st.sampled_from([3, 1024]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "write_statistics": st.booleans(),
        "write_page_index": st.booleans(),
        "write_page_checksum": st.booleans(),
        "store_schema": st.booleans(),
    }
)


def _table_of(source):
    names = source.schema.names
    batches = [source.read(ref, names) for ref in source.chunks()]
    return pa.Table.from_batches(batches, schema=source.schema)


@settings(max_examples=150, deadline=None)
@given(table=_columns(), layout=_LAYOUTS)
def test_a_file_is_what_pyarrow_reads(tmp_path_factory, table, layout):
    path = tmp_path_factory.mktemp("p") / "t.parquet"
    parquet.write_table(table, path, **layout)
    source = open_source(path)
    wanted = parquet.read_table(path, partitioning=None)
    assert _without_nan(_table_of(source)).equals(_without_nan(wanted))
    for ref in source.chunks():
        _check_bounds(source, ref)


def _without_nan(table):
    """Give a table whose NaN are zeros, and a column for each that says where they were."""
    for name in table.column_names:
        column = table[name]
        if pa.types.is_floating(column.type):
            nans = pc.is_nan(column)
            zeros = pc.if_else(nans, pa.scalar(0.0, column.type), column)
            table = table.set_column(table.column_names.index(name), name, zeros)
            table = table.append_column(f"{name} is NaN", nans)
    return table


def _check_bounds(source, ref):
    batch, known = source.read(ref, source.schema.names), source.statistics(ref)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        seen = known.columns[name]
        assert seen.nulls in {None, column.null_count}
        values = _plain(column)
        if any(isinstance(v, float) and math.isnan(v) for v in values):
            assert seen.nans
        values = [v for v in values if v is not None and v == v]
        if values and seen.min is not None:
            assert seen.min <= min(values)
            assert max(values) <= seen.max


def _plain(column):
    if pa.types.is_date32(column.type):
        return [None if d is None else date_of(d) for d in column.cast(pa.int32()).to_pylist()]
    if pa.types.is_timestamp(column.type):
        scale = {"s": 10**6, "ms": 1000, "us": 1, "ns": 0.001}[column.type.unit]
        numbers = column.drop_null().cast(pa.int64()).to_pylist()
        aware = column.type.tz is not None
        return [datetime_of(n // 1000 if scale < 1 else n * scale, aware=aware) for n in numbers]
    return column.to_pylist()


NUMBERS = pa.table(
    {
        "k": np.arange(1000),
        "f": np.arange(1000) / 4,
        "u": pa.array([2**64 - 2000 + i for i in range(1000)], pa.uint64()),
        "m": pa.array([Decimal(i) / 100 for i in range(1000)], pa.decimal128(15, 2)),
        "day": pa.array(np.arange(1000, dtype=np.int32)).cast(pa.date32()),
        "at": pa.array(np.arange(1000)).cast(pa.timestamp("ns")),
        "s": [f"text {i:04}" for i in range(1000)],
        "n": pa.array([None if i < 500 else i for i in range(1000)], pa.int32()),
        "other": np.arange(1000) % 7,
    }
)


@pytest.fixture
def numbers(tmp_path):
    path = tmp_path / "numbers.parquet"
    parquet.write_table(NUMBERS, path, row_group_size=100)
    return path


@pytest.fixture
def decodings(monkeypatch):
    """Every (file, row group, column) that is decoded, in order."""
    seen, plain = [], parquet_fragment.read_column

    def remember(file, row_group, column, known):
        seen.append((file.label, row_group, file.schema.names[column]))
        return plain(file, row_group, column, known)

    monkeypatch.setattr(parquet_fragment, "read_column", remember)
    return seen


@pytest.mark.parametrize(
    ("predicate", "groups"),
    [
        (wh.col("k") < 150, {0, 1}),
        (wh.col("f") > 225.0, {9}),
        (wh.col("u") >= 2**64 - 1100, {9}),
        (wh.col("m") == Decimal("3.21"), {3}),
        (wh.col("day") < dt.date(1970, 1, 5), {0}),
        (wh.col("at") < dt.datetime(1970, 1, 1), set()),
        (wh.col("s") == "text 0777", {7}),
        (wh.col("k").is_in([5, 999]), {0, 9}),
        (wh.col("n").is_null(), {0, 1, 2, 3, 4}),
        ((wh.col("k") > 300) & (wh.col("s") < "text 0400"), {3}),
    ],
)
def test_only_needed_row_groups_and_columns_are_decoded(numbers, decodings, predicate, groups):
    answer = wh.scan(numbers).filter(predicate).select("other").collect()
    columns = {name for _, _, name in decodings}
    assert {group for _, group, _ in decodings} == groups
    assert columns <= {"k", "f", "u", "m", "day", "at", "s", "n", "other"} - (
        {"f", "u"} if "k" in columns else set()
    )
    assert len(decodings) == len(set(decodings))
    whole = wh.scan(NUMBERS).filter(predicate).select("other").collect()
    assert answer.equals(whole)


def test_not_a_number_hides_behind_bounds(tmp_path):
    table = pa.table({"f": [5.0, math.nan, 5.0]})
    parquet.write_table(table, tmp_path / "t.parquet")
    query = wh.scan(tmp_path / "t.parquet")
    assert query.filter(wh.col("f") != 5.0).collect().num_rows == 1
    assert query.filter(wh.col("f") == 5.0).collect().num_rows == 2
    assert query.filter(wh.col("f") < 5.0).collect().num_rows == 0


def test_nulls_nobody_counted_are_looked_for(tmp_path):
    table = pa.table({"a": [None, 1, 2], "b": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "t.parquet", write_statistics=False)
    source = open_source(tmp_path / "t.parquet")
    assert column_bounds(source, ["a"])["a"].nulls is None
    query = wh.scan(source).filter(wh.col("a").is_null())
    assert query.collect()["b"].to_pylist() == [1]


def test_bounds_of_long_texts_are_cut_on_the_safe_side(tmp_path):
    table = pa.table({"s": ["é" * 300, "é" * 300 + "a"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert wh.scan(tmp_path / "t.parquet").filter(wh.col("s") == "é" * 300).collect().num_rows == 1


ROWS = 2 * MAX_CHUNK_ROWS + 77


@pytest.fixture
def large(tmp_path):
    """Two row groups of three chunks each."""
    path = tmp_path / "large.parquet"
    numbers = np.arange(2 * ROWS)
    table = pa.table({"k": numbers, "h": numbers % 7})
    parquet.write_table(table, path, row_group_size=ROWS)
    return path


def test_a_large_row_group_is_decoded_once_and_let_go(large, decodings):
    source = open_source(large)
    assert [ref.rows for ref in source.chunks()] == [MAX_CHUNK_ROWS, MAX_CHUNK_ROWS, 77] * 2
    assert source._decoded.kept_bytes == 0
    total = wh.scan(source).agg(k=wh.col("k").sum(), h=wh.col("h").max()).collect()
    assert total.to_pylist() == [{"k": ROWS * (2 * ROWS - 1), "h": 6}]
    assert len(decodings) == len(set(decodings)) == 4
    assert source._decoded.kept_bytes == 0


def test_threads_share_the_decoding_of_a_row_group(large, decodings):
    source = open_source(large)
    began = threading.Barrier(6)

    def read(ref):
        began.wait(timeout=30)
        return source.read(ref, ["h", "k"])

    with ThreadPoolExecutor(6) as threads:
        batches = list(threads.map(read, source.chunks()))
    assert pa.Table.from_batches(batches)["k"].to_pylist()[:: ROWS // 5] == [
        *range(0, 2 * ROWS, ROWS // 5)
    ]
    assert len(decodings) == 4
    assert source._decoded.kept_bytes == 0


def test_what_nobody_reads_any_more_is_let_go_before_long(large, monkeypatch):
    monkeypatch.setattr(decoded, "KEPT_BYTES", 0)
    source = open_source(large)
    first, *_, last = source.chunks()
    source.read(first, ["k"])
    kept = source._decoded.kept_bytes
    assert kept == 8 * ROWS
    source.read(last, ["k"])
    assert source._decoded.kept_bytes == kept  # the other row group's
    for ref in source.chunks():
        assert source.read(ref, ["k"]).num_rows == ref.rows
    assert source._decoded.kept_bytes == 0


def test_a_column_that_cannot_be_decoded_fails_for_every_reader(large, monkeypatch):
    def fail(*_):
        raise CorruptError("it is spoilt")

    source = open_source(large)
    with monkeypatch.context() as patched:
        patched.setattr(parquet_fragment, "read_column", fail)
        for ref in source.chunks():
            with pytest.raises(CorruptError, match="it is spoilt"):
                source.read(ref, ["k"])
    assert source.read(source.chunks()[0], ["k"]).num_rows == MAX_CHUNK_ROWS


def test_a_stream_over_a_large_file_needs_little_memory(tmp_path):
    path, groups, rows = tmp_path / "t.parquet", 60, 100_000
    schema = pa.schema({"k": pa.int64(), "f": pa.float64()})
    with parquet.ParquetWriter(path, schema, compression="none") as writer:
        for _ in range(groups):
            numbers = np.random.default_rng(1).random(rows)
            writer.write_table(pa.table([np.arange(rows), numbers], schema=schema))
    before, most, seen = pa.total_allocated_bytes(), 0, 0
    for batch in wh.scan(path).filter(wh.col("f") < 0.01).stream():
        seen += batch.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert seen > groups * rows / 200
    assert most < groups * rows * 16 / 3


def test_what_decoding_costs_is_accounted_for(numbers):
    footer = parquet.read_metadata(numbers)
    group = footer.row_group(2)
    stored = sum(
        group.column(i).total_compressed_size
        for i, name in enumerate(NUMBERS.column_names)
        if name in {"k", "other"}
    )
    query = wh.scan(numbers).filter(wh.col("k") >= 200, wh.col("k") < 300).select("other")
    for pins in ({"near": "home"}, {"near": "host0"}):
        result = query.run("dpu-csd-host", placement=pins)
        (read,) = [span for span in result.timeline.spans if span.kind == "read"]
        assert (read.nbytes, read.rows) == (stored, 100)
        moved = [s.nbytes for s in result.timeline.spans if s.kind == "move" and s.stage == 0]
        assert set(moved) == (set() if pins["near"] == "home" else {stored})
        first = result.evidence[0]
        assert first.work.decode_bytes == 2 * 8 * 100
        (entry,) = [e for e in result.ledger.entries if e.why == "decoded from Parquet"]
        assert (entry.copied_bytes, entry.device) == (2 * 8 * 100, first.device)
        again = query.run("dpu-csd-host", placement=pins)
        assert (again.time, again.ledger) == (result.time, result.ledger)


def test_chunks_of_a_row_group_share_what_it_takes(large):
    source = open_source(large)
    footer = parquet.read_metadata(large)
    whole = sum(footer.row_group(i).column(0).total_compressed_size for i in range(2))
    shares = [source.decoding(ref, ["k"]) for ref in source.chunks()]
    assert sum(share.stored_bytes for (share,) in shares) == whole
    assert min(share.stored_bytes for (share,) in shares) > 0


def test_a_file_that_was_changed_is_noticed(numbers):
    source = open_source(numbers)
    raw = bytearray(numbers.read_bytes())
    numbers.write_bytes(raw[:-1])
    for use in (source.chunks, lambda: source.read(source._chunks[0], ["k"])):
        with pytest.raises(InputError, match=r"numbers\.parquet was changed in place"):
            use()
    other = numbers.with_name("other.parquet")
    parquet.write_table(NUMBERS, other, row_group_size=100, compression="none")
    assert open_source(other).fingerprint != source.fingerprint


def test_statistics_that_lie_are_found_out(tmp_path):
    rows = np.arange(1_000_000_000, 1_000_000_100)
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"k": rows}), path, compression="none", use_dictionary=False)
    high, raw = (1_000_000_099).to_bytes(8, "little"), path.read_bytes()
    at = raw.rindex(high)
    assert raw.count(high) > 1
    while (at := raw.rfind(high, 4 + 8 * len(rows))) >= 0:
        raw = raw[:at] + (1_000_000_050).to_bytes(8, "little") + raw[at + 8 :]
    path.write_bytes(raw)
    source = open_source(path)
    assert column_bounds(source, ["k"])["k"].max == 1_000_000_050
    where = r"t\.parquet, row group 0, column 'k' at offset 4"
    with pytest.raises(CorruptError, match=f"{where} holds .* its statistics say"):
        source.read(source.chunks()[0], ["k"])


def test_truncated_files_are_refused_by_name(numbers):
    raw = numbers.read_bytes()
    for size in {*range(4, len(raw), len(raw) // 50), *range(len(raw) - 24, len(raw))}:
        numbers.write_bytes(raw[:size])
        with pytest.raises(CorruptError, match=r"numbers\.parquet \(\d+ bytes\): the footer"):
            open_source(numbers)


def test_spoilt_files_never_crash(tmp_path):
    table = NUMBERS.append_column("d", NUMBERS["s"].dictionary_encode())
    draw = random.Random(11)
    refused = unnamed = 0
    for layout in ({}, {"compression": "none"}, {"use_dictionary": False, "compression": "zstd"}):
        parquet.write_table(table, tmp_path / "good", row_group_size=300, **layout)
        raw = (tmp_path / "good").read_bytes()
        footer = 8 + int.from_bytes(raw[-8:-4], "little")
        for _ in range(150):
            spoilt = bytearray(raw)
            first = draw.choice([4, len(raw) - footer])
            where = draw.randrange(first, len(raw))
            spoilt[where] ^= 1 << draw.randrange(8)
            bad = tmp_path / "bad.parquet"
            bad.write_bytes(spoilt)
            try:
                source = open_source(bad)
                for ref in source.chunks():
                    source.decoding(ref, source.schema.names)
                    for seen in source.statistics(ref).columns.values():
                        assert seen.nans in {False, True}
                    source.read(ref, source.schema.names)
            except InputError as error:
                refused += 1
                unnamed += "bad.parquet" not in str(error)
    assert refused > 50
    assert unnamed == 0


def test_types_that_are_not_read_are_refused_by_name(tmp_path):
    parquet.write_table(pa.table({"k": [1], "x": [[1, 2]]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"column 'x' of .*t\.parquet has type list<"):
        open_source(tmp_path / "t.parquet")


def test_a_file_without_rows(tmp_path):
    parquet.write_table(NUMBERS.slice(0, 0), tmp_path / "t.parquet")
    assert wh.scan(tmp_path / "t.parquet").collect().num_rows == 0
    assert open_source(tmp_path / "t.parquet").chunks() == ()


def test_bloom_filters_prune_what_bounds_cannot(tmp_path, decodings):
    rows, groups = 1000, 8
    keys = np.random.default_rng(5).permutation(2 * rows * groups)[: rows * groups] * 2
    table = pa.table(
        {
            "k": keys,
            "i": keys.astype(np.int32),
            "s": [f"{'long ' * (k % 9)}{k}" for k in keys.tolist()],
            "d": pa.array([f"{k % 4000}" for k in keys.tolist()]).dictionary_encode(),
            "day": pa.array(keys.astype(np.int32)).cast(pa.date32()),
            "at": pa.array(keys).cast(pa.timestamp("ms")),
            "m": pa.array([Decimal(k) / 100 for k in keys.tolist()], pa.decimal128(15, 2)),
        }
    )
    path = tmp_path / "t.parquet"
    blooms = {name: {"ndv": rows, "fpp": 0.01} for name in table.column_names}
    parquet.write_table(
        table, path, row_group_size=rows, bloom_filter_options=blooms,
        store_decimal_as_integer=True,
    )  # fmt: skip
    source, draw = open_source(path), random.Random(3)
    kept = asked = 0
    for row in draw.sample(range(rows * groups), 40):
        for name in table.column_names:
            value = table[name][row].as_py()
            here = [source.statistics(ref).columns[name] for ref in source.chunks()]
            assert not here[row // rows].excludes(value)
            kept += sum(not seen.excludes(value) for seen in here)
            asked += len(here)
    assert kept < asked / 4
    value = int(keys[3 * rows])
    assert wh.scan(path).filter(wh.col("k") == value).select("i").collect().num_rows == 1
    assert {group for _, group, _ in decodings} < set(range(groups))
    decodings.clear()
    assert wh.scan(path).filter(wh.col("k").is_in([1, 3, 5, 7])).collect().num_rows == 0
    assert len(decodings) <= groups  # odd numbers: each group has four chances in a hundred


def test_xxhash_of_every_length():
    known = {b"": 0xEF46DB3751D8E999, b"a": 0xD24EC4F1A98C6E5B, b"abc": 0x44BC2CF5AD770999}
    assert {text: xxh64(text) for text in known} == known
    long = b"Nobody inspects the spammish repetition"
    assert xxh64(long) == 0xFBCEA83C8A378BF1
