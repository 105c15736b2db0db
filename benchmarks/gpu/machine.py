"""What figures depend on: card, driver, link, processor, memory, drive, packages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from wherry.devices.proc import ROOT, cpu_name, kernel_release, memory_bytes, usable_cores

_SMI: Final = {
    "name": "name",
    "driver": "driver_version",
    "memory_mib": "memory.total",
    "link_generation": "pcie.link.gen.current",
    "link_generation_max": "pcie.link.gen.max",
    "link_lanes": "pcie.link.width.current",
    "link_lanes_max": "pcie.link.width.max",
    "clock_mhz_max": "clocks.max.sm",
    "memory_clock_mhz_max": "clocks.max.memory",
    "power_limit_w": "power.limit",
}
_PATIENCE_S: Final = 20.0


def machine(folder: Path, packages: dict[str, str]) -> dict[str, Any]:
    """Describe this machine.

    Parameters
    ----------
    folder : Path
        Where files are read: its drive is described.
    packages : dict of str to str
        Versions of what is compared.
    """
    return {
        "cards": cards(),
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "drive": drive(folder),
        "kernel": kernel_release(),
        "architecture": platform.machine(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "packages": packages,
        "origin": "measured",
    }


def cards(command: str = "nvidia-smi") -> list[dict[str, str]] | str:
    """Give what nvidia-smi says of every card, or why it says nothing."""
    asked = [command, f"--query-gpu={','.join(_SMI.values())}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(
            asked, capture_output=True, timeout=_PATIENCE_S, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{command}: {error}"
    lines = [line.split(", ") for line in said.stdout.splitlines() if line]
    return [dict(zip(_SMI, (cell.strip() for cell in line), strict=True)) for line in lines]


def drive(folder: Path, root: Path = ROOT) -> dict[str, Any]:
    """Give the file system and the free bytes of a folder."""
    number = folder.stat().st_dev
    wanted = f"{os.major(number)}:{os.minor(number)}"
    room = os.statvfs(folder)
    found = {"free_bytes": room.f_bavail * room.f_frsize}
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        if head.split()[2] == wanted:
            kind, source = tail.split()[:2]
            return {"kind": kind, "source": source, **found}
    return found
