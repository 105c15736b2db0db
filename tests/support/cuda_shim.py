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

FOLDER = Path(__file__).parent
_libc = ctypes.CDLL(None, use_errno=True)
_ON_CHIP = re.compile(r"^extern __shared__ u64 on_chip\[\];.*$", re.MULTILINE)
_ENTRY = re.compile(r"__launch_bounds__\([\w, ]+\)\s+(\w+)\(")


class ShimDevice:
    """A device whose addresses are this process's; one byte too far ends the process.

    `most_blocks` bounds the grids of kernels that take any: their answer must not depend on it.
    """

    def __init__(self, most_blocks: int = 3) -> None:
        self.most_blocks = most_blocks
        self._kept: list[mmap.mmap] = []

    def put(self, data, align):
        address = self._block(data.size, align)
        ctypes.memmove(address, data.ctypes.data, data.size)
        return address

    def room(self, nbytes):
        return self._block(nbytes, 8)

    def _block(self, nbytes, align):
        pages = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
        self._kept.append(memory)
        end = np.frombuffer(memory, np.uint8).ctypes.data + pages
        assert _libc.mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0
        return (end - nbytes) // align * align

    def get(self, address, nbytes):
        found = np.empty(nbytes, np.uint8)
        ctypes.memmove(found.ctypes.data, address, nbytes)
        return found

    def launch(self, program, entry, grid, block, context, shared=0):
        if entry in {"total_pass", "group_pass"}:
            grid = min(grid, self.most_blocks)
        run = getattr(_library(program.text), f"run_{entry}")
        run(*map(ctypes.c_uint, (grid, block, shared)), ctypes.c_char_p(context))


@cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="wherry-cuda-")


@cache
def _library(text):
    """Compile a program for this CPU; each text once in a process."""
    entries = _ENTRY.findall(text)
    runs = [
        f'extern "C" void run_{e}(unsigned grid, unsigned block, unsigned shared,'
        " const void* context) {{\n"
        "  static Context kept;\n  memcpy(&kept, context, sizeof kept);\n"
        f"  shim::launch(grid, block, shared, [] {{ {e}(kept); }});\n}}\n"
        for e in entries
    ]
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
