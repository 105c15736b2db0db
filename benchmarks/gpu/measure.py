"""Ask one question of everybody: answers first, then rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.benchmarks.gpu.questions import Question, differs
from wherry.benchmarks.kernels.question import Ask
from wherry.benchmarks.kernels.rounds import timed

ROUNDS: Final = 15
_FEWEST: Final = 3
OURS: Final = "wherry"
_MANY: Final = 3000
_FIRST: Final = 100
"""Answers of many that do not count: clocks rise, caches fill."""

Hosted = Callable[[list[Any]], list[Any]]


def asked(
    question: Question,
    ours: Callable[[], pa.Table],
    *,
    peers: Mapping[str, Ask],
    engines: Mapping[str, Ask],
    right: list[Any],
    hosted: Hosted,
    patience_s: float,
) -> dict[str, Any]:
    """Compare everybody's answer with the right one, and time them in alternating rounds.

    Parameters
    ----------
    peers, engines : mapping of str to callable
        On the card, which are as fast as we are, and on the processor, which are timed by
        themselves.
    right : list of array
        As `question.arrays` gives it.
    hosted : callable
        Gives peers' arrays as numpy's.
    patience_s : float
        What the rounds of the card, and those of the processor, may take.

    Returns
    -------
    dict
        The fields of a `Row` that are found out here.
    """
    exact = question.gives == "rows"
    everybody = {OURS: ours, **peers, **engines}
    failed, wrong, usable = dict[str, str](), list[str](), dict[str, Ask]()
    for name, ask in everybody.items():
        try:
            found = ask()
            arrays = hosted(found) if isinstance(found, list) else question.read(_table(found))
        except Exception as error:  # noqa: BLE001  whatever one raises is its own matter
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        said = differs(arrays, right, exact=exact)
        wrong += [] if said is None else [f"{name}: {said}"]
        usable[name] = ask
    same = ours().equals(ours()) if OURS in usable else None
    near = {name: ask for name, ask in usable.items() if name not in engines}
    far = {name: ask for name, ask in usable.items() if name in engines}
    times, rounds = _medians(near, ROUNDS, patience_s)
    others, _ = _medians(far, _FEWEST, patience_s)
    return {
        "answer_ms": times.pop(OURS, None),
        "peers": {**times, **others},
        "failed": failed,
        "answers": "; ".join(wrong) or "equal",
        "same_bits": same,
        "rounds": rounds,
    }


def _table(found: Any) -> pa.Table:
    """Give what an engine gave as a table; Polars has frames of its own."""
    return found if isinstance(found, pa.Table) else found.to_arrow()


def _medians(work: Mapping[str, Ask], most: int, patience_s: float) -> tuple[dict[str, float], int]:
    """Give milliseconds by name, of as many rounds as time allows, and how many those were."""
    if not work:
        return {}, 0
    begun = time.perf_counter()
    first = timed(work, 1)
    rounds = min(most, int(patience_s / (time.perf_counter() - begun)))
    if rounds < _FEWEST:
        return _rounded(first.ms), 1
    return _rounded(timed(work, rounds).ms), rounds


def _rounded(times: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{ms:.4g}") for name, ms in times.items()}


def median_ms(work: Callable[[], float], times: int = 5) -> float:
    """Give the median of what `work` gives, milliseconds, after one that does not count."""
    work()
    return float(f"{median(work() for _ in range(times)):.4g}")


def several(work: Callable[[], float], patience_s: float) -> tuple[float, int]:
    """Give the median of what `work` gives, as often as time allows, and how often that was."""
    took, end = [work()], time.perf_counter() + patience_s
    while len(took) < ROUNDS and time.perf_counter() < end:
        took.append(work())
    return float(f"{median(took):.4g}"), len(took)


def percentiles(ask: Ask, patience_s: float) -> tuple[float, float, int]:
    """Give the median and the 99th percentile of very many answers in ms, and how many."""
    took = list[int]()
    end = time.perf_counter() + patience_s
    while len(took) < _MANY and (time.perf_counter() < end or not took):
        begun = time.perf_counter_ns()
        ask()
        took.append(time.perf_counter_ns() - begun)
    counted = took[min(_FIRST, len(took) // 2) :]
    half, most = np.percentile(counted, (50, 99)) / 1e6
    return float(f"{half:.4g}"), float(f"{most:.4g}"), len(counted)
