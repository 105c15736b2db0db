"""How many chunks an emulated device works on at once: what hides the latency of the way."""

from __future__ import annotations

from typing import Final

from wherry.devices.profile import Profile
from wherry.devices.system import System

_PER_CORE: Final = 2
"""Chunks on their way, per core: one runs, the next is coming."""


def window_of(profile: Profile) -> int:
    """Give the chunks that a device works on at once: read, moved to it, or running."""
    return 0 if profile.cores is None else _PER_CORE * profile.cores.count.value


def windows_of(system: System) -> dict[str, int]:
    """Give the window of every device that runs programs."""
    return {
        name: window_of(profile)
        for name, profile in system.devices.items()
        if profile.runs_programs
    }
