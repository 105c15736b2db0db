"""The table of a build's keys that programs probe: made once for each build in a process."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa

from wherry.ir.build import Build
from wherry.kernels import layout
from wherry.kernels.skeletons import skeletons
from wherry.render.keys import build_words

_join = skeletons("join")

_SMALL_RANGE: Final = 1 << 23
"""Keys within fewer values than this have a bit each, however few they are: a megabyte."""
_BITS_PER_ROW: Final = 64
_ROWS_PER_WORD: Final = 2
"""Two bits a key, at most two keys a word of 32 bits: 1.5 % of other keys get to the table."""


class JoinTable:
    """Bits and chains of one build, as `kernels.numba.join` reads them.

    Attributes
    ----------
    words : int
        int64 words of a key.
    """

    def __init__(self, build: Build) -> None:
        self._batch = build.batch
        self._keys = build_words(build.key_columns)
        self._rows, self.words = len(self._keys), max(1, self._keys.shape[1])
        self._header = np.zeros(10, np.int64)
        self._put(layout.KEYS, self._keys.ctypes.data)
        self._put(layout.WORDS, self.words)
        self._lock = threading.Lock()
        self._keep: list[Any] = []
        low, span = self._span()
        if 0 < span <= max(_SMALL_RANGE, _BITS_PER_ROW * self._rows):
            self._mark(low, span)
        else:
            self._mark_hashes()
            self._chains = self._enter_hashed()

    @property
    def address(self) -> int:
        """Where the description lies that skeletons read."""
        return int(self._header.ctypes.data)

    def _put(self, place: int, value: int) -> None:
        self._header[place] = value

    def _array(self, place: int, length: int, dtype: Any, fill: int) -> int:
        made = np.full(length, fill, dtype)
        self._keep.append(made)
        self._put(place, made.ctypes.data)
        return int(made.ctypes.data)

    def _span(self) -> tuple[int, int]:
        """Give the least key and how many values lie from it to the greatest; (0, 0) for others."""
        if self._keys.shape[1] != 1 or not self._rows:
            return 0, 0
        low, high = int(self._keys.min()), int(self._keys.max())
        return low, high - low + 1

    def _mark(self, low: int, span: int) -> None:
        self._put(layout.LOW, low)
        self._put(layout.RANGE, span)
        bits = self._array(layout.BITS, (span + 63) // 64, np.uint64, 0)
        _join.mark(self._keys.ctypes.data, self._rows, low, bits)

    def _mark_hashes(self) -> None:
        exponent = max(4, (self._rows // _ROWS_PER_WORD).bit_length())
        self._put(layout.SHIFT, 64 - exponent)
        bits = self._array(layout.BITS, 1 << exponent, np.uint32, 0)
        keys = self._keys.ctypes.data
        _join.mark_hashes(keys, self._rows, self.words, 64 - exponent, bits)

    def _enter_hashed(self) -> Chains:
        size = 1 << (2 * self._rows).bit_length()
        self._put(layout.MASK, size - 1)
        self._array(layout.SLOTS, size, np.int32, -1)
        chains = Chains(self._rows)
        chains.different = _join.enter_hashed(
            self.address, self._rows, chains.following.ctypes.data, chains.counts.ctypes.data
        )
        return chains

    @cached_property
    def _chains(self) -> Chains:
        """Enter the rows by rank: bits and ranks fit a cache where a place a value would not."""
        words = (int(self._header[layout.RANGE]) + 63) // 64
        ranks = self._array(layout.RANKS, words, np.int32, 0)
        found = _join.rank(int(self._header[layout.BITS]), words, ranks)
        self._array(layout.FIRSTS, found, np.int32, -1)
        chains = Chains(self._rows)
        chains.different = _join.enter_ranked(
            self.address, self._rows, chains.following.ctypes.data, chains.counts.ctypes.data
        )
        return chains

    def chains(self) -> Chains:
        """Give the rows of each key; where bits alone answer, this is made when first asked for."""
        with self._lock:
            return self._chains

    def column(self, number: int, *, outer: bool) -> pa.Array:
        """Give a column of the build; with `outer` a null stands behind its last row."""
        array = self._batch.column(number)
        if not outer:
            return array
        with self._lock:
            return self._with_null(number, array)

    def _with_null(self, number: int, array: pa.Array) -> pa.Array:
        if number not in self._padded:
            self._padded[number] = _and_null(array)
        return self._padded[number]

    @cached_property
    def _padded(self) -> dict[int, pa.Array]:
        return {}


class Chains:
    """For each row of a build the next with its key (-1: none), and how many there are from it on.

    The entries behind the last stand for no row, which makes one pair.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.different = 0
        self.following = np.full(rows + 1, -1, np.int32)
        self.counts = np.ones(rows + 1, np.int32)

    @property
    def unique(self) -> bool:
        """Tell whether no key stands twice."""
        return self.different == self.rows


def _and_null(array: pa.Array) -> pa.Array:
    t = array.type
    if pa.types.is_dictionary(t):
        indices = pa.concat_arrays([array.indices, pa.nulls(1, t.index_type)])
        return pa.DictionaryArray.from_arrays(indices, array.dictionary, ordered=t.ordered)
    return pa.concat_arrays([array, pa.nulls(1, t)])


_TABLES: Final[WeakKeyDictionary[Build, JoinTable]] = WeakKeyDictionary()
_LOCK: Final = threading.Lock()


def table_of(build: Build) -> JoinTable:
    """Give the table of a build, made when it is first asked for."""
    with _LOCK:
        found = _TABLES.get(build)
        if found is None:
            found = _TABLES[build] = JoinTable(build)
        return found
