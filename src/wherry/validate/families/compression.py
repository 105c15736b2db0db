"""Codecs on cores, a deflate engine, and the way to a card and back (dpdk_compression)."""

from __future__ import annotations

from wherry.base.errors import Refused
from wherry.devices.charge import path_ns
from wherry.devices.mechanisms import job_ns, rate_of, serial_ns
from wherry.devices.profile import Profile
from wherry.validate.hardware import engine_of, path_of, profile_on
from wherry.validate.prediction import Family, Known, Prediction
from wherry.validate.question import Question, bytes_of, count_of
from wherry.validate.units import Amount, gb_per_s, ns

_PAPER = r"dpdk_compression|Takashima"
_CODEC = r"\b(zlib|zstd)\b"
_ENGINE = r"HW deflate|deflate engine"
_THERE_AND_BACK = r"turn-?around|round trip"
_OFFLOAD, _HOST = "offload", "host"
_SETS = (
    (_ENGINE, "bluefield-2 [[engine]] deflate input_gb_per_s, job_start_us"),
    (r"text", "nothing: the floats' rates are used for texts too"),
    (r"\bzlib\b", "[[engine]] zlib input_gb_per_s"),
    (r"\bzstd\b", "[[engine]] zstd input_gb_per_s"),
    (r"host mem", "bluefield-2 [[path]] host-message bandwidth_gb_per_s"),
)


def _predict(question: Question, known: Known) -> Prediction:
    if question.kind == "decision":
        return _decision(question, known)
    nbytes = _input_bytes(question, known)
    card = profile_on(question.hardware, "nic")
    if question.says(_THERE_AND_BACK):
        return Prediction(
            "serial sum: there and back over the message channel, then one engine job",
            "composition",
            (card,),
            (_asked(question, nbytes, _turn_around_ns(card, nbytes)),),
        )
    codec = question.says(_CODEC)
    if codec:
        on_host = question.says(r"\bhost\b")
        profile = profile_on(question.hardware, "cpu") if on_host else card
        cores = count_of(question, "cores", r"\b(\d+) (?:A\d\d |host )?cores?", 1)
        time = job_ns(engine_of(profile, codec[1].lower()), nbytes, jobs=cores)
        mechanism = "bytes over the codec's rate on a core, times cores"
        return Prediction(mechanism, "kernel", (profile,), (_asked(question, nbytes, time),))
    if question.says(_ENGINE):
        time = job_ns(engine_of(card, "deflate"), nbytes)
        mechanism = "engine job: start-up + bytes / rate"
        return Prediction(mechanism, "kernel", (card,), (_asked(question, nbytes, time),))
    if question.says(r"host mem(ory)? -> DPU mem"):
        time = _copies_ns(card, nbytes)
        mechanism = "bytes there and back over the message channel"
        return Prediction(mechanism, "transfer", (card,), (_asked(question, nbytes, time),))
    raise Refused("workload", [f"no model of {question.workload!r}"])


def _decision(question: Question, known: Known) -> Prediction:
    codec = question.says(_CODEC)
    if codec is None:
        raise Refused("workload", ["the decision names neither zlib nor zstd on the host"])
    nbytes = _input_bytes(question, known)
    host, card = profile_on(question.hardware, "cpu"), profile_on(question.hardware, "nic")
    cores = count_of(question, "cores", r"\b(\d+) cores?", 1)
    stay = job_ns(engine_of(host, codec[1].lower()), nbytes, jobs=cores)
    go = _turn_around_ns(card, nbytes)
    return Prediction(
        "the host's codec against there, one engine job, and back",
        "decision",
        (host, card),
        winner=_OFFLOAD if go < stay else _HOST,
        remark=f"host {stay / 1e9:.3g} s, offload {go / 1e9:.3g} s",
    )


def _asked(question: Question, nbytes: int, time: int) -> Amount:
    return ns(time) if question.asks_time else gb_per_s(rate_of(nbytes, time))


def _turn_around_ns(card: Profile, nbytes: int) -> int:
    return serial_ns([_copies_ns(card, nbytes), job_ns(engine_of(card, "deflate"), nbytes)])


def _copies_ns(card: Profile, nbytes: int) -> int:
    """Give the time of a file's way to the card and back, as the source takes it: whole."""
    return 2 * path_ns(path_of(card, "host-message"), nbytes)


def _input_bytes(question: Question, known: Known) -> int:
    """Give the input's size: stated, or that of the file the source says it used."""
    try:
        return bytes_of(question, "bytes_in", "bytes", "size", "file")[0]
    except Refused:
        text = question.says(r"\btext\b|COVID")
        point = known.find(_PAPER, r"\btext\b" if text else r"\bfloat\b|host mem -> DPU mem")
        return int(point.parameters.get("bytes_in") or point.parameters["bytes_each_way"])


FAMILY = Family("dpdk_compression (BlueField-2)", _PAPER, _SETS, _predict)
