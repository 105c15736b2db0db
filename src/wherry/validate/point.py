"""A published measurement, and the file of many: `[[point]]` tables, all problems found at once."""

from __future__ import annotations

import difflib
import math
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from wherry.base.errors import Refused
from wherry.devices.figures import read_toml, refuse
from wherry.validate.units import UNITS, unit_word

Kind = Literal[
    "calibration", "prediction", "sweep", "bound", "bounds", "range", "contention", "decision",
    "negative", "method",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
_TEXTS = ("id", "paper", "hardware", "workload", "kind", "unit")
_NEEDED = (*_TEXTS[:5], "parameters", "value", "unit")


class Point(msgspec.Struct, frozen=True):
    """One published value.

    Attributes
    ----------
    kind : str
        `calibration` sets figures and is never predicted; `method` is about another simulator.
    parameters : dict
        What ran (bytes, threads, sizes); figures of the device may stand there too and are unread.
    value : float, list or str
        The published value, in `unit`: what a prediction is compared with and nothing else.
    where, confidence, evidence : str
        Where it was read, and how.
    """

    id: str
    paper: str
    hardware: str
    workload: str
    kind: Kind
    parameters: dict[str, Any]
    value: Any
    unit: str
    where: str = ""
    confidence: str = ""
    evidence: str = ""


@cache
def shipped_points() -> tuple[Point, ...]:
    """Give the points that Wherry ships: `benchmarks/validation/points.toml`."""
    name = "benchmarks/validation/points.toml"
    return _read(files("wherry.benchmarks") / "validation" / "points.toml", name)


def read_points(path: Path) -> tuple[Point, ...]:
    """Give the points of a file.

    Raises
    ------
    InputError
        The file cannot be read or is not TOML.
    Refused
        With every problem as a reason: file, point, field, what was seen, what is possible.
    """
    return _read(path, str(path))


def _read(file: Traversable | Path, label: str) -> tuple[Point, ...]:
    tables = read_toml(file, label)
    found = tables.get("point")
    if not isinstance(found, list) or not found:
        raise Refused(f"{label} has no points", ["a point is a table [[point]]"])
    problems = [problem for place, table in enumerate(found, 1) for problem in _of(table, place)]
    refuse(label, problems or _twice(found))
    return tuple(msgspec.convert(table, Point) for table in found)


def _of(table: Any, place: int) -> list[str]:
    """Give every problem of one table, each naming the point."""
    if not isinstance(table, dict):
        return [f"point {place}: must be a table [[point]], not {table!r}"]
    name = f"point {table.get('id', place)!r}"
    found = [f"{name}: field {field!r} is missing" for field in _NEEDED if field not in table]
    found += [
        f"{name}: field {field!r} must be text, not {table[field]!r}"
        for field in (*_TEXTS, "where", "confidence", "evidence")
        if field in table and not (isinstance(table[field], str) and table[field].strip())
    ]
    if not isinstance(table.get("parameters", {}), dict):
        found.append(f"{name}: field 'parameters' must be a table, not {table['parameters']!r}")
    if found:
        return found
    if table["kind"] not in KINDS:
        found.append(f"{name}: field 'kind' {_unknown(table['kind'], KINDS)}")
    if unit_word(table["unit"]) not in UNITS:
        found.append(f"{name}: field 'unit' {_unknown(unit_word(table['unit']), UNITS)}")
    return found or _value_problems(table, name)


def _unknown(seen: str, possible: Any) -> str:
    close = difflib.get_close_matches(seen, list(possible), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"cannot be {seen!r}{hint} possible: {', '.join(possible)}"


def _value_problems(table: dict[str, Any], name: str) -> list[str]:
    value, decides = table["value"], table["kind"] == "decision"
    if decides:
        seen = isinstance(value, str) and value.strip()
        return [] if seen else [f"{name}: field 'value' must be the winner's name, not {value!r}"]
    if _numeric(value):
        return []
    return [f"{name}: field 'value' must be a number or a list of numbers, not {value!r}"]


def _numeric(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_numeric, value))
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _twice(tables: list[dict[str, Any]]) -> list[str]:
    names = [table["id"] for table in tables]
    twice = sorted({name for name in names if names.count(name) > 1})
    return [f"point {name!r}: the id is given twice" for name in twice]
