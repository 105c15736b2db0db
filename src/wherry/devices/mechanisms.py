"""What bounds a device, one mechanism a function, composed of the times of `charge.py`.

Planner and simulator charge the same times; here they become the rates and sums that published
measurements are compared with. A rate is an exact fraction of bytes a nanosecond, which is GB/s;
a time is a whole number of nanoseconds. Each docstring names the published measurement that shows
the mechanism is needed (points of `benchmarks/validation/points.toml`).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from msgspec import Struct

from wherry.base.errors import Refused
from wherry.devices.charge import beyond_ns, engine_ns, memory_ns, path_ns, threads_ns
from wherry.devices.figures import Figure
from wherry.devices.parts import Engine, Launch, Path
from wherry.devices.profile import Memory, Profile

FRAMED = Fraction(1448, 1538)
"""Share of an Ethernet line that is payload: 1448 of the 1538 bytes that a frame of MTU 1500 takes
on the wire, TCP with time stamps. 400 GbE carried 43.4 of 46.6 GiB/s (gds-nfsrdma-4gpu)."""

RELAY_ACCESSES = 4
"""Times the memory is passed for a byte of line rate, both ways busy: what is pushed is written and
read, and so is what is pulled (disdp-bf2-push-pull)."""


class Between(Struct, frozen=True):
    """A time of stages that overlap by an unknown amount: all of it, or none.

    Attributes
    ----------
    least, most : int
        Nanoseconds: the longest stage alone, and all stages one after the other.
    """

    least: int
    most: int

    @property
    def middle(self) -> int:
        """The estimate that is wrong by the least, whichever of the two is true."""
        return (self.least + self.most) // 2


def exact(figure: Figure) -> Fraction:
    """Give a figure as the fraction that its file spells; repr gives back that decimal."""
    return Fraction(repr(figure.value))


def gbit(figure: Figure) -> Fraction:
    """Give a figure in Gbit/s as a rate."""
    return exact(figure) / 8


_LONG = 10**18
"""Bytes by which a time of `charge.py` becomes a rate: its rounding is lost in them."""


def rounded(time: Fraction) -> int:
    """Give whole nanoseconds, half up."""
    return (2 * time.numerator + time.denominator) // (2 * time.denominator)


def over_ns(nbytes: int, rate: Fraction, start_us: Figure | None = None) -> int:
    """Give start-up plus bytes over a rate."""
    start = Fraction(0) if start_us is None else exact(start_us) * 1000
    return rounded(start + nbytes / rate)


def rate_of(nbytes: int, took_ns: int) -> Fraction:
    """Give the rate of bytes that took a time; what rounds to nothing takes a nanosecond."""
    return Fraction(nbytes, max(1, took_ns))


def path_rate(path: Path, *, other_way_busy: bool = False) -> Fraction:
    """Give the rate of a path once it has begun, alone or while its other way is busy.

    A full link is not two links: each way keeps `both_ways_share` of its rate while the other is
    busy (nvbandwidth-pcie4-bidir: 0.71 of it).

    Raises
    ------
    Refused
        The share is asked for and the profile has none.
    """
    if other_way_busy and path.both_ways_share is None:
        raise Refused(f"path {path.name!r}", ["no both_ways_share: both ways busy is not known"])
    begun = path_ns(path, 0, both=other_way_busy)
    return rate_of(_LONG, path_ns(path, _LONG, both=other_way_busy) - begun)


def job_ns(engine: Engine, nbytes: int, *, jobs: int = 1) -> int:
    """Give the time until `jobs` equal shares of the input are done, as many at once as can be."""
    at_once = max(1, min(jobs, engine.jobs.value))
    return engine_ns(engine, -(-nbytes // at_once))


def serial_ns(stages: Sequence[int]) -> int:
    """Give the time of stages that wait for each other (bf2-hwdeflate-tat-*)."""
    return sum(stages)


def overlapped_ns(stages: Sequence[int]) -> Between:
    """Give the bounds of stages that may overlap (smartssd-pipeline-overlap, dpbento cold runs)."""
    return Between(max(stages), sum(stages))


def slowest(rates: Sequence[Fraction]) -> Fraction:
    """Give the rate of what passes through everything: the least of them (gds-*)."""
    return min(rates)


def together(rates: Sequence[Fraction]) -> Fraction:
    """Give the rate of devices that share nothing (solana-additive)."""
    return sum(rates, Fraction(0))


def in_flight(jobs: int, nbytes: int, latency_ns: int) -> Fraction:
    """Give what `jobs` outstanding requests ask for at most: Little's law (gds-doc-cpuonly)."""
    return rate_of(jobs * nbytes, latency_ns)


def on_cores(rate: Fraction, threads: int, cores: int) -> Fraction:
    """Give the rate of threads in their own caches: linear until cores end (dpbento-scale-*)."""
    return rate * min(threads, cores)


def fits_cache(profile: Profile, nbytes: int) -> bool:
    """Tell whether what one core touches again and again lies in its share of the caches.

    A step and not a slope (dpbento-mem-read-rnd: a fall of 6 to 26 times).
    """
    return profile.cache is not None and nbytes <= profile.cache.core_bytes.value


def streamed(profile: Profile, nbytes: int) -> Fraction:
    """Give the rate at which all cores together stream a set that they stream again and again.

    The caches' rate while it fits in all of them (smallkernel-a100-80), the memory's while it fits
    there, then that of fetching on demand: a cliff (v100-um-oversub: 164 times).

    Raises
    ------
    Refused
        There is no memory, or the set is larger and nothing says how it would be fetched.
    """
    memory = _memory(profile)
    cores = 1 if profile.cores is None else profile.cores.count.value
    rate = rate_of(_LONG, memory_ns(profile, _LONG))
    if profile.rates is not None and profile.cache and fits_cache(profile, -(-nbytes // cores)):
        return rate * exact(profile.cache.relative_scan) / exact(profile.rates.relative_scan)
    if nbytes <= memory.capacity_bytes.value:
        return rate
    if memory.beyond_gb_per_s is None:
        reason = f"{nbytes:,} bytes do not fit in {memory.capacity_bytes.value:,}"
        raise Refused(f"{profile.device.name}", [f"{reason}, and no beyond_gb_per_s is known"])
    return rate_of(_LONG, beyond_ns(profile, _LONG))


def occupied(profile: Profile, threads: int) -> Fraction:
    """Give the memory rate of a GPU with that many threads (h100pcie-stream-occupancy).

    Raises
    ------
    Refused
        The rate of one thread is not known.
    """
    if profile.launch is None or profile.launch.thread_mb_per_s is None:
        raise Refused(profile.device.name, ["[launch] thread_mb_per_s is not known"])
    return rate_of(_LONG, max(threads_ns(profile, _LONG, threads), memory_ns(profile, _LONG)))


def launched_ns(profile: Profile, nbytes: int, *, graph: bool = False) -> int:
    """Give the time of one of many queued kernels that move `nbytes` (smallkernel-*).

    Raises
    ------
    Refused
        The profile has no such launch.
    """
    return over_ns(nbytes, streamed(profile, nbytes), _launch(profile, graph=graph))


def relayed(profile: Profile, line: Fraction, *, at_peak: bool = False) -> Fraction:
    """Give the share of a line that a relay through the device's memory can keep, at most 1.

    Every byte of line rate passes the memory `RELAY_ACCESSES` times with both ways busy; the link
    between ports and cores carries both ways' bytes in each of its directions.

    Parameters
    ----------
    at_peak : bool
        Whether the memory gives its peak, for a limit that nothing reaches, and not what is usable.

    Raises
    ------
    Refused
        There is no memory, or its peak is asked for and not known.
    """
    memory = _memory(profile)
    figure = memory.peak_gb_per_s if at_peak else memory.bandwidth_gb_per_s
    if figure is None:
        raise Refused(profile.device.name, ["[memory] peak_gb_per_s is not known"])
    shares = [Fraction(1), exact(figure) / (RELAY_ACCESSES * line)]
    link = relay_link(profile, line)
    return min(shares if link is None else [*shares, link])


def relay_link(profile: Profile, line: Fraction) -> Fraction | None:
    """Give the share of a line that the link between ports and cores lets a relay keep, if known.

    Each of its directions carries what came in and what goes back out (disdp-bf2-arm-switch).
    """
    if profile.network is None or profile.network.core_gbit_per_s is None:
        return None
    return gbit(profile.network.core_gbit_per_s) / (2 * line)


def crew_ns(
    nbytes: int, workers: int, alone: Sequence[Fraction], shared: Sequence[Fraction]
) -> int:
    """Give the time until `workers`, each doing one piece at a time, have done all bytes.

    A worker takes a piece through every step in turn, so that it never overlaps with itself;
    workers overlap with each other. `alone` are rates that each worker has for itself, `shared`
    those that all have together. The bound is the workers' own turn, or a shared rate (Skyhook's
    tables: with 16, 32 and 64 threads 16 nodes take 120, 70 and 45 s for one scan).

    Parameters
    ----------
    nbytes : int
        All bytes, in the measure in which the rates are given.
    workers : int
    alone, shared : sequence of Fraction
        Bytes a nanosecond.
    """
    turn = sum((1 / rate for rate in (*alone, *shared)), Fraction(0)) / workers
    return rounded(nbytes * max([turn, *(1 / rate for rate in shared)]))


def _memory(profile: Profile) -> Memory:
    if profile.memory is None:
        raise Refused(profile.device.name, ["no table [memory]"])
    return profile.memory


def _launch(profile: Profile, *, graph: bool) -> Figure:
    launch: Launch | None = profile.launch
    found = None if launch is None else launch.graph_us if graph else launch.stream_us
    if found is None:
        key = "graph_us" if graph else "stream_us"
        raise Refused(profile.device.name, [f"[launch] {key} is not known"])
    return found
