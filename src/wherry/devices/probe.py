"""What this machine has for Wherry's tiers, and why it lacks the rest; nothing is imported for it.

Looking is by file and by `find_spec`: a GPU library that is imported to see whether it is there
would initialise the driver. Where there is a device, a child process asks it (`gpu_paths`).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata, util
from pathlib import Path

import msgspec

from wherry.base.errors import InputError
from wherry.devices.bandwidth import read_gb_per_s
from wherry.devices.found import Found
from wherry.devices.gpu_paths import gpu_paths
from wherry.devices.proc import (
    ROOT,
    cpu_features,
    cpu_name,
    cuda_node,
    effective_capabilities,
    kernel_release,
    memory_bytes,
    no_cuda_node,
    usable_cores,
)

_LIBCUDA_FOLDERS = (
    "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib",
    "usr/lib/wsl/lib", "usr/local/nvidia/lib64", "usr/local/cuda/compat",
)  # fmt: skip
# numbers from linux/capability.h
_CAP_NET_ADMIN, _CAP_SYS_ADMIN, _CAP_BPF = 12, 21, 39
# CAP_BPF came with Linux 5.8; before that only root could load a program.
_XDP_KERNEL = (5, 8)
_PACKAGES = ("numpy", "pyarrow", "numba", "llvmlite", "simpy")


class Machine(msgspec.Struct, frozen=True):
    """The machine, as `wherry doctor` shows it; JSON-able by msgspec. Bandwidths are measured."""

    cores: int
    cpu: str
    features: tuple[str, ...]
    memory_bytes: int
    read_gb_per_s_one_thread: float
    read_gb_per_s_all_threads: float
    kernel: str
    python: str
    cuda: Found
    cupy: Found
    kvikio: Found
    gds: Found
    gpu_paths: dict[str, Found]
    xdp: Found
    ray: Found
    packages: dict[str, Found]


def probe(root: Path = ROOT) -> Machine:
    """Give what this machine has; takes 0.3 s for the two bandwidths, once per process.

    With a GPU it takes as long again as its driver needs to begin, 20 s at most.

    Parameters
    ----------
    root : Path
        The file system whose /proc, /dev and /usr are looked at.
    """
    cores = usable_cores()
    return Machine(
        cores=cores,
        cpu=cpu_name(root),
        features=cpu_features(root),
        memory_bytes=memory_bytes(root),
        read_gb_per_s_one_thread=read_gb_per_s(1, anew=True),
        read_gb_per_s_all_threads=read_gb_per_s(cores),
        kernel=kernel_release(root),
        python=platform.python_version(),
        cuda=find_cuda(root),
        cupy=find_module("cupy"),
        kvikio=find_module("kvikio"),
        gds=find_gds(root),
        gpu_paths=gpu_paths(root),
        xdp=find_xdp(root),
        ray=find_module("ray"),
        packages={name: find_module(name) for name in _PACKAGES},
    )


def find_cuda(root: Path = ROOT) -> Found:
    """Tell whether a program could open a CUDA device: its node in /dev and libcuda are there."""
    device = cuda_node(root)
    if device is None:
        return Found(False, no_cuda_node(root))
    places = [root / folder / "libcuda.so.1" for folder in _LIBCUDA_FOLDERS]
    library = next((place for place in places if place.exists()), None)
    if library is None:
        return Found(False, f"{device} is there, but libcuda.so.1 is in none of the usual folders")
    return Found(True, f"{device}, {library}")


def find_gds(root: Path = ROOT) -> Found:
    """Tell whether the kernel module for GPUDirect Storage is loaded."""
    folder = root / "proc/driver/nvidia-fs"
    if folder.exists():
        return Found(True, str(folder))
    return Found(False, f"no {folder}: kernel module nvidia-fs is not loaded")


def find_xdp(root: Path = ROOT) -> Found:
    """Tell whether this process may load XDP programs: kernel version and capabilities."""
    release = kernel_release(root)
    if _version(release) < _XDP_KERNEL:
        wanted = ".".join(str(part) for part in _XDP_KERNEL)
        return Found(False, f"kernel {release} is older than {wanted}")
    held = effective_capabilities(root)
    if held >> _CAP_SYS_ADMIN & 1 and held >> _CAP_NET_ADMIN & 1:
        return Found(True, f"kernel {release}, CAP_SYS_ADMIN and CAP_NET_ADMIN")
    wanted_bits = {"CAP_BPF": _CAP_BPF, "CAP_NET_ADMIN": _CAP_NET_ADMIN}
    lacking = [name for name, bit in wanted_bits.items() if not held >> bit & 1]
    if lacking:
        return Found(False, f"this process lacks {' and '.join(lacking)}")
    return Found(True, f"kernel {release}, CAP_BPF and CAP_NET_ADMIN")


def find_module(name: str) -> Found:
    """Tell whether a module could be imported, and the version of what would be; imports nothing.

    A GPU library's distribution is named after the CUDA it was built for, so the version is asked
    of whichever distribution provides the module.
    """
    if util.find_spec(name) is None:
        return Found(False, f"module {name!r} is not installed")
    distributions = _distributions().get(name, [])
    if not distributions:
        return Found(True, "version unknown: no installed distribution says it provides it")
    return Found(True, f"{distributions[0]} {metadata.version(distributions[0])}")


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _version(release: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None:
        raise InputError(f"kernel release {release!r} does not begin with two numbers")
    return int(found[1]), int(found[2])
