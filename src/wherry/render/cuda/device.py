"""What a CUDA device does for a program; the stand-in of the tests does the same on a CPU."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from wherry.render.cuda.program import CudaProgram

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class CudaDevice(Protocol):
    """Memory, and launches that run one after the other.

    Addresses are the device's. Nothing is read or written behind the end of a block.
    """

    def put(self, data: Bytes, align: int) -> int:
        """Give the address of a copy of `data`, a multiple of `align`."""

    def room(self, nbytes: int) -> int:
        """Give the address of `nbytes` zeros, a multiple of 8, of 16 if `nbytes` is one."""

    def get(self, address: int, nbytes: int) -> Bytes:
        """Give the bytes at an address, once all launches before have ended."""

    def launch(
        self, program: CudaProgram, entry: str, grid: int, block: int, context: bytes
    ) -> None:
        """Run a kernel: `grid` blocks of `block` threads, with one argument of these bytes."""
