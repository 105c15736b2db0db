"""Drives and the network to GPUs: shared links, outstanding requests, work beside reads."""

from __future__ import annotations

import re
from fractions import Fraction

from wherry.base.errors import Refused
from wherry.devices.mechanisms import (
    FRAMED,
    exact,
    gbit,
    in_flight,
    over_ns,
    path_rate,
    rounded,
    slowest,
)
from wherry.devices.profile import Profile
from wherry.validate.hardware import path_of, profile_on
from wherry.validate.prediction import Family, Known, Prediction
from wherry.validate.question import Question, bytes_of, count_of, number_of
from wherry.validate.units import UNITS, gb_per_s, ns, share

_SETS = (("", "[[path]] peer-read of the GPU, [media] read_gb_per_s of the drives"),)
_LAYERS = 3
"""Layers of one run of the study's benchmark, unless a point says otherwise."""


def _shared(question: Question, known: Known) -> Prediction:
    """Bound what reaches GPUs by their links and by the drives or the network they share."""
    gpu = profile_on(question.hardware, "gpu")
    gpus = count_of(question, "gpus", r"\b(\d+) GPUs?", 1)
    links = gpus * path_rate(path_of(gpu, "peer-read"))
    if question.says(r"NFS|RDMA|network"):
        source = profile_on(question.hardware, "nic")
        if source.network is None:
            raise Refused(source.device.name, ["no table [network]"])
        supply = gbit(source.network.line_gbit_per_s) * FRAMED
        mechanism = "least of the GPUs' links and one Ethernet line less its frames"
    else:
        source = profile_on(question.hardware, "drive")
        drives = count_of(question, "drives", r"\b(\d+) drives", _counted_drives(question))
        supply = drives * _drive_rate(source)
        mechanism = "least of the GPUs' links and the drives together"
    rate = slowest([links, supply])
    return Prediction(mechanism, "transfer", (gpu, source), (gb_per_s(rate),))


def _counted_drives(question: Question) -> int:
    match = question.runs_on(r"\b(\d+)x (?:Solidigm|WD|Samsung|Micron|Kioxia)")
    return 1 if match is None else int(match[1])


def _drive_rate(drive: Profile) -> Fraction:
    """Give what leaves a drive: its media, or the link in front of them if that is slower."""
    if drive.media is None:
        raise Refused(drive.device.name, ["no table [media]"])
    ways = [path_rate(path) for path in drive.path if path.name == "host-link"]
    return slowest([exact(drive.media.read_gb_per_s), *ways])


def _one_drive(question: Question, known: Known) -> Prediction:
    """Threads with one request each: Little's law, until the drive is the bound."""
    drive = profile_on(question.hardware, "drive")
    threads = count_of(question, "threads", r"\b(\d+) threads?")
    size = bytes_of(question, "io", "size", "bytes", "block")[0]
    if drive.media is None:
        raise Refused(drive.device.name, ["no table [media]"])
    limit = _drive_rate(drive)
    alone = over_ns(size, limit, drive.media.latency_us)
    rate = slowest([in_flight(threads, size, alone), limit])
    amount = ns(threads * size / rate) if question.asks_time else gb_per_s(rate)
    mechanism = "Little's law: threads x bytes / latency, at most the drive's rate"
    return Prediction(mechanism, "transfer", (drive,), (amount,))


def _kvikio(question: Question, known: Known) -> Prediction:
    gpu, drive = profile_on(question.hardware, "gpu"), profile_on(question.hardware, "drive")
    drives = count_of(question, "drives", r"\b(\d+) drives", _counted_drives(question))
    threads = count_of(question, "threads", r"\b(\d+) threads?", 16)
    # A thread reads one stripe at a time, so that fewer threads than drives leave drives idle.
    supply = min(threads, drives) * _drive_rate(drive)
    rate = slowest([supply, path_rate(path_of(gpu, "peer-read"))])
    if question.says(r"pipeline|overlap|layer") or "layers" in question.given:
        return _layers(question, (gpu, drive), rate)
    if question.asks_time:
        size = bytes_of(question, "read", "size", "bytes", "file", "layer")[0]
        amount = ns(over_ns(size, rate))
    else:
        amount = gb_per_s(rate)
    mechanism = "least of the drives that have a thread and the GPU's link"
    return Prediction(mechanism, "transfer", (gpu, drive), (amount,))


def _layers(question: Question, profiles: tuple[Profile, ...], rate: Fraction) -> Prediction:
    """Read the next layer while one computes: each step takes the longer of the two."""
    read = over_ns(bytes_of(question, "layer", "bytes", "size", "read")[0], rate)
    compute = max(1, _compute_ns(question))
    layers = count_of(question, "layers", r"\b(\d+) layers", _LAYERS)
    steps = [max(read, compute)] * (layers - 1) + [compute]
    whole = sum(steps) if layers > 1 else max(read, compute)
    alone = compute * layers
    amount = ns(whole) if question.asks_time else share(Fraction(whole, alone) - 1)
    mechanism = "the longer of reading and computing for each layer but the last, which is there"
    return Prediction(mechanism, "composition", profiles, (amount,))


def _compute_ns(question: Question) -> int:
    """Give the time of computing one layer: work that is asked for, and stated with it."""
    for key in question.given:
        unit = re.search(r"compute\w*?_([mu]?s)(?:_|$)", key)
        if unit:
            return _time(number_of(question, key, r"(?!)"), unit[1])
    said = question.says(r"(\d+(?:\.\d+)?) ?([mu]?s) (?:of )?compute")
    said = said or question.says(r"compute (?:of )?(\d+(?:\.\d+)?) ?([mu]?s)")
    if said is None:
        raise Refused("compute", ["the point does not state the time of computing a layer"])
    return _time(float(said[1]), said[2])


def _time(amount: float | None, unit: str) -> int:
    return rounded(Fraction(repr(amount or 0.0)) * UNITS[unit][1])


FARM = Family("FarmGPU GPUDirect Storage report", r"FarmGPU", _SETS, _shared)
GUIDE = Family("GPUDirect Storage deployment guide", r"GDS for NVMe", _SETS, _one_drive)
KVIKIO = Family(
    "kvikio results (RAID0 to one GPU)", r"GPUDirect Storage Benchmark Results", _SETS, _kvikio
)
