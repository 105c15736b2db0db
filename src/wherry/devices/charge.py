"""How long a device or link takes for bytes: the formulas that planner and simulator share.

Each is start-up plus size over rate, in whole nanoseconds, rounded half up from exact decimal
figures, so that a modelled time is the same on every machine.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from wherry.base.errors import InputError
from wherry.devices.figures import Figure
from wherry.devices.profile import Profile, Start
from wherry.devices.routes import Link


@lru_cache(maxsize=1024)
def _ratio(value: float) -> tuple[int, int]:
    """Give the exact fraction of a figure as its file spells it: repr gives back that decimal."""
    return Fraction(repr(value)).as_integer_ratio()


def _over(count: int, rate: Figure) -> int:
    """Give count / rate, rounded half up."""
    numerator, denominator = _ratio(rate.value)
    return (2 * count * denominator + numerator) // (2 * numerator)


def _ns(microseconds: Figure) -> int:
    numerator, denominator = _ratio(microseconds.value)
    return (2000 * numerator + denominator) // (2 * denominator)


def transfer_ns(link: Link, nbytes: int) -> int:
    """Give the time `nbytes` occupy one direction of a link; a GB is 10**9 bytes."""
    return _over(nbytes, link.bandwidth_gb_per_s)


def latency_ns(link: Link) -> int:
    """Give the time the first byte takes over a link."""
    return _ns(link.latency_us)


def media_ns(profile: Profile, nbytes: int) -> int:
    """Give the time `nbytes` occupy the media, all channels striped."""
    if profile.media is None:
        return 0
    return _over(nbytes, profile.media.read_gb_per_s)


def media_latency_ns(profile: Profile) -> int:
    """Give the time the first byte takes from the media."""
    return 0 if profile.media is None else _ns(profile.media.latency_us)


def memory_ns(profile: Profile, nbytes: int) -> int:
    """Give the time `nbytes` take over the device's whole memory bandwidth."""
    if profile.memory is None:
        return 0
    return _over(nbytes, profile.memory.bandwidth_gb_per_s)


def start_ns(profile: Profile) -> int:
    """Give the time to start an installed program on a chunk."""
    return _ns(_start(profile).kernel_start_us)


def receive_ns(profile: Profile) -> int:
    """Give the time to receive, check and decode one continuation."""
    return _ns(_start(profile).hop_receive_us)


def install_ns(profile: Profile) -> int:
    """Give the time to compile and load a program that the device has not seen."""
    return _ns(_start(profile).program_install_us)


def _start(profile: Profile) -> Start:
    if profile.start is None:
        name, kind = profile.device.name, profile.device.kind
        raise InputError(f"{name} is a {kind} without [start]: it runs no programs")
    return profile.start
