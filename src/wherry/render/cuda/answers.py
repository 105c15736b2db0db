"""What is read of states once they are on the host: columns of numbers and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from wherry.base.errors import InputError
from wherry.ir.text import call_text
from wherry.render.cuda.state import Cell

_DIGITS: Final = 38
_HIGH, _LOW = divmod(10**_DIGITS, 1 << 64)

Values = np.ndarray[Any, Any]


class Fields(Protocol):
    """What states hold, by name: one value of each; of 128 bits two uint64."""

    def __getitem__(self, name: str, /) -> Values:
        """Give one value of all states."""


def read_cells(cells: Sequence[Cell], held: Fields) -> list[pa.Array]:
    """Give the aggregates of every state.

    Raises
    ------
    InputError
        If a sum needs more than 38 digits.
    """
    valid = {name: _unless_all(held[name] > 0) for name in {c.count or "rows" for c in cells}}
    return [_read_cell(cell, held, valid[cell.count or "rows"]) for cell in cells]


def _unless_all(valid: Values) -> Values | None:
    return None if valid.all() else valid


def _read_cell(cell: Cell, held: Fields, valid: Values | None) -> pa.Array:
    if cell.value is None:
        return stored(held[cell.count or "rows"], pa.int64(), None)
    values = held[cell.value]
    if cell.high is not None:
        values = joined(values, held[cell.high])
    if values.ndim == 2 and needs_more_digits(values if valid is None else values[valid]):
        raise InputError(f"{call_text(cell.call)} needs more than {_DIGITS} digits")
    return stored(values, cell.t, valid)


def joined(lower: Values, upper: Values) -> Values:
    """Give sums of lower and of upper halves as one; the greatest where that has too many bits.

    All are rows of two uint64. Lower halves are less than 2**40 numbers below 2**64.
    """
    low, carried, high = lower[:, 0], lower[:, 1], upper[:, 0] + lower[:, 1]
    over = upper[:, 1].view(np.int64) + (high < carried)
    fits = over == high.view(np.int64) >> 63
    most = np.uint64(np.iinfo(np.int64).max)
    return np.stack([low, np.where(fits, high, most)], axis=1)


def needs_more_digits(words: Values) -> bool:
    """Tell whether any of these integers has more than 38 digits: rows of two uint64, low first."""
    low, high = words[:, 0], words[:, 1].view(np.int64)
    if not len(high) or (high.max() < _HIGH and high.min() >= -_HIGH):
        return False
    over = (high > _HIGH) | ((high == _HIGH) & (low >= np.uint64(_LOW)))
    least = np.uint64((1 << 64) - _LOW)
    under = (high < -_HIGH - 1) | ((high == -_HIGH - 1) & (low <= least))
    return bool((over | under).any())


def stored(values: Values, t: pa.DataType, valid: Values | None) -> pa.Array:
    """Give numbers as Arrow stores them: integers, unscaled decimals, moments, floats or truths.

    Parameters
    ----------
    values : numpy.ndarray
        Of any width, in which those of `t` fit; of 128 bits rows of two uint64.
    valid : numpy.ndarray of bool, or None
        Which are not null; None: all.
    """
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    if pa.types.is_boolean(t):
        data = pa.py_buffer(np.packbits(values == 1, bitorder="little"))
        return pa.Array.from_buffers(t, len(values), [bits, data])
    if t.bit_width == 128 and values.ndim == 1:
        values = np.stack([values, values >> 63], axis=1)
    if values.ndim == 1:
        kind = "f" if pa.types.is_floating(t) else values.dtype.kind
        values = values.astype(f"<{kind}{t.bit_width // 8}", copy=False)
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(t, len(values), [bits, data])
