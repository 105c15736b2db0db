"""Loading through registered memory onto every kind of device: each byte where it belongs.

Many threads read at once, slots are used anew many times, and the next load goes to where the last
one still is being looked at.
"""

import os
from contextlib import closing

import numpy as np
import pytest
from support.accelerators import EVERY, accelerator

from wherry.data.extents import PAGE, plan_extents
from wherry.data.ipc_footer import open_descriptor
from wherry.devices.loading import FileRanges, HostRanges
from wherry.devices.pinned import PinnedReader

SIZES = {"driver": 700_001, "shim": 700_001, "card": (256 << 20) + 12_345}
APART = 5
"""Bytes between ranges on the device, which stay as they are."""


def ints(values):
    return np.asarray(values, np.int64)


@pytest.fixture(params=EVERY)
def kind(request):
    return request.param


@pytest.fixture
def device(kind):
    return accelerator(kind)


def content(kind, seed=4):
    return np.random.default_rng(seed).integers(0, 256, SIZES[kind], np.uint8)


def cuts(kind):
    """Give ranges of very different sizes, all bytes but some between them."""
    rng = np.random.default_rng(5)
    offsets = np.unique(rng.integers(0, SIZES[kind] - 1, 400))
    ends = np.append(offsets[1:], SIZES[kind])
    return offsets, np.maximum(1, (ends - offsets) * rng.integers(1, 4, len(offsets)) // 3)


def reader_of(device, kind, way):
    few = {} if kind == "card" else {"threads": 3, "slots": 4, "slot_bytes": 4 * PAGE}
    return PinnedReader(device, way=way, **few)


@pytest.mark.parametrize("way", ["cached", "either"])
def test_files(device, kind, way, tmp_path):
    data, path = content(kind), tmp_path / "bytes"
    path.write_bytes(data.tobytes())
    offsets, sizes = cuts(kind)
    extents, places = plan_extents(ints(offsets), ints(sizes), 4096)
    targets = np.cumsum(ints([0, *(sizes[:-1] + APART)]))
    wanted = np.full(int(targets[-1] + sizes[-1]), 0xEE, np.uint8)
    for target, offset, size in zip(targets, offsets, sizes, strict=True):
        wanted[target : target + size] = data[offset : offset + size]
    opened = open_descriptor(path)
    with closing(reader_of(device, kind, way)) as reader:
        for _ in range(3):
            block = device.put(np.full(wanted.size, 0xEE, np.uint8))
            device.after_launches()
            ranges = FileRanges(opened, extents, places, ints(sizes), targets + block.address)
            with reader.begin(ranges, keep=block) as loading:
                evidence = loading.wait()
            assert np.array_equal(device.get(block.address, wanted.size), wanted)
            assert evidence.cached + evidence.direct >= sizes.sum()
    os.close(opened.descriptor)


def test_memory(device, kind):
    """Twice the same memory, with other content each time, is never a mixture of both."""
    offsets, sizes = cuts(kind)
    targets = np.cumsum(ints([0, *(sizes[:-1] + APART)]))
    block = device.room(int(targets[-1] + sizes[-1]))
    with closing(reader_of(device, kind, "cached")) as reader:
        for seed in range(4):
            data = content(kind, seed)
            device.after_launches()
            ranges = HostRanges(data.ctypes.data + offsets, ints(sizes), targets + block.address)
            with reader.begin(ranges, keep=(data, block)) as loading:
                device.after(loading.event())
                loading.wait()
            found = device.get(block.address, block.nbytes)
            for target, offset, size in zip(targets, offsets, sizes, strict=True):
                assert np.array_equal(found[target : target + size], data[offset : offset + size])
