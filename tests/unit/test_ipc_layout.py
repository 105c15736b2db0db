"""Where buffers lie in Arrow IPC files: where pyarrow finds them; metadata that lie are refused."""

import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc
from support import stored, wild
from support.stored import TABLE

from wherry.base.errors import CorruptError, InputError
from wherry.data import ipc_layout
from wherry.data.arrow_file import ArrowFile
from wherry.data.flatbuffer import slot, target, vector


@pytest.fixture
def path(tmp_path):
    return stored.write(tmp_path / "t.arrow", TABLE.to_batches(max_chunksize=300))


def expected_ranges(batch, base):
    """Gives offset and size of every buffer; what is not there is of size 0."""
    flat = [b for column in batch.columns for b in stored.own_buffers(column)]
    return [(b.address - base if b and b.size else 0, b.size if b else 0) for b in flat]


@settings(max_examples=150)
@given(stored.batches(), st.booleans())
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


def test_every_truncation_is_refused_with_the_file(tmp_path):
    whole = stored.write(tmp_path / "t.arrow", [wild.batch_of(1).slice(0, 20)]).read_bytes()
    short = tmp_path / "short.arrow"
    for size in [*range(0, len(whole), 97), *range(len(whole) - 40, len(whole))]:
        short.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"short\.arrow"):
            ArrowFile(short)


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


class Message(Footer):
    """Metadata of the second record batch, to be changed."""

    def __init__(self, path):
        super().__init__(path)
        start, _ = vector(self.content, self.root, 3, 24)
        self.start = struct.unpack_from("<q", self.content, start + 24)[0] + 8
        self.content = bytes(self.data[self.start :])
        self.root = target(self.content, 0)
        self.batch = target(self.content, slot(self.content, self.root, 2))


@pytest.mark.parametrize(
    ("form", "place", "value", "said"),
    [
        ("<B", lambda m: slot(m.content, m.root, 1), 2, "has a header of type 2, not 3"),
        ("<I", lambda m: vector(m.content, m.batch, 1, 16)[0] - 4, 2, "2 nodes; its schema has 3"),
        ("<I", lambda m: vector(m.content, m.batch, 2, 16)[0] - 4, 7, "it has 7 buffers"),
        ("<I", lambda m: vector(m.content, m.batch, 4, 8)[0] - 4, 1, "1 counts of views; its"),
        ("<I", lambda m: vector(m.content, m.batch, 2, 16)[0] - 4, 1 << 30, "do not fit"),
        ("<q", lambda m: vector(m.content, m.batch, 4, 8)[0], 1 << 40, "a count of views that can"),
        ("<H", lambda m: m.batch - struct.unpack_from("<i", m.content, m.batch)[0] + 4, 60_000,
         "is cut short"),
        ("<i", lambda m: m.batch, 1 << 20, "lies before its beginning"),
    ],
)  # fmt: skip
def test_messages_unlike_those_before_them(tmp_path, form, place, value, said):
    """What is changed in the second message must not be read as it is in the first."""
    text = pa.array(["a text that is longer than a view"] * 3, pa.string_view())
    rows = pa.record_batch({"v": text, "a": [1, 2, 3], "w": text})
    path = stored.write(tmp_path / "t.arrow", [rows, rows])
    message = Message(path)
    message.put(form, place(message), value)
    with pytest.raises(CorruptError, match=rf"message at offset {message.start - 8}\b.*{said}"):
        ArrowFile(path)


def test_counts_of_views_that_add_up_are_no_less_wrong(tmp_path):
    text = pa.array(["a text that is longer than a view"] * 3, pa.string_view())
    path = stored.write(tmp_path / "t.arrow", [pa.record_batch({"v": text, "w": text})] * 2)
    for number, count in enumerate((-1, 3)):
        message = Message(path)
        message.put("<q", vector(message.content, message.batch, 4, 8)[0] + 8 * number, count)
    with pytest.raises(CorruptError, match=r"a count of views that cannot be \(number 0\)"):
        ArrowFile(path)


def test_a_bitmap_that_is_not_needed_is_not_read(tmp_path):
    rows = pa.record_batch({"a": pa.array([None, *range(299)])})
    path = stored.write(tmp_path / "t.arrow", [rows])
    with ArrowFile(path) as file:
        assert file.read(["a"]).read.needed == 2400 + 38
    changed(path, struct.pack("<qq", 300, 1), struct.pack("<qq", 300, 0))
    with ArrowFile(path) as file:
        arena = file.read(["a"])
    assert arena.read.needed == 2400
    assert arena.batch(0).column("a").buffers()[0] is None
    assert stored.content(arena.batch(0).column("a")) == stored.content(
        stored.mapped(path)[0][0][0]
    )
