"""Copies to a GPU, its memory, its occupancy and its launches (gpu-benches, nvbandwidth)."""

from __future__ import annotations

from collections.abc import Sequence

from wherry.base.errors import Refused
from wherry.devices.charge import path_ns
from wherry.devices.mechanisms import launched_ns, occupied, path_rate, rate_of, streamed
from wherry.devices.profile import Profile
from wherry.validate.hardware import path_of, profile_on
from wherry.validate.prediction import Family, Known, Prediction
from wherry.validate.question import Question, bytes_of, counts_of
from wherry.validate.units import Amount, gb_per_s, ns

_KB = 2**10
"""gpu-benches prints 1024 bytes as a kB."""
_SETS = (
    ("launch overhead", "[launch] stream_us, graph_us"),
    ("host_to_device|memcpy", "[[path]] host-to-device bandwidth_gb_per_s"),
    ("", "[memory] bandwidth_gb_per_s"),
)
_SET_FIT = frozenset({768_000_000, 24_576_000_000})
"""Bytes whose rates set the V100's memory, and what lies beyond it."""
_THREADS_FIT = frozenset({3648, 4224})
"""Threads, of one wave of the smallest blocks, whose rate over their number is that of one."""
_LAUNCH_FIT = 2_000_000
"""Bytes below which the sweeps of small kernels gave the launch overheads of the profiles."""


def _predict(question: Question, known: Known) -> Prediction:
    profile = profile_on(question.hardware, "gpu")
    if question.says(r"memcpy|copy"):
        return _copy(question, profile)
    if question.says(r"unified|working set"):
        return _working_set(question, profile)
    if question.says(r"resident threads|occupancy"):
        return _occupancy(question, profile)
    if question.says("launch overhead"):
        start = launched_ns(profile, 0, graph=_in_a_graph(question))
        return Prediction("start of a queued launch", "kernel", (profile,), (ns(start),))
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
    return tuple(gb_per_s(rate_of(n, time)) for n, time in zip(sizes, times, strict=True))


def _working_set(question: Question, profile: Profile) -> Prediction:
    sizes = bytes_of(question, "size", "set", "bytes")
    rates = [streamed(profile, size) for size in sizes]
    return Prediction(
        "the memory's rate while the set fits, then that of fetching on demand",
        "memory",
        (profile,),
        tuple(map(gb_per_s, rates)),
        fitted=frozenset(n for n, size in enumerate(sizes) if size in _SET_FIT),
        shape="cliff" if len(sizes) > 1 else None,
    )


def _occupancy(question: Question, profile: Profile) -> Prediction:
    counts = counts_of(question, "threads", r"\b(\d+) (?:resident )?threads")
    rates = [occupied(profile, count) for count in counts]
    return Prediction(
        "threads x the rate of one, at most the memory's",
        "memory",
        (profile,),
        tuple(map(gb_per_s, rates)),
        fitted=frozenset(n for n, count in enumerate(counts) if count in _THREADS_FIT),
        shape="knee" if len(counts) > 2 else None,
    )


def _launches(question: Question, profile: Profile) -> Prediction:
    graph = _in_a_graph(question)
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


def _in_a_graph(question: Question) -> bool:
    return bool(question.runs_on("graph") or question.says("graph"))


def _both_ways(question: Question, known: Known) -> Prediction:
    profile = profile_on(question.hardware, "gpu")
    both = bool(question.says("bidirectional"))
    rate = path_rate(path_of(profile, "host-to-device"), other_way_busy=both)
    share = "one way's rate x the share it keeps while the other is busy"
    mechanism = share if both else "one way's rate"
    return Prediction(mechanism, "transfer", (profile,), (gb_per_s(rate),))


BENCHES = Family("gpu-benches", r"gpu-benches", _SETS, _predict)
NVBANDWIDTH = Family("nvbandwidth", r"nvbandwidth", _SETS, _both_ways)
