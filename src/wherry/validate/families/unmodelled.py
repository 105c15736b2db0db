"""Sources whose points set figures, or are refused: why nothing is predicted for them."""

from __future__ import annotations

from wherry.base.errors import Refused
from wherry.devices.mechanisms import path_rate
from wherry.validate.hardware import path_of, profile_on
from wherry.validate.prediction import Family, Known, Prediction
from wherry.validate.question import Question
from wherry.validate.units import gb_per_s

_ABSTRACT = "only the abstract was read: neither the queries' bytes nor the device's rates"


def _refusing(source: str, paper: str, reason: str, sets: str = "no shipped figure") -> Family:
    def predict(question: Question, known: Known) -> Prediction:
        raise Refused("no model", [reason])

    return Family(source, paper, (("", sets),), predict)


def _coherent(question: Question, known: Known) -> Prediction:
    profile = profile_on(question.hardware, "gpu")
    back = question.says(r"D2H|device to host")
    rate = path_rate(path_of(profile, "c2c-to-cpu" if back else "c2c-from-cpu"))
    return Prediction("one way's rate", "transfer", (profile,), (gb_per_s(rate),))


FAMILIES = (
    Family(
        "Schieffer et al. (GH200)",
        r"Schieffer",
        (("", "gh200 [memory] bandwidth_gb_per_s, [[path]] c2c-from-cpu, c2c-to-cpu"),),
        _coherent,
    ),
    _refusing("UPP (SmartSSD)", r"\bUPP\b", _ABSTRACT, "smartssd [media], [memory]"),
    _refusing(
        "Pump Up the Volume (V100)",
        r"Pump Up the Volume|Lutz et al",
        f"{_ABSTRACT}; the gain is of random access over a coherent link",
        "v100 [[path]] nvlink2, both_ways_share of host-to-device",
    ),
    _refusing(
        "Crystal (V100)",
        r"Crystal|Shanbhag",
        "no profile describes its 8-core CPU, and its query's times were recalled, not read",
    ),
    _refusing("YourSQL", r"YourSQL", _ABSTRACT),
    _refusing("Biscuit", r"Biscuit|Gu et al\. ISCA 2016", _ABSTRACT),
    _refusing(
        "Smart SSD (2013)",
        r"Do et al\. SIGMOD 2013",
        "figures were recalled, not read, so no profile rests on them; the drive's processor is "
        "the bound, and nothing says how fast it is (bandwidths alone allow up to 2.8 times)",
    ),
    _refusing("lambda-IO", r"Yang et al\. FAST 2023", _ABSTRACT),
    _refusing("nKV", r"\bnKV\b", _ABSTRACT),
    _refusing("STANNIS", r"STANNIS", _ABSTRACT),
    _refusing("PushdownDB", r"PushdownDB", f"{_ABSTRACT}; no profile of S3 Select"),
    _refusing("NoLoad", r"ABOF|NoLoad", "a press article; no profile describes the device"),
    _refusing(
        "BlueField-3 DPA",
        r"BF-3 DPA",
        "no profile of the DPA: nothing says how fast a thread is beside an Arm core",
    ),
    _refusing(
        "Liu et al. (BlueField-2)",
        r"Liu et al\. 2021",
        "kernel-space packet processing on Arm cores has no figure in the profile",
    ),
    _refusing("own measurements", r"own measurement", "no model of loopback sockets"),
    _refusing(
        "other simulators",
        r"NVMeVirt|Amber|SimpleSSD|FEMU|VSSIM|Vidur",
        "about another simulator's error, not about a device",
    ),
)
