"""Ranges of a file to be loaded into a device, and whether all of them, and no more, are there."""

from pathlib import Path

import numpy as np

from wherry.data.extents import plan_extents
from wherry.devices.loading import FileRanges

BYTES = 300_000


def opened():
    return len(list(Path("/proc/self/fd").iterdir()))


def content(seed=1, nbytes=BYTES):
    return np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8)


def ints(values):
    return np.array(list(values), np.int64)


class Targets:
    """Places on a device for ranges of some sizes, with room between them that stays as it is."""

    def __init__(self, device, sizes, apart=7):
        self.device, self.sizes = device, sizes
        steps = np.cumsum(ints([0, *(size + apart for size in sizes)]))
        self.block = device.put(np.full(int(steps[-1]) + 1, 0xEE, np.uint8))
        device.after_launches()
        self.places = steps[:-1]

    @property
    def addresses(self):
        return self.places + self.block.address

    def check(self, source, offsets):
        found = self.device.get(self.block.address, self.block.nbytes)
        expected = np.full(self.block.nbytes, 0xEE, np.uint8)
        for place, size, offset in zip(self.places, self.sizes, offsets, strict=True):
            expected[place : place + size] = source[offset : offset + size]
        assert np.array_equal(found, expected)


def file_ranges(file, targets, offsets, gap=0):
    sizes = ints(targets.sizes)
    extents, places = plan_extents(ints(offsets), sizes, gap)
    return FileRanges(file, extents, places, sizes, targets.addresses)


def whole(device, file):
    """Give ranges of all of the file, in steps of 5,000 bytes, and where they go."""
    offsets = list(range(0, BYTES, 5000))
    targets = Targets(device, [min(5000, BYTES - offset) for offset in offsets])
    return file_ranges(file, targets, offsets), targets, offsets
