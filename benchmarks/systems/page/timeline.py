"""When a run used which resource, as bars on one axis of modelled time."""

from __future__ import annotations

from collections.abc import Sequence

from wherry.base.events import Span
from wherry.base.units import format_ns
from wherry.benchmarks.systems.page.markup import drawing, tag, text

_LANES = 8
"""Resources shown: those that are busy longest."""
_WIDTH, _LEFT, _ROW, _TOP = 900, 210, 20, 4
_KINDS = {"read": "read", "move": "move", "run": "run", "deliver": "deliver"}
_OTHER = "other"
_TICKS = 4


def legend() -> str:
    """Give the colours of all timelines."""
    words = {**{kind: kind for kind in _KINDS}, _OTHER: "send, route, install, build"}
    found = [
        tag("span", class_="key", style=f"background:var(--{kind})") + text(said)
        for kind, said in words.items()
    ]
    return tag("p", *found, class_="dim")


def timeline(spans: Sequence[Span], label: str) -> str:
    """Give a drawing of the busiest resources of a run."""
    used: dict[str, list[Span]] = {}
    for span in spans:
        if span.kind != "hold" and span.end_ns > span.start_ns:
            used.setdefault(span.resource, []).append(span)
    if not used:
        return ""
    busiest = sorted(used, key=lambda name: -sum(s.end_ns - s.start_ns for s in used[name]))
    lanes = sorted(busiest[:_LANES], key=lambda name: min(s.start_ns for s in used[name]))
    begin = min(span.start_ns for every in used.values() for span in every)
    end = max(span.end_ns for every in used.values() for span in every)
    drawn = [_axis(len(lanes), end - begin)]
    for number, name in enumerate(lanes):
        y = _TOP + number * _ROW
        drawn.append(tag("text", text(name), x=_LEFT - 8, y=y + 14, text_anchor="end"))
        drawn += _bars(used[name], begin, end, y)
    height = _TOP + len(lanes) * _ROW + 40
    more = len(used) - len(lanes)
    said = f"{label}; {more} less busy resources are not shown" if more else label
    return drawing(_WIDTH, height, label, said, *drawn)


def _axis(lanes: int, length: int) -> str:
    bottom = _TOP + lanes * _ROW
    drawn = []
    for tick in range(_TICKS + 1):
        x = _LEFT + tick * (_WIDTH - _LEFT - 12) // _TICKS
        drawn.append(tag("path", d=f"M{x} {_TOP}V{bottom + 4}", class_="axis"))
        words = format_ns(length * tick // _TICKS)
        anchor = "end" if tick == _TICKS else "middle"
        drawn.append(tag("text", text(words), x=x, y=bottom + 18, text_anchor=anchor))
    name = text("modelled time since the request")
    drawn.append(tag("text", name, x=_WIDTH - 12, y=bottom + 34, text_anchor="end", class_="dim"))
    return "".join(drawn)


def _bars(spans: Sequence[Span], begin: int, end: int, y: int) -> list[str]:
    """Give one path a kind; bars that would touch on paper are one."""
    wide, whole = _WIDTH - _LEFT - 12, max(1, end - begin)
    by_kind: dict[str, list[tuple[int, int]]] = {}
    for span in sorted(spans, key=lambda s: s.start_ns):
        start = _LEFT + (span.start_ns - begin) * wide // whole
        stop = max(start + 1, _LEFT + (span.end_ns - begin) * wide // whole)
        bars = by_kind.setdefault(_KINDS.get(span.kind, _OTHER), [])
        if bars and start <= bars[-1][1]:
            bars[-1] = bars[-1][0], max(stop, bars[-1][1])
        else:
            bars.append((start, stop))
    return [
        tag("path", d="".join(f"M{a} {y + 3}h{b - a}v14h{a - b}z" for a, b in bars), class_=kind)
        for kind, bars in by_kind.items()
    ]
