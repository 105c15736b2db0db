"""A host and many drives that each answer queries of their own (Solana)."""

from __future__ import annotations

from fractions import Fraction

from wherry.base.errors import Refused
from wherry.devices.mechanisms import together
from wherry.validate.hardware import profile_on
from wherry.validate.prediction import Family, Known, Prediction
from wherry.validate.question import Question, count_of
from wherry.validate.units import per_s

_PAPER = r"Solana|HeydariGorji et al\. 2021"


_SETS = (("", "nothing of a profile: the rate of one device alone describes the queries"),)


def _predict(question: Question, known: Known) -> Prediction:
    if question.kind == "calibration":
        raise Refused("calibration", ["the rate of one device is no sum"])
    if question.kind == "range":
        raise Refused("abstract", ["only the abstract was read: no device's rate alone"])
    drives = count_of(question, "csds", r"\b(\d+) CSDs?")
    work = question.says(r"sentiment|recommender|speech")
    named = work[0] if work else r"(?!)"
    host = known.find(_PAPER, f"{named}.*host alone").value
    drive = known.find(_PAPER, f"{named}.*one CSD alone").value
    rates = [Fraction(repr(float(host))), drives * Fraction(repr(float(drive)))]
    return Prediction(
        "sum of devices that share nothing",
        "composition",
        (profile_on("newport"),),
        (per_s(together(rates)),),
        remark="rates of one device alone are calibrations of the same source",
    )


FAMILY = Family("Solana (host and drives)", _PAPER, _SETS, _predict)
