"""Hops of a switched fabric, and relays through a card's memory (Zaratan study, DisDP)."""

from __future__ import annotations

from fractions import Fraction

from wherry.base.errors import Refused
from wherry.devices.mechanisms import exact, gbit, relay_link, relayed, rounded
from wherry.devices.profile import Profile
from wherry.validate.hardware import path_of, profile_on
from wherry.validate.prediction import Family, Known, Prediction
from wherry.validate.question import Question, count_of, number_of
from wherry.validate.units import ns, share

_SETS = (("", "connectx-6 [[path]] rdma-write start_us"),)


def _hops(question: Question, known: Known) -> Prediction:
    """One way is the ends with their switch, and every further switch; a read goes both ways."""
    profile = profile_on(question.hardware, "nic")
    hops = count_of(question, "hops", r"\b(\d+)[ -]?hops?", _hops_in_words(question))
    first = exact(path_of(profile, "rdma-write").start_us)
    further = exact(path_of(profile, "rdma-switch").start_us)
    one_way = (first + (hops - 1) * further) * 1000
    reads = bool(question.says(r"read|round trip|RTT"))
    mechanism = "first switch + further switches" + (", there and back" if reads else "")
    time = rounded(one_way * (2 if reads else 1))
    return Prediction(mechanism, "transfer", (profile,), (ns(time),))


def _hops_in_words(question: Question) -> int | None:
    if question.says(r"different leaves|leaf pairs") or question.runs_on("leaf-spine-leaf"):
        return 3
    if question.says(r"same leaf|over \d+ leaves") or question.runs_on("1 switch"):
        return 1
    return None


def _relay(question: Question, known: Known) -> Prediction:
    profile = profile_on(question.hardware, "nic")
    line = _offered(question, profile)
    if question.says("Arm-switch|switch link"):
        part = relay_link(profile, line)
        if part is None:
            raise Refused(profile.device.name, ["[network] core_gbit_per_s is not known"])
        mechanism = "link between ports and cores over twice the line"
    else:
        limit = question.kind == "bound"
        part = relayed(profile, line, at_peak=limit)
        rate = "peak" if limit else "usable rate"
        mechanism = f"memory's {rate} over four accesses a byte of line rate, or the cores' link"
    return Prediction(mechanism, "memory", (profile,), (share(min(part, Fraction(1))),))


def _offered(question: Question, profile: Profile) -> Fraction:
    stated = number_of(question, "offered_gbps", r"(\d+(?:\.\d+)?) Gb/s (?:each|both)")
    if stated is not None:
        return Fraction(repr(stated)) / 8
    if profile.network is None:
        raise Refused(profile.device.name, ["no table [network]"])
    return gbit(profile.network.line_gbit_per_s)


HOPS = Family("Zaratan InfiniBand study", r"Zaratan|InfiniBand latency", _SETS, _hops)
RELAY = Family("DisDP (BlueField relays)", r"DisDP", (), _relay)
