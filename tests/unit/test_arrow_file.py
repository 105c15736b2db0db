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

import wherry as wh
from wherry.base.errors import CorruptError, InputError
from wherry.benchmarks import reading
from wherry.data import ipc_layout
from wherry.data.arrow_file import ArrowFile
from wherry.data.extents import PAGE, plan_extents
from wherry.data.flatbuffer import slot, target, vector
from wherry.data.readers import Posix

TABLE = pa.table({"a": range(1000), "s": [f"text {i % 7}" for i in range(1000)]})


@pytest.fixture
def path(tmp_path):
    return stored.write(tmp_path / "t.arrow", TABLE.to_batches(max_chunksize=300))


@st.composite
def batches(draw):
    """Gives batches of one schema, of every type: slices, with and without nulls, some empty."""
    whole = wild.batch_of(draw(st.integers(0, 8)))
    names = draw(st.lists(st.sampled_from(whole.schema.names), min_size=1, unique=True))
    ends = sorted(draw(st.lists(st.integers(0, whole.num_rows), min_size=1, max_size=6)))
    starts = [draw(st.integers(0, end)) for end in ends]
    return [
        whole.select(names).slice(start, end - start)
        for start, end in zip(starts, ends, strict=True)
    ]


def expected_ranges(batch, base):
    """Gives offset and size of every buffer; what is not there is of size 0."""
    flat = [b for column in batch.columns for b in stored.own_buffers(column)]
    return [(b.address - base if b and b.size else 0, b.size if b else 0) for b in flat]


@settings(max_examples=150)
@given(batches(), st.booleans())
def test_buffers_lie_where_pyarrow_finds_them(tmp_path_factory, rows, one_by_one):
    path = stored.write(tmp_path_factory.mktemp("t") / "t.arrow", rows)
    found, base = stored.mapped(path)
    with pytest.MonkeyPatch.context() as patch:
        if one_by_one:
            patch.setattr(ipc_layout, "_MOST_SHAPES", 0)
        with ArrowFile(path) as file:
            layout = file.layout
    assert layout.rows.tolist() == [batch.num_rows for batch in rows]
    for i, batch in enumerate(found):
        first, end = layout.first[i, 0], layout.first[i, -1]
        sizes = layout.sizes[first:end]
        offsets = np.where(sizes > 0, layout.offsets[first:end], 0)
        seen = list(zip(offsets.tolist(), sizes.tolist(), strict=True))
        assert seen == expected_ranges(batch, base)


@settings(max_examples=150)
@given(batches(), st.data())
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
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: real(fd, [views[0][: PAGE + 100]], at))
    with ArrowFile(path) as file:
        found = file.read(["a", "s"], reader=Posix(way))
    assert found.table().equals(TABLE)


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


def test_every_truncation_is_refused_with_the_file(tmp_path):
    whole = stored.write(tmp_path / "t.arrow", [wild.batch_of(1).slice(0, 20)]).read_bytes()
    short = tmp_path / "short.arrow"
    for size in [*range(0, len(whole), 97), *range(len(whole) - 40, len(whole))]:
        short.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"short\.arrow"):
            ArrowFile(short)


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


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_files_are_refused(tmp_path, codec):
    path = stored.write(tmp_path / "z.arrow", TABLE.to_batches(), compression=codec)
    with pytest.raises(InputError, match=rf"message at offset \d+ is compressed \({codec}\)"):
        ArrowFile(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "s.arrows"
    with ipc.new_stream(str(path), TABLE.schema) as writer:
        writer.write_table(TABLE)
    with pytest.raises(InputError, match="is no Arrow IPC file"):
        ArrowFile(path)
    with pytest.raises(InputError, match=r"none\.arrow cannot be read: No such file"):
        ArrowFile(tmp_path / "none.arrow")
    lists = pa.record_batch({"l": [[1], [2]]})
    with pytest.raises(InputError, match=r"column 'l' of .* which Wherry does not read"):
        ArrowFile(stored.write(tmp_path / "l.arrow", [lists]))


def changed(path, old, new):
    """Writes a file anew with numbers replaced behind its first message: where metadata lie."""
    data = path.read_bytes()
    at = data.index(old)
    path.write_bytes(data[:at] + new + data[at + len(old) :])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ((300, 1), (300, 301), r"more nulls than it has rows \(number 0\)"),
        ((300, 1), (299, 1), r"a column has other rows than its batch \(number 0\)"),
        ((300, 1), (-1, 1), r"a node of a length that cannot be \(number 0\)"),
        ((40, 2400), (40, 2392), r"too short for its rows \(number 0\)"),
        ((40, 2400), (36, 2400), r"not aligned to 8 bytes \(number 1\)"),
        ((40, 2400), (1 << 40, 2400), r"does not lie in its body \(number 1\)"),
        ((0, 38), (0, 30), r"a validity bitmap is too short \(number 0\)"),
        ((0, 38), (0, -38), r"does not lie in its body \(number 0\)"),
    ],
)
def test_metadata_that_lie_are_refused_with_their_offset(tmp_path, old, new, said):
    rows = pa.record_batch({"a": pa.array([None, *range(299)])})
    path = stored.write(tmp_path / "t.arrow", [rows, rows])
    changed(path, struct.pack("<qq", *old), struct.pack("<qq", *new))
    with pytest.raises(CorruptError, match=rf"t\.arrow: the message at offset \d+: .*{said}"):
        ArrowFile(path)


def test_many_messages_of_many_shapes_are_decoded(tmp_path):
    """Each batch has another number of buffers: a column of views has as many as it was made of."""
    text = pa.array(["a text that is longer than a view"], pa.string_view())
    rows = [
        pa.record_batch(
            {"v": pa.concat_arrays([text] * (1 + i % 30)), "a": pa.array(range(1 + i % 30))}
        )
        for i in range(60)
    ]
    path = stored.write(tmp_path / "t.arrow", rows)
    with ArrowFile(path) as file:
        buffers = set((file.layout.first[:, -1] - file.layout.first[:, 0]).tolist())
        table = file.read(["a", "v"]).table()
    assert len(buffers) == 30 > ipc_layout._MOST_SHAPES
    assert table.equals(pa.Table.from_batches(rows).select(["a", "v"]))


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


class Footer:
    """The end of a file, field by field, to be written anew with something else in it."""

    def __init__(self, path):
        self.path = path
        self.data = bytearray(path.read_bytes())
        (length,) = struct.unpack_from("<i", self.data, len(self.data) - 10)
        self.start = len(self.data) - 10 - length
        self.content = bytes(self.data[self.start : -10])
        self.root = target(self.content, 0)
        self.schema = target(self.content, slot(self.content, self.root, 1))

    def field(self, number):
        start, _ = vector(self.content, self.schema, 1, 4)
        return target(self.content, start + 4 * number)

    def put(self, form, at, value):
        struct.pack_into(form, self.data, self.start + at, value)
        self.path.write_bytes(self.data)


def with_dictionaries(path, batches=1):
    rows = pa.record_batch(
        {"d": pa.array(["x", "y"]).dictionary_encode(), "e": pa.array([7, 7]).dictionary_encode()}
    )
    return stored.write(path, [rows] * batches)


@pytest.mark.parametrize(
    ("form", "at", "value", "said"),
    [
        ("<q", 0, 1 << 50, r"message 1 of \d+ and \d+ bytes at offset 1125899906842624"),
        ("<q", 0, -8, "at offset -8 does not lie before it"),
        ("<i", 8, -8, "message 1 of -8 and"),
        ("<i", 8, 1 << 30, "message 1 of 1073741824 and"),
        ("<q", 16, 1 << 62, r"message 1 of \d+ and 4611686018427387904 bytes"),
        ("<q", 16, 8, "the footer says another length of its body"),
    ],
)
def test_messages_that_do_not_lie_in_the_file(path, form, at, value, said):
    footer = Footer(path)
    start, _ = vector(footer.content, footer.root, 3, 24)
    footer.put(form, start + 24 + at, value)
    with pytest.raises(CorruptError, match=rf"t\.arrow.* offset \d+.*{said}"):
        ArrowFile(path)


def test_messages_with_more_metadata_than_the_file_are_refused(tmp_path):
    """As many times the whole file as it has batches would be read into memory."""
    rows = [pa.record_batch({"a": [i]}) for i in range(30)]
    path = stored.write(tmp_path / "t.arrow", rows)
    for number in range(30):
        footer = Footer(path)
        start, _ = vector(footer.content, footer.root, 3, 24)
        footer.put("<q", start + 24 * number, 8)
        footer.put("<i", start + 24 * number + 8, footer.start // 2)
    with pytest.raises(CorruptError, match="its 30 messages have more bytes of metadata than"):
        ArrowFile(path)


def test_a_footer_that_does_not_fit(path):
    data = bytearray(path.read_bytes())
    for length in (0, -1, len(data), 1 << 30):
        struct.pack_into("<i", data, len(data) - 10, length)
        path.write_bytes(data)
        with pytest.raises(CorruptError, match=rf"a footer of {length} bytes, as offset \d+ says"):
            ArrowFile(path)


def test_a_footer_longer_than_what_is_read_first(tmp_path):
    rows = pa.record_batch({f"column {i}": [i] for i in range(2000)})
    path = stored.write(tmp_path / "t.arrow", [rows])
    assert len(Footer(path).content) > 1 << 16
    with ArrowFile(path) as file:
        assert file.read(["column 1999"]).batch(0).column(0).to_pylist() == [1999]


def test_big_endian_files_are_refused(path):
    footer = Footer(path)
    table = footer.schema
    vtable = table - struct.unpack_from("<i", footer.content, table)[0]
    footer.put("<H", vtable + 4, slot(footer.content, table, 1) - table)  # any number but 0
    with pytest.raises(InputError, match=r"t\.arrow is big-endian"):
        ArrowFile(path)


def test_a_dictionary_that_is_not_there(tmp_path):
    path = with_dictionaries(tmp_path / "t.arrow")
    footer = Footer(path)
    start, count = vector(footer.content, footer.root, 2, 24)
    assert count == 2
    footer.put("<I", start - 4, 1)
    with ArrowFile(path) as file:
        assert file.read(["d"]).table()["d"].to_pylist() == ["x", "y"]
        with pytest.raises(CorruptError, match=r"t\.arrow lacks dictionary 1 of its schema"):
            file.read(["d", "e"])


def test_a_dictionary_of_two_types(tmp_path):
    path = with_dictionaries(tmp_path / "t.arrow")
    footer = Footer(path)
    encoding = target(footer.content, slot(footer.content, footer.field(1), 4))
    footer.put("<q", slot(footer.content, encoding, 0), 0)
    with pytest.raises(
        CorruptError, match=r"footer .* at offset \d+ .*Conflicting dictionary types"
    ):
        ArrowFile(path)


def test_a_dictionary_that_is_replaced(tmp_path):
    kept = pa.record_batch({"d": pa.array(["x", "y"]).dictionary_encode()})
    more = pa.record_batch({"d": pa.array(["x", "y", "z"]).dictionary_encode()})
    path = stored.write(tmp_path / "t.arrow", [kept, more])
    footer = Footer(path)
    start, count = vector(footer.content, footer.root, 2, 24)
    assert count == 2
    at = struct.unpack_from("<q", footer.content, start + 24)[0] + 8
    message = bytes(footer.data[at:])
    header = target(message, slot(message, target(message, 0), 2))
    footer.put("<B", at - footer.start + slot(message, header, 2), 0)
    with pytest.raises(InputError, match=r"message at offset \d+ replaces dictionary 0"):
        ArrowFile(path)


def test_messages_of_files_from_before_2019_are_read(tmp_path):
    rows = pa.record_batch({"a": range(5)})
    path = stored.write(tmp_path / "t.arrow", [rows, rows], use_legacy_format=True)
    with ArrowFile(path) as file:
        assert file.read(["a"]).table().equals(pa.Table.from_batches([rows, rows]))
