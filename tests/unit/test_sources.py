"""Sources: zero copy by address, every accepted form, and every kind of bad input."""

import datetime as dt
import random
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, ipc
from support.memory import shares_memory

from wherry.base.errors import CorruptError, InputError
from wherry.data import formats
from wherry.data.chunk import (
    ChunkRef,
    buffer_addresses,
    column_bytes,
    referenced_bytes,
)
from wherry.data.fragments import MAX_CHUNK_ROWS
from wherry.data.ledger import Ledger, LedgerEntry, merge
from wherry.data.source import open_source
from wherry.data.types import from_plain, supported_type, to_plain, type_class

DAY = dt.date(1994, 1, 1)


def _table(rows: int = 1000) -> pa.Table:
    number = np.arange(rows)
    text = [f"text number {i}" * (i % 3) if i % 5 else None for i in range(rows)]
    return pa.table(
        {
            "i": pa.array(number, mask=number % 7 == 0),
            "f": number / 3,
            "b": pa.array([bool(i % 3) for i in range(rows)]),
            "s": text,
            "v": pa.array(text, pa.string_view()),
            "d": pa.array([f"a{i % 4}" for i in range(rows)]).dictionary_encode(),
            "m": pa.array([Decimal(i) / 100 for i in range(rows)], pa.decimal128(15, 2)),
            "day": pa.array([DAY + dt.timedelta(i % 99) for i in range(rows)]),
        }
    )


def _write(path, table, *, stream=False, batch_rows=300, **options):
    make = ipc.new_stream if stream else ipc.new_file
    with make(path, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return path


def _read(source, columns=None):
    names = source.schema.names if columns is None else columns
    return pa.Table.from_batches([source.read(ref, names) for ref in source.chunks()])


@pytest.fixture
def mappings(monkeypatch):
    """Every mapping that a source makes, for comparing addresses."""
    made = []
    plain = formats.map_file

    def remember(path):
        made.append(plain(path))
        return made[-1]

    monkeypatch.setattr(formats, "map_file", remember)
    return made


@pytest.mark.parametrize("stream", [False, True])
def test_a_file_is_read_from_its_mapping(tmp_path, mappings, stream):
    table = _table()
    source = open_source(_write(tmp_path / "t.arrow", table, stream=stream))
    allocated = pa.total_allocated_bytes()
    batches = [source.read(ref, source.schema.names) for ref in source.chunks()]
    assert [batch.num_rows for batch in batches] == [300, 300, 300, 100]
    if stream:  # the statistics of a file allocate once; a stream needs none
        assert pa.total_allocated_bytes() == allocated
    for batch in batches:
        assert len(buffer_addresses(batch)) > len(table.schema)
        assert shares_memory(batch, [mappings[0].buffer])
    assert pa.Table.from_batches(batches).equals(table)


def test_shares_memory_sees_a_copy():
    batch = _table(64).to_batches()[0]
    copy = pa.record_batch({"i": pa.array(batch["i"].to_pylist())})
    assert shares_memory(batch.slice(3, 5), [batch])
    assert not shares_memory(copy, [batch])


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("stream", [False, True])
def test_compressed_batches_are_decompressed_when_read(tmp_path, mappings, stream, compression):
    table = _table()
    path = _write(tmp_path / "t.arrow", table, stream=stream, compression=compression)
    source = open_source(path)
    assert source.decodes
    assert _read(source).equals(table)
    assert _read(source, ["d", "i", "v"]).equals(table.select(["d", "i", "v"]))
    first = source.chunks()[0]
    assert not shares_memory(source.read(first, ["i"]), [mappings[0].buffer])
    names = source.schema.names
    each = [source.decoding(first, [name])[0].stored_bytes for name in names]
    (whole,) = source.decoding(first, names)
    assert min(each) > 0
    assert whole.stored_bytes == sum(each)
    assert sum(source.decoding(ref, names)[0].stored_bytes for ref in source.chunks()) < (
        path.stat().st_size
    )
    # Numbers in order compress well, those that are all different do not.
    sizes = dict(zip(names, each, strict=True))
    assert sizes["b"] < sizes["f"] < 8 * 300 + 16
    seen = source.statistics(first).columns["i"]
    assert (seen.min, seen.max, seen.nulls) == (1, 299, 43)


def test_a_compressed_stream_keeps_nothing_in_memory(tmp_path):
    table = pa.table({"k": np.arange(1_000_000), "f": np.zeros(1_000_000)})
    path = _write(tmp_path / "t.arrows", table, stream=True, batch_rows=50_000, compression="lz4")
    before = pa.total_allocated_bytes()
    source = open_source(path)
    total = 0
    for ref in source.chunks():
        total += source.read(ref, ["k"])["k"].to_numpy().sum()
        assert pa.total_allocated_bytes() - before < 3 * 8 * 50_000
    assert total == 999_999 * 500_000


def test_dictionaries_that_follow_each_other_in_a_compressed_stream(tmp_path):
    texts = pa.chunked_array([pa.array(x).dictionary_encode() for x in (["a", "b"], ["c", "a"])])
    table = pa.table({"d": texts, "k": pa.chunked_array([[1, 2], [3, 4]])})
    path = _write(tmp_path / "t.arrows", table, stream=True, compression="zstd")
    assert _read(open_source(path)).equals(table)
    assert _read(open_source(path), ["k"]).equals(table.select(["k"]))


def test_large_batches_are_cut_without_copying(mappings, tmp_path):
    rows = 2 * MAX_CHUNK_ROWS + 5
    table = pa.table({"k": np.arange(rows), "b": np.arange(rows) % 2 == 0})
    path = _write(tmp_path / "big.arrow", table, batch_rows=rows)
    for source in (open_source(path), open_source(table)):
        sizes = [(ref.batch, ref.offset, ref.rows) for ref in source.chunks()]
        cut = MAX_CHUNK_ROWS
        assert sizes == [(0, 0, cut), (0, cut, cut), (0, 2 * cut, 5)]
        assert _read(source).equals(table)
    last = open_source(path).read(ChunkRef(0, 0, 2 * MAX_CHUNK_ROWS, 5), ["k"])
    assert last["k"].to_pylist() == list(range(2 * MAX_CHUNK_ROWS, rows))
    assert shares_memory(last, [mappings[-1].buffer])


def test_a_table_is_referenced():
    table = pa.concat_tables([_table(100), _table(50).slice(7, 20)])
    source = open_source(table)
    assert (source.name, source.fragments, len(source.chunks())) == ("memory", 1, 2)
    for ref in source.chunks():
        assert shares_memory(source.read(ref, source.schema.names), table.to_batches())
    assert _read(source).equals(table)


def test_columns_come_in_the_order_asked():
    source = open_source(_table(10))
    (ref,) = source.chunks()
    assert source.read(ref, ["s", "i"]).schema.names == ["s", "i"]
    assert source.read(ref, []).num_rows == 10
    with pytest.raises(InputError, match="no column 'dya'; did you mean 'day'"):
        source.read(ref, ["dya"])


@pytest.mark.parametrize(
    "ref", [(1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 0, 11), (0, 0, -1, 1), (-1, 0, 0, 1), (0, -1, 0, 1)]
)
def test_a_chunk_that_is_not_stored_is_refused(ref):
    with pytest.raises(InputError, match="has no rows ChunkRef"):
        open_source(_table(10)).read(ChunkRef(*ref), ["i"])


def test_accepted_forms(tmp_path, monkeypatch):
    table = _table()
    whole = _write(tmp_path / "whole.arrow", table)
    parts = tmp_path / "parts"
    parts.mkdir()
    _write(parts / "b.arrow", table.slice(400))
    _write(parts / "a.arrows", table.slice(0, 400), stream=True)
    _write(parts / ".hidden.arrow", table)
    (parts / "README.txt").write_text("not data")
    monkeypatch.chdir(tmp_path)
    forms = {
        "whole": [whole, str(whole), "whole.arrow", [whole], "who*.arrow"],
        "parts": [parts, "parts", [parts / "a.arrows", parts / "b.arrow"], f"{parts}/*.arrow*"],
        "memory": [table, table.to_reader(), table.to_batches()[0], _Stream(table)],
    }
    for name, given in forms.items():
        for form in given:
            source = open_source(form)
            assert source.name == name, form
            assert _read(source).equals(table), form
            assert open_source(source) is source
    assert open_source(parts).fragments == 2


class _Stream:
    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_feather_version_2_is_arrow(tmp_path):
    feather.write_feather(_table(20), str(tmp_path / "t.feather"), compression="uncompressed")
    assert _read(open_source(tmp_path)).equals(_table(20))


def test_sources_without_rows(tmp_path):
    empty = _table(8).slice(8)
    _write(tmp_path / "e.arrow", empty)
    with ipc.new_file(tmp_path / "b.arrow", empty.schema) as writer:
        writer.write_batch(_no_rows(empty.schema))
    for source in (open_source(empty), open_source(tmp_path), open_source(tmp_path / "e.arrow")):
        assert source.chunks() == ()
        assert source.schema.equals(empty.schema)


def _no_rows(schema):
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)


def test_fingerprint_follows_the_data(tmp_path):
    path = _write(tmp_path / "t.arrow", _table(10))
    first = open_source(path).fingerprint
    assert len(first) == 16
    assert open_source(path).fingerprint == first
    _write(path, _table(11))
    assert open_source(path).fingerprint != first
    table = _table(10)
    assert open_source(table).fingerprint == open_source(table).fingerprint
    assert open_source(table).fingerprint != open_source(table.slice(1)).fingerprint


def test_missing_and_foreign_input(tmp_path):
    (tmp_path / "empty.arrow").touch()
    (tmp_path / "junk.arrow").write_bytes(b"hello, this is not Arrow")
    (tmp_path / "folder").mkdir()
    cases = {
        tmp_path / "none.arrow": "none.arrow cannot be read: No such file",
        tmp_path / "empty.arrow": "empty.arrow is empty",
        tmp_path / "junk.arrow": "junk.arrow begins with b'hello, t', neither Arrow IPC nor",
        tmp_path / "folder": r"folder has no \.arrow",
        f"{tmp_path}/x*.arrow": r"no file matches .*x\*\.arrow",
        42: "cannot scan a int; what can be scanned: a path",
        (): "cannot scan a tuple",
    }
    for given, message in cases.items():
        with pytest.raises(InputError, match=message):
            open_source(given)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", [b"column", b"Zone/City"])
def test_names_that_are_no_text_are_corrupt(tmp_path, text, stream):
    table = pa.table({"column": pa.array([1], pa.timestamp("s", "Zone/City"))})
    path = _write(tmp_path / "t.arrow", table, stream=stream)
    path.write_bytes(path.read_bytes().replace(text, b"\xff" + text[1:]))
    with pytest.raises(CorruptError, match="cannot be read: 'utf-8' codec"):
        open_source(path)


def test_files_must_agree(tmp_path):
    _write(tmp_path / "a.arrow", pa.table({"x": [1], "y": [1.0]}))
    _write(tmp_path / "b.arrow", pa.table({"x": [1], "y": ["1"]}))
    with pytest.raises(InputError, match=r"b.arrow has field .*y.*string.*, wanted .*y.*double"):
        open_source(tmp_path)
    _write(tmp_path / "b.arrow", pa.table({"x": [1]}))
    with pytest.raises(InputError, match=r"b.arrow has 1 fields, wanted 2"):
        open_source(tmp_path)


def test_types_that_are_not_read_are_refused_by_name(tmp_path):
    path = _write(tmp_path / "l.arrow", pa.table({"k": [1], "x": [[1, 2]]}))
    with pytest.raises(InputError, match=r"column 'x' of .*l.arrow has type list<.*; types: bool"):
        open_source(path)
    for given in (pa.table({"h": pa.array([1], pa.float16())}), pa.table({"n": pa.nulls(2)})):
        with pytest.raises(InputError, match="of the table has type"):
            open_source(given)
    with pytest.raises(InputError, match="two columns named 'a'"):
        open_source(pa.Table.from_arrays([pa.array([1])] * 2, ["a", "a"]))
    with pytest.raises(InputError, match="has no columns"):
        open_source(pa.table({}))


def test_type_classes():
    classes = {
        "boolean": [pa.bool_()],
        "integer": [pa.int8(), pa.uint64()],
        "float": [pa.float32(), pa.float64()],
        "decimal": [pa.decimal128(38, 5), pa.decimal64(18, 2), pa.decimal32(9, 0)],
        "temporal": [pa.date32(), pa.date64(), pa.timestamp("ns", "UTC"), pa.timestamp("s")],
        "time": [pa.time32("s"), pa.time64("ns")],
        "duration": [pa.duration("s")],
        "string": [pa.utf8(), pa.large_utf8(), pa.string_view()],
        "binary": [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(7)],
        "dictionary": [pa.dictionary(pa.uint16(), t) for t in (pa.large_utf8(), pa.time32("s"))],
        "struct": [pa.struct([]), pa.struct([("a", pa.struct([("b", pa.binary())]))])],
    }
    for name, types in classes.items():
        assert {type_class(t) for t in types} == {name}
    refused = [pa.float16(), pa.decimal256(40, 1), pa.decimal128(9, -1), pa.decimal128(9, 39)]
    refused += [pa.null(), pa.list_(pa.int8()), pa.month_day_nano_interval()]
    refused += [pa.dictionary(pa.int8(), t) for t in (pa.float16(), pa.string_view(), INNER)]
    refused += [pa.struct([("a", t)]) for t in (pa.float16(), _deep(16))]
    refused += [pa.struct([("a", pa.int8()), ("a", pa.int8())])]
    assert not any(map(supported_type, refused))
    assert supported_type(_deep(15))


INNER = pa.struct([("a", pa.int8())])


def _deep(levels):
    return INNER if levels == 0 else pa.struct([("a", _deep(levels - 1))])


@pytest.mark.parametrize(
    ("value", "t"),
    [
        (None, pa.int8()),
        (True, pa.bool_()),
        (2**64 - 1, pa.uint64()),
        (-0.5, pa.float32()),
        (Decimal("-12.340"), pa.decimal128(9, 3)),
        (dt.date(1, 1, 1), pa.date32()),
        (dt.datetime(1969, 7, 20, 20, 17, 40, 5), pa.timestamp("us")),
        (dt.datetime(2024, 2, 29, tzinfo=dt.UTC), pa.timestamp("s", "Asia/Tokyo")),
        ("é", pa.string_view()),
        (dt.date(9999, 12, 31), pa.date64()),
        (dt.time(23, 59, 59, 999999), pa.time64("us")),
        (dt.time(12), pa.time32("s")),
        (dt.timedelta(-3, 5, 7), pa.duration("us")),
        (bytes(range(256)), pa.binary()),
        (b"", pa.binary_view()),
        (7, pa.dictionary(pa.int8(), pa.int64())),
    ],
)
def test_plain_images_lose_nothing(value, t):
    assert from_plain(to_plain(value), t) == value


@pytest.mark.parametrize("stream", [False, True])
def test_truncation_is_reported(tmp_path, stream):
    raw = _write(tmp_path / "t.arrow", _table(), stream=stream).read_bytes()
    cut = tmp_path / "cut.arrow"
    for size in {*range(1, len(raw), len(raw) // 60), *range(len(raw) - 24, len(raw))}:
        cut.write_bytes(raw[:size])
        with pytest.raises(InputError, match=r"cut\.arrow"):
            open_source(cut)


def test_a_stream_cut_between_batches_is_truncated(tmp_path):
    path = _write(tmp_path / "t.arrows", _table(), stream=True)
    raw = path.read_bytes()
    path.write_bytes(raw[:-8])
    with pytest.raises(CorruptError, match=f"stops at offset {len(raw) - 8} without an end"):
        open_source(path)
    path.write_bytes(raw + raw)
    with pytest.raises(CorruptError, match=f"has {len(raw)} bytes behind its end at offset"):
        open_source(path)


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("stream", [False, True])
def test_flipped_bytes_never_crash(tmp_path, monkeypatch, stream, compression):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_: str(tmp_path / "cache"))
    raw = _write(tmp_path / "t", _table(), stream=stream, compression=compression).read_bytes()
    draw = random.Random(7)
    bad = tmp_path / "bad.arrow"
    refused = unnamed = 0
    for _ in range(150):
        spoilt = bytearray(raw)
        where = draw.choice([draw.randrange(2000), -1 - draw.randrange(2500)])
        spoilt[where] ^= 1 << draw.randrange(8)
        bad.write_bytes(spoilt)
        try:
            source = open_source(bad)
            source.schema.to_string()
            for ref in source.chunks():
                source.read(ref, source.schema.names)
                source.statistics(ref)
        except InputError as error:
            refused += 1
            unnamed += "bad.arrow" not in str(error)
    assert refused > 20
    assert unnamed == 0


def _offsets(middle):
    data = [None, pa.py_buffer(np.array([0, middle, 6], np.int32)), pa.py_buffer(b"abcdef")]
    return pa.Array.from_buffers(pa.utf8(), 2, data)


def _index(index):
    values = pa.array(["a", "b"])
    return pa.DictionaryArray.from_arrays(pa.array([0, index], pa.int8()), values, safe=False)


def _view(size):
    text = b"abcdefghijklmno"
    prefix = int.from_bytes(text[:4], "little")
    views = pa.py_buffer(np.array([0, 0, 0, 0, size, prefix, 0, 0], np.int32))
    return pa.Array.from_buffers(pa.string_view(), 2, [None, views, pa.py_buffer(text)])


def _of_binary(make, t):
    """Give what `make` gives, as bytes: a view or offsets of bytes are as hostile as of text."""

    def made(value):
        array = make(value)
        return pa.Array.from_buffers(t, len(array), array.buffers())

    return made


def _in_struct(make):
    return lambda value: pa.StructArray.from_arrays([make(value)], ["field"])


def _stored(t, width):
    """Give two values of a type, the second from an integer."""
    return lambda value: pa.array([0, value], width).view(t)


def _narrow_decimal(value):
    raw = pa.py_buffer(np.array([0, value], np.int32))
    return pa.Array.from_buffers(pa.decimal32(4, 1), 2, [None, raw])


def _wide_index(value):
    values = pa.array([Decimal(1), Decimal(2)], pa.decimal128(5, 1))
    return pa.DictionaryArray.from_arrays(pa.array([0, value], pa.uint64()), values, safe=False)


HOSTILE = {
    "offsets": (_offsets, 2, 99),
    "index": (_index, 1, 2),
    "view": (_view, 15, 90),
    "binary": (_of_binary(_offsets, pa.binary()), 2, 99),
    "binary back": (_of_binary(_offsets, pa.binary()), 2, -1),
    "binary_view": (_of_binary(_view, pa.binary_view()), 15, 90),
    "offsets in struct": (_in_struct(_offsets), 2, 99),
    "index in struct": (_in_struct(_index), 1, 2),
    "view in struct": (_in_struct(_view), 15, 90),
    "two structs": (_in_struct(_in_struct(_of_binary(_view, pa.binary_view()))), 15, -9),
    "wide index": (_wide_index, 1, 2**63),
    "date64": (_stored(pa.date64(), pa.int64()), 86_400_000, 86_400_001),
    "time32": (_stored(pa.time32("s"), pa.int32()), 86_399, 86_400),
    "time64": (_stored(pa.time64("ns"), pa.int64()), 5, -1),
    "decimal32": (_narrow_decimal, 9999, 10_000),
}


@pytest.mark.parametrize(("make", "good", "bad"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("stored", [False, True])
def test_offsets_and_indices_out_of_range_are_caught(tmp_path, make, good, bad, stored):
    def opened(value):
        table = pa.table({"k": [1, 2], "x": make(value)})
        return open_source(_write(tmp_path / "t.arrow", table) if stored else table)

    source = opened(good)
    assert source.read(source.chunks()[0], ["x"]).num_rows == 2
    source = opened(bad)
    with pytest.raises(CorruptError, match="record batch 0: column 'x' is corrupt"):
        source.read(source.chunks()[0], ["x"])
    with pytest.raises(CorruptError, match="record batch 0: column 'x' is corrupt"):
        source.statistics(source.chunks()[0]).columns["x"]


@pytest.mark.parametrize("view", [(-9, 0, 0, 0), (20, 0, 1, 0), (20, 0, -1, 0), (20, 0, 0, 1)])
def test_views_under_nulls_are_looked_at(view):
    def opened(view):
        views = pa.py_buffer(np.array([(0, 0, 0, 0), view], np.int32))
        buffers = [pa.py_buffer(b"\x01"), views, pa.py_buffer(b"x" * 20)]
        return open_source(pa.table({"x": pa.Array.from_buffers(pa.string_view(), 2, buffers)}))

    good, bad = opened((20, 0, 0, 0)), opened(view)
    assert good.read(good.chunks()[0], ["x"])["x"].to_pylist() == ["", None]
    for look in (lambda ref: bad.read(ref, ["x"]), lambda ref: bad.statistics(ref).columns["x"]):
        with pytest.raises(CorruptError, match="column 'x' is corrupt: a view under a null"):
            look(bad.chunks()[0])


def test_nulls_where_none_may_be_are_refused():
    schema = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    source = open_source(pa.Table.from_arrays([pa.array([1, None])], schema=schema))
    with pytest.raises(CorruptError, match="column 'x' is not nullable but has nulls"):
        source.read(source.chunks()[0], ["x"])
    hidden = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None]))
    source = open_source(pa.table({"d": hidden}))
    with pytest.raises(InputError, match="the dictionary of column 'd' holds a null"):
        source.read(source.chunks()[0], ["d"])


def test_column_bytes_counts_what_the_rows_refer_to():
    whole = pa.array(["ab", None, "cdef", "", "xyz"])
    assert column_bytes(whole) == 1 + 6 * 4 + 9
    assert column_bytes(whole.slice(2, 2)) == 1 + 3 * 4 + 4
    assert column_bytes(pa.array([True] * 9)) == 2
    assert column_bytes(pa.array([True] * 16).slice(7, 2)) == 2
    assert column_bytes(pa.array([1, None, 3], pa.int32())) == 1 + 12
    assert column_bytes(pa.array([], pa.int64())) == 0
    views = pa.array(["short", "much longer than twelve", None], pa.string_view())
    assert column_bytes(views) == 1 + 3 * 16 + 23
    codes = pa.array(["aa", "bb", "aa"]).dictionary_encode()
    assert column_bytes(codes) == 3 * 4 + (3 * 4 + 4)
    struct = pa.array([{"a": 1, "b": "x"}, None, {"a": 2, "b": "yz"}])
    assert column_bytes(struct.slice(1)) == 1 + 2 * 8 + (3 * 4 + 2)
    assert column_bytes(pa.array([b"abc", b"def"], pa.binary(3))) == 6
    batch = pa.record_batch({"d": codes})
    assert referenced_bytes([batch, batch.slice(1)]) == 3 * 4 + 2 * 4 + (3 * 4 + 4)


def test_ledgers_sum_equal_entries():
    one = Ledger((LedgerEntry(0, "csd", 100, 8, "filter"), LedgerEntry(1, "cpu", 8, 0, "pass")))
    two = merge([one, one, Ledger((LedgerEntry(0, "cpu", 1, 1, "filter"),))])
    assert two.entries == (
        LedgerEntry(0, "csd", 200, 16, "filter"),
        LedgerEntry(1, "cpu", 16, 0, "pass"),
        LedgerEntry(0, "cpu", 1, 1, "filter"),
    )
    assert (two.referenced_bytes, two.copied_bytes) == (217, 17)
