"""Bloom filters of Parquet column chunks: whether a value surely is not there.

Split blocks of 256 bits, as the Parquet format describes them (BloomFilter.md): the upper half of a
value's 64-bit xxHash chooses the block, the lower half one bit in each of its 8 words.
"""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError
from wherry.data.parquet_footer import Leaf
from wherry.data.thrift import read_front
from wherry.data.types import is_text, to_plain

_SALTS = (
    0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31,
)  # fmt: skip
_BLOCK_BYTES = 32
_HEADER_BYTES_MAX = 64
_PRIMES = (
    0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)  # fmt: skip
_ALL = (1 << 64) - 1
_PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class BloomFilter(Struct, frozen=True):
    """The filter of one column chunk.

    Attributes
    ----------
    bits : pa.Buffer
        Whole blocks, where they are mapped.
    leaf : Leaf
        How the column is stored.
    type : pa.DataType
        Of the column as it is read, of its values if it is a dictionary.
    """

    bits: pa.Buffer
    leaf: Leaf
    type: pa.DataType

    def excludes(self, value: object) -> bool:
        """Say whether no row surely holds `value`; False when that is not known."""
        image = _image(value, self.leaf, self.type)
        if image is None:
            return False
        hashed = xxh64(image)
        block = ((hashed >> 32) * (self.bits.size // _BLOCK_BYTES)) >> 32
        words = struct.unpack_from("<8I", self.bits, block * _BLOCK_BYTES)
        key = hashed & 0xFFFFFFFF
        places = ((key * salt & 0xFFFFFFFF) >> 27 for salt in _SALTS)
        return not all(word >> place & 1 for word, place in zip(words, places, strict=True))


def read_bloom(
    file: pa.Buffer, offset: int | None, leaf: Leaf, t: pa.DataType
) -> BloomFilter | None:
    """Give the filter that begins at `offset` of a file; None: there is none that we know.

    Raises
    ------
    CorruptError
        When it does not lie in the file.
    """
    if offset is None:
        return None
    if not 0 <= offset < file.size:
        raise CorruptError(f"its Bloom filter at offset {offset} lies outside of the file")
    head, length = read_front(file[offset : offset + _HEADER_BYTES_MAX].to_pybytes())
    # One algorithm, one hash and no compression is what the format has so far.
    if not all(isinstance(head.get(i), dict) and 1 in head[i] for i in (2, 3, 4)):
        return None
    begin, size = offset + length, head.get(1)
    if not isinstance(size, int) or size <= 0 or size % _BLOCK_BYTES or begin + size > file.size:
        raise CorruptError(f"its Bloom filter at offset {offset} has {size} bytes")
    return BloomFilter(file[begin : begin + size], leaf, t)


def _image(value: object, leaf: Leaf, t: pa.DataType) -> bytes | None:
    """Give a value as the file stores it plainly; None when its image is not the only one."""
    if is_text(t):
        return value.encode() if isinstance(value, str) else None
    number = _number(value, leaf, t)
    if number is None:
        return None
    width = {"INT32": 4, "INT64": 8}.get(leaf.physical)
    if width is None:
        return None  # Decimals of bytes may be longer than they need be.
    return (number % (1 << (8 * width))).to_bytes(width, "little")


def _number(value: object, leaf: Leaf, t: pa.DataType) -> int | None:
    if pa.types.is_integer(t) and isinstance(value, int) and not isinstance(value, bool):
        return value
    if pa.types.is_decimal(t) and isinstance(value, Decimal) and value.is_finite():
        return _whole(Fraction(value) * 10**t.scale)
    if pa.types.is_date32(t) and isinstance(value, date) and not isinstance(value, datetime):
        return int(str(to_plain(value)))
    if pa.types.is_timestamp(t) and isinstance(value, datetime) and leaf.unit is not None:
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        microseconds = int(str(to_plain(moment)))
        return _whole(Fraction(microseconds * _PER_SECOND[leaf.unit], 1_000_000))
    return None


def _whole(number: Fraction) -> int | None:
    return int(number) if number.denominator == 1 else None


@lru_cache(maxsize=1024)
def xxh64(data: bytes) -> int:
    """Give the 64-bit xxHash of `data` with seed 0 (Yann Collet's xxHash specification)."""
    p1, _, _, _, p5 = _PRIMES
    at, end = 0, len(data)
    if end >= _BLOCK_BYTES:
        lanes = [(p1 + _PRIMES[1]) & _ALL, _PRIMES[1], 0, -p1 & _ALL]
        while at + _BLOCK_BYTES <= end:
            words = struct.unpack_from("<4Q", data, at)
            lanes = [_round(lane, word) for lane, word in zip(lanes, words, strict=True)]
            at += _BLOCK_BYTES
        shifts = (1, 7, 12, 18)
        found = sum(_rotated(lane, by) for lane, by in zip(lanes, shifts, strict=True)) & _ALL
        for lane in lanes:
            found = ((found ^ _round(0, lane)) * p1 + _PRIMES[3]) & _ALL
    else:
        found = p5
    return _finished(_rest(found + end, data, at))


def _rest(found: int, data: bytes, at: int) -> int:
    """Take in what is left of `data` from `at`: less than a block."""
    p1, p2, p3, p4, p5 = _PRIMES
    while at + 8 <= len(data):
        (word,) = struct.unpack_from("<Q", data, at)
        found = (_rotated(found ^ _round(0, word), 27) * p1 + p4) & _ALL
        at += 8
    if at + 4 <= len(data):
        (half,) = struct.unpack_from("<I", data, at)
        found = (_rotated((found ^ half * p1) & _ALL, 23) * p2 + p3) & _ALL
        at += 4
    for byte in data[at:]:
        found = (_rotated((found ^ byte * p5) & _ALL, 11) * p1) & _ALL
    return found


def _finished(found: int) -> int:
    found = (found ^ found >> 33) * _PRIMES[1] & _ALL
    found = (found ^ found >> 29) * _PRIMES[2] & _ALL
    return found ^ found >> 32


def _round(lane: int, word: int) -> int:
    return _rotated((lane + word * _PRIMES[1]) & _ALL, 31) * _PRIMES[0] & _ALL


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> (64 - by)) & _ALL
