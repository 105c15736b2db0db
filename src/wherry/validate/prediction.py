"""What a family predicts for a point, and what it may look up: calibrations of its own source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from wherry.base.errors import Refused
from wherry.devices.profile import Profile
from wherry.validate.point import Point
from wherry.validate.question import Question
from wherry.validate.units import Amount

Subject = Literal[
    "transfer", "composition", "cold query", "kernel", "memory", "table", "variation", "decision",
]  # fmt: skip
Shape = Literal["cliff", "knee"]


class Prediction(Struct, frozen=True):
    """A prediction with where it comes from.

    Attributes
    ----------
    mechanism : str
        The formula, in words.
    subject : str
        What kind of thing is predicted; goals are set for some.
    profiles : tuple of Profile
        Whose figures were used.
    amounts : tuple of Amount
        One for a value, one for each element of a sweep, none where there are only bounds.
    low, high : Amount, optional
        What the measurement must lie between.
    winner : str
        Of a decision: "offload" or "host".
    fitted : frozenset of int
        Elements of a sweep that set a figure of the profile: not a test of it.
    shape : str, optional
        What a sweep must show at the same place: a fall ("cliff") or a bend ("knee").
    remark : str
        What a reader should know about it.
    """

    mechanism: str
    subject: Subject
    profiles: tuple[Profile, ...]
    amounts: tuple[Amount, ...] = ()
    low: Amount | None = None
    high: Amount | None = None
    winner: str = ""
    fitted: frozenset[int] = frozenset()
    shape: Shape | None = None
    remark: str = ""


class Known(Struct, frozen=True):
    """The calibration points: what was measured in order to set figures, values included."""

    points: tuple[Point, ...]

    def every(self, paper: str, workload: str) -> Iterator[Point]:
        """Give the calibration points whose paper and workload have these patterns."""
        for point in self.points:
            sought = ((paper, point.paper), (workload, point.workload))
            if all(re.search(pattern, words, re.IGNORECASE) for pattern, words in sought):
                yield point

    def find(self, paper: str, workload: str) -> Point:
        """Give the first of `every`.

        Raises
        ------
        Refused
            There is none.
        """
        for point in self.every(paper, workload):
            return point
        raise Refused("calibration", [f"no calibration point of {paper!r} says {workload!r}"])


class Family(Struct, frozen=True):
    """Points of one source that are predicted alike.

    Attributes
    ----------
    source : str
        Name of the group in the report.
    paper : str
        Pattern that the point's paper has.
    sets : tuple of pairs
        What a calibration point of this family sets, beside a pattern that its workload has; the
        first that fits counts.
    predict : function
        Raises `Refused` for what it has no model of.
    """

    source: str
    paper: str
    sets: tuple[tuple[str, str], ...]
    predict: Callable[[Question, Known], Prediction]

    def knows(self, paper: str) -> bool:
        """Tell whether a paper is of this source."""
        return re.search(self.paper, paper, re.IGNORECASE) is not None

    def figures(self, workload: str) -> str:
        """Give what a calibration point of that workload sets."""
        for pattern, figures in self.sets:
            if re.search(pattern, workload, re.IGNORECASE):
                return figures
        return "no shipped figure"
