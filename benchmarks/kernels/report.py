"""What the rows say together: means, and a chart as a file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import geometric_mean
from typing import Any, Final

from wherry.base.errors import InputError
from wherry.benchmarks.kernels.row import Row

SUFFIXES: Final = (".svg", ".png")
_MET, _MISSED = "#2a7f62", "#c8553d"


def mean_ratio(rows: Sequence[Row]) -> float | None:
    """Give the geometric mean of the ratios to the best peer, None if there is none."""
    ratios = [row.ratio_to_best for row in rows if row.ratio_to_best is not None]
    return geometric_mean(ratios) if ratios else None


def runs_of(rows: Sequence[Row]) -> list[tuple[float, int, list[Row]]]:
    """Give rows that belong together: scale factor, threads, and the rows in their order."""

    def run(row: Row) -> tuple[float, int]:
        return row.scale_factor, row.threads

    return [(*key, list(found)) for key, found in groupby(rows, key=run)]


def check_chart(path: Path) -> None:
    """Refuse a chart that could not be drawn, before an hour is spent on its figures.

    Raises
    ------
    InputError
        When the name ends otherwise than in SUFFIXES, or matplotlib is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"--chart {path}: possible are {' and '.join(SUFFIXES)} files")
    pyplot_of()


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write a bar chart: each run's ratios to the best peer, and each goal as a mark."""
    pyplot = pyplot_of()
    runs = runs_of([row for row in rows if row.ratio_to_best is not None])
    lines = max((len(found) for *_, found in runs), default=0)
    size = (6.4 * max(1, len(runs)), 1.2 + 0.28 * lines)
    figure, axes = pyplot.subplots(1, max(1, len(runs)), figsize=size, squeeze=False, sharex=True)
    for axis, (scale, threads, found) in zip(axes[0], runs, strict=False):
        _draw_run(axis, found)
        axis.set_title(f"scale factor {scale:g}, {_counted(threads)}", fontsize=9)
    figure.suptitle(f"{title}\ngreen: goals met, of ratio and of limit; red: missed", fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _draw_run(axis: Any, rows: Sequence[Row]) -> None:
    places = range(len(rows))
    ratios = [row.ratio_to_best or 0.0 for row in rows]
    axis.barh(places, ratios, color=[_MET if row.met else _MISSED for row in rows])
    axis.scatter([row.goal for row in rows], places, marker="|", s=90, color="black", zorder=3)
    axis.axvline(1.0, color="grey", linewidth=0.8)
    axis.set_yticks(places, [row.workload for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.margins(x=0.1, y=0.01)
    axis.set_xlabel("time of the best peer / time of Wherry (mark: goal), measured", fontsize=8)
    for place, row, ratio in zip(places, rows, ratios, strict=True):
        beyond = max(ratio, row.goal)
        axis.annotate(f"  {ratio:.2f}", (beyond, place), va="center", fontsize=6)


def _counted(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def pyplot_of() -> Any:
    """Give matplotlib's pyplot, which is an extra; refuse if it is not installed."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  an extra: only a chart needs it
    except ImportError as error:
        raise InputError("matplotlib is not installed; python -m pip install matplotlib") from error
    mpl.use("agg")  # Draws to files; a terminal has no window.
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt
