"""Rows like TPC-H's lineitem, each made of its number by a hash: any part of them, by any thread.

Made by all cores at some 8 ns a row and core, so that 600 million rows take seconds. Dates, prices
and codes have the ranges of TPC-H; columns do not depend on each other but for dates and codes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.devices.proc import usable_cores

ROWS_OF_1: Final = 6_001_215
"""Of lineitem at scale factor 1."""
BATCH_ROWS: Final = 1 << 22
"""Of record batches: a whole number of spans, few enough that nobody counts them."""
KEYS: Final = 1 << 20
"""Values that `key` has, evenly: what is below a share of them passes."""
FLAGS: Final = ("A", "N", "R")
STATUSES: Final = ("F", "O")

_CODES: Final = pa.dictionary(pa.int8(), pa.utf8())
SCHEMA: Final = pa.schema(
    {
        "key": pa.int64(),
        "l_quantity": pa.float64(),
        "l_extendedprice": pa.float64(),
        "l_discount": pa.float64(),
        "l_tax": pa.float64(),
        "l_shipdate": pa.date32(),
        "l_returnflag": _CODES,
        "l_linestatus": _CODES,
    }
)
STORED: Final[Mapping[str, Any]] = {
    "key": np.int64,
    "l_shipdate": np.int32,
    "l_returnflag": np.int8,
    "l_linestatus": np.int8,
}
"""Types of what lies in memory; the others are float64."""
ROW_BYTES: Final = 8 + 4 * 8 + 4 + 2
_DICTIONARIES: Final = {"l_returnflag": FLAGS, "l_linestatus": STATUSES}
_PIECE: Final = 1 << 17
"""Rows that are made at once: what is computed on the way stays in a core's second cache."""
_FIRST_DAY, _DAYS = 8036, 2526
"""1992-01-02 to 1998-12-01, since 1970-01-01."""
_CURRENT: Final = 9298
"""1995-06-17: what is shipped later is open, and what is received later has not come back."""
_MIX: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_MADV_HUGEPAGE: Final = 14

Columns = Mapping[str, np.ndarray[Any, Any]]


class Lineitem(Struct, frozen=True):
    """Rows in this process's memory, a block of whole pages for each column.

    Attributes
    ----------
    columns : mapping of str to array
        As stored: days since 1970, and codes of FLAGS and STATUSES.
    memory : mapping of str to mmap
        What the columns lie in.
    """

    scale_factor: float
    columns: Columns
    memory: Mapping[str, mmap.mmap]

    @property
    def rows(self) -> int:
        """Give the number of rows."""
        return len(self.columns["key"])

    def first(self, rows: int) -> Lineitem:
        """Give the first rows, or all if there are no more, in the same memory."""
        columns = {name: column[:rows] for name, column in self.columns.items()}
        return Lineitem(len(columns["key"]) / ROWS_OF_1, columns, self.memory)

    def pages(self, name: str) -> memoryview:
        """Give the whole pages that a column's rows lie in."""
        nbytes = -(-self.columns[name].nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        return memoryview(self.memory[name])[:nbytes]

    def table(self) -> pa.Table:
        """Give the rows as a table over the same memory."""
        return pa.Table.from_batches(batches(self.columns), SCHEMA)


def rows_of(scale_factor: float) -> int:
    """Give how many rows a scale factor has."""
    return max(1, round(ROWS_OF_1 * scale_factor))


def made(scale_factor: float, threads: int | None = None) -> Lineitem:
    """Make the rows of a scale factor in new memory."""
    rows = rows_of(scale_factor)
    memory = {name: _room(rows, name) for name in SCHEMA.names}
    columns = {name: np.frombuffer(memory[name], _stored(name), rows) for name in SCHEMA.names}
    with ThreadPoolExecutor(threads or usable_cores()) as crew:
        # Whoever fills a page touches it first: huge pages of zeros are most of the time.
        list(crew.map(lambda at: _fill(columns, at), range(0, rows, _PIECE)))
    return Lineitem(scale_factor, columns, memory)


def batches(columns: Columns) -> Iterator[pa.RecordBatch]:
    """Give columns as record batches that refer to their memory."""
    end = len(columns["key"])
    for at in range(0, end, BATCH_ROWS):
        size = min(BATCH_ROWS, end - at)
        arrays = [array(f, columns[f.name][at : at + size]) for f in SCHEMA]
        yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def array(field: pa.Field, values: np.ndarray[Any, Any]) -> pa.Array:
    """Give stored values as an Arrow array over the same memory."""
    held = [None, pa.py_buffer(values)]
    if field.name not in _DICTIONARIES:
        return pa.Array.from_buffers(field.type, len(values), held)
    codes = pa.Array.from_buffers(pa.int8(), len(values), held)
    return pa.DictionaryArray.from_arrays(codes, pa.array(_DICTIONARIES[field.name]))


def _stored(name: str) -> Any:
    return STORED.get(name, np.float64)


def _room(rows: int, name: str) -> mmap.mmap:
    nbytes = rows * np.dtype(_stored(name)).itemsize
    found = mmap.mmap(-1, -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE)
    with suppress(OSError):  # a kernel without huge pages has small ones
        found.madvise(_MADV_HUGEPAGE)
    return found


def _fill(columns: Columns, at: int) -> None:
    into = {name: column[at : at + _PIECE] for name, column in columns.items()}
    numbers = np.arange(at, at + len(into["key"]), dtype=np.uint64)
    one, other = (_mixed(numbers * np.uint64(2) + np.uint64(k)) for k in (1, 2))
    days = _below(one, 0, 16, _DAYS) + _FIRST_DAY
    into["l_shipdate"][:] = days
    into["l_quantity"][:] = _below(one, 16, 12, 50) + 1
    np.divide(_below(one, 28, 12, 11), 100.0, out=into["l_discount"])
    np.divide(_below(one, 40, 12, 9), 100.0, out=into["l_tax"])
    into["key"][:] = other & np.uint64(KEYS - 1)
    np.divide(_below(other, 20, 28, 10_410_001) + 90_000, 100.0, out=into["l_extendedprice"])
    into["l_linestatus"][:] = days > _CURRENT
    back = days + _below(other, 48, 10, 30) <= _CURRENT
    into["l_returnflag"][:] = np.where(back, _below(other, 58, 6, 2) * 2, 1)


def _mixed(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give 64 bits that look random, of each number (the finaliser of SplitMix64)."""
    found = numbers * _STEP
    for shift, factor in zip((30, 27), _MIX, strict=True):
        found ^= found >> np.uint64(shift)
        found *= factor
    found ^= found >> np.uint64(31)
    return found


def _below(bits: np.ndarray[Any, Any], first: int, count: int, most: int) -> np.ndarray[Any, Any]:
    """Give integers of [0, most) made of `count` of the bits; 58 bits hold the product."""
    part = (bits >> np.uint64(first)) & np.uint64((1 << count) - 1)
    return ((part * np.uint64(most)) >> np.uint64(count)).astype(np.int64)
