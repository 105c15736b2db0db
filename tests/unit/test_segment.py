"""Segments: aligned, shareable, used again when unused, and never before."""

import gc
import mmap
import random
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wherry.base.errors import InputError, Retryable
from wherry.data.segment import SegmentPool

PAGE = 4096


@pytest.fixture
def pool():
    with SegmentPool(cap=64 * PAGE, region_bytes=4 * PAGE, keep_bytes=8 * PAGE) as made:
        yield made


def test_buffers_are_mutable_and_aligned(pool):
    buffers = [pool.allocate(size) for size in (1, 63, 64, 65, 1000, 0)]
    assert [buffer.size for buffer in buffers] == [1, 63, 64, 65, 1000, 0]
    assert all(buffer.is_mutable and buffer.address % 64 == 0 for buffer in buffers)
    starts = [buffer.address for buffer in buffers]
    assert np.diff(starts).tolist() == [64, 64, 64, 128, 1024]
    assert pool.bytes_in_use == 64 + 64 + 64 + 128 + 1024 + 64
    assert pool.regions == 1


def test_a_region_is_used_again_when_its_last_buffer_is_gone(pool):
    first, second = pool.allocate(2 * PAGE), pool.allocate(2 * PAGE)
    address = first.address
    del first
    gc.collect()
    third = pool.allocate(2 * PAGE)
    assert third.address != address  # the region still holds `second`
    del second
    gc.collect()
    assert pool.allocate(2 * PAGE).address == address
    assert pool.regions == 2


def test_arrow_and_numpy_keep_the_memory(pool):
    buffer = pool.allocate(4 * PAGE)
    address = buffer.address
    np.frombuffer(buffer, np.int64)[:] = 7
    array = pa.Array.from_buffers(pa.int64(), 512, [None, buffer])
    table = pa.table({"x": array.slice(5, 9)})
    del buffer, array
    gc.collect()
    assert pool.allocate(4 * PAGE).address != address
    view = table["x"].chunk(0).to_numpy()
    del table
    gc.collect()
    assert pool.allocate(4 * PAGE).address != address
    assert view.tolist() == [7] * 9
    del view
    gc.collect()
    assert address in {pool.allocate(4 * PAGE).address, pool.allocate(4 * PAGE).address}


def test_living_buffers_are_never_overwritten():
    """A seeded life of buffers: each keeps the pattern that was written to it."""
    draw = random.Random(11)
    pool = SegmentPool(cap=1 << 22, region_bytes=16 * PAGE, keep_bytes=32 * PAGE)
    living: list[tuple[pa.Buffer, int]] = []
    for step in range(3000):
        if living and draw.random() < (0.7 if len(living) > 40 else 0.4):
            buffer, mark = living.pop(draw.randrange(len(living)))
            assert set(buffer.to_pybytes()) <= {mark}
            continue
        buffer = pool.allocate(draw.choice([0, 1, 100, 5000, 40_000, 100_000]))
        np.frombuffer(buffer, np.uint8)[:] = step % 251
        kept = buffer.slice(buffer.size // 2) if draw.random() < 0.5 else buffer
        living.append((kept, step % 251))
    assert all(set(buffer.to_pybytes()) <= {mark} for buffer, mark in living)
    del buffer, kept
    living.clear()
    gc.collect()
    assert pool.bytes_in_use == 0
    assert pool.regions > 0


def test_large_requests_have_their_own_size_class(pool):
    large = pool.allocate(5 * PAGE)
    small = pool.allocate(PAGE)
    assert pool.regions == 2
    address = large.address
    del large
    gc.collect()
    assert pool.allocate(7 * PAGE).address == address  # both round up to eight pages
    assert small.size == PAGE


def test_free_memory_is_kept_up_to_a_bound(pool):
    buffers = [pool.allocate(4 * PAGE) for _ in range(5)]
    assert pool.regions == 5
    buffers.clear()
    gc.collect()
    assert pool.regions == 2


def test_the_cap(pool):
    with pytest.raises(InputError, match="do not fit under the pool's cap of 256 KiB"):
        pool.allocate(65 * PAGE)
    whole = pool.allocate(64 * PAGE)
    with pytest.raises(Retryable, match="no room for 64 B: buffers in use hold 256 KiB"):
        pool.allocate(1)
    del whole
    gc.collect()
    assert pool.allocate(1).size == 1
    with pytest.raises(InputError, match="cannot allocate -1 bytes"):
        pool.allocate(-1)


def test_kept_memory_of_another_class_gives_way(pool):
    kept = pool.allocate(8 * PAGE)
    del kept
    gc.collect()
    assert pool.regions == 1
    assert pool.allocate(64 * PAGE).size == 64 * PAGE


def test_another_mapping_of_the_descriptor_sees_the_bytes(pool):
    pool.allocate(100)
    buffer = pool.allocate(100)
    np.frombuffer(buffer, np.uint8)[:] = 42
    place = pool.locate(buffer.address)
    assert place.holds(buffer.address, buffer.size)
    assert not place.holds(place.address, 4 * PAGE + 1)
    offset = buffer.address - place.address
    other = mmap.mmap(place.descriptor, 4 * PAGE, prot=mmap.PROT_READ)
    assert other[offset : offset + 100] == bytes([42] * 100)
    assert pool.locate(pa.py_buffer(b"elsewhere").address) is None


def test_a_retired_region_is_never_used_again(pool):
    buffer = pool.allocate(PAGE)
    place = pool.locate(buffer.address)
    place.retire()
    other = pool.allocate(PAGE)
    assert not place.holds(other.address, PAGE)
    assert pool.locate(buffer.address).descriptor == place.descriptor
    assert (pool.regions, pool.bytes_in_use) == (2, 2 * PAGE)
    del buffer
    gc.collect()
    assert (pool.regions, pool.bytes_in_use) == (1, PAGE)
    place = pool.locate(other.address)
    del other
    gc.collect()
    place.retire()
    assert pool.regions == 0


def _descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_closing_returns_descriptors_and_spares_living_buffers():
    before = _descriptors()
    pool = SegmentPool(cap=1 << 20, region_bytes=4 * PAGE)
    living, dead = pool.allocate(100), pool.allocate(4 * PAGE)
    np.frombuffer(living, np.uint8)[:] = 9
    del dead
    pool.close()
    assert pool.regions == 1
    with pytest.raises(InputError, match="the segment pool is closed"):
        pool.allocate(1)
    assert living.to_pybytes() == bytes([9] * 100)
    del living
    gc.collect()
    assert pool.regions == 0
    assert _descriptors() == before


def test_threads_share_a_pool():
    pool = SegmentPool(cap=1 << 22, region_bytes=4 * PAGE)
    wrong = []

    def work(mark):
        for size in range(1, 300):
            buffer = pool.allocate(size * 7)
            view = np.frombuffer(buffer, np.uint8)
            view[:] = mark
            if not (view == mark).all():
                wrong.append((mark, size))

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert wrong == []
    assert pool.bytes_in_use == 0
