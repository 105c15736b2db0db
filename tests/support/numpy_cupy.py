"""What benchmarks call of CuPy, on this CPU: arrays of numpy, memory of the host, g++'s kernels."""

import ctypes
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

FOLDER = Path(__file__).parent
FREE = 1 << 30


class Runtime:
    """CUDA's calls by CuPy's names. Sizes and kinds are checked; what is registered is kept."""

    def __init__(self):
        self.blocks, self.registered, self.waits = {}, {}, 0

    def memGetInfo(self):
        return FREE, FREE

    def getDevice(self):
        return 0

    def getDeviceProperties(self, device):
        assert device == 0
        return {"multiProcessorCount": 1}

    def malloc(self, nbytes):
        memory = np.empty(nbytes + 256, np.uint8)
        address = -(-memory.ctypes.data // 256) * 256
        self.blocks[address] = memory, nbytes
        return address

    def free(self, address):
        del self.blocks[address]

    def _has(self, address, nbytes):
        return any(
            at <= address and address + nbytes <= at + n for at, (_, n) in self.blocks.items()
        )

    def memcpy(self, target, source, nbytes, kind):
        assert self._has(target, nbytes) == (kind in {1, 3}), kind
        assert self._has(source, nbytes) == (kind in {2, 3}), kind
        ctypes.memmove(target, source, nbytes)

    def hostRegister(self, address, nbytes, flags):
        assert flags == 0
        assert address not in self.registered
        self.registered[address] = nbytes

    def hostUnregister(self, address):
        del self.registered[address]

    def deviceSynchronize(self):
        self.waits += 1


class Driver:
    """Modules that are machine code."""

    def moduleLoadData(self, image):
        assert image[:4] == b"\x7fELF"
        return 7

    def moduleUnload(self, module):
        assert module == 7


class RawModule:
    """Kernels of words of 8 bytes, each in a library of its own."""

    def __init__(self, *, code):
        self.code = code

    def get_function(self, entry):
        call = _compiled(self.code, entry)

        def launch(grid, block, args):
            assert all(isinstance(word, np.uint64) for word in args)
            words = np.array(args, np.uint64)
            call(*map(ctypes.c_uint, (*grid, *block)), words.ctypes.data_as(ctypes.c_void_p))

        return launch


@cache
def _compiled(code, entry):
    head = re.search(rf"{entry}\(([^)]*)\)", code)
    types = [word.rsplit(" ", 1)[0] for word in head[1].split(",")]
    words = ", ".join(f"({t.strip()})words[{n}]" for n, t in enumerate(types))
    run = (
        f"static unsigned long long words[{len(types)}];\n"
        'extern "C" void run(unsigned grid, unsigned block, const void* given) {\n'
        "  memcpy(words, given, sizeof words);\n"
        f"  shim::launch(grid, block, 0, [] {{ {entry}({words}); }});\n}}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "k.cpp", Path(folder) / "k.so"
        source.write_text(f'#include "cuda_shim.hpp"\n{code}\n{run}')
        command = ["g++", "-std=c++17", "-O1", "-fPIC", "-shared", "-Wno-unknown-pragmas"]
        subprocess.run([*command, f"-I{FOLDER}", source, "-o", library], check=True)
        return ctypes.CDLL(str(library)).run


class Arrays:
    """A module of numpy's arrays that goes by the name of CuPy or torch."""

    def __init__(self):
        runtime = Runtime()
        self.cuda = SimpleNamespace(runtime=runtime, driver=Driver(), empty_cache=lambda: None)
        self.RawModule = RawModule

    def __getattr__(self, name):
        return getattr(np, name)

    def asnumpy(self, array):
        return np.asarray(array)

    def from_dlpack(self, array):
        return np.asarray(array)  # numpy's own takes no scalars

    def get_default_memory_pool(self):
        return SimpleNamespace(free_all_blocks=lambda: None)

    def fuse(self, *, kernel_name):
        assert kernel_name.isidentifier()
        return lambda function: function
