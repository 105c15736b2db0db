"""Asks the CUDA driver and kvikio what they can do, in a process of its own; see `gpu_paths`.

A program by itself, of the standard library alone: a driver that hangs, spins or ends the process
does so to nobody else. Every answer is written as one line of JSON as soon as it is there, so that
what was found before is known, and what was asked last.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import mmap
import sys
from collections.abc import Callable

_LIBCUDA = "libcuda.so.1"
_NAME_BYTES = 256


class NoAnswer(Exception):
    """A call of the driver failed."""


def main() -> None:
    """Ask one thing after the other; what fails says why, and ends what builds on it."""
    try:
        library = ctypes.CDLL(_LIBCUDA)
    except OSError as error:
        _tell("driver", present=False, detail=f"{_LIBCUDA} cannot be loaded: {error}")
        return
    devices = _asked("driver", lambda: _driver(library))
    if not devices:
        return
    _asked("pinned", lambda: _pinned(library, devices))
    if _asked("kvikio", _kvikio):
        _asked("gds", _gds)


def _asked(name: str, ask: Callable[[], tuple[bool, str]]) -> str:
    """Say that something is asked, and then the answer; give it unless it is no."""
    _tell(name)
    try:
        present, detail = ask()
    except Exception as error:  # noqa: BLE001  whatever a library raises is its answer
        lines = str(error).splitlines() or [""]
        present, detail = False, f"{type(error).__name__}: {lines[0]}"
    _tell(name, present=present, detail=detail)
    return detail if present else ""


def _tell(name: str, **answer: object) -> None:
    sys.stdout.write(json.dumps({"name": name, **answer}) + "\n")
    sys.stdout.flush()


def _driver(library: ctypes.CDLL) -> tuple[bool, str]:
    _call(library, "cuInit", 0)
    version, count = ctypes.c_int(), ctypes.c_int()
    _call(library, "cuDriverGetVersion", ctypes.byref(version))
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    if not count.value:
        return False, "it knows no device"
    names = ", ".join(_device(library, number) for number in range(count.value))
    return True, f"CUDA {version.value // 1000}.{version.value % 1000 // 10}, {names}"


def _device(library: ctypes.CDLL, number: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    _call(library, "cuDeviceGet", ctypes.byref(device), number)
    _call(library, "cuDeviceGetName", name, _NAME_BYTES, device)
    return name.value.decode()


def _pinned(library: ctypes.CDLL, devices: str) -> tuple[bool, str]:
    """Register a page with the first device, and let go of it."""
    context = ctypes.c_void_p()
    _call(library, "cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    try:
        _call(library, "cuCtxSetCurrent", context)
        page = mmap.mmap(-1, mmap.PAGESIZE)
        address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        _call(library, "cuMemHostRegister_v2", address, ctypes.c_size_t(mmap.PAGESIZE), 0)
        _call(library, "cuMemHostUnregister", address)
    finally:
        _call(library, "cuDevicePrimaryCtxRelease_v2", 0)
    return True, f"{devices}; memory of this process can be registered"


def _call(library: ctypes.CDLL, name: str, *arguments: object) -> None:
    status = getattr(library, name)(*arguments)
    if status:
        raise NoAnswer(f"{name} gives error {status}")


def _kvikio() -> tuple[bool, str]:
    version = importlib.import_module("kvikio").__version__
    preferred = importlib.import_module("kvikio.defaults").is_compat_mode_preferred()
    how = "through memory of the host" if preferred else "through cuFile"
    return True, f"kvikio {version}, by default {how}"


def _gds() -> tuple[bool, str]:
    driver = importlib.import_module("kvikio.cufile_driver")
    if driver.get("is_gds_available"):
        version = ".".join(map(str, driver.libcufile_version()))
        hidden = driver.get("allow_compat_mode")
        unless = ", unless it falls back without telling (allow_compat_mode)" if hidden else ""
        return True, f"cuFile {version} reads directly{unless}"
    return False, "cuFile says that it is not available"


if __name__ == "__main__":
    main()
