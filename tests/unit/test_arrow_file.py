"""Columns of Arrow IPC files, read into one block of memory: against pyarrow, and refused."""

import os
import struct

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from pyarrow import ipc
from support import stored, wild
from support.stored import TABLE

import wherry as wh
from wherry.base.errors import CorruptError, InputError
from wherry.benchmarks import reading
from wherry.data.arrow_file import ArrowFile
from wherry.data.extents import PAGE, plan_extents
from wherry.data.readers import Posix
from wherry.data.segment import SegmentPool


@pytest.fixture
def path(tmp_path):
    return stored.write(tmp_path / "t.arrow", TABLE.to_batches(max_chunksize=300))


@settings(max_examples=150)
@given(stored.batches(), st.data())
def test_what_is_read_is_what_pyarrow_reads(tmp_path_factory, rows, data):
    path = stored.write(tmp_path_factory.mktemp("t") / "t.arrow", rows)
    names = data.draw(st.lists(st.sampled_from(rows[0].schema.names), min_size=1, unique=True))
    chosen = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True))
    reader = Posix(data.draw(st.sampled_from(("cached", "either"))), data.draw(st.integers(1, 3)))
    gap = data.draw(st.sampled_from((0, 100, 5000, 1 << 20)))
    with ArrowFile(path) as file:
        arena = file.read(names, chosen, reader, gap)
    found, _ = stored.mapped(path)
    assert arena.memory.address % PAGE == 0
    assert arena.schema.equals(rows[0].select(names).schema)
    for position, number in enumerate(chosen):
        batch = arena.batch(position)
        for column, wanted in zip(batch.columns, found[number].select(names).columns, strict=True):
            assert stored.content(column) == stored.content(wanted)
    assert arena.table().num_rows == sum(rows[number].num_rows for number in chosen)
    evidence = arena.read.evidence
    assert evidence.direct + evidence.cached <= arena.read.read
    assert arena.read.needed <= arena.read.read <= path.stat().st_size + PAGE


def test_nothing_is_copied_and_memory_outlives_the_file(path):
    with ArrowFile(path) as file:
        arena = file.read(["s", "a"])
    column = arena.batch(2).column("a")
    start, end = arena.memory.address, arena.memory.address + arena.memory.size
    assert all(start <= b.address < end for b in column.buffers() if b)
    del arena
    assert column.to_pylist() == list(range(600, 900))


def test_a_query_over_what_was_read(path):
    with ArrowFile(path) as file:
        table = file.read(["a"], reader=Posix("either")).table()
    assert wh.scan(table).agg(total=wh.col("a").sum()).collect()["total"].to_pylist() == [
        sum(range(1000))
    ]


def test_dictionaries_that_grow_are_put_together(tmp_path):
    kind = pa.dictionary(pa.int32(), pa.utf8())
    parts = [["x", "y"], ["x", "y", "z"], ["x", "y", "z", "u", "v"]]
    rows = [
        pa.record_batch(
            {"d": pa.DictionaryArray.from_arrays(pa.array(range(len(p)), pa.int32()), pa.array(p))}
        )
        for p in parts
    ]
    path = stored.write(tmp_path / "d.arrow", rows)
    with ArrowFile(path) as file:
        table = file.read(["d"], batches=[2, 0]).table()
    assert table.schema.field("d").type == kind
    assert table["d"].to_pylist() == [*parts[2], *parts[0]]


def test_a_file_without_batches_is_read(tmp_path):
    path = stored.write(tmp_path / "e.arrow", [wild.batch_of(0).slice(0, 0)])
    with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, wild.SCHEMA):
        pass
    with ArrowFile(path) as file:
        arena = file.read(file.schema.names)
    assert arena.table().num_rows == 0
    assert arena.table().schema == wild.SCHEMA
    assert arena.read.read == 0


def test_only_pages_that_are_needed_are_read(tmp_path):
    rows = pa.record_batch({f"c{i}": np.arange(100_000) for i in range(8)})
    path = stored.write(tmp_path / "w.arrow", [rows])
    with ArrowFile(path) as file:
        two = file.read(["c1", "c6"], gap=0).read
        all_between = file.read(["c1", "c6"], gap=1 << 30).read
    assert two.extents == 2
    assert two.needed <= two.read <= two.needed + 2 * 2 * PAGE
    assert two.evidence.cached == two.read
    assert all_between.extents == 1
    assert all_between.read > 5 * 800_000


@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 30_000)), min_size=1),
    st.sampled_from((0, 1, PAGE, 50_000)),
)
def test_extents_are_pages_that_hold_every_range(ranges, gap):
    offsets, sizes = (np.array(column, np.int64) for column in zip(*ranges, strict=True))
    extents, places = plan_extents(offsets, sizes, gap)
    for numbers in (extents.offsets, extents.sizes, extents.places):
        assert (numbers % PAGE == 0).all()
    assert (extents.sizes > 0).all()
    assert (extents.offsets[1:] > (extents.offsets + extents.sizes)[:-1] + gap).all()
    file = np.arange(300_000, dtype=np.uint32)
    arena = np.zeros(extents.size, np.uint32)
    for at, size, place in zip(extents.offsets, extents.sizes, extents.places, strict=True):
        arena[place : place + size] = np.resize(file[at : at + size], size)
    for at, size, place in zip(offsets, sizes, places, strict=True):
        assert (arena[place : place + size] == file[at : at + size]).all()
    assert ((places - offsets) % PAGE == 0).all()
    merged = []
    for page in sorted(
        {at // PAGE + i for at, size in ranges for i in range(-(-(at % PAGE + size) // PAGE))}
    ):
        if merged and page * PAGE <= merged[-1][1] + gap:
            merged[-1][1] = (page + 1) * PAGE
        else:
            merged.append([page * PAGE, (page + 1) * PAGE])
    ends = (extents.offsets + extents.sizes).tolist()
    assert merged == [list(pair) for pair in zip(extents.offsets.tolist(), ends, strict=True)]


def test_no_range_is_no_extent():
    none = np.zeros(0, np.int64)
    extents, places = plan_extents(none, none, 0)
    assert (extents.size, len(places)) == (0, 0)


def test_direct_reads_pass_the_page_cache_by(path):
    with ArrowFile(path) as file:
        arena = file.read(["a", "s"], reader=Posix("either"))
        if arena.read.evidence.why:
            with pytest.raises(InputError, match="cannot be read directly"):
                file.read(["a"], reader=Posix("direct"))
            pytest.skip(arena.read.evidence.why)
        assert file.read(["a", "s"], reader=Posix("direct")).table().equals(TABLE)
    assert arena.table().equals(TABLE)
    assert arena.read.evidence.cached == 0
    assert arena.read.needed < arena.read.evidence.direct <= path.stat().st_size


def test_a_file_system_that_refuses_direct_reads(path, monkeypatch):
    real = os.open

    def refusing(name, flags, *rest):
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return real(name, flags, *rest)

    monkeypatch.setattr(os, "open", refusing)
    with ArrowFile(path) as file:
        with pytest.raises(InputError, match="cannot be read directly: its file system does not"):
            file.read(["a"], reader=Posix("direct"))
        found = file.read(["a"], reader=Posix("either"))
    assert found.read.evidence.direct == 0
    assert "its file system does not open it so (Invalid argument)" in found.read.evidence.why
    assert found.table().equals(TABLE.select(["a"]))


def test_a_direct_read_that_the_device_refuses(path, monkeypatch):
    real = os.preadv

    def refusing(descriptor, views, offset):
        if f"{descriptor}" in direct:
            raise OSError(22, "Invalid argument")
        return real(descriptor, views, offset)

    direct = set()
    opened = os.open

    def noting(name, flags, *rest):
        made = opened(name, flags & ~os.O_DIRECT, *rest)
        if flags & os.O_DIRECT:
            direct.add(f"{made}")
        return made

    monkeypatch.setattr(os, "open", noting)
    monkeypatch.setattr(os, "preadv", refusing)
    with ArrowFile(path) as file:
        with pytest.raises(InputError, match=r"directly at offset 0: .* another alignment"):
            file.read(["a"], reader=Posix("direct"))
        found = file.read(["a"], reader=Posix("either"))
    assert found.read.evidence.cached > 0
    assert found.read.evidence.why == "its file system wants another alignment"
    assert found.table().equals(TABLE.select(["a"]))


@pytest.mark.parametrize("way", ["cached", "either"])
def test_reads_that_are_cut_short_go_on(path, monkeypatch, way):
    """The system may say of any read that it gave less; direct ones go on at a whole page."""
    real = os.preadv

    def short(descriptor, views, offset):
        done = real(descriptor, views, offset)
        if done > PAGE + 100:
            views[0].cast("B")[PAGE + 100 : done] = bytes(done - PAGE - 100)
            return PAGE + 100
        return done

    with ArrowFile(path) as file:
        whole = file.read(["a", "s"], reader=Posix(way)).read
        monkeypatch.setattr(os, "preadv", short)
        found = file.read(["a", "s"], reader=Posix(way))
    assert found.table().equals(TABLE)
    assert found.read == whole


def test_memory_begins_at_a_page_whatever_else_the_pool_gave():
    pool = SegmentPool()
    reader = Posix(pool=pool)
    others = [pool.allocate(64 * n) for n in range(1, 5)]
    blocks = [reader.allocate(n) for n in (1, PAGE, 3 * PAGE)]
    assert [block.address % PAGE for block in blocks] == [0, 0, 0]
    assert [block.size for block in blocks] == [1, PAGE, 3 * PAGE]
    assert len(others) == 4


def test_each_way_has_its_own_gap(tmp_path):
    rows = pa.record_batch({f"c{i}": np.arange(5000) for i in range(3)})
    path = stored.write(tmp_path / "g.arrow", [rows])
    with ArrowFile(path) as file:  # 40,000 bytes lie between the two
        assert file.read(["c0", "c2"]).read.extents == 2
        assert file.read(["c0", "c2"], reader=Posix("either")).read.extents == 1


def test_a_file_cut_short_after_it_was_opened(path):
    with ArrowFile(path) as file:
        os.truncate(path, 5000)
        with pytest.raises(
            CorruptError, match=r"t\.arrow was \d+ bytes long and ends at offset 50"
        ):
            file.read(["s"])
    with pytest.raises(CorruptError, match=r"t\.arrow \(5000 bytes\) is truncated"):
        ArrowFile(path)


def test_a_file_changed_after_it_was_opened(path):
    with ArrowFile(path) as file:
        os.utime(path, ns=(1, 1))
        with pytest.raises(InputError, match="changed in place after it was opened"):
            file.read(["a"])


@pytest.mark.parametrize(
    ("name", "call", "said"),
    [
        ("columns", lambda file: file.read(["b"]), r"no column 'b'.*columns: a, s"),
        (
            "batches",
            lambda file: file.read(["a"], [9]),
            r"t\.arrow has no record batch 9; it has 4",
        ),
        ("ways", lambda _: Posix("quick"), "no way 'quick'.*cached, direct, either"),
        ("threads", lambda _: Posix(threads=0), "0 threads cannot read"),
    ],
)
def test_what_is_not_there_is_refused(path, name, call, said):
    with ArrowFile(path) as file, pytest.raises(InputError, match=said):
        call(file)


def test_values_that_lie_are_refused_when_they_are_read(path):
    with ArrowFile(path) as file:
        text = file.layout.offsets[file.layout.first[0, 1] + 1]
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, int(text) + 8, 1 << 30)
    path.write_bytes(data)
    with ArrowFile(path) as file:
        arena = file.read(["a", "s"])
        with pytest.raises(CorruptError, match=r"t\.arrow, record batch 0: column 's' is corrupt"):
            arena.batch(0)
        assert arena.batch(1).num_rows == 300


def test_the_benchmark_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reading, "_ROWS", 4)
    monkeypatch.setattr(reading, "_BATCHES", 20)
    monkeypatch.setattr(reading, "_WIDE_ROWS", 5000)
    monkeypatch.setattr(reading, "_WIDE_BATCH", 2000)
    reading.main(tmp_path, 1)
    said = capsys.readouterr().out
    assert "metadata, wherry: " in said
    assert "reading, cached, 2 threads: " in said


def test_dictionaries_stay_ordered(tmp_path):
    codes = pa.array([1, 0], pa.int8())
    column = pa.DictionaryArray.from_arrays(codes, pa.array(["x", "y"]), ordered=True)
    path = stored.write(tmp_path / "t.arrow", [pa.record_batch({"d": column})])
    with ArrowFile(path) as file:
        assert file.read(["d"]).batch(0).column("d").equals(column)
        assert file.read(["d"]).batch(0).column("d").type.ordered
