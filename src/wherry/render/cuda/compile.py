"""Programs compiled by NVRTC, which needs no driver; what it makes is kept on disk.

A cubin depends on the text, the architecture, the options and the version of NVRTC, and lies under
the digest of these. CUDA's libraries are imported here only, and when something is compiled.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import InputError, WherryError
from wherry.kernels.objects import object_path, read_object, write_object
from wherry.render.cuda.program import CudaProgram

OPTIONS: Final = (
    "--std=c++17", "--device-int128", "--fmad=false", "--minimal", "--ptxas-options=-v"
)  # fmt: skip
"""Without contraction: a fused multiply-add rounds once where the reference rounds twice. Without
textures and the like: NVRTC reads 5 ms less."""
_ENTRY: Final = re.compile(r"Compiling entry function '(\w+)'")
_USED: Final = re.compile(r"Used (\d+) registers")
_SPILLS: Final = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_LEAST: Final = 80
"""Older cards do not add up the lanes of a warp in one step."""
_HEAD: Final = 4
"""Bytes that say how long the log before the cubin is."""


class Kernel(Struct, frozen=True):
    """What one kernel of a program takes of a core, for each thread."""

    registers: int
    spilled_bytes: int


class Cubin(Struct, frozen=True):
    """Machine code for one architecture.

    Attributes
    ----------
    kernels : dict
        By entry.
    cached : bool
        Whether it was found on disk.
    """

    image: bytes
    kernels: dict[str, Kernel]
    cached: bool


def compile_program(program: CudaProgram, arch: str, folder: Path) -> Cubin:
    """Give the machine code of a program, as `compile_text` does of its text."""
    return compile_text(program.text, arch, folder)


def compile_text(text: str, arch: str, folder: Path) -> Cubin:
    """Give the machine code of a program's text for an architecture such as "sm_90".

    Parameters
    ----------
    folder : pathlib.Path
        Where compiled programs are kept.

    Raises
    ------
    InputError
        If NVRTC is not installed, or the architecture is older than programs need.
    WherryError
        If the text does not compile; with NVRTC's own words.
    """
    if int(re.sub(r"\D", "", arch)) < _LEAST:
        raise InputError(f"CUDA programs run on sm_{_LEAST} and later, not on {arch}")
    version = ".".join(map(str, nvrtc_version()))
    parts = (text, arch, version, *OPTIONS)
    path = object_path(folder, sha256("\0".join(parts).encode()).hexdigest())
    kept = read_object(path)
    whole = _compiled(text, arch) if kept is None else kept
    if kept is None:
        write_object(path, whole)
    size = _HEAD + int.from_bytes(whole[:_HEAD], "little")
    return Cubin(whole[size:], _kernels(whole[_HEAD:size].decode()), kept is not None)


@cache
def nvrtc_version() -> tuple[int, int]:
    """Give the version of NVRTC.

    Raises
    ------
    InputError
        If it is not installed.
    """
    _, major, minor = _checked(*_nvrtc().nvrtcVersion())
    return major, minor


def _nvrtc() -> Any:
    try:
        return import_module("cuda.bindings.nvrtc")
    except ImportError:
        text = "CUDA programs are compiled by NVRTC: pip install cuda-bindings nvidia-cuda-nvrtc"
        raise InputError(text) from None


def _checked(status: Any, *found: Any) -> tuple[Any, ...]:
    if int(status):
        raise WherryError(f"NVRTC: {status.name}")
    return (status, *found)


def _compiled(text: str, arch: str) -> bytes:
    """Give the length of the log, the log, and the cubin."""
    nvrtc = _nvrtc()
    _, program = _checked(*nvrtc.nvrtcCreateProgram(text.encode(), b"program.cu", 0, [], []))
    try:
        options = [option.encode() for option in (f"--gpu-architecture={arch}", *OPTIONS)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        _, size = _checked(*nvrtc.nvrtcGetProgramLogSize(program))
        log = bytearray(size)
        _checked(*nvrtc.nvrtcGetProgramLog(program, log))
        if int(status):
            raise WherryError(f"NVRTC: {status.name}\n{log.rstrip(bytes(1)).decode()}")
        _, size = _checked(*nvrtc.nvrtcGetCUBINSize(program))
        image = bytearray(size)
        _checked(*nvrtc.nvrtcGetCUBIN(program, image))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return len(log).to_bytes(_HEAD, "little") + bytes(log) + bytes(image)


def _kernels(log: str) -> dict[str, Kernel]:
    """Give what ptxas says of each kernel."""
    found = {}
    for part in log.split("Compiling entry function")[1:]:
        entry = _ENTRY.search(f"Compiling entry function{part}")
        used, spills = _USED.search(part), _SPILLS.search(part)
        if not (entry and used and spills):
            raise WherryError(f"NVRTC says nothing of the registers of a kernel:\n{part}")
        found[entry[1]] = Kernel(int(used[1]), int(spills[1]) + int(spills[2]))
    return found
