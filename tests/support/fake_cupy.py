"""The calls of cupy that `devices/cuda.py` makes, on this CPU, as late as CUDA may carry them out.

What is asked of a stream is done when somebody waits for it, and then no more than that needs: a
buffer that is used again too early, or a copy that does not wait for a launch, shows. Memory that
is not registered is read at once, as CUDA does. Kernels run through `cuda_shim`. Every call checks
that its thread has chosen the device it is meant for; no thread begins with one that is.
"""

# ruff: noqa: N815  cupy's names
import ctypes
import mmap
import sys
import threading
import weakref
from collections import Counter, deque
from types import SimpleNamespace

import numpy as np
from support.cuda_shim import library, most_of, run_kernel

from wherry.devices.cuda import CudaDevice, cuda_devices

UNIT = 512
NONE = -1
"""What a thread begins with: no device."""


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        self.status = status
        super().__init__(f"cudaError{status}: status {status}")


class CUDADriverError(RuntimeError):
    def __init__(self, status):
        self.status = status
        super().__init__(f"CUDA_ERROR_{status}: status {status}")


class OutOfMemoryError(MemoryError):
    pass


class FakeCupy:
    """A module, to be put where Python looks for `cupy`.

    `failing` has the names of calls that fail, and after how many that do not. `pinned` has the
    memory of the host that is registered, by address.
    """

    def __init__(self, devices=2, memory_bytes=1 << 30):
        self.devices, self.memory_bytes = devices, memory_bytes
        self.failing = {}
        self.pinned = {}
        self.modules = {}
        self.streams = {}
        self.events = weakref.WeakValueDictionary()
        self.taken = [0] * devices
        self.lock = threading.RLock()
        self._chosen = threading.local()
        runtime, driver = Runtime(self), Driver(self)
        self.cuda = SimpleNamespace(
            runtime=runtime,
            driver=driver,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            MemoryPool=lambda: MemoryPool(self),
            Stream=lambda non_blocking=False: Stream(self, non_blocking),
            Event=lambda block=False, disable_timing=False: Event(self, block, disable_timing),
            alloc_pinned_memory=self._alloc_pinned_memory,
        )

    def stream(self, ptr):
        """Give the stream of that address; of the default one each device has its own."""
        if ptr == Runtime.streamLegacy:
            with self.lock:
                ptr = ptr, self.chosen()
                if ptr not in self.streams:
                    self.streams[ptr] = Stream(self, True)
        return self.streams[ptr]

    def choose(self, device):
        self._chosen.device = device

    def chosen(self):
        return getattr(self._chosen, "device", NONE)

    def called(self, name):
        left = self.failing.get(name)
        if left is not None:
            self.failing[name] = left - 1
            if left <= 0:
                raise CUDARuntimeError(719)
        assert 0 <= self.chosen() < self.devices, f"{name}: no device was chosen by this thread"

    def is_pinned(self, address, nbytes):
        return any(at <= address and address + nbytes <= at + n for at, n in self.pinned.items())

    def _alloc_pinned_memory(self, size):
        self.called("alloc_pinned_memory")
        memory = np.empty(size, np.uint8)
        self.pinned[memory.ctypes.data] = size
        return memory


def install(monkeypatch, **options):
    """Put a fake where Python looks for cupy; give it."""
    cupy = FakeCupy(**options)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def card():
    """Give the last card as an accelerator; programs stay text."""
    return CudaDevice(cuda_devices()[-1], lambda text, arch: text.encode())


class Stream:
    def __init__(self, cupy, non_blocking):
        assert non_blocking
        cupy.called("Stream")
        self.cupy, self.device = cupy, cupy.chosen()
        self.ptr = id(self)
        self.asked = deque()
        cupy.streams[self.ptr] = self

    def ask(self, work):
        assert self.cupy.chosen() == self.device
        with self.cupy.lock:
            self.asked.append(work)

    def carry_out(self, until=lambda: False):
        with self.cupy.lock:
            while self.asked and not until():
                self.asked.popleft()()

    def wait_event(self, event):
        mark = event.mark
        if mark is not None:
            self.ask(mark.carry_out)

    def synchronize(self):
        self.cupy.called("synchronize")
        self.carry_out()


class Mark:
    def __init__(self, stream):
        self.stream, self.passed = stream, False

    def carry_out(self):
        self.stream.carry_out(until=lambda: self.passed)
        assert self.passed

    def passes(self):
        self.passed = True


class Event:
    def __init__(self, cupy, block, disable_timing):
        assert disable_timing
        cupy.called("Event")
        self.cupy, self.device, self.mark = cupy, cupy.chosen(), None
        self.ptr = id(self)
        cupy.events[self.ptr] = self

    def record(self, stream=None):
        self.cupy.called("record")
        assert self.device == stream.device
        self.mark = Mark(stream)
        stream.ask(self.mark.passes)

    def synchronize(self):
        self.cupy.called("synchronize")
        if self.mark is not None:
            self.mark.carry_out()


class MemoryPool:
    """Keeps what it was given back, and gives the last of it first."""

    def __init__(self, cupy):
        self.cupy, self._kept = cupy, {}

    def malloc(self, size):
        self.cupy.called("malloc")
        device, rounded = self.cupy.chosen(), -(-size // UNIT) * UNIT
        kept = self._kept.setdefault((device, rounded), [])
        if kept:
            return Pointer(self, device, rounded, kept.pop())
        if self.cupy.taken[device] + rounded > self.cupy.memory_bytes:
            raise OutOfMemoryError
        self.cupy.taken[device] += rounded
        return Pointer(self, device, rounded, Pages(rounded))

    def free_bytes(self):
        device = self.cupy.chosen()
        return sum(size * len(kept) for (of, size), kept in self._kept.items() if of == device)

    def give_back(self, pointer):
        self._kept[pointer.device, pointer.size].append(pointer.pages)


class Pages:
    """Memory that ends where a page begins that nobody may touch."""

    def __init__(self, size):
        length = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, length + mmap.PAGESIZE)
        whole = np.frombuffer(self._memory, np.uint8)
        whole[:length] = 0xA5
        end = whole.ctypes.data + length
        self.address = end - size
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0


class Pointer:
    def __init__(self, pool, device, size, pages):
        self.pool, self.device, self.size, self.pages = pool, device, size, pages
        self.ptr = pages.address

    def __del__(self):
        self.pool.give_back(self)


class Runtime:
    CUDARuntimeError = CUDARuntimeError
    memcpyHostToDevice, memcpyDeviceToHost, memcpyDeviceToDevice = 1, 2, 3
    memoryTypeUnregistered, memoryTypeHost = 0, 1
    streamLegacy, streamPerThread = 1, 2
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97

    def __init__(self, cupy):
        self._cupy = cupy

    def getDeviceCount(self):
        if not self._cupy.devices:
            raise CUDARuntimeError(35)
        return self._cupy.devices

    def getDeviceProperties(self, device):
        assert 0 <= device < self._cupy.devices
        return {
            "name": b"A card of these tests",
            "major": 9,
            "minor": 0,
            "multiProcessorCount": 3,
            "totalGlobalMem": self._cupy.memory_bytes,
        }

    def deviceGetAttribute(self, attrib, device):
        assert attrib == self.cudaDevAttrMaxSharedMemoryPerBlockOptin
        return 227 << 10

    def deviceGetPCIBusId(self, device):
        return f"0000:{device:02x}:00.0"

    def setDevice(self, device):
        assert 0 <= device < self._cupy.devices
        self._cupy.choose(device)

    def getDevice(self):
        return max(0, self._cupy.chosen())

    def streamWaitEvent(self, stream, event, flags=0):
        self._cupy.called("streamWaitEvent")
        assert flags == 0
        self._cupy.stream(stream).wait_event(self._cupy.events[event])

    def eventRecord(self, event, stream):
        self._cupy.events[event].record(self._cupy.stream(stream))

    def memGetInfo(self):
        self._cupy.called("memGetInfo")
        free = self._cupy.memory_bytes - self._cupy.taken[self._cupy.chosen()]
        return free, self._cupy.memory_bytes

    def memsetAsync(self, ptr, value, size, stream):
        self._cupy.called("memsetAsync")
        self._cupy.streams[stream].ask(lambda: ctypes.memset(ptr, value, size))

    def memcpyAsync(self, dst, src, size, kind, stream):
        self._cupy.called("memcpyAsync")
        host = {self.memcpyHostToDevice: src, self.memcpyDeviceToHost: dst}.get(kind)
        if host is None or self._cupy.is_pinned(host, size):
            self._cupy.streams[stream].ask(lambda: ctypes.memmove(dst, src, size))
        elif kind == self.memcpyHostToDevice:
            content = ctypes.string_at(src, size)
            self._cupy.streams[stream].ask(lambda: ctypes.memmove(dst, content, size))
        else:
            self._cupy.streams[stream].carry_out()
            ctypes.memmove(dst, src, size)

    def hostRegister(self, ptr, size, flags):
        self._cupy.called("hostRegister")
        assert ptr % mmap.PAGESIZE == 0
        assert size % mmap.PAGESIZE == 0
        if ptr in self._cupy.pinned:
            raise CUDARuntimeError(712)
        self._cupy.pinned[ptr] = size

    def hostUnregister(self, ptr):
        self._cupy.called("hostUnregister")
        del self._cupy.pinned[ptr]

    def pointerGetAttributes(self, ptr):
        self._cupy.called("pointerGetAttributes")
        return SimpleNamespace(type=int(self._cupy.is_pinned(ptr, 1)))


class Driver:
    CUDADriverError = CUDADriverError
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
    CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT = 9

    def __init__(self, cupy):
        self._cupy, self._functions, self._running = cupy, {}, Counter()

    def moduleLoadData(self, image):
        self._cupy.called("moduleLoadData")
        if not image:
            raise CUDADriverError(200)
        number = len(self._cupy.modules) + 1
        self._cupy.modules[number] = image.decode()
        return number

    def moduleUnload(self, module):
        self._cupy.called("moduleUnload")
        assert not self._running[module]
        self._cupy.modules[module] = None

    def moduleGetFunction(self, module, funcname):
        self._cupy.called("moduleGetFunction")
        text = self._cupy.modules[module]
        if not hasattr(library(text), f"run_{funcname}"):
            raise CUDADriverError(500)
        number = len(self._functions) + 1
        self._functions[number] = SimpleNamespace(module=module, entry=funcname, shared=48 << 10)
        return number

    def funcSetAttribute(self, f, attribute, value):
        self._cupy.called("funcSetAttribute")
        if attribute == self.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
            assert 0 <= value <= 100
            return
        assert attribute == self.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        if value > 227 << 10:
            raise CUDADriverError(1)
        self._functions[f].shared = value

    def launchKernel(
        self, f, grid_dim_x, grid_dim_y, grid_dim_z, block_dim_x, block_dim_y, block_dim_z,
        shared_mem_bytes, stream, kernel_params, extra,
    ):  # fmt: skip
        self._cupy.called("launchKernel")
        function = self._functions[f]
        text = self._cupy.modules[function.module]
        dims = (grid_dim_y, grid_dim_z, block_dim_y, block_dim_z, extra)
        sound = dims == (1, 1, 1, 1, 0) and grid_dim_x and 0 < block_dim_x <= 1024
        if not sound or text is None or shared_mem_bytes > function.shared:
            raise CUDADriverError(1)
        argument = ctypes.c_void_p.from_address(kernel_params).value
        context = ctypes.string_at(argument, library(text).argument_bytes())
        grid = min(grid_dim_x, most_of(function.entry, 3))
        self._running[function.module] += 1

        def run():
            run_kernel(text, function.entry, grid, block_dim_x, context, shared_mem_bytes)
            self._running[function.module] -= 1

        self._cupy.streams[stream].ask(run)
