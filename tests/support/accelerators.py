"""Accelerators that tests run on: the stand-in on this CPU, and the first CUDA card.

A test that takes `ACCELERATORS` as parameters runs on both; on the card it is marked `gpu`.
"""

from functools import cache

import pytest
from support.cuda_shim import ShimDevice

from wherry.benchmarks.gpu.ours import first_card

ACCELERATORS = [pytest.param("shim"), pytest.param("card", marks=pytest.mark.gpu)]
on_card = pytest.mark.gpu


def accelerator(kind, most_blocks=3):
    """Give a device; `most_blocks` bounds the grids of kernels that take any."""
    return ShimDevice(most_blocks) if kind == "shim" else Bounded(the_card(), most_blocks)


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
