"""Ask one question of everybody: answers first, then rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.benchmarks.gpu.questions import Question, differs
from wherry.benchmarks.kernels.question import Ask
from wherry.benchmarks.kernels.rounds import timed

ROUNDS: Final = 15
_FEWEST: Final = 3
_PATIENCE_S: Final = 12.0
"""What the rounds of one group may take; with slower ones there are fewer."""
_OURS: Final = "wherry"
_MANY: Final = 2000

Hosted = Callable[[list[Any]], list[Any]]


class Seen(Struct, frozen=True, kw_only=True):
    """What was found out about one question; the fields are `Row`'s."""

    answer_ms: float
    peers: dict[str, float]
    failed: dict[str, str]
    answers: str
    same_bits: bool
    rounds: int


def asked(
    question: Question,
    ours: Callable[[], pa.Table],
    peers: Mapping[str, Ask],
    engines: Mapping[str, Ask],
    right: list[Any],
    hosted: Hosted,
) -> Seen:
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
    """
    exact = question.gives == "rows"
    first = ours()
    said = differs(question.read(first), right, exact=exact)
    wrong = [] if said is None else [f"{_OURS}: {said}"]
    same = ours().equals(first)
    del first  # Of a filter it is gigabytes.
    failed, usable = dict[str, str](), dict[str, Ask]()
    for name, ask in {**peers, **engines}.items():
        try:
            found = ask()
            arrays = hosted(found) if isinstance(found, list) else question.read(_table(found))
        except Exception as error:  # noqa: BLE001  whatever a peer raises is its own matter
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        said = differs(arrays, right, exact=exact)
        wrong += [] if said is None else [f"{name}: {said}"]
        usable[name] = ask
    near = {name: ask for name, ask in usable.items() if name in peers}
    times, rounds = _medians({_OURS: ours, **near}, ROUNDS)
    far = {name: ask for name, ask in usable.items() if name in engines}
    others = {} if not far else _medians(far, _FEWEST)[0]
    return Seen(
        answer_ms=times.pop(_OURS),
        peers={**times, **others},
        failed=failed,
        answers="; ".join(wrong) or "equal",
        same_bits=same,
        rounds=rounds,
    )


def _table(found: Any) -> pa.Table:
    """Give what an engine gave as a table; Polars has frames of its own."""
    return found if isinstance(found, pa.Table) else found.to_arrow()


def _medians(work: Mapping[str, Ask], most: int) -> tuple[dict[str, float], int]:
    """Give milliseconds by name, of as many rounds as time allows, and how many those were."""
    begun = time.perf_counter()
    first = timed(work, 1)
    took = time.perf_counter() - begun
    rounds = max(_FEWEST, min(most, int(_PATIENCE_S / took)))
    if took > _PATIENCE_S:
        return _rounded(first.ms), 1
    return _rounded(timed(work, rounds).ms), rounds


def _rounded(times: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{ms:.4g}") for name, ms in times.items()}


def median_ms(work: Callable[[], float], times: int = 5) -> float:
    """Give the median of what `work` gives, milliseconds, after one that does not count."""
    work()
    return float(f"{median(work() for _ in range(times)):.4g}")


def percentiles(ask: Ask, most_s: float = 5.0) -> tuple[float, float, int]:
    """Give the median and the 99th percentile of very many answers in ms, and how many."""
    for _ in range(20):
        ask()
    took = list[int]()
    end = time.perf_counter() + most_s
    while len(took) < _MANY and time.perf_counter() < end:
        begun = time.perf_counter_ns()
        ask()
        took.append(time.perf_counter_ns() - begun)
    half, most = np.percentile(took, (50, 99)) / 1e6
    return float(f"{half:.4g}"), float(f"{most:.4g}"), len(took)
