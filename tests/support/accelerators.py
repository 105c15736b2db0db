"""Accelerators that tests run on: stand-ins on this CPU, and the first CUDA card.

A test that takes `ACCELERATORS` as parameters runs on the simplest and on the card, where it is
marked `gpu`; one of `EVERY` also on the driver of cards over a stand-in for cupy.
"""

import sys
from functools import cache
from unittest.mock import patch

import pytest
from support.cuda_shim import ShimDevice
from support.fake_cupy import FakeCupy

from wherry.benchmarks.gpu.ours import first_card
from wherry.devices.cuda import CudaDevice, cuda_devices

ACCELERATORS = [pytest.param("shim"), pytest.param("card", marks=pytest.mark.gpu)]
EVERY = [pytest.param("driver"), *ACCELERATORS]
on_card = pytest.mark.gpu


def accelerator(kind, most_blocks=3):
    """Give a device; `most_blocks` bounds the grids of kernels that take any."""
    if kind == "shim":
        return ShimDevice(most_blocks)
    return Bounded(the_card() if kind == "card" else driver(), most_blocks)


def driver():
    """Give what drives cards, with a stand-in for cupy; programs stay text."""
    with patch.dict(sys.modules, {"cupy": FakeCupy()}):
        return CudaDevice(cuda_devices()[-1], lambda text, arch: text.encode())


@cache
def the_card():
    """Give the card, of which one process uses one."""
    return first_card().device


class Bounded:
    """A device whose grids of some kernels are bounded, as the stand-in's are."""

    def __init__(self, device, most_blocks):
        self._device, self._most = device, most_blocks

    def __getattr__(self, name):
        return getattr(self._device, name)

    def launch(self, text, entry, grid, block, context, *, shared=0):
        if entry in {"total_pass", "group_pass"}:
            grid = min(grid, self._most)
        self._device.launch(text, entry, grid, block, context, shared=shared)
