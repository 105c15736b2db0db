"""Figures that carry their source, and the check of a TOML file against a frozen struct.

The unit of a figure is the end of its key (`clock_ghz`, `latency_us`), its source stands beside its
value, and a file is checked as a whole: every problem is found before anything is refused.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
import types
from collections.abc import Iterable
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from wherry.base.decoders import converted
from wherry.base.errors import InputError, Refused

SOURCE_KINDS = ("datasheet", "paper", "measured", "estimate")
_SOURCE = re.compile(rf"({'|'.join(SOURCE_KINDS)}): \S.*", re.DOTALL)
# A start-up cost, a latency and an idle draw may be nothing at all; a rate or a size may not.
_MAY_BE_ZERO = ("_us", "_watts")

StructT = TypeVar("StructT", bound=msgspec.Struct)


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number in the unit its key ends with, and where it comes from."""

    value: float
    source: str


class Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole number (pieces or bytes), and where it comes from."""

    value: int
    source: str


def read_toml(file: Traversable | Path, label: str) -> dict[str, Any]:
    """Give the tables of a TOML file.

    Raises
    ------
    InputError
        The file is absent, is not UTF-8 or is not TOML; the message names `label` and the line.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{label}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{label}: not UTF-8 text at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{label}: not TOML: {error}") from error


def struct_of(tables: dict[str, Any], kind: type[StructT], label: str) -> StructT:
    """Give `tables` as a `kind`.

    Raises
    ------
    Refused
        With one reason for every problem of the file, each beginning with `label`.
    """
    refuse(label, problems_of(tables, kind))
    return converted(tables, kind)


def refuse(label: str, problems: Iterable[str]) -> None:
    """Raise `Refused` with every problem of the file `label`; do nothing when there is none."""
    reasons = [f"{label}: {problem}" for problem in problems]
    if reasons:
        count = f"{len(reasons)} problem{'s' if len(reasons) > 1 else ''}"
        raise Refused(f"{Path(label).name} has {count}", reasons)


def problems_of(table: Any, kind: type[msgspec.Struct], where: str = "") -> list[str]:
    """Give every way in which `table` is not a `kind`; `where` is its TOML header."""
    if not isinstance(table, dict):
        return [f"{where} must be a table, not {_shown(table)}"]
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    place = f" in {where}" if where else ""
    found = [unknown_key(key, fields, place) for key in table if key not in fields]
    for name, field in fields.items():
        if name in table:
            found += _value_problems(table[name], field.type, _deeper(where, name, field.type))
        elif field.required:
            found.append(f"{_noun(field.type)} {_named(name, field.type)} is missing{place}")
    return found


def unknown_key(seen: str, possible: Iterable[str], place: str = "") -> str:
    """Give the sentence for a key that does not exist, with the nearest one that does."""
    names = list(possible)
    close = difflib.get_close_matches(seen, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"no key {seen!r}{place}{hint} keys: {', '.join(names)}"


def _value_problems(value: Any, kind: Any, where: str) -> list[str]:
    kind = _without_none(kind)
    if kind in (Figure, Count):
        return _figure_problems(value, kind, where)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return problems_of(value, kind, where)
    if get_origin(kind) is Literal:
        return _word_problems(value, get_args(kind), where)
    if get_origin(kind) is tuple:
        return _list_problems(value, get_args(kind), where)
    if kind is int:
        return _whole_problems(value, where)
    if not isinstance(value, str) or not value.strip():
        return [f"{where} must be text, not {_shown(value)}"]
    return []


def _whole_problems(value: Any, where: str) -> list[str]:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return [f"{where} must be a whole number of 1 or more, not {_shown(value)}"]
    return []


def _list_problems(value: Any, of: tuple[Any, ...], where: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{where} must be a list, not {_shown(value)}"]
    if of[-1] is not Ellipsis and len(value) != len(of):
        return [f"{where} must list {len(of)} things, not {len(value)}"]
    found: list[str] = []
    for place, item in enumerate(value, 1):
        found += _value_problems(
            item, of[0], f"{where} {place}" if where.startswith("[[") else where
        )
    return found


def _word_problems(value: Any, words: tuple[str, ...], where: str) -> list[str]:
    if value in words:
        return []
    close = difflib.get_close_matches(str(value), words, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return [f"{where} cannot be {_shown(value)}{hint} possible: {', '.join(words)}"]


def _figure_problems(value: Any, kind: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        form = "{ value = ..., source = '...' }"
        return [f"{where} must be {form}, not {_shown(value)}: a figure carries its source"]
    fields = ("value", "source")
    found = [unknown_key(key, fields, f" in {where}") for key in value if key not in fields]
    found += _number_problems(value, kind, where)
    return found + _source_problems(value.get("source"), where)


def _number_problems(figure: dict[str, Any], kind: Any, where: str) -> list[str]:
    if "value" not in figure:
        return [f"{where} has no value"]
    number = figure["value"]
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return [f"{where} must be a number, not {_shown(number)}"]
    if kind is Count and not isinstance(number, int):
        return [f"{where} must be a whole number, not {number}"]
    if number < 0:
        return [f"{where} must not be negative, but is {number}"]
    if number == 0 and not where.endswith(_MAY_BE_ZERO):
        return [f"{where} must be greater than 0"]
    if number > 1 and where.endswith("_share"):
        return [f"{where} is a share and must not exceed 1, but is {number}"]
    return []


def _source_problems(source: Any, where: str) -> list[str]:
    kinds = ", ".join(SOURCE_KINDS)
    if source is None:
        return [f"{where} has no source; begin it with one of: {kinds}"]
    if not isinstance(source, str) or not _SOURCE.fullmatch(source):
        return [f"source of {where} must be '<kind>: <text>', not {source!r}; kinds: {kinds}"]
    if source.startswith("estimate:") and " from " not in source:
        return [f"source of {where} must say what the estimate is derived from ('... from ...')"]
    return []


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def _is_table(kind: Any) -> bool:
    kind = _without_none(kind)
    part = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return (
        isinstance(part, type) and issubclass(part, msgspec.Struct) and part not in (Figure, Count)
    )


def _named(name: str, kind: Any) -> str:
    if not _is_table(kind):
        return repr(name)
    return f"[[{name}]]" if get_origin(_without_none(kind)) is tuple else f"[{name}]"


def _deeper(where: str, name: str, kind: Any) -> str:
    return _named(name, kind) if _is_table(kind) else f"{where} {name}".strip()


def _noun(kind: Any) -> str:
    return "table" if _is_table(kind) else "key"


def _shown(value: Any) -> str:
    return "a table" if isinstance(value, dict) else repr(value)
