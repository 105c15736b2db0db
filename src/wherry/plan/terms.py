"""Predicted against actual, term by term: as values, and as text."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from wherry.base.units import format_bytes, format_ns
from wherry.plan.replan import Revision

Unit = Literal["ns", "bytes", "rows"]
_SHOWN_SHARE = 0.01
"""Busy times below this share of the run are left to the JSON form."""


class Term(Struct, frozen=True):
    """One term of a prediction, and what it came to.

    Attributes
    ----------
    kind : str
        `setup`, `busy`, `fill`, `barrier`, `total`; `link` for bytes, `rows` for what a stage gave.
    name : str
        The resource (`cores csd0`), the direction of a link (`csd0->pcie0`), the stage
        (`0 near + partial`), or empty.
    unit : "ns", "bytes" or "rows"
    predicted : float
        Modelled.
    actual : float or None
        None for what leaves no trace in a run.
    ratio : float or None
        Actual over predicted; None if there is no actual, or nothing was predicted.
    """

    kind: str
    name: str
    unit: Unit
    predicted: float
    actual: float | None
    ratio: float | None = None

    def __post_init__(self) -> None:
        known = self.predicted and self.actual is not None
        ratio = self.actual / self.predicted if known else None  # type: ignore[operator]
        force_setattr(self, "ratio", ratio)


class Analysis(Struct, frozen=True):
    """A run beside what was predicted of it.

    Attributes
    ----------
    origin : "modelled" or "measured"
        How actual times were found: in virtual time, or by this machine's clock. Predicted times
        are modelled.
    placement : str
        What ran. It is not always what was explained: once the other side of a join is there, its
        rows are no longer a guess.
    terms : tuple of Term
        Setup, busy resources, fill, barrier and total; bytes over links; rows out of stages.
    before_ns : int
        Actual nanoseconds of the other sides of joins, in no term.
    revisions : tuple of Revision
        When something else passed than what was planned with, and what was done about it; what was
        predicted is the placement that the run began with.
    """

    origin: Literal["modelled", "measured"]
    placement: str
    terms: tuple[Term, ...]
    before_ns: int = 0
    revisions: tuple[Revision, ...] = ()

    def lines(self) -> list[str]:
        """Give it as text."""
        total = next(term for term in self.terms if term.kind == "total")
        least = _SHOWN_SHARE * max(total.predicted, total.actual or 0)
        lines = [f"ran as {self.placement}; predicted (modelled) against actual ({self.origin})"]
        if self.before_ns:
            lines.append(f"  the other sides of joins took {format_ns(self.before_ns)} before")
        lines += [f"  {revision.line()}" for revision in self.revisions]
        shown = (
            term
            for term in self.terms
            if term.kind != "busy" or max(term.predicted, term.actual or 0) >= least
        )
        return lines + [f"  {_label(term):<34}{_both(term)}" for term in shown]


def _label(term: Term) -> str:
    words = {"busy": "busy ", "link": "", "rows": "rows out of stage "}
    return f"{words[term.kind]}{term.name}" if term.kind in words else term.kind


def _both(term: Term) -> str:
    predicted, actual = (_amount(value, term.unit) for value in (term.predicted, term.actual))
    ratio = "" if term.ratio is None else f"{term.ratio:8.2f}"
    return f"{predicted:>12}{actual:>12}{ratio}"


def _amount(value: float | None, unit: Unit) -> str:
    if value is None:
        return "-"
    if unit == "rows":
        return f"{value:,.0f}"
    return format_ns(round(value)) if unit == "ns" else format_bytes(round(value))
