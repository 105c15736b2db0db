"""How long a device or link takes for bytes: the formulas that planner and simulator share.

Each is start-up plus size over rate, in whole nanoseconds, rounded half up from exact decimal
figures, so that a modelled time is the same on every machine.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from wherry.base.errors import InputError
from wherry.devices.figures import Figure
from wherry.devices.parts import Engine, Path
from wherry.devices.profile import Media, Profile, Start
from wherry.devices.routes import Link

_NS_PER_S = 1_000_000_000
_MB_PER_GB = 1_000


@lru_cache(maxsize=1024)
def _ratio(value: float) -> tuple[int, int]:
    """Give the exact fraction of a figure as its file spells it: repr gives back that decimal."""
    return Fraction(repr(value)).as_integer_ratio()


def _over(count: int, rate: Figure) -> int:
    """Give count / rate, rounded half up."""
    return quotient(count, *_ratio(rate.value))


def quotient(count: int, numerator: int, denominator: int) -> int:
    """Give count / (numerator / denominator), rounded half up."""
    return (2 * count * denominator + numerator) // (2 * numerator)


def _ns(microseconds: Figure) -> int:
    numerator, denominator = _ratio(microseconds.value)
    return (2000 * numerator + denominator) // (2 * denominator)


def transfer_ns(link: Link, nbytes: int, *, both: bool = False) -> int:
    """Give the time `nbytes` occupy one direction of a link; a GB is 10**9 bytes.

    Parameters
    ----------
    both : bool
        Whether the other direction is busy: a link with `both_ways_share` then has that share of
        its bandwidth (nvbandwidth: 26.0 GB/s one way, 18.6 GB/s with the other way busy).
    """
    return quotient(nbytes, *rate_of(link, both=both))


def path_ns(path: Path, nbytes: int, *, both: bool = False) -> int:
    """Give the time of one transfer over a path of a device (v100-memcpy-*, smartssd-p2p-*)."""
    return _ns(path.start_us) + quotient(nbytes, *rate_of(path, both=both))


def rate_of(link: Link | Path, *, both: bool) -> tuple[int, int]:
    """Give the bytes a nanosecond, as a fraction; those that are left if `both` ways are busy."""
    numerator, denominator = _ratio(link.bandwidth_gb_per_s.value)
    if not both or link.both_ways_share is None:
        return numerator, denominator
    share = _ratio(link.both_ways_share.value)
    return numerator * share[0], denominator * share[1]


def latency_ns(link: Link) -> int:
    """Give the time the first byte takes over a link."""
    return _ns(link.latency_us)


def requests(media: Media, nbytes: int) -> int:
    """Give the requests that a read is made of, each at most the profile's largest."""
    return max(1, -(-nbytes // media.request_bytes_max.value))


def media_ns(profile: Profile, nbytes: int) -> int:
    """Give the time `nbytes` occupy the media if all channels share in them.

    The bytes at the whole rate, or the requests at `random_read_iops` where that is longer.
    """
    media = profile.media
    if media is None:
        return 0
    bound = 0
    if media.random_read_iops is not None:
        bound = quotient(requests(media, nbytes) * _NS_PER_S, media.random_read_iops.value, 1)
    return max(_over(nbytes, media.read_gb_per_s), bound)


def channel_ns(media: Media, nbytes: int, mine: int) -> int:
    """Give the time that `mine` of the requests of a read of `nbytes` occupy one channel.

    A channel has its share of the rate, and of `random_read_iops`; requests are of equal size.
    """
    count, channels = requests(media, nbytes), media.channels.value
    numerator, denominator = _ratio(media.read_gb_per_s.value)
    occupied = quotient(mine * nbytes * channels, numerator * count, denominator)
    if media.random_read_iops is None:
        return occupied
    return max(occupied, quotient(mine * channels * _NS_PER_S, media.random_read_iops.value, 1))


def media_alone_ns(profile: Profile, nbytes: int) -> int:
    """Give the time a read takes that finds all channels idle; a small one occupies only some."""
    media = profile.media
    if media is None:
        return 0
    fullest = -(-requests(media, nbytes) // media.channels.value)
    return channel_ns(media, nbytes, fullest)


def media_latency_ns(profile: Profile) -> int:
    """Give the time the first byte takes from the media."""
    return 0 if profile.media is None else _ns(profile.media.latency_us)


def memory_ns(profile: Profile, nbytes: int) -> int:
    """Give the time `nbytes` take over the device's whole memory bandwidth."""
    if profile.memory is None:
        return 0
    return _over(nbytes, profile.memory.bandwidth_gb_per_s)


def threads_ns(profile: Profile, nbytes: int, threads: int) -> int:
    """Give the time `nbytes` take as far as so many threads can ask for them; 0: no such bound.

    Bandwidth grows with resident threads until memory is the bound (h100pcie-stream-occupancy).
    """
    launch = profile.launch
    if launch is None or launch.thread_mb_per_s is None:
        return 0
    numerator, denominator = _ratio(launch.thread_mb_per_s.value)
    return quotient(nbytes * _MB_PER_GB, max(1, threads) * numerator, denominator)


def beyond_ns(profile: Profile, nbytes: int) -> int:
    """Give the time `nbytes` take if they are fetched on demand, because memory is overfull."""
    memory = profile.memory
    if memory is None or memory.beyond_gb_per_s is None:
        return 0
    return _over(nbytes, memory.beyond_gb_per_s)


def engine_ns(engine: Engine, nbytes: int) -> int:
    """Give the time of one job with `nbytes` of input (bf2-hwdeflate-text: 24 ms to begin)."""
    return _ns(engine.job_start_us) + _over(nbytes, engine.input_gb_per_s)


def start_ns(profile: Profile) -> int:
    """Give the time to start an installed program on a chunk; of a GPU, a queued launch."""
    start = _start(profile)
    return _ns(start.kernel_start_us if profile.launch is None else profile.launch.stream_us)


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
