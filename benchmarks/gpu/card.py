"""The few calls of CUDA that limits are measured with: CuPy's, and none of Wherry's own device."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from wherry.base.errors import InputError
from wherry.devices.gpu_paths import gpu_paths

TO_DEVICE: Final = 1
FROM_DEVICE: Final = 2
WITHIN: Final = 3
"""As cudaMemcpyKind says it."""


def cupy() -> Any:
    """Give the module CuPy, on a machine with a card that can be asked.

    Raises
    ------
    InputError
        If there is none; the driver is asked in a process of its own.
    """
    found = gpu_paths()["pinned"]
    if not found.present:
        raise InputError(f"wherry bench gpu measures a CUDA device: {found.detail}")
    try:
        return import_module("cupy")
    except ImportError as error:
        raise InputError(f"CuPy cannot be imported: {error}; pip install 'wherry[gpu]'") from error


class Cuda:
    """One device, and memory on it.

    Parameters
    ----------
    cp : module
        CuPy, or in tests what does the same on a processor.
    """

    def __init__(self, cp: Any) -> None:
        self.cp = cp
        self._calls = cp.cuda.runtime

    @property
    def free_bytes(self) -> int:
        """Give the bytes that nobody has taken."""
        return int(self._calls.memGetInfo()[0])

    @property
    def cores(self) -> int:
        """Give the number of multiprocessors of the card that CuPy uses."""
        properties = self._calls.getDeviceProperties(self._calls.getDevice())
        return int(properties["multiProcessorCount"])

    @contextmanager
    def memory(self, nbytes: int) -> Iterator[int]:
        """Give the address of memory that is the device's alone, until the end of the block."""
        address = self._calls.malloc(nbytes)
        try:
            yield address
        finally:
            self._calls.free(address)

    @contextmanager
    def pinned(self, memory: mmap.mmap) -> Iterator[None]:
        """Let the device read and write memory of the host, until the end of the block."""
        address = address_of(memory)
        self._calls.hostRegister(address, len(memory), 0)
        try:
            yield
        finally:
            self._calls.hostUnregister(address)

    def copy(self, target: int, source: int, nbytes: int, kind: int) -> None:
        """Copy and wait until it is done."""
        self._calls.memcpy(target, source, nbytes, kind)
        self.wait()

    def wait(self) -> None:
        """Return when the device has nothing to do."""
        self._calls.deviceSynchronize()

    def load(self, image: bytes) -> None:
        """Load machine code onto the card, and let go of it."""
        driver = self.cp.cuda.driver
        driver.moduleUnload(driver.moduleLoadData(image))

    def kernel(self, text: str, entry: str) -> Any:
        """Give a kernel of a text; called with the grid, the block and its arguments."""
        return self.cp.RawModule(code=text).get_function(entry)


def address_of(memory: mmap.mmap) -> int:
    """Give where memory of this process begins."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
