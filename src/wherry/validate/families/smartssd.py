"""Peer-to-peer transfers between a drive and the FPGA beside it, and a pipeline through both."""

from __future__ import annotations

from fractions import Fraction

from wherry.devices.charge import path_ns
from wherry.devices.mechanisms import exact, in_flight, slowest
from wherry.validate.hardware import engine_of, path_of, profile_on
from wherry.validate.prediction import Family, Known, Prediction
from wherry.validate.question import Question, bytes_of, count_of
from wherry.validate.units import gb_per_s, ns

_SETS = ((r"P2P", "nothing: the Vitis log's two ends set p2p-read and p2p-write"),)


def _transfer(question: Question, known: Known) -> Prediction:
    profile = profile_on(question.hardware)
    path = path_of(profile, "p2p-write" if question.says("write") else "p2p-read")
    jobs = count_of(question, "queue_depth", r"QD\s?(\d+)", 1)
    sizes = bytes_of(question)
    amounts = []
    for size in sizes:
        alone = path_ns(path, size)
        if question.asks_time:
            amounts.append(ns(alone))
        else:
            limit = exact(path.bandwidth_gb_per_s)
            amounts.append(gb_per_s(slowest([in_flight(jobs, size, alone), limit])))
    return Prediction("start-up + bytes / rate", "transfer", (profile,), tuple(amounts))


def _pipeline(question: Question, known: Known) -> Prediction:
    """Bound a pipeline by its stages one after the other, and by the slowest of them."""
    profile = profile_on(question.hardware)
    stages = [
        exact(path_of(profile, "p2p-early").bandwidth_gb_per_s),
        exact(path_of(profile, "host-dma").bandwidth_gb_per_s),
        exact(engine_of(profile, "copy-kernel").input_gb_per_s),
    ]
    serial = 1 / sum((1 / rate for rate in stages), Fraction(0))
    return Prediction(
        "between the serial sum of three stages and the slowest of them",
        "composition",
        (profile,),
        low=gb_per_s(serial),
        high=gb_per_s(slowest(stages)),
    )


TRANSFERS = Family("Vitis p2p_bandwidth (SmartSSD)", r"p2p_bandwidth", (), _transfer)
BENCHMARKS = Family(
    "smartssd-benchmarks (SmartSSD)", r"smartssd-benchmarks|Defibrilator", _SETS, _transfer
)
PIPELINE = Family("Vitis P2P overlap example (SmartSSD)", r"P2P overlap", (), _pipeline)
