"""What a family of points may know of a point: what ran, and nothing of how it came out.

The published value, the author's model and figures of the device are left out here, once and for
all, so that no prediction can come from them. What is kept of `parameters` are amounts of work:
bytes, threads, counts. A key that is not listed is not seen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from wherry.base.errors import Refused
from wherry.validate.point import Kind, Point
from wherry.validate.units import unit_word

_SCALE = {
    "": 1, "b": 1, "bytes": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SIZE_KEY = re.compile(
    r"(bytes|sizes?|buffer|block|io|transfer|set|total|object|message|file|layer|read|stored|memory"
    r"|result|request)s?(_bytes|_size)?(_each_way|_in|_read)?(_(?P<unit>b|[kmgt]i?b))?",
    re.IGNORECASE,
)
_COUNT_KEY = re.compile(
    r"(threads?|client_threads|cores|jobs|queue_depth|qd|drives|gpus|hops|nodes|csds|devices|clients|query|queries"
    r"|pipelines|layers|iterations|tpch_gb|scale_factor|selectivity(_pct)?|throttle(_pct)?"
    r"|lengths?|offered_gbps|\w*compute\w*|hot_\w*_?m?s)",
    re.IGNORECASE,
)
_SIZE_TEXT = re.compile(r"\b\d+(?:\.\d+)?\s*[KMGT]i?B\b", re.IGNORECASE)


class Question(Struct, frozen=True):
    """What was measured, without what came out.

    Attributes
    ----------
    paper, hardware, workload, kind, unit
        As in the point.
    given : mapping
        Parameters that say what ran.
    """

    paper: str
    hardware: str
    workload: str
    kind: Kind
    unit: str
    given: Mapping[str, Any]

    def says(self, pattern: str) -> re.Match[str] | None:
        """Find a pattern in the words of the workload, letters of either case alike."""
        return re.search(pattern, self.workload, re.IGNORECASE)

    def runs_on(self, pattern: str) -> re.Match[str] | None:
        """Find a pattern in the words for the hardware."""
        return re.search(pattern, self.hardware, re.IGNORECASE)

    @property
    def asks_time(self) -> bool:
        """Whether a time is published, and not a rate."""
        return unit_word(self.unit) in ("s", "ms", "us", "ns")


def question_of(point: Point) -> Question:
    """Give what of a point may be known before it is predicted."""
    given = {key: value for key, value in point.parameters.items() if _is_work(key)}
    return Question(point.paper, point.hardware, point.workload, point.kind, point.unit, given)


def _is_work(key: str) -> bool:
    return bool(_SIZE_KEY.fullmatch(key) or _COUNT_KEY.fullmatch(key))


def bytes_of(question: Question, *names: str, thousand: int = 10**3) -> list[int]:
    """Give the sizes that the parameters state under keys that begin so, or the workload's words.

    Parameters
    ----------
    names : str
        Beginnings of keys (`buffer` for `buffer_KiB`), best first; any size if none.
    thousand : int
        What a kB is: some tools print 1024 bytes so.

    Raises
    ------
    Refused
        No size is stated.
    """
    for name in names or ("",):
        for key, value in question.given.items():
            match = _SIZE_KEY.fullmatch(key)
            if match and key.lower().startswith(name):
                unit = match["unit"] or ""
                return [_size(item, unit, thousand) for item in _listed(value)]
    found = [_size(text, "", thousand) for text in _SIZE_TEXT.findall(question.workload)]
    if found:
        return found
    wanted = " or ".join(names) or "bytes, size_kB, buffer_KiB ..."
    raise Refused("size", [f"the point states no size ({wanted})"])


def _listed(value: Any) -> list[Any]:
    if value == []:
        raise Refused("size", ["a list of sizes is empty"])
    return value if isinstance(value, list) else [value]


def _size(number: Any, unit: str, thousand: int) -> int:
    if isinstance(number, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", number)
        if match is None or match[2].lower() not in _SCALE:
            raise Refused("size", [f"{number!r} is not a size"])
        number, unit = float(match[1]), match[2]
    if not _is_number(number) or number <= 0:
        raise Refused("size", [f"{number!r} is not a size"])
    scale = _SCALE[unit.lower()]
    if thousand == 2**10 and scale in (10**3, 10**6, 10**9):
        scale = {10**3: 2**10, 10**6: 2**20, 10**9: 2**30}[scale]
    return round(number * scale)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count_of(question: Question, key: str, pattern: str, default: int | None = None) -> int:
    """Give a count: from the parameters, else the workload's words, else the hardware's.

    Raises
    ------
    Refused
        It is stated nowhere and has no default.
    """
    seen = question.given.get(key)
    if seen is None:
        match = question.says(pattern) or question.runs_on(pattern)
        seen = None if match is None else int(match[1])
    if seen is None:
        seen = default
    if seen is None:
        raise Refused(key, [f"the point does not state {key!r}"])
    if isinstance(seen, bool) or not isinstance(seen, int) or seen < 1:
        raise Refused(key, [f"parameter {key!r} must be a whole number from 1, not {seen!r}"])
    return seen


def counts_of(question: Question, key: str, pattern: str) -> list[int]:
    """Give counts: a list in the parameters, or the one that `count_of` finds; raises as it."""
    seen = question.given.get(key)
    if not isinstance(seen, list):
        return [count_of(question, key, pattern)]
    if not seen or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in seen):
        raise Refused(key, [f"parameter {key!r} must be whole numbers from 1, not {seen!r}"])
    return seen


def number_of(question: Question, key: str, pattern: str) -> float | None:
    """Give a number that is not a count, or None: from the parameters, else the workload."""
    seen = question.given.get(key)
    if seen is None:
        match = question.says(pattern)
        return None if match is None else float(match[1])
    if not _is_number(seen) or seen < 0:
        raise Refused(key, [f"parameter {key!r} must be a number, not {seen!r}"])
    return float(seen)
