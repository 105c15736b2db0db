"""The native Parquet decoder equals pyarrow on what it decodes, and refuses what is damaged."""

import io
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from wherry.base.errors import CorruptError, InputError
from wherry.data.parquet_columns import decode_column, read_footer
from wherry.data.parquet_native import decode, dictionary, matching, open_chunk, why_not
from wherry.data.parquet_pages import read_pages
from wherry.data.parquet_read import read_column
from wherry.data.parquet_statistics import ColumnBounds
from wherry.kernels.layout import SLACK
from wherry.kernels.parquet_layout import FAULT, PAGE
from wherry.kernels.skeletons import skeletons

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_MICROSECONDS = st.integers(-(2**60), 2**60)
VALUES = {
    pa.bool_(): st.booleans(),
    **{
        t: st.integers(-(2 ** (t.bit_width - 1)), 2 ** (t.bit_width - 1) - 1)
        for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    },
    **{
        t: st.integers(0, 2**t.bit_width - 1)
        for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    },
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.date32(): st.integers(-800_000, 3_000_000),
    pa.time32("ms"): st.integers(0, 86_399_999),
    pa.time64("us"): st.integers(0, 86_399_999_999),
    pa.timestamp("ms", "Asia/Tokyo"): _MICROSECONDS,
    pa.timestamp("us"): _MICROSECONDS,
    pa.timestamp("ns", "UTC"): _MICROSECONDS,
    pa.duration("us"): _MICROSECONDS,
    pa.decimal128(3, 1): st.integers(-999, 999),
    pa.decimal128(15, 2): st.integers(-(10**15) + 1, 10**15 - 1),
    pa.decimal128(38, 10): st.integers(-(10**38) + 1, 10**38 - 1),
    pa.utf8(): _TEXT,
    pa.large_utf8(): _TEXT,
    pa.string_view(): _TEXT,
    pa.binary(): st.binary(max_size=30),
    pa.large_binary(): st.binary(max_size=30),
    pa.dictionary(pa.int8(), pa.utf8()): st.sampled_from(["", "a", "bc", "long enough to point"]),
}
_DELTA_TYPES = tuple(
    t for t in VALUES if pa.types.is_integer(t) or pa.types.is_temporal(t)
)  # fmt: skip


def _array(values, t):
    if pa.types.is_decimal(t):
        return pa.array([None if v is None else Decimal(f"{v}e{-t.scale}") for v in values], t)
    if pa.types.is_dictionary(t):
        return pa.array(values, t.value_type).dictionary_encode().cast(t)
    return pa.array(values, t)


def _file(array, **writing):
    stream = io.BytesIO()
    nullable = array.null_count > 0
    schema = pa.schema([pa.field("c", array.type, nullable=nullable)])
    parquet.write_table(pa.table([array], schema=schema), stream, **writing)
    return read_footer("a file", pa.py_buffer(stream.getvalue()))


def _bits(kept):
    words = np.zeros(len(kept) // 64 + 2, np.uint64)
    packed = np.packbits(np.array(kept, bool), bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    return words


def _plain(array):
    """Give an array of the same values that pyarrow can compare and filter."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.utf8()) if pa.types.is_string_view(array.type) else array


def _compare(file):
    """Decode every row group natively, in every way, and compare with pyarrow."""
    for group in range(len(file.footer.rows)):
        expected = decode_column(file, group, 0)
        chunk = open_chunk(file, group, 0)
        found = decode(chunk)
        found.validate(full=True)
        assert found.type == expected.type
        assert _plain(found).equals(_plain(expected))
        indexed = decode(chunk, as_dictionary=True)
        indexed.validate(full=True)
        assert _plain(indexed).equals(_plain(expected))
        rng = np.random.default_rng(group)
        for share in (0.0, 0.03, 0.6):
            kept = rng.random(len(expected)) < share
            wanted = _plain(expected).filter(pa.array(kept))
            for as_dictionary in (False, True):
                part = decode(chunk, _bits(kept), as_dictionary=as_dictionary)
                part.validate(full=True)
                assert _plain(part).equals(wanted)


@st.composite
def _written(draw):
    t = draw(st.sampled_from(list(VALUES)))
    pool = draw(st.lists(VALUES[t], min_size=1, max_size=40))
    size = draw(st.sampled_from([0, 1, 7, 64, 65, 200, 1000, 3000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = [pool[i] for i in rng.integers(0, len(pool), size)]
    if draw(st.booleans()):
        values.sort()
    nulls = draw(st.sampled_from([0.0, 0.02, 0.7, 1.0]))
    values = [None if n else v for v, n in zip(values, rng.random(size) < nulls, strict=True)]
    array = _array(values, t)
    if pa.types.is_dictionary(t) and array.null_count == size:
        array = _array([pool[0]] * size, t)  # pyarrow writes no dictionary of nulls alone.
    writing = {
        "compression": draw(st.sampled_from(["none", "snappy", "zstd"])),
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "use_dictionary": draw(st.booleans()),
        "data_page_size": draw(st.sampled_from([1, 500, 1 << 20])),
        "write_batch_size": draw(st.sampled_from([3, 100, 1024])),
        "dictionary_pagesize_limit": draw(st.sampled_from([20, 1 << 20])),
        "row_group_size": draw(st.sampled_from([100, 999, 1 << 20])),
        "write_page_checksum": draw(st.booleans()),
        "store_decimal_as_integer": draw(st.booleans()),
    }
    if not writing["use_dictionary"] and t in _DELTA_TYPES and draw(st.booleans()):
        writing["column_encoding"] = {"c": "DELTA_BINARY_PACKED"}
    return array, writing


@given(_written())
@settings(max_examples=150)
def test_native_equals_pyarrow(case):
    array, writing = case
    _compare(_file(array, **writing))


@pytest.mark.parametrize("width", [1, 2, 5, 8, 11, 13, 16])
def test_dictionary_indices_of_every_width(width):
    values = np.random.default_rng(width).integers(0, 1 << width, 1 << (width + 1))
    values[: 1 << width] = np.arange(1 << width)
    _compare(_file(pa.array(values), dictionary_pagesize_limit=1 << 24))


@pytest.mark.parametrize("width", range(64))
def test_differences_of_every_width(width):
    rng = np.random.default_rng(width)
    values = rng.integers(-(1 << width >> 1), 1 << width >> 1, 300, dtype=np.int64, endpoint=True)
    for array in (pa.array(values), pa.array(values).cast(pa.int32(), safe=False)):
        _compare(_file(array, use_dictionary=False, column_encoding="DELTA_BINARY_PACKED"))


@pytest.mark.parametrize("nulls", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("values", [["a", "bc", ""], [5, 7, 11], [0.5, 1.5, 2.5]])
def test_rows_that_match_are_told_by_the_dictionary(values, nulls):
    rng = np.random.default_rng(4)
    stored = [
        None if n else values[i]
        for i, n in zip(rng.integers(0, 3, 1000), rng.random(1000) < nulls, strict=True)
    ]
    array = pa.array(stored, pa.array(values).type)
    chunk = open_chunk(_file(array, data_page_size=50, write_batch_size=77), 0, 0)
    passing = np.array([value != values[1] for value in dictionary(chunk).to_pylist()], bool)
    rows = matching(chunk, passing)
    assert decode(chunk, rows).to_pylist() == [v for v in stored if v not in (None, values[1])]


def test_texts_that_come_more_often_than_their_share_of_the_dictionary():
    rare = [f"{i}" for i in range(2000)]
    _compare(_file(pa.array([*rare, *["a long text " * 100] * 3000]), data_page_size=1000))


def test_texts_longer_than_a_page():
    _compare(_file(pa.array(["x" * 3_000_000, None, "y" * 70_000, ""]), use_dictionary=False))


@st.composite
def _repetitive(draw):
    pieces = draw(st.lists(st.binary(min_size=1, max_size=70), min_size=1, max_size=6))
    order = draw(st.lists(st.sampled_from(pieces), max_size=200))
    return b"".join(piece * draw(st.sampled_from([1, 1, 3, 40])) for piece in order)


@given(_repetitive())
@settings(max_examples=150)
def test_snappy_equals_its_definition(data):
    packed = pa.Codec("snappy").compress(data, asbytes=True)
    source = np.frombuffer(packed + bytes(SLACK), np.uint8)
    target = np.full(len(data) + SLACK, 0xAA, np.uint8)
    snappy = skeletons("parquet.snappy").snappy
    places = (source.ctypes.data, len(packed), target.ctypes.data)
    assert snappy(*places, len(data)) == 0
    assert target[: len(data)].tobytes() == data
    assert snappy(*places, len(data) + 1) == FAULT.SNAPPY
    assert snappy(places[0], len(packed) - 1, places[2], len(data)) == FAULT.SNAPPY


def test_pages_without_a_wanted_row_are_not_looked_at():
    file = _file(pa.array(np.arange(10_000) % 7), data_page_size=100, write_batch_size=500)
    pages = read_pages(file, 0, 0).as_array()
    assert len(pages) > 10
    spoilt = bytearray(file.buffer.to_pybytes())
    for page in pages[3:]:
        start = int(page[PAGE.START]) - file.buffer.address
        spoilt[start : start + int(page[PAGE.STORED])] = b"\xff" * int(page[PAGE.STORED])
    chunk = open_chunk(msgspec.structs.replace(file, buffer=pa.py_buffer(bytes(spoilt))), 0, 0)
    kept = np.zeros(10_000, bool)
    kept[[5, int(pages[1, PAGE.VALUES]) + 1]] = True
    wanted = [5 % 7, (int(pages[1, PAGE.VALUES]) + 1) % 7]
    assert decode(chunk, _bits(kept)).to_pylist() == wanted
    kept[9_999] = True
    with pytest.raises(CorruptError, match=r"a file, row group 0, column 'c' .*page at offset \d+"):
        decode(chunk, _bits(kept))


@pytest.mark.parametrize(
    ("array", "writing", "reason"),
    [
        (pa.array([1, 2]), {"compression": "gzip"}, "compression GZIP"),
        (pa.array([{"a": 1}]), {}, "nested"),
        (pa.array([b"ab"], pa.binary(2)), {}, "no native form"),
        (pa.array([1, 2], pa.timestamp("ns")), {"use_deprecated_int96_timestamps": True}, "INT96"),
        (
            pa.array(["a", "b"]),
            {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
            "encoding DELTA_BYTE_ARRAY of BYTE_ARRAY",
        ),
        (
            pa.array([1.5]),
            {"use_dictionary": False, "column_encoding": "BYTE_STREAM_SPLIT"},
            "encoding BYTE_STREAM_SPLIT of DOUBLE",
        ),
    ],
)
def test_what_is_not_native_says_why_and_is_read_by_pyarrow(array, writing, reason):
    file = _file(array, **writing)
    assert reason in why_not(file, 0, 0)
    with pytest.raises(InputError, match=r"is not decoded natively"):
        open_chunk(file, 0, 0)
    assert read_column(file, 0, 0, ColumnBounds(file).of(0, 0)).equals(array)


def _swapped(file, old, new):
    whole = file.buffer.to_pybytes()
    begin = file.footer.chunks[0][0].dictionary_page_offset
    begin = begin or file.footer.chunks[0][0].data_page_offset
    end = begin + file.footer.chunks[0][0].total_compressed_size
    body = whole[begin:end]
    assert old in body
    damaged = whole[:begin] + body.replace(old, new) + whole[end:]
    return msgspec.structs.replace(file, buffer=pa.py_buffer(damaged))


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_bytes_that_are_no_text_are_refused(use_dictionary):
    file = _file(pa.array(["abcd", "efgh"]), compression="none", use_dictionary=use_dictionary)
    known = ColumnBounds(file).of(0, 0)
    with pytest.raises(CorruptError, match="UTF8"):
        read_column(_swapped(file, b"abcd", b"ab\xff\xfe"), 0, 0, known)


@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize("t", [pa.int64(), pa.decimal128(18, 2), pa.date32()])
def test_numbers_outside_of_their_bounds_are_refused(t, use_dictionary):
    stored = [5, 7, 9]
    array = _array(stored, t)
    writing = {"compression": "none", "store_decimal_as_integer": True}
    file = _file(array, use_dictionary=use_dictionary, **writing)
    known = ColumnBounds(file).of(0, 0)
    assert read_column(file, 0, 0, known).equals(array)
    size = 4 if pa.types.is_date32(t) else 8
    seven, eleven = ((n).to_bytes(size, "little") for n in (7, 11))
    with pytest.raises(CorruptError, match="its statistics say"):
        read_column(_swapped(file, seven, eleven), 0, 0, known)


def test_decimals_beyond_their_precision_are_refused():
    array = _array([5, 7], pa.decimal128(12, 2))
    file = _file(array, compression="none", store_decimal_as_integer=True, write_statistics=False)
    seven, vast = ((n).to_bytes(8, "little") for n in (7, 10**13))
    with pytest.raises(CorruptError, match="precision"):
        read_column(_swapped(file, seven, vast), 0, 0, ColumnBounds(file).of(0, 0))


def test_a_wrong_checksum_is_refused():
    file = _file(pa.array([11, 22]), compression="none", write_page_checksum=True)
    eleven, twelve = ((n).to_bytes(8, "little") for n in (11, 12))
    with pytest.raises(CorruptError, match="checksum"):
        open_chunk(_swapped(file, eleven, twelve), 0, 0)


def test_nulls_take_no_room_and_no_bitmap_without_any():
    nullable = pa.array([1, None, 3])
    stream = io.BytesIO()
    parquet.write_table(pa.table({"c": nullable, "d": pa.array([1, 2, 3])}), stream)
    file = read_footer("a file", pa.py_buffer(stream.getvalue()))
    assert decode(open_chunk(file, 0, 0)).equals(nullable)
    assert decode(open_chunk(file, 0, 1)).buffers()[0] is None
    assert pc.sum(decode(open_chunk(file, 0, 0))).as_py() == 4


def test_damaged_columns_are_refused_or_whole():
    """In a process of its own, where a byte out of bounds is a signal."""
    tests = Path(__file__).parent.parent
    paths = os.pathsep.join([str(tests), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "support.parquet_damage", "20", "4000"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "4000 damaged columns" in done.stdout
