"""Keys that are integers of small domains: they number slots, so that nothing is searched."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from wherry.kernels.skeletons import skeletons
from wherry.render.bind import Chunk, values_address
from wherry.render.encode import Domain
from wherry.render.loop import Slot

_group_by = skeletons("group_by")


def addresses(t: pa.DataType) -> bool:
    """Tell whether values of a type are integers that can address a table."""
    return (pa.types.is_integer(t) or pa.types.is_temporal(t)) and not pa.types.is_uint64(t)


def seen(column: pa.Array, rows: int) -> Domain:
    """Give the domain of a column that `addresses`, nulls' values included."""
    if not rows:
        return Domain(0, 0, column.type)
    found, t = np.empty(2, np.int64), column.type
    signed = int(not pa.types.is_unsigned_integer(t))
    width = t.bit_width // 8
    _group_by.bounds(values_address(column), width, signed, rows, found.ctypes.data)
    low, high = found.tolist()
    return Domain(low, high - low + 1, t)


def slots_in(domains: Sequence[Domain]) -> int:
    """Give how many slots domains have together, one for the null of each key included."""
    return prod(domain.size + 1 for domain in domains)


def with_domains(chunk: Chunk, domains: Sequence[Domain]) -> Chunk:
    """Give a chunk with the numbers that block functions need to compute slots."""
    numbers: dict[Slot, int] = dict(chunk.numbers)
    step = 1
    for number, domain in enumerate(domains):
        numbers["low", str(number)] = domain.low
        numbers["size", str(number)] = domain.size
        numbers["stride", str(number)] = step
        step *= domain.size + 1
    return replace(chunk, numbers=numbers)
