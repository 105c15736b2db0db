"""Queries from a card's own storage, core scaling, caches and storage requests (dpBento)."""

from __future__ import annotations

from fractions import Fraction

from wherry.base.errors import Refused
from wherry.devices.charge import path_ns
from wherry.devices.mechanisms import (
    exact,
    fits_cache,
    on_cores,
    overlapped_ns,
    path_rate,
    rate_of,
    rounded,
)
from wherry.devices.profile import Profile
from wherry.validate.hardware import path_of, profile_on, profiles_on
from wherry.validate.prediction import Family, Known, Prediction
from wherry.validate.question import Question, bytes_of, count_of, number_of
from wherry.validate.units import gb_per_s, ns, per_s

_PAPER = "dpBento"
_QUERY = r"\bQ(\d+)\b"
_MILLION = 1_000_000
"""Operations in the `M` of the artifact's Mops/s."""
_SETS = (
    ("hot run", "nothing: the hot times describe the queries"),
    (
        "cold run",
        "nothing: a sister device's cold times give the queries' bytes",
    ),
    ("fio", "[[path]] card-ssd-*"),
    (
        "compute-|str",
        "[rates] relative_filter, _arithmetic, _string, _sort, _decode",
    ),
    ("mem-|random", "[rates] and [cache] relative_scan, relative_hash"),
)


def _predict(question: Question, known: Known) -> Prediction:
    if question.says(r"\bcold\b"):
        return _cold(question, known)
    if question.says(r"\bfio\b|storage-"):
        return _storage(question)
    if question.says(r"random|mem-(read|scale)"):
        return _memory(question, known)
    raise Refused("workload", [f"no model of {question.workload!r}"])


def _cold(question: Question, known: Known) -> Prediction:
    profile = profile_on(question.hardware)
    query = count_of(question, "query", _QUERY)
    hot = _hot_ns(question, known, profile, query)
    nbytes, origin = _query_bytes(question, known, profile, query)
    between = overlapped_ns([hot, path_ns(path_of(profile, "card-ssd-read"), nbytes)])
    return Prediction(
        "hot time and bytes / storage rate, overlapped by an unknown part: middle of the bounds",
        # The goal is about storage on cards; a host's is so fast that queries wait elsewhere.
        "cold query" if profile.device.kind == "nic" else "variation",
        (profile,),
        (ns(between.middle),),
        low=ns(between.least),
        high=ns(between.most),
        remark=origin,
    )


def _hot_ns(question: Question, known: Known, profile: Profile, query: int) -> int:
    """Give the query's time with its data in memory: measured, so part of what is asked."""
    seconds = _cell(known, "hot run", profile, query)
    if seconds is not None:
        return rounded(seconds * 10**9)
    for key in question.given:
        if key.lower().startswith("hot"):
            stated = number_of(question, key, r"(?!)") or 0.0
            scale = 10**6 if key.lower().endswith("_ms") else 10**9
            return rounded(Fraction(repr(stated)) * scale)
    raise Refused("hot time", [f"no hot time of Q{query} on {profile.device.name} is known"])


def _query_bytes(question: Question, known: Known, profile: Profile, query: int) -> tuple[int, str]:
    """Give the bytes a query reads: stated, or from its cold time on another device's storage."""
    if any(key.startswith(("bytes", "read")) for key in question.given):
        return bytes_of(question, "bytes", "read")[0], "bytes as stated"
    for other in (profile_on("BlueField-2"), profile_on("OCTEON")):
        cold = None if other == profile else _cell(known, "cold run", other, query)
        if cold is not None:
            rate = path_rate(path_of(other, "card-ssd-read"))
            return rounded(cold * 10**9 * rate), f"bytes from its cold run on {other.device.name}"
    raise Refused("bytes", [f"the bytes that Q{query} reads are not known"])


def _cell(known: Known, run: str, profile: Profile, query: int) -> Fraction | None:
    """Give a device's seconds for a query from the first calibration table that has both."""
    for point in known.every(_PAPER, run):
        queries, devices = point.parameters.get("queries"), point.parameters.get("order")
        if not isinstance(queries, list) or not isinstance(devices, list) or query not in queries:
            continue
        named = [place for place, name in enumerate(devices) if profile in profiles_on(str(name))]
        if named:
            return Fraction(repr(float(point.value[queries.index(query)][named[0]])))
    return None


def _storage(question: Question) -> Prediction:
    profile = profile_on(question.hardware)
    way = "write" if question.says("write") else "read"
    random = "random-" if question.says(r"rnd|random") else ""
    path = path_of(profile, f"card-ssd-{random}{way}")
    sizes = bytes_of(question, thousand=2**10)
    if question.asks_time:
        raise Refused("unit", ["latency under 8 jobs is not modelled, only their throughput"])
    amounts = tuple(gb_per_s(rate_of(size, path_ns(path, size))) for size in sizes)
    mechanism = "request: start-up + bytes / rate"
    return Prediction(mechanism, "transfer", (profile,), amounts)


def _memory(question: Question, known: Known) -> Prediction:
    """Random reads: the reference host's rate times the relative one, linear in threads."""
    profile = profile_on(question.hardware)
    if question.says("write|seq"):
        raise Refused("workload", ["only random reads have a model"])
    if profile.rates is None or profile.cores is None:
        raise Refused(profile.device.name, ["no table [rates] or no [cores]"])
    sizes = bytes_of(question, thousand=2**10)
    threads = count_of(question, "threads", r"\b(\d+) threads?", 1)
    point = known.find(_PAPER, "mem-read-rnd")
    host = Fraction(repr(float(point.value[-1][point.parameters["order"].index("Host")])))
    amounts = []
    for size in sizes:
        cached = profile.cache if fits_cache(profile, size) else None
        relative = profile.rates.relative_hash if cached is None else cached.relative_hash
        if relative is None:
            raise Refused(profile.device.name, ["[rates] relative_hash is not known"])
        one = host * _MILLION * exact(relative)
        amounts.append(per_s(on_cores(one, threads, profile.cores.count.value)))
    return Prediction(
        "a host core's random reads of memory x relative rate (a step at the cache) x threads",
        "memory",
        (profile,),
        tuple(amounts),
    )


FAMILY = Family("dpBento (cards)", _PAPER, _SETS, _predict)
HOST = Family("dpBento, its host", r"dpBento.*its x86 host", _SETS, _predict)
