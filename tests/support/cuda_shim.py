"""CUDA programs on this CPU: g++ compiles them with `cuda_shim.hpp`; memory ends at a guard."""

import ctypes
import mmap
import re
import subprocess
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from wherry.base.errors import Retryable

FOLDER = Path(__file__).parent
_libc = ctypes.CDLL(None, use_errno=True)
SHARED = 227 << 10
"""Bytes of memory on chip that a block may have, as on sm_90."""
_ON_CHIP = re.compile(r"^extern __shared__ u64 on_chip\[\];.*$", re.MULTILINE)
_ENTRY = re.compile(r"__launch_bounds__\([\w, ]+\)\s+(\w+)\(")


class ShimBlock:
    """Memory that ends where a page begins that nobody may touch; it goes with its last name."""

    def __init__(self, device, nbytes, content):
        self.nbytes, self._device = nbytes, device
        pages = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
        end = np.frombuffer(self._memory, np.uint8).ctypes.data + pages
        # As far aligned as the size is: between the end and the guard there is no room.
        self.address = end - nbytes
        ctypes.memset(self.address, content, nbytes)
        assert _libc.mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0

    def __del__(self):
        self._device.taken -= self.nbytes


class ShimEvent:
    handle = 0

    def wait(self):
        pass


class ShimRegistered:
    def close(self):
        pass


class ShimDevice:
    """An accelerator whose addresses are this process's; one byte too far ends the process.

    Blocks begin at multiples of what their sizes are multiples of, not of `ALIGNED`, so that their
    ends are guarded. `most_blocks` bounds the grids of kernels that take any: their answer must
    not depend on it. `taken` says how many bytes blocks have, `most_taken` the most there were.
    """

    name, arch, cores, shared_bytes = "shim", "sm_90", 2, SHARED
    kind = 1, 0  # the host's memory

    def __init__(self, most_blocks=3, memory_bytes=1 << 30):
        self.most_blocks, self.memory_bytes = most_blocks, memory_bytes
        self.taken = self.most_taken = 0
        self.launches, self.gets = [], []

    def free_bytes(self):
        return self.memory_bytes - self.taken

    def _block(self, nbytes, content):
        assert nbytes > 0
        if nbytes > self.free_bytes():
            raise Retryable(f"{nbytes} bytes of {self.free_bytes()} that are free")
        self.taken += nbytes
        self.most_taken = max(self.most_taken, self.taken)
        return ShimBlock(self, nbytes, content)

    def room(self, nbytes):
        return self._block(nbytes, 0xA5)

    def zeros(self, nbytes):
        return self._block(nbytes, 0)

    def put(self, data):
        assert data.dtype == np.uint8
        block = self._block(data.size, 0)
        ctypes.memmove(block.address, np.ascontiguousarray(data).ctypes.data, data.size)
        return block

    def get(self, address, nbytes):
        self.gets.append(nbytes)
        found = np.empty(nbytes, np.uint8)
        ctypes.memmove(found.ctypes.data, address, nbytes)
        return found

    def launch(self, text, entry, grid, block, context, *, shared=0):
        assert grid > 0
        assert shared <= self.shared_bytes
        self.launches.append(entry)
        grid = min(grid, most_of(entry, self.most_blocks))
        run_kernel(text, entry, grid, block, context, shared)

    def registered(self, memory):
        return ShimRegistered()

    def reads(self, address, nbytes):
        return False

    def copy_in(self, target, source, nbytes):
        ctypes.memmove(target, source, nbytes)

    copy_within = copy_in

    def loaded(self):
        return ShimEvent()

    def after(self, event):
        pass

    def after_launches(self):
        pass

    def launched(self):
        return ShimEvent()

    def follows(self, stream, event):
        raise AssertionError("the host's memory has no streams")

    def lent(self, block):
        return block


def most_of(entry, most_blocks):
    """Give how many blocks a kernel is run with at most: fewer than any, if it takes any."""
    return most_blocks if entry in {"total_pass", "group_pass"} else 1 << 30


def run_kernel(text, entry, grid, block, context, shared):
    """Run a kernel of a program here and now; `context` holds its argument."""
    run = getattr(library(text), f"run_{entry}")
    run(*map(ctypes.c_uint, (grid, block, shared)), ctypes.c_char_p(context))


@cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="wherry-cuda-")


@cache
def library(text):
    """Compile a program for this CPU; each text once in a process."""
    entries = _ENTRY.findall(text)
    runs = [
        f'extern "C" void run_{e}(unsigned grid, unsigned block, unsigned shared,'
        " const void* context) {\n"
        "  static Context kept;\n  memcpy(&kept, context, sizeof kept);\n"
        f"  shim::launch(grid, block, shared, [] {{ {e}(kept); }});\n}}\n"
        for e in entries
    ]
    runs.append('extern "C" unsigned argument_bytes() { return sizeof(Context); }')
    name = Path(_folder().name) / sha256(text.encode()).hexdigest()
    source, library = name.with_suffix(".cpp"), name.with_suffix(".so")
    source.write_text("\n".join(['#include "cuda_shim.hpp"', _ON_CHIP.sub("", text), *runs]))
    command = ["g++", "-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off"]
    command += ["-Wno-unknown-pragmas", "-fno-strict-aliasing"]
    # Loads and stores that are not aligned end a kernel on a device.
    command += ["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error", f"-I{FOLDER}"]
    made = subprocess.run(
        [*command, source, "-o", library], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr[:4000]
    return ctypes.CDLL(str(library))
