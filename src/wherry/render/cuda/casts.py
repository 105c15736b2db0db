"""Casts that cannot fail, as CUDA C++; others never come here."""

from __future__ import annotations

import pyarrow as pa

from wherry.ir.expr import Cast
from wherry.ir.resolve import type_of
from wherry.ir.types import DAY_NS, is_moment
from wherry.render.intervals import nanoseconds


def cast_text(data: str, node: Cast, wanted: str) -> str:
    """Give the text of a cast.

    Parameters
    ----------
    data : str
        The operand.
    node : Cast
        What `split.refusal` lets pass.
    wanted : str
        The C type of the result.
    """
    source, target = type_of(node.operand), node.type
    if pa.types.is_boolean(source) or pa.types.is_floating(source):
        return f"({wanted}){data}"
    if pa.types.is_floating(target):
        scale = source.scale if pa.types.is_decimal(source) else 0
        # Both are exact (`split` sees to it), so the quotient is the nearest float64.
        return f"(double){data} / 1e{scale}" if scale else f"({wanted}){data}"
    if is_moment(source) or is_moment(target):
        return f"({wanted}){_moved(f'(i64){data}', source, target)}"
    scales = [t.scale if pa.types.is_decimal(t) else 0 for t in (source, target)]
    step = 10 ** (scales[1] - scales[0])
    return f"({wanted}){data}" if step == 1 else f"({wanted}){data} * {_whole_text(step)}"


def _whole_text(number: int) -> str:
    """Give a positive integer as C reads it, of as many bits as it needs."""
    if number < 1 << 63:
        return f"{number}ll"
    low, high = number & (1 << 64) - 1, number >> 64
    return f"wide({low}ull, {high}ll)"


def _moved(data: str, source: pa.DataType, target: pa.DataType) -> str:
    """Give moments in another type of moments; what is coarser rounds as pyarrow does."""
    if pa.types.is_integer(source) or pa.types.is_integer(target):
        return data
    one, other = nanoseconds(source), nanoseconds(target)
    if pa.types.is_date(target) and not pa.types.is_date(source):
        return f"(floor_divide({data}, {DAY_NS // one}ll) * {DAY_NS // other}ll)"
    if pa.types.is_time(target) and pa.types.is_timestamp(source):
        day = DAY_NS // one
        data = f"({data} - floor_divide({data}, {day}ll) * {day}ll)"
    if one == other:
        return data
    return f"({data} * {one // other}ll)" if one > other else f"({data} / {other // one}ll)"
