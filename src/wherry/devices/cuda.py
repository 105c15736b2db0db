"""A CUDA card through cupy: memory from a pool, a stream for programs, and one for loading.

cupy is imported when a card is asked for. What it is called by is in this file alone, and the tests
hold these names against the cupy that is installed. A card keeps what it was given until it is let
go of; a fault in a program ends its use for this process, as CUDA has it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from importlib import import_module
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import numpy as np
from msgspec import Struct

from wherry.base.errors import InputError, Retryable, WherryError
from wherry.base.units import format_bytes
from wherry.devices.accelerator import Block, Bytes, Event

P = ParamSpec("P")
T = TypeVar("T")

RESERVE: Final = 512 << 20
"""Bytes left free for what CUDA takes by itself: modules, local memory, others' contexts."""
_HALF: Final = 2 << 20
"""Bytes of pinned memory that one copy goes through; two are used in turn."""
_LINE: Final = 64
"""Bytes of a cache line; what goes up together shares none."""
_WHOLE: Final = 100
"""Per cent."""
_CONTEXT: Final = 4096
"""Bytes of arguments that every architecture takes."""
_PROGRAMS: Final = 1024
"""Programs kept on a card, at some 20 KiB each."""
_KIND: Final = 2
"""Of memory of CUDA cards, in Arrow's and DLPack's count."""
_PORTABLE, _READ_ONLY = 1, 8
"""Flags of cudaHostRegister: for all cards; memory that is not written to."""


class Card(Struct, frozen=True):
    """A card as the runtime describes it.

    Attributes
    ----------
    number : int
        The runtime's, from 0 on.
    model : str
        Such as "NVIDIA H200".
    bus : str
        Where it is: PCI domain, bus, device and function.

    Others are those of `Accelerator`.
    """

    number: int
    name: str
    model: str
    arch: str
    cores: int
    shared_bytes: int
    memory_bytes: int
    bus: str


def cuda_devices() -> tuple[Card, ...]:
    """Give the cards that this process may use, without beginning to use one.

    Raises
    ------
    InputError
        If cupy is not installed, or the driver is missing, too old or knows no card.
    """
    runtime = _cupy().cuda.runtime
    try:
        count = runtime.getDeviceCount()
        return tuple(_card(runtime, number) for number in range(count))
    except runtime.CUDARuntimeError as error:
        raise InputError(f"CUDA has no card for this process: {error}") from error


def _card(runtime: Any, number: int) -> Card:
    properties = runtime.getDeviceProperties(number)
    return Card(
        number=number,
        name=f"gpu{number}",
        model=properties["name"].decode(),
        arch=f"sm_{properties['major']}{properties['minor']}",
        cores=properties["multiProcessorCount"],
        shared_bytes=runtime.deviceGetAttribute(
            runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, number
        ),
        memory_bytes=properties["totalGlobalMem"],
        bus=runtime.deviceGetPCIBusId(number),
    )


def _cupy() -> Any:
    try:
        return import_module("cupy")
    except ImportError as error:
        text = f"CUDA cards are used through cupy: pip install wherry[gpu] ({error})"
        raise InputError(text) from None


class _Block(Struct, frozen=True, eq=False):
    """Memory of the pool, which takes it back when `memory` is gone."""

    address: int
    nbytes: int
    memory: Any


class _Kernel(Struct):
    """A function of a module, and the most memory on chip that it has been allowed."""

    function: int
    shared: int = 0


def _told(
    method: Callable[Concatenate[CudaDevice, P], T],
) -> Callable[Concatenate[CudaDevice, P], T]:
    """Call for the card that is meant, from whichever thread, and say which it was that failed."""

    @wraps(method)
    def told(self: CudaDevice, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            self.runtime.setDevice(self.card.number)
            return method(self, *args, **kwargs)
        except self.errors as error:
            raise self.failed(error) from error

    return told


def _aside(
    method: Callable[Concatenate[CudaDevice, P], T],
) -> Callable[Concatenate[CudaDevice, P], T]:
    """Do the same, and leave the thread, which is others', with the card that it had chosen."""

    @wraps(method)
    def aside(self: CudaDevice, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            before = self.runtime.getDevice()
            self.runtime.setDevice(self.card.number)
            try:
                return method(self, *args, **kwargs)
            finally:
                self.runtime.setDevice(before)
        except self.errors as error:
            raise self.failed(error) from error

    return aside


class CudaDevice:
    """An `Accelerator` that is a CUDA card.

    Parameters
    ----------
    card : Card
        One of `cuda_devices()`.
    compiled : function
        Gives machine code of a program's text for an architecture: a cubin.

    Raises
    ------
    InputError
        If cupy is not installed.
    WherryError
        By this and every other call, if CUDA says that it failed; in its words.
    """

    def __init__(self, card: Card, compiled: Callable[[str, str], bytes]) -> None:
        cuda = _cupy().cuda
        self.card = card
        self.name, self.arch, self.cores = card.name, card.arch, card.cores
        self.shared_bytes, self.memory_bytes = card.shared_bytes, card.memory_bytes
        self.kind = _KIND, card.number
        self.runtime = cuda.runtime
        self.errors = (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError)
        self._cuda, self._compiled = cuda, compiled
        self._modules: dict[str, int] = {}
        self._kernels: dict[tuple[str, str], _Kernel] = {}
        self._lock = threading.Lock()
        self._marks = self._heeded = 0
        self._context = ctypes.create_string_buffer(_CONTEXT)
        self._arguments = (ctypes.c_void_p * 1)(ctypes.addressof(self._context))
        self._begin()

    @_told
    def _begin(self) -> None:
        cuda = self._cuda
        self._pool = cuda.MemoryPool()
        self._compute = cuda.Stream(non_blocking=True)
        self._loading = cuda.Stream(non_blocking=True)
        self._launched = cuda.Event(disable_timing=True)
        self._up, self._down = _Halves(cuda), _Halves(cuda)

    def failed(self, error: Exception) -> WherryError:
        """Give an error of CUDA's with whose it is."""
        return WherryError(f"{self.name} ({self.card.model}): {error}")

    @_told
    def free_bytes(self) -> int:
        """Give what is free on the card and in the pool, but for `RESERVE`."""
        free, _ = self.runtime.memGetInfo()
        return max(0, int(free + self._pool.free_bytes() - RESERVE))

    @_told
    def room(self, nbytes: int) -> _Block:
        """Give a block of any content; `Retryable` if there is not as much memory.

        It may be one that a launch still reads: what is loaded into it comes after that.
        """
        try:
            memory = self._pool.malloc(max(nbytes, 1))
        except self._cuda.memory.OutOfMemoryError as error:
            raise Retryable(
                f"{self.name} ({self.card.model}) has no {format_bytes(nbytes)} in one piece: "
                f"{format_bytes(self.free_bytes())} of {format_bytes(self.memory_bytes)} are free"
            ) from error
        self._mark()
        return _Block(memory.ptr, nbytes, memory)

    @_told
    def zeros(self, nbytes: int) -> _Block:
        """Give a block of zeros."""
        block = self.room(nbytes)
        self.runtime.memsetAsync(block.address, 0, nbytes, self._compute.ptr)
        return block

    @_told
    def put(self, data: Bytes) -> _Block:
        """Give a block with a copy of `data`, which may be changed as soon as this returns."""
        block = self.room(data.nbytes)
        for at in range(0, data.nbytes, _HALF):
            piece = data[at : at + _HALF]
            place = self._up.place(piece.nbytes, self._compute)
            self._up.memory[place : place + piece.nbytes] = piece
            self.runtime.memcpyAsync(
                block.address + at,
                self._up.address + place,
                piece.nbytes,
                self.runtime.memcpyHostToDevice,
                self._compute.ptr,
            )
        return block

    @_told
    def get(self, address: int, nbytes: int) -> Bytes:
        """Give the bytes at an address, once all launches before have ended.

        While one half of the pinned memory is filled, the other is emptied.
        """
        found = np.empty(nbytes, np.uint8)
        begun: deque[tuple[int, int, int]] = deque()
        for number, at in enumerate(range(0, nbytes, _HALF)):
            if len(begun) == 2:
                self._down.take(found, *begun.popleft())
            half, size = number % 2, min(_HALF, nbytes - at)
            self.runtime.memcpyAsync(
                self._down.address + half * _HALF,
                address + at,
                size,
                self.runtime.memcpyDeviceToHost,
                self._compute.ptr,
            )
            self._down.events[half].record(self._compute)
            begun.append((half, at, size))
        for one in begun:
            self._down.take(found, *one)
        return found

    @_told
    def launch(
        self, text: str, entry: str, grid: int, block: int, context: bytes, *, shared: int = 0
    ) -> None:
        """Run a kernel of a program; CUDA has copied its argument when this returns."""
        kernel = self._kernels.get((text, entry)) or self._kernel(text, entry)
        if shared > kernel.shared:
            driver = self._cuda.driver
            most = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            driver.funcSetAttribute(kernel.function, most, shared)
            # Of what a core has on chip, blocks get all that they can, the cache the rest.
            part = driver.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
            driver.funcSetAttribute(kernel.function, part, _WHOLE)
            kernel.shared = shared
        assert len(context) <= _CONTEXT
        ctypes.memmove(self._context, context, len(context))
        self._cuda.driver.launchKernel(
            kernel.function, grid, 1, 1, block, 1, 1, shared,
            self._compute.ptr, ctypes.addressof(self._arguments), 0,
        )  # fmt: skip

    def _kernel(self, text: str, entry: str) -> _Kernel:
        module = self._modules.get(text)
        if module is None:
            if len(self._modules) == _PROGRAMS:
                self._forget()
            module = self._cuda.driver.moduleLoadData(self._compiled(text, self.arch))
            self._modules[text] = module
        function = self._cuda.driver.moduleGetFunction(module, entry)
        return self._kernels.setdefault((text, entry), _Kernel(function))

    def _forget(self) -> None:
        """Let go of all programs, once none runs any more."""
        self._compute.synchronize()
        for module in self._modules.values():
            self._cuda.driver.moduleUnload(module)
        self._modules.clear()
        self._kernels.clear()

    @_told
    def registered(self, memory: memoryview) -> _Registered:
        """Let every card read memory of the host by itself; whole pages.

        Raises
        ------
        WherryError
            If it is registered already, or the system does not let as much memory be locked.
        """
        address = np.frombuffer(memory, np.uint8).ctypes.data
        flags = _PORTABLE | (_READ_ONLY if memory.readonly else 0)
        self.runtime.hostRegister(address, memory.nbytes, flags)
        return _Registered(self, address, memory)

    @_told
    def unregister(self, address: int) -> None:
        """Let go of registered memory, once nothing is loaded any more."""
        self._loading.synchronize()
        self.runtime.hostUnregister(address)

    @_told
    def reads(self, address: int, nbytes: int) -> bool:
        """Tell whether memory of the host is registered, or was allocated to be.

        Its ends are asked for. Of a range with a hole CUDA refuses the copy.
        """
        ends = (address, address + nbytes - 1)
        kinds = {self.runtime.pointerGetAttributes(end).type for end in ends}
        return kinds == {self.runtime.memoryTypeHost}

    @_told
    def copy_in(self, target: int, source: int, nbytes: int) -> None:
        """Load bytes from an address of the host; of registered memory this returns at once."""
        self._load(target, source, nbytes, self.runtime.memcpyHostToDevice)

    @_told
    def copy_within(self, target: int, source: int, nbytes: int) -> None:
        """Load bytes from elsewhere on the card, after what was loaded before."""
        self._load(target, source, nbytes, self.runtime.memcpyDeviceToDevice)

    def _load(self, target: int, source: int, nbytes: int, kind: int) -> None:
        if self._heeded != self._marks:
            with self._lock:
                self._loading.wait_event(self._launched)
                self._heeded = self._marks
        self.runtime.memcpyAsync(target, source, nbytes, kind, self._loading.ptr)

    @_told
    def loaded(self) -> _Event:
        """Give the point behind all that was loaded until now; who waits for it sleeps."""
        event = self._cuda.Event(block=True, disable_timing=True)
        event.record(self._loading)
        return _event(self, event)

    @_told
    def after(self, event: Event) -> None:
        """Let launches from now on begin when `event` is over, without waiting here."""
        assert isinstance(event, _Event)
        self._compute.wait_event(event.event)

    @_told
    def after_launches(self) -> None:
        """Let what is loaded from now on begin when all launches until now are over."""
        self._mark()

    @_told
    def launched(self) -> _Event:
        """Give the point behind all launches, and all that was put, until now."""
        event = self._cuda.Event(disable_timing=True)
        event.record(self._compute)
        return _event(self, event)

    @_aside
    def follows(self, stream: int, event: Event) -> None:
        """Let what others ask of a stream of theirs from now on begin when `event` is over."""
        assert isinstance(event, _Event)
        self.runtime.streamWaitEvent(stream, event.event.ptr)

    def lent(self, block: Block) -> _Lent:
        """Give a block that others read by themselves.

        Of what they asked for, that on default streams, and on those that wait for these, is
        waited for before the memory is used anew.
        """
        return _Lent(self, block)

    @_aside
    def given_back(self) -> None:
        """Let launches from now on begin when others' default streams have done what they have."""
        event = self._cuda.Event(disable_timing=True)
        self.runtime.eventRecord(event.ptr, self.runtime.streamLegacy)
        self._compute.wait_event(event)

    def _mark(self) -> None:
        """Mark a point that the next load heeds; most are overtaken by others before."""
        with self._lock:
            self._launched.record(self._compute)
            self._marks += 1

    @_told
    def wait(self, event: Any) -> None:
        """Return when an event of CUDA's is over."""
        event.synchronize()


class _Event(Struct, frozen=True, eq=False):
    """An event of a card's, as an `Event`."""

    device: CudaDevice
    event: Any
    cell: ctypes.c_void_p

    @property
    def handle(self) -> int:
        """Where CUDA's handle lies, for as long as this does."""
        return ctypes.addressof(self.cell)

    def wait(self) -> None:
        """Return when everything before it is done."""
        self.device.wait(self.event)


def _event(device: CudaDevice, event: Any) -> _Event:
    return _Event(device, event, ctypes.c_void_p(event.ptr))


class _Lent:
    """A block that others read by themselves, until nothing refers to it."""

    def __init__(self, device: CudaDevice, block: Block) -> None:
        self.address, self.nbytes = block.address, block.nbytes
        self._device, self._block = device, block

    def __del__(self) -> None:
        # A consumer let go of it, in whatever thread. Of a card that failed nothing is used anew,
        # nor once Python ends.
        if not sys.is_finalizing():
            with suppress(WherryError):
                self._device.given_back()


class _Registered:
    """Memory of the host that a card reads by itself, until this is closed or gone."""

    def __init__(self, device: CudaDevice, address: int, memory: memoryview) -> None:
        self._closing = weakref.finalize(self, _unregister, device, address, memory)
        # When the process ends there may be no driver left to tell.
        self._closing.atexit = False

    def close(self) -> None:
        """Let go of it, once no copy of it is under way."""
        self._closing()


def _unregister(device: CudaDevice, address: int, memory: memoryview) -> None:
    device.unregister(address)
    del memory


class _Halves:
    """Pinned memory that small copies go through, one half and then the other."""

    def __init__(self, cuda: Any) -> None:
        self._owner = cuda.alloc_pinned_memory(2 * _HALF)
        self.memory = np.frombuffer(self._owner, np.uint8, 2 * _HALF)
        self.address = int(self.memory.ctypes.data)
        self.events = (cuda.Event(disable_timing=True), cuda.Event(disable_timing=True))
        self._half = self._used = 0

    def place(self, nbytes: int, stream: Any) -> int:
        """Give where the next bytes to go up may lie: what lay there has gone."""
        if self._used + nbytes > _HALF:
            self.events[self._half].record(stream)
            self._half = 1 - self._half
            self.events[self._half].synchronize()
            self._used = 0
        place = self._half * _HALF + self._used
        self._used += -(-nbytes // _LINE) * _LINE
        return place

    def take(self, found: Bytes, half: int, at: int, size: int) -> None:
        """Copy what came down into a half, once it is there."""
        self.events[half].synchronize()
        found[at : at + size] = self.memory[half * _HALF : half * _HALF + size]
