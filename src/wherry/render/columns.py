"""Fields of groups as columns: what lies group by group is written side by side, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.segment import SegmentPool
from wherry.kernels.skeletons import skeletons
from wherry.render.encode import key_arrays
from wherry.render.state import Fields

_runs = skeletons("runs")


class Strided(Struct, frozen=True):
    """Fields of `count` groups, each `step` bytes long and beginning at `address`.

    With `memory`, which begins there and stays as it is, whole rows are not copied.
    """

    address: int
    step: int
    count: int
    pool: SegmentPool
    memory: np.ndarray[Any, Any] | None = None

    def field(self, offset: int, dtype: Any) -> np.ndarray[Any, Any]:
        """Give the field at a byte, of all groups, in memory of the pool."""
        size = np.dtype(dtype).itemsize
        if self.memory is not None and size == self.step:
            return self.memory[: size * self.count].view(dtype)
        target = self.pool.allocate(self.count * size)
        _runs.take_field(self.address + offset, self.step, self.count, size, target.address)
        return np.frombuffer(target, dtype) if self.count else np.empty(0, dtype)


def key_columns(
    types: Sequence[Any], widths: tuple[int, ...], words: int, keys: Fields
) -> list[pa.Array]:
    """Give the columns of keys of `words` words: those of `widths`, then words of null bits.

    Types are as for `encode.key_arrays`.
    """
    if words == 1 and _is_word(types[0]):
        (t,) = types
        values = keys.field(0, f"V{t.bit_width // 8}")
        return [pa.Array.from_buffers(t, len(values), [None, pa.py_buffer(values)], 0)]
    matrix = keys.field(0, f"V{8 * words}").view(np.int64).reshape(-1, words)
    return key_arrays(matrix, tuple(types), widths, nulls=words > sum(widths))


def _is_word(t: Any) -> bool:
    """Tell whether the low bytes of a key's word are its value."""
    return isinstance(t, pa.DataType) and bool(
        pa.types.is_integer(t) or pa.types.is_temporal(t) or t.equals(pa.float64())
    )
