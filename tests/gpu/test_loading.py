"""Loading onto every device with memory of its own, by every reader; on a card, whatever it has."""

import os
from contextlib import closing

import numpy as np
import pytest
from support.accelerators import EVERY, accelerator
from support.device_loads import Targets, content, file_ranges, ints

from wherry.data.ipc_footer import open_descriptor
from wherry.devices.device_readers import open_reader
from wherry.devices.found import Found
from wherry.devices.gpu_paths import WAYS, gpu_paths
from wherry.devices.loading import HostRanges

MIB = 1 << 20
BYTES = 37 * MIB + 1234
ABSENT = Found(present=False, detail="this is no card")
STAND_IN = {**dict.fromkeys(WAYS, ABSENT), "pinned": Found(present=True, detail="")}


def opened(kind, name, files="cached"):
    """Give a device, and the reader of that name or what takes its place."""
    device = accelerator(kind)
    paths = gpu_paths() if kind == "card" else STAND_IN
    return device, closing(open_reader(device, name, paths, files=files))


def ranges():
    """Give where ranges of every kind begin, and how long they are: of bytes, pages and slots."""
    rng = np.random.default_rng(1)
    offsets = rng.integers(0, 30 * MIB, 40).tolist()
    sizes = [1, 8, 4095, 4096, 4097, 5 * MIB, *rng.integers(1, 100_000, 34).tolist()]
    return [0, 4096, BYTES - 1, *offsets], [16 * MIB, 4096, 1, *sizes]


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("files", ["cached", "either"])
def test_ranges_of_a_file(tmp_path, kind, name, files):
    path, given = tmp_path / "f", content(1, BYTES)
    path.write_bytes(given.tobytes())
    offsets, sizes = ranges()
    device, reader = opened(kind, name, files)
    file = open_descriptor(path)
    with reader as one:
        targets = Targets(device, sizes)
        source = file_ranges(file, targets, offsets, one.gap)
        loads = [one.begin(source, keep=targets) for _ in range(3)]
        os.close(file.descriptor)
        for load in loads:
            device.after(load.event())
            targets.check(given, offsets)
            evidence = load.wait()
            behind = int((source.extents.offsets + source.extents.sizes)[-1]) - BYTES
            read = source.extents.size - behind
            assert evidence.gds + evidence.direct + evidence.cached == read
            if one.name != name or (name == "gds" and evidence.gds < read):
                assert evidence.why
            else:
                assert name == "gds" or not evidence.gds


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("name", WAYS)
def test_ranges_of_memory(kind, name):
    given = content(2, BYTES)
    offsets, sizes = ranges()
    device, reader = opened(kind, name)
    with reader as one:
        targets = Targets(device, sizes)
        addresses = ints(offsets) + given.ctypes.data
        with one.begin(
            HostRanges(addresses, ints(sizes), targets.addresses), keep=(targets, given)
        ) as load:
            device.after(load.event())
            targets.check(given, offsets)
            assert load.wait().staged == sum(sizes)


@pytest.mark.parametrize("kind", EVERY)
def test_registered_memory_is_read_by_the_device(kind):
    room = np.empty(8 * MIB + 4096, np.uint8)
    begin = -room.ctypes.data % 4096
    memory = room[begin : begin + 8 * MIB]
    memory[:] = content(3, 8 * MIB)
    device, reader = opened(kind, "pinned")
    offsets, sizes = [0, 12_345, 5 * MIB], [4 * MIB, 999, 3 * MIB]
    with reader as one, closing(device.registered(memoryview(memory))):
        assert device.reads(memory.ctypes.data, 8 * MIB) is (kind != "shim")
        assert not device.reads(content(4, MIB).ctypes.data, MIB)
        targets = Targets(device, sizes)
        addresses = ints(offsets) + memory.ctypes.data
        with one.begin(
            HostRanges(addresses, ints(sizes), targets.addresses), keep=(targets, memory)
        ) as load:
            evidence = load.wait()
            device.after(load.event())
        targets.check(memory, offsets)
    assert evidence.registered + evidence.staged == sum(sizes)
    assert bool(evidence.registered) is (kind != "shim")
