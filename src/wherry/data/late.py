"""Rows of which each column is read when it is asked for, and only where rows are still wanted."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

from wherry.data.chunk import column_bytes
from wherry.data.decoding import Reading
from wherry.kernels.skeletons import skeletons

_filter, _chunk = skeletons("filter"), skeletons("parquet.chunk")
_WORD = 64

Rows: TypeAlias = npt.NDArray[np.uint64]
"""Which rows of a stored batch are wanted: a bit for each, in one word more than they take."""


class ValueTest(Struct, frozen=True):
    """A test of a column's values by a block function.

    Attributes
    ----------
    mask : int
        Its address.
    context : array of int64
        Its context but for the values' address, which `places` names the entries of.
    """

    name: str
    mask: int
    context: array[int]
    places: tuple[int, ...]


class LateRows(Protocol):
    """Neighbouring rows of a stored batch; one thread reads them."""

    @property
    def rows(self) -> int:
        """How many they are."""
        ...

    @property
    def stored_rows(self) -> int:
        """How many rows the stored batch has."""
        ...

    @property
    def first(self) -> Rows | None:
        """Which of the stored rows they are; None: all."""
        ...

    def values(self, name: str) -> pa.Array | None:
        """Give the values of a column that are told apart by number; None: it has no such."""
        ...

    def has_nulls(self, name: str) -> bool:
        """Tell whether a column may have nulls."""
        ...

    def matching(self, name: str, passing: npt.NDArray[np.bool_], kept: Rows | None) -> Rows:
        """Give those of the rows `kept` whose value passes, told by number of `values`."""
        ...

    def testable(self, name: str) -> bool:
        """Tell whether `choose` may test a column."""
        ...

    def choose(
        self, tests: Sequence[ValueTest], kept: Rows | None
    ) -> tuple[Rows | None, int] | None:
        """Give those of the rows `kept` that pass all tests, and how many; nulls do not pass.

        None in place of rows: all pass. None for both: values have to be looked at by row.
        """
        ...

    def column(self, name: str, kept: Rows | None) -> pa.Array:
        """Give a column's values for the rows `kept`, all stored ones for None."""
        ...

    def reading(self) -> Reading:
        """Give what reading has come to so far."""
        ...


class LateConstants(Struct):
    """Rows some of whose columns have one value throughout, which no media hold."""

    stored: LateRows
    constants: dict[str, pa.Scalar]
    _repeated: int = 0

    @property
    def rows(self) -> int:
        """How many they are."""
        return self.stored.rows

    @property
    def stored_rows(self) -> int:
        """How many rows the stored batch has."""
        return self.stored.stored_rows

    @property
    def first(self) -> Rows | None:
        """Which of the stored rows they are; None: all."""
        return self.stored.first

    def values(self, name: str) -> pa.Array | None:
        """Give the values of a stored column."""
        return None if name in self.constants else self.stored.values(name)

    def has_nulls(self, name: str) -> bool:
        """Tell whether a column may have nulls."""
        return name in self.constants or self.stored.has_nulls(name)

    def matching(self, name: str, passing: npt.NDArray[np.bool_], kept: Rows | None) -> Rows:
        """Give the rows of a stored column whose value passes."""
        return self.stored.matching(name, passing, kept)

    def testable(self, name: str) -> bool:
        """Tell whether `choose` may test a column: a stored one, perhaps."""
        return name not in self.constants and self.stored.testable(name)

    def choose(
        self, tests: Sequence[ValueTest], kept: Rows | None
    ) -> tuple[Rows | None, int] | None:
        """Give the rows that pass tests of stored columns."""
        return self.stored.choose(tests, kept)

    def column(self, name: str, kept: Rows | None) -> pa.Array:
        """Give a stored column, or a constant repeated."""
        if name not in self.constants:
            return self.stored.column(name, kept)
        array = pa.repeat(self.constants[name], count(kept, self.stored_rows))
        self._repeated += column_bytes(array)
        return array

    def reading(self) -> Reading:
        """Give what reading has come to, constants included."""
        found = self.stored.reading()
        if not self._repeated:
            return found
        whys = (*found.whys, ("repeated from the path", self._repeated))
        return Reading(found.media_bytes, found.decoded_bytes, self._repeated, whys)


def count(kept: Rows | None, stored_rows: int) -> int:
    """Give how many rows are wanted."""
    return stored_rows if kept is None else int(_chunk.wanted(kept.ctypes.data, 0, stored_rows))


def rows_of(offset: int, rows: int, stored_rows: int) -> Rows | None:
    """Give the rows [offset, offset + rows) of a stored batch; None: they are all of it."""
    if rows == stored_rows:
        return None
    flags = np.zeros((stored_rows // _WORD + 2) * _WORD, np.bool_)
    flags[offset : offset + rows] = True
    return np.packbits(flags, bitorder="little").view(np.uint64)


def narrowed(kept: Rows | None, passed: Rows, stored_rows: int) -> Rows:
    """Give those of the rows `kept` that passed.

    Parameters
    ----------
    passed : Rows
        A bit for each row kept, in order, in one word more than they take.
    """
    if kept is None:
        return passed
    found = np.zeros_like(kept)
    words = stored_rows // _WORD + 1
    _filter.narrow(kept.ctypes.data, words, passed.ctypes.data, found.ctypes.data)
    return found
