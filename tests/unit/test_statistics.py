"""Statistics: right for every type, kept beside the file, never believed when stale."""

import datetime as dt
import math
import os
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc

from wherry.data import arrow_ipc, statistics_file
from wherry.data.source import column_bounds, open_source
from wherry.data.statistics import (
    ChunkStatistics,
    ColumnStatistics,
    chunk_statistics,
    merged,
)
from wherry.data.validate import check_batch

MOMENT = 1_700_000_000_000_000_001  # nanoseconds after 1970; not a whole microsecond


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep the tests out of the user's cache."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_: str(folder))
    return folder


def _write(path, table, batch_rows=4):
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return path


def _count_passes(monkeypatch):
    measured = []

    def count(batch):
        measured.append(batch.num_rows)
        return chunk_statistics(batch)

    monkeypatch.setattr(arrow_ipc, "chunk_statistics", count)
    return measured


def _bounds(path):
    source = open_source(path)
    return column_bounds(source, source.schema.names)


UTC_MOMENT = dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC)
COLUMNS = {
    "bool": (pa.array([True, None, False]), False, True),
    "u64": (pa.array([2**64 - 1, 1, None], pa.uint64()), 1, 2**64 - 1),
    "f64": (pa.array([0.5, None, -math.inf]), -math.inf, 0.5),
    "nan": (pa.array([0.5, None, math.nan]), None, None),
    "money": (
        pa.array([Decimal("1.25"), None, Decimal("-3.50")], pa.decimal128(15, 2)),
        Decimal("-3.50"),
        Decimal("1.25"),
    ),
    "day": (
        pa.array([dt.date(1994, 1, 1), None, dt.date(1992, 2, 3)]),
        dt.date(1992, 2, 3),
        dt.date(1994, 1, 1),
    ),
    "far": (
        pa.array([2**31 - 1, None, 0], pa.int32()).cast(pa.date32()),
        dt.date(1970, 1, 1),
        None,
    ),
    "ns": (
        pa.array([MOMENT, None, MOMENT], pa.timestamp("ns", "Europe/Paris")),
        UTC_MOMENT,
        UTC_MOMENT + dt.timedelta(microseconds=1),
    ),
    "text": (pa.array(["b", None, "é"]), "b", "é"),
    "view": (pa.array(["b", None, "é"], pa.string_view()), "b", "é"),
    "long": (pa.array(["b", None, "x" * 300]), "b", None),
    "codes": (
        pa.DictionaryArray.from_arrays(pa.array([1, None, 2]), pa.array(["a", "m", "b", "z"])),
        "b",
        "m",
    ),
    "date64": (
        pa.array([dt.date(1994, 1, 1), None, dt.date(1960, 2, 3)], pa.date64()),
        dt.date(1960, 2, 3),
        dt.date(1994, 1, 1),
    ),
    "time32": (
        pa.array([dt.time(1, 2, 3), None, dt.time(0)], pa.time32("s")),
        dt.time(0),
        dt.time(1, 2, 3),
    ),
    "time of ns": (
        pa.array([1_001, None, 86_399_999_999_999], pa.time64("ns")),
        dt.time(microsecond=1),
        None,
    ),
    "span": (
        pa.array([-1_500, None, 1_500], pa.duration("ns")),
        dt.timedelta(microseconds=-2),
        dt.timedelta(microseconds=2),
    ),
    "far span": (pa.array([2**62, None, 0], pa.duration("s")), dt.timedelta(0), None),
    "decimal32": (
        pa.array([Decimal("1.25"), None, Decimal("-3.50")], pa.decimal32(7, 2)),
        Decimal("-3.50"),
        Decimal("1.25"),
    ),
    "bytes": (pa.array([b"b", None, b"\xff"]), b"b", b"\xff"),
    "views": (pa.array([b"b", None, b""], pa.binary_view()), b"", b"b"),
    "fixed": (pa.array([b"\0\xff", None, b"\xff\0"], pa.binary(2)), b"\0\xff", b"\xff\0"),
    "long bytes": (pa.array([b"b", None, b"x" * 300]), b"b", None),
    "spans": (
        pa.DictionaryArray.from_arrays(
            pa.array([1, None, 2]), pa.array([0, 7, 5, 9], pa.duration("s"))
        ),
        dt.timedelta(seconds=5),
        dt.timedelta(seconds=7),
    ),
    "struct": (pa.array([{"a": 1}, None, {"a": 2}]), None, None),
    "nothing": (pa.array([None, None, None], pa.int32()), None, None),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_bounds_of_every_type_survive_being_kept(tmp_path, monkeypatch, name):
    array, low, high = COLUMNS[name]
    wanted = {"x": ColumnStatistics(low, high, array.null_count)}
    batch = pa.record_batch({"x": array})
    check_batch(batch, "the batch")
    assert chunk_statistics(batch) == ChunkStatistics(3, wanted)
    path = _write(tmp_path / "t.arrow", pa.Table.from_batches([batch]))
    assert _bounds(path) == wanted
    measured = _count_passes(monkeypatch)
    assert _bounds(path) == wanted
    assert measured == []


def test_sliced_chunks_have_the_statistics_of_their_batch():
    table = pa.table({"x": range(600_000)})
    source = open_source(table)
    assert len(source.chunks()) == 2
    assert {source.statistics(ref).rows for ref in source.chunks()} == {600_000}
    nulls = open_source(pa.table({"x": pa.array([None] * 300_000, pa.int8())}))
    assert column_bounds(nulls, ["x"])["x"] == ColumnStatistics(None, None, 300_000)


def test_merging_keeps_unknown_bounds_unknown():
    schema = pa.schema([("x", pa.float64())])

    def chunk(low, high, nulls):
        return ChunkStatistics(5, {"x": ColumnStatistics(low, high, nulls)})

    nothing = chunk(None, None, 5)
    assert merged(schema.names, [chunk(1, 2, 1), nothing, chunk(-1, 1, 0)])[
        "x"
    ] == ColumnStatistics(-1, 2, 6)
    assert merged(schema.names, [chunk(1, 2, 1), chunk(None, None, 0)])["x"] == ColumnStatistics(
        None, None, 1
    )
    assert merged(schema.names, [])["x"] == ColumnStatistics(None, None, 0)


def test_a_file_is_measured_once(tmp_path, monkeypatch):
    measured = _count_passes(monkeypatch)
    path = _write(tmp_path / "t.arrow", pa.table({"x": range(10)}))
    source = open_source(path)
    assert measured == []  # lazy: opening costs no pass
    source.read(source.chunks()[0], ["x"])
    assert measured == [4, 4, 2]
    assert (tmp_path / ".t.arrow.wherry-stats").is_file()
    assert _bounds(path)["x"] == ColumnStatistics(0, 9, 0)
    assert open_source(tmp_path).fragments == 1  # the statistics are not taken for data
    assert measured == [4, 4, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".t.arrow.wherry-stats", "t.arrow"]


def test_stale_statistics_are_computed_again(tmp_path):
    path = _write(tmp_path / "t.arrow", pa.table({"x": range(10)}))
    assert _bounds(path)["x"].max == 9
    before = path.stat()
    _write(path, pa.table({"x": range(10, 20)}))
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(0, before.st_mtime_ns + 1))
    assert _bounds(path)["x"].max == 19
    _write(path, pa.table({"x": range(30)}))
    os.utime(path, ns=(0, before.st_mtime_ns + 1))
    assert _bounds(path)["x"].max == 29


def test_corrupt_statistics_are_computed_again(tmp_path):
    path = _write(tmp_path / "t.arrow", pa.table({"x": range(10)}))
    wanted = _bounds(path)
    kept = tmp_path / ".t.arrow.wherry-stats"
    good = kept.read_bytes()
    for where in range(len(good)):
        spoilt = bytearray(good)
        spoilt[where] ^= 1
        for content in (bytes(spoilt), good[:where]):
            kept.write_bytes(content)
            assert _bounds(path) == wanted
            assert kept.read_bytes() == good


def test_statistics_go_to_the_cache_when_the_folder_is_read_only(tmp_path, monkeypatch, cache):
    plain = Path.write_bytes

    def refuse(path, content):
        if path.parent == tmp_path:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, content)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    measured = _count_passes(monkeypatch)
    path = _write(tmp_path / "t.arrow", pa.table({"x": range(10)}))
    assert _bounds(path) == _bounds(path)
    assert measured == [4, 4, 2]
    assert len(list(cache.glob("statistics/*.wherry-stats"))) == 1
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["t.arrow"]


def test_statistics_kept_nowhere_last_as_long_as_the_source(tmp_path, monkeypatch):
    def refuse(path, content):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    measured = _count_passes(monkeypatch)
    path = _write(tmp_path / "t.arrow", pa.table({"x": range(10)}))
    source = open_source(path)
    assert column_bounds(source, ["x"]) == column_bounds(source, ["x"])
    assert measured == [4, 4, 2]
    stat, schema = path.stat(), source.schema
    assert statistics_file.load(path, stat, schema, [4, 4, 2]) is None
