"""`wherry validate`: published measurements, predicted from profiles and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from wherry.cli.options import Json
from wherry.cli.output import grid, heading, say, show_json
from wherry.validate.judge import Outcome
from wherry.validate.point import read_points
from wherry.validate.report import Goal, Group, Report, validate
from wherry.validate.units import unit_word

EXAMPLES = """\b
Examples:
  wherry validate
  wherry validate --brief
  wherry validate --points my_points.toml
  wherry validate --json > validation.json

A point is a table [[point]] with id, paper, hardware, workload, kind, parameters, value and unit;
the value is compared and never read before. Ends with 0 whatever the errors are: they are the
answer.
"""


def command(
    *,
    points: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Published points, TOML.  [default: the shipped ones]"),
    ] = None,
    brief: Annotated[bool, typer.Option("--brief", help="Groups and goals only.")] = False,
    as_json: Json = False,
) -> None:
    """Predict published measurements from the profiles and show the errors."""
    report = validate(None if points is None else read_points(points))
    if as_json:
        show_json(report)
        return
    _show(report, "shipped points" if points is None else str(points), brief=brief)


def _show(report: Report, name: str, *, brief: bool) -> None:
    heading(f"wherry validate: {name}, predicted from device profiles")
    say("error: (predicted - published) / published; of a sweep, the mean of absolute errors")
    if not brief:
        for group in report.groups:
            _show_group(group)
    say()
    heading("by source")
    headers = ("source", "n", "mean error", "max error", "decided right", "not predicted")
    grid(headers, [_group_row(group) for group in report.groups], right=range(1, len(headers)))
    say()
    heading("goals")
    grid(("goal", "limit", "reached", ""), [_goal_row(goal) for goal in report.goals])


def _group_row(group: Group) -> tuple[str, ...]:
    decided = [point.verdict == "right" for point in group.points if point.kind == "decision"]
    return (
        group.group,
        str(group.n),
        _pct(group.mean_error_pct),
        _pct(group.max_error_pct),
        f"{sum(decided)} of {len(decided)}" if decided else "",
        str(len(group.refused)),
    )


def _goal_row(goal: Goal) -> tuple[str, ...]:
    met = {True: "met", False: "missed", None: ""}[goal.met]
    return goal.goal, goal.limit, goal.reached, met


def _pct(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"


def _show_group(group: Group) -> None:
    say()
    heading(group.group)
    for how, points in _alike(group.points).items():
        say(f"  {how}")
        rows = [_row(point) for point in points]
        grid(("point", "predicted", "published", "unit", "error", ""), rows, right=(1, 2, 4))
    reasons: dict[str, list[str]] = {}
    for refusal in group.refused:
        reasons.setdefault(refusal.reason, []).append(refusal.id)
    for reason, names in reasons.items():
        say(f"  not predicted, {reason}: {', '.join(names)}")


def _alike(points: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Give the points by how they were predicted, in words, and from which profiles."""
    found: dict[str, list[Outcome]] = {}
    for point in points:
        how = f"{point.mechanism} ({', '.join(point.profiles)})"
        found.setdefault(how, []).append(point)
    return found


def _row(point: Outcome) -> tuple[str, ...]:
    error = "" if point.error_pct is None else f"{point.error_pct:+.1f} %"
    if point.errors_pct:
        error = f"{point.error_pct:.1f} %"
    notes = [point.verdict] if point.verdict else []
    if point.shape:
        notes.append(f"{point.shape['test']} {'same' if point.shape['passed'] else 'elsewhere'}")
    unit = unit_word(point.unit)
    return (
        point.id,
        _value(point.predicted),
        _value(point.published),
        "" if unit == "winner" else unit,
        error,
        ", ".join(notes),
    )


def _value(value: Any) -> str:
    """Give a value, or the ends of a list."""
    if isinstance(value, list | tuple):
        return f"{_value(value[0])} .. {_value(value[-1])}"
    return value if isinstance(value, str) else f"{value:.4g}"
