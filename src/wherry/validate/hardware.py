"""Which profile describes the hardware that a point was measured on."""

from __future__ import annotations

import re

from wherry.base.errors import InputError, Refused
from wherry.devices.parts import Engine, Path
from wherry.devices.profile import Profile, load_profile

_PATTERNS = (
    (r"blue\s?field-?\s?3|\bBF-?3\b", "bluefield-3"),
    (r"blue\s?field-?\s?2|\bBF-?2\b", "bluefield-2"),
    (r"octeon(?! ?10)", "octeon-tx2"),
    (r"smart\s?ssd", "smartssd"),
    (r"\bv100", "v100"),
    (r"\bgh200", "gh200"),
    (r"\bh200", "h200"),
    (r"\bh100[ _-]?(80|pcie)", "h100-pcie"),
    (r"\bh100[ _-]?sxm", "h100"),
    (r"\ba100[ _-]?(80|sxm)|8-GPU node, PCIe Gen4", "a100-80"),
    (r"\bl40s", "l40s"),
    (r"\bl4\b", "l4"),
    (r"rtx pro 6000", "rtx-pro-6000"),
    (r"^host$|x86 host", "dpbento-host"),
    (r"e5-?2630 ?v4", "xeon-e5-2630v4"),
    (r"xeon-?\s?d-?\s?1548|\bm510\b", "xeon-d-1548"),
    (r"\bps1010", "plain-nvme-gen5-ps1010"),
    (r"\bsn8100", "plain-nvme-gen5-sn8100"),
    (r"nvme gen3|gen3-class|970 pro", "plain-nvme-gen3"),
    (r"hdr100|\bHDR\b", "connectx-6"),
    (r"400\s?GbE", "connectx-7-400"),
    (r"\b100\s?GbE", "connectx-6"),
    (r"micron 9400", "plain-nvme-gen4"),
    (r"micron 9550", "plain-nvme-gen5"),
    (r"newport|solana", "newport"),
)


def profiles_on(words: str) -> tuple[Profile, ...]:
    """Give the profiles of everything that the words name, in the order in which they name it."""
    found = []
    for pattern, name in _PATTERNS:
        match = re.search(pattern, words, re.IGNORECASE)
        if match:
            found.append((match.start(), name))
    return tuple(_load(name) for _, name in sorted(found))


def profile_on(words: str, *kinds: str) -> Profile:
    """Give the first profile that the words name, of one of the kinds if any are given.

    Raises
    ------
    Refused
        There is none.
    """
    for profile in profiles_on(words):
        if not kinds or profile.device.kind in kinds:
            return profile
    what = f" of kind {' or '.join(kinds)}" if kinds else ""
    raise Refused("hardware", [f"no profile{what} describes {words!r}"])


def _load(name: str) -> Profile:
    try:
        return load_profile(name)
    except InputError as error:
        raise Refused("profile", [str(error)]) from error


def path_of(profile: Profile, name: str) -> Path:
    """Give a path of a device by name.

    Raises
    ------
    Refused
        It has none of that name.
    """
    for path in profile.path:
        if path.name == name:
            return path
    have = ", ".join(path.name for path in profile.path) or "none"
    raise Refused("path", [f"{profile.device.name} has no path {name!r}; it has: {have}"])


def engine_of(profile: Profile, name: str) -> Engine:
    """Give an engine of a device by name; raises as `path_of`."""
    for engine in profile.engine:
        if engine.name == name:
            return engine
    have = ", ".join(engine.name for engine in profile.engine) or "none"
    raise Refused("engine", [f"{profile.device.name} has no engine {name!r}; it has: {have}"])
