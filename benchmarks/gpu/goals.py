"""What each workload must reach on one H200, and what of it that is said of."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

SCALE_FACTOR: Final = 100.0
"""Goals in milliseconds are of this one, but for those of small queries and of compiling."""

Limit = Literal["read", "copy", "to device", "page cache and link", "drive", ""]


class Goal(Struct, frozen=True):
    """What a workload must reach; neither: it is measured and not judged.

    Attributes
    ----------
    most_ms : float or None
        The median takes no longer.
    share : float or None
        Of the limit, at least this.
    of : "answer" or "card"
        Whether that is said of the time until the answer is on the host, or of the time of the
        programs on the card: rows that a filter keeps cross the link more slowly than they are
        made.
    scaled : bool
        Whether `most_ms` is of SCALE_FACTOR alone.
    """

    most_ms: float | None = None
    share: float | None = None
    of: Literal["answer", "card"] = "answer"
    scaled: bool = False


GOALS: Final = {
    "q6": Goal(most_ms=2.5, scaled=True),
    "q1": Goal(most_ms=6.0, scaled=True),
    "filter-1%": Goal(most_ms=2.0, of="card", scaled=True),
    "filter-10%": Goal(),
    "filter-50%": Goal(share=0.85, of="card"),
    "small": Goal(most_ms=0.06),
    "small-run": Goal(),
    "small-pass": Goal(most_ms=0.06),
    "pinned-q6": Goal(share=0.9),
    "pinned-q1": Goal(share=0.9),
    "cached-q6": Goal(share=0.8),
    "cached-q1": Goal(share=0.8),
    "cold-q6": Goal(),
    "load-cached": Goal(),
    "load-kvikio": Goal(),
    "load-direct": Goal(),
    "load-gds": Goal(),
    "compile-q6": Goal(most_ms=100.0),
    "compile-q1": Goal(most_ms=400.0),
    "kept-q6": Goal(most_ms=5.0),
    "kept-q1": Goal(most_ms=5.0),
}


def met(
    goal: Goal,
    *,
    scale_factor: float,
    answer_ms: float | None,
    card_ms: float | None,
    limit_ms: float | None,
) -> bool | None:
    """Say whether a goal is reached; None if there is none, or not at this scale factor."""
    took = answer_ms if goal.of == "answer" else card_ms
    if took is None or (goal.scaled and scale_factor != SCALE_FACTOR):
        return None
    if goal.most_ms is not None:
        return took <= goal.most_ms
    if goal.share is not None and limit_ms is not None:
        return limit_ms / took >= goal.share
    return None


def described(goal: Goal) -> str:
    """Give a goal in words; "" if there is none.

    >>> described(Goal(share=0.85, of="card"))
    '>= 85 % of limit, on card'
    """
    where = ", on card" if goal.of == "card" else ""
    if goal.most_ms is not None:
        return f"<= {goal.most_ms:g} ms{where}"
    return "" if goal.share is None else f">= {goal.share * 100:.0f} % of limit{where}"
