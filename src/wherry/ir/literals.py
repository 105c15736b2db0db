"""Constants leave the program: what differs between two runs of one shape travels in the frame.

`lift` replaces every literal by a parameter and returns the values; `bind` puts values back. Two
queries that differ only in constants then share one program, one digest and one compiled object.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any, Final, TypeVar

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.data.types import value_type
from wherry.ir.expr import Literal, Match, Parameter
from wherry.ir.types import is_build

T = TypeVar("T")

EXACT: Final = Context(prec=80)
"""Digits enough to shift any constant by its scale."""


def lift(value: T) -> tuple[T, tuple[Literal, ...]]:
    """Give `value` (nodes, operators, tuples of them) with parameters for literals, and those.

    Nulls and patterns of text stay: a program is specialised to their shape.
    """
    found: list[Literal] = []
    return _lifted(value, found), tuple(found)


def _lifted(value: Any, found: list[Literal]) -> Any:
    if isinstance(value, Literal) and value.value is not None:
        assert value.type is not None, "resolve before lifting"
        if is_build(value.type):
            for index, other in enumerate(found):
                if other.value is value.value:
                    return Parameter(index, value.type)
        found.append(value)
        return Parameter(len(found) - 1, value.type, _digits(value))
    if isinstance(value, Match):
        return replace(value, operand=_lifted(value.operand, found))
    return _mapped(value, lambda item: _lifted(item, found))


def parameters(value: object) -> tuple[Parameter, ...]:
    """Give the parameters of `value` in order of their indices."""
    found: dict[int, Parameter] = {}
    _collect(value, found)
    return tuple(found[index] for index in sorted(found))


def _collect(value: Any, found: dict[int, Parameter]) -> None:
    if isinstance(value, Parameter):
        found[value.index] = value
    elif isinstance(value, tuple):
        for item in value:
            _collect(item, found)
    elif isinstance(value, Struct):
        for f in value.__struct_fields__:
            _collect(getattr(value, f), found)


def unscaled(value: Literal) -> int:
    """Give the integer that stands for an integer or decimal literal: 1.25 at scale 2 is 125."""
    assert value.type is not None
    t = value_type(value.type)
    scale = t.scale if pa.types.is_decimal(t) else 0
    assert isinstance(value.value, int | Decimal)
    return int(Decimal(value.value).scaleb(scale, EXACT))


def _digits(value: Literal) -> int:
    exact = pa.types.is_integer(value.type) or pa.types.is_decimal(value.type)
    return len(str(abs(unscaled(value)))) if exact else 0


def bind(value: T, literals: tuple[Literal, ...]) -> T:
    """Give `value` with every parameter replaced by its literal."""
    return _bound(value, literals)


def _bound(value: Any, literals: tuple[Literal, ...]) -> Any:
    if isinstance(value, Parameter):
        return literals[value.index]
    return _mapped(value, lambda item: _bound(item, literals))


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple):
        return tuple(change(item) for item in value)
    if isinstance(value, Struct):
        return replace(value, **{f: change(getattr(value, f)) for f in value.__struct_fields__})
    return value
