"""What a device with memory of its own does for programs: memory, copies, launches.

Addresses are the device's. Launches, copies to the host and `put` follow each other in the order
they are asked for, from one thread. What is loaded goes its own way beside them, from any thread,
and meets them only where `after` says so.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

ALIGNED = 256
"""Bytes; where blocks begin. Direct reads want 4096: ask for that much more."""


class Block(Protocol):
    """Memory of a device; let go of, and used anew, when nothing refers to it."""

    @property
    def address(self) -> int:
        """Where it begins: a multiple of `ALIGNED`."""

    @property
    def nbytes(self) -> int:
        """How long it is; nothing is read or written behind its end."""


class Event(Protocol):
    """A point in what a device was asked to do."""

    @property
    def handle(self) -> int:
        """Where what the system knows it by lies, for as long as this does; 0: it is over."""

    def wait(self) -> None:
        """Return when everything before it is done."""


class Registered(Protocol):
    """Memory of the host that a device reads by itself."""

    def close(self) -> None:
        """Let go of it, once no copy of it is under way; once is enough."""


class Accelerator(Protocol):
    """One device.

    Attributes
    ----------
    name : str
        As systems call it, such as "gpu0".
    arch : str
        What programs are compiled for, such as "sm_90".
    cores : int
        Multiprocessors.
    shared_bytes : int
        Memory on chip that a block may have if it asks.
    memory_bytes : int
        What the device has in all.
    kind : tuple of int
        What Arrow and DLPack call this memory: the type of device, and which of these it is.
    """

    name: str
    arch: str
    cores: int
    shared_bytes: int
    memory_bytes: int
    kind: tuple[int, int]

    def free_bytes(self) -> int:
        """Give the bytes that blocks may still take."""

    def room(self, nbytes: int) -> Block:
        """Give a block of any content.

        Raises
        ------
        Retryable
            If there is not as much memory; what was there before still is.
        """

    def zeros(self, nbytes: int) -> Block:
        """Give a block of zeros."""

    def put(self, data: Bytes) -> Block:
        """Give a block with a copy of `data`, which may be changed as soon as this returns."""

    def get(self, address: int, nbytes: int) -> Bytes:
        """Give the bytes at an address, once all launches before have ended."""

    def launch(
        self, text: str, entry: str, grid: int, block: int, context: bytes, *, shared: int = 0
    ) -> None:
        """Run a kernel of a program: `grid` blocks of `block` threads.

        Parameters
        ----------
        context : bytes
            Its one argument.
        shared : int
            Bytes of memory on chip for each block, besides what the text declares.
        """

    def registered(self, memory: memoryview) -> Registered:
        """Let the device read memory of the host by itself; whole pages."""

    def reads(self, address: int, nbytes: int) -> bool:
        """Tell whether the device reads this memory of the host by itself already."""

    def copy_in(self, target: int, source: int, nbytes: int) -> None:
        """Load bytes from an address of the host; of registered memory this returns at once."""

    def copy_within(self, target: int, source: int, nbytes: int) -> None:
        """Load bytes from elsewhere on the device, after what was loaded before."""

    def loaded(self) -> Event:
        """Give the point behind everything that this thread has loaded until now."""

    def after(self, event: Event) -> None:
        """Let launches from now on begin when `event` is over, without waiting here."""

    def after_launches(self) -> None:
        """Let what is loaded from now on begin when all launches until now are over.

        To be called before memory that they read is loaded anew; `room` does so by itself.
        """

    def launched(self) -> Event:
        """Give the point behind all launches, and all that was put, until now."""

    def follows(self, stream: int, event: Event) -> None:
        """Let what others ask of a stream of theirs from now on begin when `event` is over.

        Parameters
        ----------
        stream : int
            As DLPack numbers them: 1 the default one, 2 each thread's own, or the address of one.
        """

    def lent(self, block: Block) -> Block:
        """Give a block that others read by themselves, on streams of theirs.

        When nothing refers to it any more, it is used anew for what is asked after that, and, as
        far as the device can tell, once they have read what they asked for before.
        """
