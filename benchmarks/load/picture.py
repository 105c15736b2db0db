"""The figures of a run as a picture: throughput, latency and what was refused, by the load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wherry.benchmarks.kernels.report import pyplot_of
from wherry.benchmarks.load.figures import KEPT, Stretch
from wherry.benchmarks.load.run import Report

_DONE, _TAIL, _GREY = "#2a7f62", "#c8553d", "#8a8a8a"


def draw(report: Report, title: str, path: Path) -> None:
    """Write the picture: three diagrams above the same axis, all figures measured."""
    pyplot = pyplot_of()
    stretches = sorted(report.stretches, key=lambda s: s.multiple)
    at = [s.multiple for s in stretches]
    figure, (top, middle, low) = pyplot.subplots(3, 1, figsize=(6.4, 8), sharex=True)
    peak = report.verdict.peak_per_s
    top.plot(at, [s.done_per_s for s in stretches], marker="o", color=_DONE)
    top.axhline(KEPT * peak, color=_GREY, linewidth=0.8, linestyle="--")
    top.annotate(f"goal: {KEPT:.0%} of the peak", (at[0], KEPT * peak), fontsize=7, va="top")
    top.set_ylabel("answered, 1/s")
    top.set_ylim(bottom=0)
    _latencies(middle, at, stretches)
    low.plot(at, [s.refused_share for s in stretches], marker="o", color=_TAIL)
    low.plot(at, [max(0.0, 1 - 1 / x) for x in at], color=_GREY, linewidth=0.8, linestyle="--")
    low.set_ylabel("not taken on (dashed: what must be)")
    low.set_ylim(0, 1)
    low.set_xscale("log")
    low.set_xticks(at, [f"{x:g}" for x in at], fontsize=7)
    low.minorticks_off()
    low.set_xlabel("load, as a multiple of what the agent can do")
    for axis in (top, middle, low):
        axis.yaxis.label.set_size(8)
    figure.align_ylabels()
    figure.suptitle(f"{title}\nall measured", fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _latencies(axis: Any, at: Sequence[float], stretches: Sequence[Stretch]) -> None:
    for name, style in (("p50_ms", ":"), ("p99_ms", "-"), ("p999_ms", "--")):
        values = [getattr(s, name) for s in stretches]
        label = name.removesuffix("_ms")
        axis.plot(at, values, style, marker="o", markersize=3, color=_TAIL, label=label)
    axis.set_ylabel("until answered, ms")
    axis.set_yscale("log")
    axis.legend(fontsize=7)
