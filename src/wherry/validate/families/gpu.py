"""Copies to a GPU, its memory, its occupancy and its launches (gpu-benches, nvbandwidth)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from wherry.base.errors import Refused
from wherry.devices.mechanisms import launched_ns, occupied, path_ns, path_rate, streamed
from wherry.devices.profile import Profile
from wherry.validate.hardware import path_of, profile_on
from wherry.validate.prediction import Family, Known, Prediction
from wherry.validate.question import Question, bytes_of
from wherry.validate.units import Amount, gb_per_s, ns

_KB = 2**10
"""gpu-benches prints 1024 bytes as a kB."""
_LAUNCH_FIT = 2_000_000
"""Bytes below which the sweeps of small kernels gave the launch overheads of the profiles."""


def _sets(question: Question) -> str:
    if question.says("launch overhead"):
        return "[launch] stream_us, graph_us"
    if question.says("host_to_device|memcpy"):
        return "[[path]] host-to-device bandwidth_gb_per_s"
    return "[memory] bandwidth_gb_per_s"


def _predict(question: Question, known: Known) -> Prediction:
    profile = profile_on(question.hardware, "gpu")
    if question.says(r"memcpy|copy"):
        return _copy(question, profile)
    if question.says(r"unified|working set"):
        return _working_set(question, profile)
    if question.says(r"resident threads|occupancy"):
        return _occupancy(question, profile)
    if question.says(r"queued .*kernel|per queued"):
        return _launches(question, profile)
    raise Refused("workload", [f"no model of {question.workload!r}"])


def _copy(question: Question, profile: Profile) -> Prediction:
    path = path_of(profile, "host-to-device")
    sizes = bytes_of(question, thousand=_KB)
    times = [path_ns(path, size) for size in sizes]
    mechanism = "start-up + bytes / rate"
    return Prediction(mechanism, "transfer", (profile,), _asked(question, sizes, times))


def _asked(question: Question, sizes: Sequence[int], times: Sequence[int]) -> tuple[Amount, ...]:
    if question.asks_time:
        return tuple(ns(time) for time in times)
    return tuple(gb_per_s(Fraction(n, time)) for n, time in zip(sizes, times, strict=True))


def _working_set(question: Question, profile: Profile) -> Prediction:
    sizes = bytes_of(question, "size", "set", "bytes")
    rates = [streamed(profile, size) for size in sizes]
    # Sets at either end of the sweep gave the two rates; what lies between is the test.
    ends = {sizes.index(min(sizes)), _first_beyond(profile, sizes)} if len(sizes) > 2 else set()
    return Prediction(
        "the memory's rate while the set fits, then that of fetching on demand",
        "memory",
        (profile,),
        tuple(map(gb_per_s, rates)),
        fitted=frozenset(ends),
        shape="cliff" if len(sizes) > 1 else None,
    )


def _first_beyond(profile: Profile, sizes: Sequence[int]) -> int:
    capacity = 0 if profile.memory is None else profile.memory.capacity_bytes.value
    beyond = [size for size in sizes if size > capacity]
    return sizes.index(min(beyond)) if beyond else sizes.index(min(sizes))


def _occupancy(question: Question, profile: Profile) -> Prediction:
    threads = question.given.get("threads")
    counts = threads if isinstance(threads, list) else [threads]
    if not all(isinstance(count, int) and count > 0 for count in counts):
        raise Refused("threads", [f"parameter 'threads' must be whole numbers, not {threads!r}"])
    rates = [occupied(profile, count) for count in counts]
    return Prediction(
        "threads x the rate of one, at most the memory's",
        "memory",
        (profile,),
        tuple(map(gb_per_s, rates)),
        fitted=frozenset({counts.index(min(counts))} if len(counts) > 2 else ()),
        shape="knee" if len(counts) > 2 else None,
    )


def _launches(question: Question, profile: Profile) -> Prediction:
    graph = bool(question.runs_on("graph") or question.says("graph"))
    sizes = bytes_of(question, "bytes", "size")
    times = [launched_ns(profile, size, graph=graph) for size in sizes]
    return Prediction(
        "launch + bytes over the cache's or the memory's rate",
        "kernel",
        (profile,),
        _asked(question, sizes, times),
        # The start of a launch is the intercept of what is smaller.
        fitted=frozenset(
            n for n, size in enumerate(sizes) if size < _LAUNCH_FIT and len(sizes) > 2
        ),
        shape="knee" if len(sizes) > 2 else None,
    )


def _both_ways(question: Question, known: Known) -> Prediction:
    profile = profile_on(question.hardware, "gpu")
    both = bool(question.says("bidirectional"))
    rate = path_rate(path_of(profile, "host-to-device"), other_way_busy=both)
    share = "one way's rate x the share it keeps while the other is busy"
    mechanism = share if both else "one way's rate"
    return Prediction(mechanism, "transfer", (profile,), (gb_per_s(rate),))


BENCHES = Family("gpu-benches", r"gpu-benches", _sets, _predict)
NVBANDWIDTH = Family("nvbandwidth", r"nvbandwidth", _sets, _both_ways)
