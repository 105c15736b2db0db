"""A Parquet file's footer, read by ourselves: row groups, column chunks, and their bounds.

pyarrow reads it too, but asking pyarrow about a footer that contradicts itself ends the process (an
exception of C++ that nobody catches); only reading columns through it is safe.
"""

from __future__ import annotations

from typing import Any

import msgspec

from wherry.base.errors import CorruptError
from wherry.data.thrift import Struct, read_struct

PHYSICAL = (
    "BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY",
)  # fmt: skip
CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4_HADOOP", "ZSTD", "LZ4")
ENCODINGS = (
    "PLAIN", "GROUP_VAR_INT", "PLAIN_DICTIONARY", "RLE", "BIT_PACKED", "DELTA_BINARY_PACKED",
    "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "RLE_DICTIONARY", "BYTE_STREAM_SPLIT",
)  # fmt: skip
_UNITS = {9: "ms", 10: "us"}
"""Converted types of timestamps, from before there were logical ones."""
_LOGICAL_UNITS = {1: "ms", 2: "us", 3: "ns"}
_LOGICAL_TIMESTAMP = 8
_SIGNED = frozenset({"BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE"})
"""Physical types whose bounds old writers ordered right, unless numbers are unsigned."""
_UNSIGNED = frozenset({11, 12, 13, 14})


class Leaf(msgspec.Struct, array_like=True, frozen=True):
    """A stored column: whether it may hold nulls, and the unit of its timestamps, if any.

    `length` is the size in bytes of every value of a FIXED_LEN_BYTE_ARRAY.
    """

    name: str
    physical: str
    length: int
    required: bool
    unit: str | None
    ordered: bool
    signed: bool


class Chunk(msgspec.Struct, array_like=True, frozen=True):
    """A stored column of one row group; offsets and sizes in bytes, bounds as they are stored."""

    physical_type: str
    compression: str
    encodings: tuple[str, ...]
    num_values: int
    data_page_offset: int
    dictionary_page_offset: int | None
    total_compressed_size: int
    total_uncompressed_size: int
    nulls: int | None
    low: bytes | None
    high: bytes | None
    bloom_offset: int | None


class Footer(msgspec.Struct, array_like=True, frozen=True):
    """All of them: `chunks[i][j]` is column j of row group i, which has `rows[i]` rows."""

    leaves: tuple[Leaf, ...]
    rows: tuple[int, ...]
    chunks: tuple[tuple[Chunk, ...], ...]


def parse_footer(data: bytes) -> Footer:
    """Give the footer whose Thrift bytes are `data`.

    Raises
    ------
    CorruptError
        When it is cut short, or contradicts itself.
    """
    whole = read_struct(data)
    try:
        leaves = _leaves(whole)
        groups = [_group(group, leaves) for group in whole.get(4, [])]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"it has a field that is missing or of another kind: {error}") from error
    rows = tuple(rows for rows, _ in groups)
    total = whole.get(3)
    if min(rows, default=0) < 0 or sum(rows) != total:
        seen = ", ".join(map(str, rows)) or "none"
        raise CorruptError(f"it promises {total} rows in row groups of {seen}")
    return Footer(leaves, rows, tuple(chunks for _, chunks in groups))


def _leaves(whole: Struct) -> tuple[Leaf, ...]:
    found = [element for element in whole[2] if not element.get(5)]
    orders = whole.get(7)
    if len(whole[2]) == 1 and found == whole[2]:
        found = []  # The root of a file without columns.
    return tuple(
        _leaf(element, orders is not None and i < len(orders) and 1 in orders[i])
        for i, element in enumerate(found)
    )


def _leaf(element: Struct, ordered: bool) -> Leaf:
    logical = element.get(10, {}).get(_LOGICAL_TIMESTAMP)
    unit = _UNITS.get(element.get(6, -1))
    if logical is not None:
        unit = next((_LOGICAL_UNITS[key] for key in logical[2] if key in _LOGICAL_UNITS), None)
    signed = element.get(6) not in _UNSIGNED
    return Leaf(
        element[4].decode(),
        PHYSICAL[element[1]],
        _count(element.get(2, 0)),
        element.get(3) == 0,
        unit,
        ordered,
        signed,
    )


def _group(group: Struct, leaves: tuple[Leaf, ...]) -> tuple[int, tuple[Chunk, ...]]:
    columns = group[1]
    if len(columns) != len(leaves):
        raise CorruptError(f"it has a row group of {len(columns)} columns, not {len(leaves)}")
    return group[3], tuple(_chunk(c, leaf) for c, leaf in zip(columns, leaves, strict=True))


def _chunk(column: Struct, leaf: Leaf) -> Chunk:
    meta = column[3]
    if PHYSICAL[meta[1]] != leaf.physical:
        raise CorruptError(
            f"column {leaf.name!r} is {leaf.physical}, but a row group has {PHYSICAL[meta[1]]}"
        )
    known: Struct = meta.get(12, {})
    low, high = _bounds(known, leaf)
    return Chunk(
        leaf.physical,
        _named(CODECS, meta[4], "codec"),
        tuple(_named(ENCODINGS, code, "encoding") for code in meta[2]),
        _count(meta[5]),
        _count(meta[9]),
        None if meta.get(11) is None else _count(meta[11]),
        _count(meta[7]),
        _count(meta[6]),
        None if known.get(3) is None else _count(known[3]),
        low,
        high,
        None if meta.get(14) is None else _count(meta[14]),
    )


def _named(names: tuple[str, ...], code: int, what: str) -> str:
    if not 0 <= code < len(names):
        raise CorruptError(f"it names {what} {code}; there are 0 to {len(names) - 1}")
    return names[code]


def _count(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise CorruptError(f"it has {number!r} where an offset or a number of bytes should be")
    return number


def _bounds(known: Struct, leaf: Leaf) -> tuple[bytes | None, bytes | None]:
    """Give minimum and maximum as stored, where their order is one that we know."""
    low, high = known.get(6), known.get(5)
    if not leaf.ordered or low is None or high is None:
        if not leaf.signed or leaf.physical not in _SIGNED:
            return None, None
        # Old writers, or no word of the order: numbers were compared as signed.
        low = known.get(2) if low is None else low
        high = known.get(1) if high is None else high
    if not isinstance(low, bytes | None) or not isinstance(high, bytes | None):
        raise CorruptError(f"column {leaf.name!r} has a bound that is no bytes")
    return low, high
