"""Layouts: every type there and back, nothing copied that need not be, nothing hostile believed."""

import gc
import mmap
import os
import random

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.handed import ALL, all_inside, batch_of, descriptors, mapped_lines, numbers

from wherry.base.errors import CorruptError, InputError, WherryError
from wherry.data.mapping import map_file
from wherry.data.segment import SegmentPool
from wherry.serve.imported import imported
from wherry.serve.layout import Layout, export
from wherry.serve.mappings import Mappings

POOL = SegmentPool(region_bytes=1 << 16)
MAPPINGS = Mappings()


def there(batches, schema=None, pool=POOL):
    return export(batches[0].schema if schema is None else schema, batches, pool)


def back(made, **more):
    return imported(made.layout, made.descriptors, MAPPINGS, "the piece", **more)


def in_segments(batch, pool=POOL):
    """Give an equal batch whose buffers all lie in segments."""
    return back(there([batch], pool=pool)).batches[0]


@given(st.integers(0, 90), st.integers(0, 12), st.sampled_from([0.0, 0.4]), st.integers(0, 5))
def test_every_type_comes_back(rows, offset, nulls, seed):
    whole = batch_of(rows + offset, nulls=nulls, seed=seed)
    batches = [whole.slice(offset), whole.slice(offset // 2, rows // 2), whole.slice(0, 0)]
    found = back(there(batches))
    assert found.schema.equals(whole.schema, check_metadata=True)
    for seen, batch in zip(found.batches, batches, strict=True):
        seen.validate(full=True)
        assert seen.equals(batch)
    assert all_inside(found.batches, mapped_lines("memfd:wherry-segment"))
    assert found.why == "memory outside of segments"


@pytest.mark.parametrize("nulls", [0.0, 0.3])
def test_what_lies_in_segments_is_not_copied(nulls):
    pool = SegmentPool(region_bytes=1 << 16)
    first = there([batch_of(500, nulls=nulls)], pool=pool)
    # The other mapping of the same pages stands for a stage that wrote there: Arrow reads it.
    lines = mapped_lines("memfd:wherry-segment")
    again = back(first)
    assert all_inside(again.batches, lines + mapped_lines("memfd:wherry-segment"))
    local = local_copy(again.batches[0], first, pool)
    for piece in ([local], [local.slice(3, 100), local.slice(103)], [local.slice(7, 0)]):
        made = there(piece, pool=pool)
        assert (made.copied_bytes, made.why) == (0, "")
        found = back(made)
        assert list(found.batches) == piece


def local_copy(batch, made, pool):
    """Give an imported batch as its exporter sees it: the same pages through the pool's mapping."""
    told = msgspec.msgpack.decode(made.layout, type=Layout)
    places = dict(enumerate(made._places))
    by_address = {}
    mappings = [MAPPINGS.map(descriptor) for descriptor in made.descriptors]
    for number, offset, size in told.buffers:
        here = places[number].address + offset
        by_address[mappings[number].address + offset, size] = pa.foreign_buffer(here, size, made)
    return rebuilt(batch, lambda b: b and by_address.get((b.address, b.size), b))


def rebuilt(batch, buffer):
    return pa.RecordBatch.from_arrays(
        [_array(column, buffer) for column in batch.columns], schema=batch.schema
    )


def _array(array, buffer):
    t = array.type
    if pa.types.is_dictionary(t):
        buffers = [buffer(b) for b in array.indices.buffers()]
        values = _array(array.dictionary, buffer)
        return pa.DictionaryArray.from_buffers(t, len(array), buffers, values, -1, array.offset)
    if pa.types.is_struct(t):
        fields = [_array(array.field(i), buffer) for i in range(t.num_fields)]
        valid = [buffer(array.buffers()[0])]
        return pa.Array.from_buffers(t, len(array), valid, -1, 0, fields)
    buffers = [buffer(b) for b in array.buffers()]
    return pa.Array.from_buffers(t, len(array), buffers, -1, array.offset)


def test_a_dictionary_is_told_once():
    values = pa.array([f"value {n}" for n in range(1000)])
    codes = pa.array(np.arange(1000, dtype=np.int32))
    batch = pa.record_batch([pa.DictionaryArray.from_arrays(codes, values)], ["d"])
    made = there([batch.slice(n, 10) for n in range(0, 1000, 10)])
    told = msgspec.msgpack.decode(made.layout, type=Layout)
    assert len(told.dictionaries) == 1
    found = back(made)
    assert pa.Table.from_batches(found.batches).equals(pa.table(batch))


def test_rows_without_columns():
    batch = pa.record_batch([pa.array([1, 2, 3])], ["a"]).select([])
    found = back(there([batch]))
    assert [b.num_rows for b in found.batches] == [3]
    assert found.schema.names == []
    assert back(export(ALL, [], POOL)).batches == ()


def test_of_a_slice_outside_of_segments_only_its_rows_are_copied():
    batch = pa.record_batch([pa.array(np.arange(100_000))], ["n"])
    made = there([batch.slice(50_000, 10)])
    assert made.copied_bytes < 1000
    assert back(made).batches[0]["n"].to_pylist() == list(range(50_000, 50_010))


def test_a_mapped_file_is_handed_over_by_its_descriptor(tmp_path):
    path = tmp_path / "rows.arrow"
    table = pa.table({"n": np.arange(10_000), "t": [f"text {n}" for n in range(10_000)]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    gc.collect()  # or what an earlier test left to the collector is closed meanwhile
    gc.collect()  # what other tests left
    before = descriptors()
    mapped = map_file(path)
    opened = pa.ipc.open_file(mapped.buffer)
    made = there([opened.get_batch(0)])
    assert (made.copied_bytes, len(made.descriptors)) == (0, 1)
    found = back(made)
    assert pa.Table.from_batches(found.batches).equals(table)
    assert len(mapped_lines(str(path))) == 2
    del made, mapped, opened, found
    gc.collect()
    assert mapped_lines(str(path)) == []
    assert descriptors() == before


def test_a_file_that_was_replaced_is_copied_and_said_so(tmp_path):
    path = tmp_path / "rows.arrow"
    table = pa.table({"n": np.arange(1000)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    batch = pa.ipc.open_file(map_file(path).buffer).get_batch(0)
    (tmp_path / "other").write_bytes(b"something else")
    (tmp_path / "other").rename(path)
    made = there([batch])
    assert made.why == "memory of a file that was replaced since it was opened"
    assert made.copied_bytes == 8000
    assert back(made).batches[0].equals(batch)


def test_memory_that_is_not_aligned_is_copied_and_said_so():
    buffer = POOL.allocate(808)
    np.frombuffer(buffer, np.uint8)[:] = 1
    array = pa.Array.from_buffers(pa.int64(), 100, [None, buffer.slice(3, 800)])
    made = there([pa.record_batch([array], ["n"])])
    assert (made.copied_bytes, made.why) == (800, "memory that is not aligned")
    assert back(made).batches[0]["n"].equals(array)


def test_types_that_wherry_does_not_read_are_refused():
    with pytest.raises(InputError, match="column 'l' of the piece has type list"):
        there([pa.record_batch([pa.array([[1]])], ["l"])])


def test_the_reader_lets_go_once_and_nothing_stays():
    pool = SegmentPool(region_bytes=1 << 16)
    gc.collect()  # what other tests left
    before = descriptors(), len(mapped_lines("memfd:wherry-segment"))
    batch = numbers(pool, 1000)
    made = there([batch, batch.slice(10)], pool=pool)
    gone = []
    found = back(made, gone=lambda: gone.append(1))
    column = found.batches[0]["n"].slice(5, 3)
    del found
    gc.collect()
    assert gone == []
    assert column.to_pylist() == [5, 6, 7]
    del column
    gc.collect()
    assert gone == [1]
    assert len(MAPPINGS) == 0
    del batch, made
    gc.collect()
    pool.close()
    assert (descriptors(), len(mapped_lines("memfd:wherry-segment"))) == before


def test_a_segment_is_used_again_after_it_was_given_back_and_never_if_it_was_dropped():
    pool = SegmentPool(cap=1 << 20, region_bytes=1 << 16)
    batch = numbers(pool, 100)
    address = batch["n"].buffers()[1].address
    made = there([batch], pool=pool)
    del batch
    gc.collect()
    assert pool.bytes_in_use > 0
    del made
    gc.collect()
    assert pool.bytes_in_use == 0
    batch = numbers(pool, 100, 7)
    assert batch["n"].buffers()[1].address == address
    made = there([batch], pool=pool)
    reader = back(made)
    made.drop()
    del made
    other = numbers(pool, 100, 1000)
    assert abs(other["n"].buffers()[1].address - address) >= 1 << 16
    again = there([batch], pool=pool)
    assert again.copied_bytes == 0  # still shareable, although nothing new is written there
    del batch, again
    gc.collect()
    assert pool.regions == 1
    fresh = [numbers(pool, 4000, n) for n in range(5)]
    assert reader.batches[0]["n"].to_pylist() == list(range(7, 107))
    assert len(fresh) == 5


def test_a_descriptor_that_was_sent_cannot_be_written_through():
    pool = SegmentPool(region_bytes=1 << 16)
    made = there([numbers(pool, 10)], pool=pool)
    (descriptor,) = made.descriptors
    with pytest.raises(PermissionError):
        mmap.mmap(descriptor, 4096)
    for flags in (os.O_RDWR, os.O_WRONLY):
        again = os.open(f"/proc/self/fd/{descriptor}", flags)
        with pytest.raises(PermissionError):
            mmap.mmap(again, 4096)
        with pytest.raises(PermissionError):
            os.write(again, b"x")
        with pytest.raises(PermissionError):
            os.ftruncate(again, 1)
        os.close(again)


def test_segments_that_can_be_cut_short_are_refused(tmp_path):
    loose = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.ftruncate(loose, 4096)
    never = os.memfd_create("never")
    os.ftruncate(never, 4096)
    ends = os.pipe()
    empty = os.open(tmp_path / "empty", os.O_CREAT | os.O_RDONLY)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for descriptor in (loose, never):
            with pytest.raises(CorruptError, match="not sealed against being cut short"):
                MAPPINGS.map(descriptor)
        for descriptor in (*ends, empty, folder):
            with pytest.raises(CorruptError, match="no segment and no file"):
                MAPPINGS.map(descriptor)
    finally:
        for descriptor in (loose, never, *ends, empty, folder):
            os.close(descriptor)


def hostile(layout: Layout, draw: random.Random) -> bytes:
    """Give a layout with something wrong in it, most of the time."""
    parts = msgspec.to_builtins(layout, builtin_types=(bytes,))
    values = [0, 1, -1, -2, -3, 2, 7, 63, 4096, 65_536, 1 << 31, 1 << 47, 1 << 62, -(1 << 63)]
    for _ in range(draw.randint(1, 3)):
        field = draw.choice([2, 2, 3, 4, 4, 4])
        rows = [list(row) for row in parts[field]]
        if not rows:
            continue
        row = draw.choice(rows)
        at = draw.randrange(len(row)) if row else 0
        match draw.randrange(5):
            case 0 if field != 2:
                row.insert(at, draw.choice(values))
            case 1 if field != 2 and row:
                del row[at]
            case 2:
                rows.append(draw.choice(rows))
            case 3:
                rows.remove(draw.choice(rows))
            case _ if row:
                row[at] = draw.choice([*values, row[at] + 1, row[at] - 1, row[at] * 2])
        parts = [*parts[:field], rows, *parts[field + 1 :]]
    return msgspec.msgpack.encode(parts)


def test_hostile_layouts_are_refused_or_harmless():
    pool = SegmentPool(region_bytes=1 << 16)
    made = there([batch_of(40, nulls=0.3), batch_of(9)], pool=pool)
    layout = msgspec.msgpack.decode(made.layout, type=Layout)
    draw, refused, taken = random.Random(5), 0, 0
    for _ in range(1500):
        told = hostile(layout, draw)
        try:
            found = imported(told, made.descriptors, MAPPINGS, "it", most_bytes=1 << 24)
        except WherryError:
            refused += 1
            continue
        taken += 1
        for batch in found.batches:
            batch.validate(full=True)
            batch.serialize()
    assert refused > 1000
    assert taken > 20


def test_hostile_bytes_are_refused():
    made = there([batch_of(5, nulls=0.3)])
    draw = random.Random(3)
    for _ in range(1500):
        bytes_ = bytearray(made.layout)
        for _ in range(draw.randint(1, 4)):
            bytes_[draw.randrange(len(bytes_))] = draw.randrange(256)
        cut = draw.choice([len(bytes_), draw.randrange(len(bytes_))])
        try:
            found = imported(bytes(bytes_[:cut]), made.descriptors, MAPPINGS, "it")
        except WherryError:
            continue
        for batch in found.batches:
            batch.validate(full=True)
            batch.serialize()


def test_bounds():
    made = there([batch_of(5)])
    layout = msgspec.msgpack.decode(made.layout, type=Layout)
    with pytest.raises(CorruptError, match="buffers of more than 100 bytes"):
        back(made, most_bytes=100)
    with pytest.raises(CorruptError, match="outside of what was sent"):
        imported(made.layout, (), MAPPINGS, "it")
    later = msgspec.structs.replace(layout, version=2)
    with pytest.raises(CorruptError, match="layout of version 2; possible: 1"):
        imported(msgspec.msgpack.encode(later), made.descriptors, MAPPINGS, "it")
    with pytest.raises(CorruptError, match="layout of 4 bytes"):
        imported(b"what", made.descriptors, MAPPINGS, "it")
