"""Heat maps: tables whose cells are the greener the more offload wins, the browner it loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2

from wherry.benchmarks.systems.cell import Row
from wherry.benchmarks.systems.maps import Map
from wherry.benchmarks.systems.page.markup import table, tag, text
from wherry.benchmarks.systems.sweep import SHARES, WIDTHS, name_of

_FULL = 3.0
"""A factor of 2 to this power has the full colour."""
_MOST = 75
"""Percent of the full colour, so that text on it stays readable."""


def speedups(rows: Sequence[Row], titles: Mapping[str, str]) -> str:
    """Give how many times as fast as the host alone each workload is on each system."""
    systems = list(dict.fromkeys(row.system for row in rows))
    by_cell = {(row.workload, row.system): row for row in rows}
    lines = [
        [
            tag("span", text(workload), title=titles.get(workload, workload)),
            *(_heat(by_cell[workload, system]) for system in systems),
        ]
        for workload in dict.fromkeys(row.workload for row in rows)
    ]
    caption = "host-only time / time as the planner placed it, both modelled; 1.0 is the host alone"
    return table(caption, ["workload", *systems], lines)


def by_columns(rows: Sequence[Row], system: str) -> str:
    """Give the same for the sweep on one system: share of the rows by number of columns."""
    by_name = {row.workload: row for row in rows if row.system == system}
    wanted = [(share, width) for share in SHARES for width in WIDTHS]
    if any(name_of(share, width) not in by_name for share, width in wanted):
        return ""
    lines = [
        [f"{100 * share:g} %", *(_heat(by_name[name_of(share, width)]) for width in WIDTHS)]
        for share in SHARES
    ]
    caption = f"{system}: modelled speed-up over host-only"
    return table(caption, ["rows that pass", *(f"{n} col." for n in WIDTHS)], lines)


def by_bandwidth(found: Map) -> str:
    """Give the same for a link that gets wider: share of the rows by bandwidth."""
    widths = list(dict.fromkeys(point.gb_per_s for point in found.points))
    by_point = {(point.share, point.gb_per_s): point for point in found.points}
    lines = [
        [
            f"{100 * share:g} %",
            *(
                cell(by_point[share, w].host_only_s / by_point[share, w].modelled_s,
                     by_point[share, w].placement)
                for w in widths
            ),
        ]
        for share in dict.fromkeys(point.share for point in found.points)
    ]  # fmt: skip
    caption = (
        f"{found.system}: modelled speed-up over host-only as {found.link} and its like, "
        f"{found.gb_per_s:g} GB/s in the profile, have another bandwidth"
    )
    return table(caption, ["rows that pass", *(f"{w:g} GB/s" for w in widths)], lines)


def _heat(row: Row) -> str:
    return cell(row.host_only_s / row.modelled_s, row.placement)


def cell(factor: float, title: str) -> str:
    """Give a cell with a factor: 1 has no colour."""
    depth = round(_MOST * min(1.0, abs(log2(factor)) / _FULL)) if factor > 0 else 0
    kind = "wins" if factor >= 1 else "loses"
    return tag("td", f"{factor:.2f}", class_=kind, style=f"--v:{depth}", title=title)
