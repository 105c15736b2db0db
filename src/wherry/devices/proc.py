"""What Linux tells about this machine: cores, cpu, memory. Read from files, nothing is guessed.

Every function takes the `root` of the file system it reads, so that other machines can be shown to
it as a folder.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from wherry.base.errors import InputError

ROOT = Path("/")
# The instruction sets that the programs we render make a difference of.
_FEATURES = ("avx2", "avx512f", "avx512_vbmi2", "asimd", "asimddp", "sve", "sve2")


def usable_cores() -> int:
    """Give the number of cores this process may run on."""
    return len(os.sched_getaffinity(0))


def cpu_name(root: Path = ROOT) -> str:
    """Give the cpu's name; where Linux has only a part number (Arm), that and the architecture."""
    info = _cpuinfo(root)
    if "model name" in info:
        return info["model name"]
    part = f" part {info['CPU part']}" if "CPU part" in info else ""
    return f"{platform.machine()}{part}"


def cpu_features(root: Path = ROOT) -> tuple[str, ...]:
    """Give those instruction sets of the cpu that rendered programs can use."""
    info = _cpuinfo(root)
    seen = info.get("flags", info.get("Features", "")).split()
    return tuple(name for name in _FEATURES if name in seen)


def cpu_clock_ghz(root: Path = ROOT) -> float | None:
    """Give the clock of the first core now, in GHz; None where Linux does not tell (Arm)."""
    mhz = _cpuinfo(root).get("cpu MHz")
    return None if mhz is None else round(float(mhz) / 1000, 3)


def cuda_node(root: Path = ROOT) -> Path | None:
    """Give the first card's node in /dev, or None.

    A container sees the cards that it was given under the numbers that its host has for them.
    """
    return min((root / "dev").glob("nvidia[0-9]*"), default=None)


def no_cuda_node(root: Path = ROOT) -> str:
    """Say that there is no card's node."""
    return f"no device {root / 'dev/nvidia'}<number>"


def memory_bytes(root: Path = ROOT) -> int:
    """Give the size of the memory.

    Raises
    ------
    InputError
        `/proc/meminfo` does not say it.
    """
    file = root / "proc/meminfo"
    total = _colon_lines(file).get("MemTotal", "").split()
    if len(total) != 2 or total[1] != "kB":
        raise InputError(f"{file}: no line 'MemTotal: <number> kB'")
    return int(total[0]) * 1024


def kernel_release(root: Path = ROOT) -> str:
    """Give the release of the running kernel, as `uname -r` does."""
    return (root / "proc/sys/kernel/osrelease").read_text().strip()


def effective_capabilities(root: Path = ROOT) -> int:
    """Give the bit set of capabilities of this process (bit n is capability n)."""
    return int(_colon_lines(root / "proc/self/status").get("CapEff", "0"), 16)


def _cpuinfo(root: Path) -> dict[str, str]:
    return _colon_lines(root / "proc/cpuinfo")


def _colon_lines(file: Path) -> dict[str, str]:
    """Give the first value of each `key : value` line; an absent file has none."""
    found: dict[str, str] = {}
    if not file.exists():
        return found
    for line in file.read_text().splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found
