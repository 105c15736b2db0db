"""The regret of the planner and of each rule over all cells: how often it is at most how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10

from wherry.benchmarks.systems.cell import Row
from wherry.benchmarks.systems.judge import PLANNER
from wherry.benchmarks.systems.page.markup import drawing, percent, table, tag, text
from wherry.benchmarks.systems.summary import Losses

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 340, 72, 14, 16, 96
_LEAST = 0.001
"""Regrets below a thousandth stand at the left edge of the logarithmic axis."""
_DASHES = ("", "7 3", "2 3", "10 3 2 3", "4 4", "1 3", "12 4")
"""Lines differ in their dashes too: colour alone tells nothing to some."""


def losses(found: Mapping[str, Losses]) -> str:
    """Give the table of the summary."""
    rows = [
        (
            text(name),
            percent(one.mean),
            percent(one.p95),
            percent(one.max),
            str(one.twice),
            tag("td", text(one.worst), class_="left"),
        )
        for name, one in found.items()
    ]
    caption = "modelled time / best modelled time - 1, over all cells"
    return table(caption, ("placed by", "mean", "p95", "max", "2x and more", "worst"), rows)


def shares(rows: Sequence[Row]) -> str:
    """Give the empirical distribution of regrets as a drawing, a line for each rule."""
    lines = {PLANNER: [row.regret for row in rows]}
    lines |= {name: [row.rules[name] for row in rows] for name in rows[0].rules}
    most = max(max(values) for values in lines.values())
    top = max(1, -(-log10(max(most, 0.01)) // 1))
    drawn = [_axes(int(top))]
    for number, (name, values) in enumerate(lines.items()):
        drawn += _line(number, name, sorted(values), top)
    label = "share of cells with at most so much regret, modelled, for the planner and each rule"
    caption = f"{label}; higher and left is better"
    return drawing(_WIDTH, _HEIGHT, label, caption, *drawn)


def _x(value: float, top: float) -> float:
    place = (log10(max(value, _LEAST)) - log10(_LEAST)) / (top - log10(_LEAST))
    return round(_LEFT + place * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(share: float) -> float:
    return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _axes(top: int) -> str:
    drawn = []
    for power in range(round(log10(_LEAST)), top + 1):
        x = _x(10.0**power, top)
        drawn.append(tag("path", d=f"M{x} {_TOP}V{_y(0)}", class_="axis"))
        words = f"{100 * 10.0**power:g} %" if 10.0**power > _LEAST else "0.1 % or less"
        anchor = "start" if 10.0**power <= _LEAST else "end" if power == top else "middle"
        drawn.append(tag("text", text(words), x=x, y=_y(0) + 16, text_anchor=anchor))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawn.append(tag("path", d=f"M{_LEFT} {_y(share)}H{_WIDTH - _RIGHT}", class_="axis"))
        words = text(f"{100 * share:g} %")
        drawn.append(tag("text", words, x=_LEFT - 6, y=_y(share) + 4, text_anchor="end"))
    middle = (_LEFT + _WIDTH - _RIGHT) // 2
    name = text("regret: modelled time / best modelled time - 1 (logarithmic)")
    drawn.append(tag("text", name, x=middle, y=_y(0) + 34, text_anchor="middle", class_="dim"))
    turned = f"rotate(-90 12 {_y(0.5)})"
    name = text("share of cells")
    drawn.append(
        tag("text", name, x=12, y=_y(0.5), transform=turned, text_anchor="middle", class_="dim")
    )
    return "".join(drawn)


def _line(number: int, name: str, values: Sequence[float], top: float) -> list[str]:
    path = [f"M{_x(values[0], top)} {_y(0)}"]
    for place, value in enumerate(values, 1):
        if place == len(values) or values[place] != value:
            path.append(f"H{_x(value, top)}V{_y(place / len(values))}")
    path.append(f"H{_WIDTH - _RIGHT}")
    style = f"stroke:var(--c{number})"
    dash = _DASHES[number % len(_DASHES)]
    x, y = _LEFT + number % 4 * 172, _HEIGHT - 34 + number // 4 * 20
    return [
        tag("path", d="".join(path), class_="line", style=style, stroke_dasharray=dash),
        tag("path", d=f"M{x} {y}h26", class_="line", style=style, stroke_dasharray=dash),
        tag("text", text(name), x=x + 32, y=y + 4),
    ]
