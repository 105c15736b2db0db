"""All points of a file, by source: errors, shapes, decisions, refusals, and goals met or missed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from wherry.validate.families import FAMILIES
from wherry.validate.judge import Outcome, Refusal, judge
from wherry.validate.point import Point, shipped_points
from wherry.validate.prediction import Family, Known

UNKNOWN = "unknown sources"
GOALS = (
    ("links and transfers", "transfer", 6.0),
    ("serial and overlapped compositions", "composition", 10.0),
    ("cold queries", "cold query", 15.0),
)
"""Mean absolute error, in per cent, that predictions of a subject should stay within."""
TABLE_PCT = 25.0
"""Error that every cell of a table of push-down runs should stay within."""


class Group(Struct, frozen=True):
    """One source's points.

    Attributes
    ----------
    n : int
        Points with an error: measured values that were predicted.
    mean_error_pct, max_error_pct : float or None
        Of the absolute errors; None without any.
    """

    group: str
    n: int
    mean_error_pct: float | None
    max_error_pct: float | None
    points: tuple[Outcome, ...]
    refused: tuple[Refusal, ...]


class Goal(Struct, frozen=True):
    """A goal, and what was reached; `met` is None where nothing was predicted."""

    goal: str
    limit: str
    reached: str
    met: bool | None


class Report(Struct, frozen=True):
    """Every group in the order of the sources, and the goals."""

    groups: tuple[Group, ...]
    goals: tuple[Goal, ...]


def validate(points: Sequence[Point] | None = None) -> Report:
    """Predict points and compare.

    Parameters
    ----------
    points : sequence of Point, optional
        The shipped ones if not given. Calibrations are looked up among the shipped points first,
        then among these.
    """
    shipped = shipped_points()
    asked = shipped if points is None else tuple(points)
    known = Known(tuple(point for point in (*shipped, *asked) if point.kind == "calibration"))
    found: dict[str, list[Outcome | Refusal]] = {family.source: [] for family in FAMILIES}
    for point in asked:
        family = _family_of(point)
        if family is None:
            reason = f"no family of predictions knows the source {point.paper!r}"
            found.setdefault(UNKNOWN, []).append(Refusal(point.id, reason))
        else:
            found[family.source].append(judge(point, family, known))
    groups = tuple(_group(name, items) for name, items in found.items() if items)
    return Report(groups, tuple(_goals(groups)))


def _family_of(point: Point) -> Family | None:
    return next((family for family in FAMILIES if family.knows(point.paper)), None)


def _group(name: str, items: Sequence[Outcome | Refusal]) -> Group:
    points = tuple(item for item in items if isinstance(item, Outcome))
    refused = tuple(item for item in items if isinstance(item, Refusal))
    errors = _errors(points)
    return Group(name, len(errors), _mean(errors), max(errors, default=None), points, refused)


def _errors(points: Iterable[Outcome]) -> list[float]:
    return [abs(point.error_pct) for point in points if point.error_pct is not None]


def _mean(errors: Sequence[float]) -> float | None:
    return sum(errors) / len(errors) if errors else None


def _goals(groups: Sequence[Group]) -> Iterable[Goal]:
    points = [point for group in groups for point in group.points]
    for name, subject, limit in GOALS:
        errors = _errors(point for point in points if point.subject == subject)
        mean = _mean(errors)
        reached = "nothing predicted" if mean is None else f"{mean:.1f} % of {len(errors)}"
        met = None if mean is None else mean <= limit
        yield Goal(f"{name}, mean error", f"<= {limit:g} %", reached, met)
    cells = _errors(point for point in points if point.subject == "table")
    worst = f"{max(cells):.1f} % at worst of {len(cells)}" if cells else "nothing predicted"
    met = max(cells) <= TABLE_PCT if cells else None
    yield Goal("every cell of push-down tables", f"<= {TABLE_PCT:g} %", worst, met)
    for name, verdicts in (
        ("decisions", [p.verdict == "right" for p in points if p.subject == "decision"]),
        ("shapes", [point.shape["passed"] for point in points if point.shape]),
        ("values inside their bounds", _inside(points)),
    ):
        reached = f"{sum(verdicts)} of {len(verdicts)}"
        yield Goal(name, "all", reached, all(verdicts) if verdicts else None)


def _inside(points: Sequence[Outcome]) -> list[bool]:
    """Give, for points that have nothing but bounds, whether the published value lies inside."""
    bare: list[Any] = [p for p in points if p.error_pct is None and p.bounds is not None]
    return [point.verdict == "inside" for point in bare]
