"""The report of `wherry bench systems` as one HTML document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from wherry.base.units import format_bytes
from wherry.benchmarks.systems.cell import Row
from wherry.benchmarks.systems.page import heat, regrets
from wherry.benchmarks.systems.page.markup import details, percent, seconds, table, tag, text
from wherry.benchmarks.systems.page.style import STYLE
from wherry.benchmarks.systems.page.timeline import legend, timeline
from wherry.benchmarks.systems.run import Report
from wherry.benchmarks.systems.serve import Served
from wherry.benchmarks.systems.tenants import Shared
from wherry.benchmarks.systems.workloads import WORKLOADS

_LINKS_SHOWN = 12


def document(found: Report) -> str:
    """Give the page; it refers to nothing outside itself."""
    head = tag(
        "head",
        '<meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        tag("title", "wherry bench systems"),
        tag("style", STYLE),
    )
    body = tag("body", *(part for part in _parts(found) if part))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _parts(found: Report) -> list[str]:
    parts = [
        tag("h1", "Would an accelerator pay?"),
        tag(
            "p",
            text(
                f"TPC-H at scale factor {found.scale_factor:g}. Every time, energy and speed-up "
                f"here is modelled: real data went through real kernels once, and every placement "
                f"was simulated from what they counted. Reference core: {found.machine}."
            ),
        ),
    ]
    if found.rows:
        parts += _judged(found)
    parts.append(_bandwidths(found))
    parts.append(_tenants(found.tenants))
    parts.append(_served(found.serve))
    if found.rows:
        parts += [_links(found.rows), _timelines(found)]
    return parts


def _judged(found: Report) -> list[str]:
    rows, titles = found.rows, {name: q.title for name, q in WORKLOADS.items()}
    systems = list(dict.fromkeys(row.system for row in rows))
    maps = "".join(heat.by_columns(rows, system) for system in systems)
    return [
        tag("h2", "What each rule loses"),
        tag(
            "p",
            text(
                f"{len(rows)} cells, a workload on a system each. The best is the least simulated "
                "time of all placements; regret is by how much longer a choice takes."
            ),
        ),
        regrets.losses(found.summary),
        regrets.shares(rows),
        tag("h2", "Speed-up over the host alone"),
        heat.speedups(rows, titles),
        tag("h2", "Where offload wins: rows that pass by columns") if maps else "",
        tag("div", maps, class_="beside") if maps else "",
        tag("h2", "Placement of each workload"),
        *(_placements(rows, system) for system in systems),
    ]


def _placements(rows: Sequence[Row], system: str) -> str:
    lines = [
        (
            text(row.workload),
            seconds(row.modelled_s),
            seconds(row.host_only_s),
            seconds(row.oracle_s),
            percent(row.regret),
            f"{row.energy_j:.3g}",
            tag("td", text(row.placement), class_="left"),
        )
        for row in rows
        if row.system == system
    ]
    headers = ("workload", "modelled", "host only", "best", "regret", "J", "placement")
    return details(system, table("every time and energy modelled", headers, lines))


def _bandwidths(found: Report) -> str:
    if not found.maps:
        return ""
    title = tag("h2", "Where offload wins: rows that pass by bandwidth of a link")
    return title + "".join(map(heat.by_bandwidth, found.maps))


def _tenants(found: Sequence[Shared]) -> str:
    if not found:
        return ""
    lines = [
        (
            text(one.system),
            seconds(one.modelled_s),
            seconds(one.host_only_s),
            seconds(one.best_s),
            percent(one.regret),
            seconds(sum(one.alone_s)),
        )
        for one in found
    ]
    headers = ("system", "both done", "host only", "best pair tried", "regret", "one by one")
    names = " and ".join(found[0].workloads)
    title = tag("h2", text(f"Two tenants at once: {names}"))
    return title + table("until both are answered, modelled", headers, lines)


def _served(found: Sequence[Served]) -> str:
    if not found:
        return ""
    lines = []
    for one in found:
        for number, rate in enumerate(one.rates["planner"]):
            lines.append(
                (
                    text(one.system),
                    f"{rate.rate_per_s:,}",
                    *map(seconds, (rate.p50_s, rate.p99_s, rate.p999_s)),
                    f"{rate.host_cores:.2f}",
                    f"{one.host_cores_saved[number]:.2f}",
                    f"{one.knee_per_s['planner']:,}",
                )
            )
    headers = (
        "system", "requests / s", "p50", "p99", "p99.9", "host cores busy", "cores saved",
        "knee, requests / s",
    )  # fmt: skip
    caption = (
        f"{found[0].requests:,} requests at each rate as they arrive, all modelled; the knee is "
        "the highest rate whose p99 is at most twice that of the lowest"
    )
    return tag("h2", "A stream of key lookups and small ranges") + table(caption, headers, lines)


def _links(rows: Sequence[Row]) -> str:
    parts = [tag("h2", "Bytes per link")]
    for system in dict.fromkeys(row.system for row in rows):
        mine = [row for row in rows if row.system == system]
        alone = _alike(mine, lambda row: row.host_bytes_by_link)
        near = _alike(mine, lambda row: row.bytes_by_link)
        links = sorted({*alone, *near}, key=lambda name: -alone.get(name, 0))[:_LINKS_SHOWN]
        lines = [
            (text(name), format_bytes(alone.get(name, 0)), format_bytes(near.get(name, 0)))
            for name in links
        ]
        headers = ("links, N any number", "host only", "as placed")
        caption = "all workloads together, each once; modelled runs, bytes counted"
        parts.append(details(system, table(caption, headers, lines)))
    return "".join(parts)


def _alike(rows: Sequence[Row], links_of: object) -> dict[str, int]:
    """Give the bytes over links that are alike, added up: numbers in names are N."""
    assert callable(links_of)
    found: dict[str, int] = {}
    for row in rows:
        links: Mapping[str, int] = links_of(row)
        for name, nbytes in links.items():
            kind = re.sub(r"\d+", "N", name)
            found[kind] = found.get(kind, 0) + nbytes
    return found


def _timelines(found: Report) -> str:
    parts = [tag("h2", "Timelines of the planner's choices"), legend()]
    for workload in dict.fromkeys(row.workload for row in found.rows):
        drawn = [
            timeline(
                found.spans[row.workload, row.system],
                f"{workload} on {row.system}, {seconds(row.modelled_s)} modelled",
            )
            for row in found.rows
            if row.workload == workload
        ]
        parts.append(details(f"{workload}: {WORKLOADS[workload].title}", *drawn))
    return "".join(parts)
