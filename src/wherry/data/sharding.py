"""Which shard a row belongs to.

Hash: `mix64(image(value)) % count`, where `mix64` is the finaliser of splitmix64 (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) and `image` is 64 bits that
depend on the value alone: integers of any width sign-extended, dates and times as stored,
bool as 0 or 1, decimals as the low half xor the high half of their 128 bits, text and bytes as
their 8-byte BLAKE2b; a dictionary is hashed as its values are. Range: the number of
bounds that are at most the value. Null belongs to shard 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import isfinite
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

from wherry.base.compute import pc
from wherry.base.errors import InputError
from wherry.data.arrays import plain, plain_type
from wherry.data.types import type_class, value_type

_Words = npt.NDArray[np.uint64]


class ShardScheme(Struct, frozen=True):
    """How rows are distributed over `count` shards by the column `key`.

    Parameters
    ----------
    by : {"hash", "range"}
    key : str
        Name of the column.
    count : int
        Number of shards, at least 1.
    bounds : tuple
        For "range" only: `count - 1` ascending values; shard i holds values below bounds[i].
    """

    by: Literal["hash", "range"]
    key: str
    count: int
    bounds: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        if self.by not in {"hash", "range"}:
            raise InputError(f"rows are sharded by 'hash' or 'range', not by {self.by!r}")
        if self.count < 1:
            raise InputError(f"a dataset has at least 1 shard, not {self.count}")
        wanted = self.count - 1 if self.by == "range" else 0
        if len(self.bounds) != wanted:
            raise InputError(
                f"{self.count} shards by {self.by} need {wanted} bounds, not {len(self.bounds)}"
            )
        if any(isinstance(bound, float) and not isfinite(bound) for bound in self.bounds):
            raise InputError("bounds must be finite")
        pairs = zip(self.bounds, self.bounds[1:], strict=False)
        if not all(low < high for low, high in pairs):  # type: ignore[operator]
            raise InputError(f"bounds must ascend: {', '.join(map(str, self.bounds))}")


def shard_of(values: pa.Array, scheme: ShardScheme) -> npt.NDArray[np.int32]:
    """Give the shard of every value of the key column.

    Parameters
    ----------
    values : pa.Array
        Of a type Wherry reads; floats can be sharded by range only.

    Returns
    -------
    ndarray of int32, shape (len(values),)
        In [0, scheme.count). Null is in shard 0, and by range so is NaN.

    Raises
    ------
    InputError
        When floats are to be hashed, or a bound is no value of the type.
    """
    if not len(values):
        return np.empty(0, np.int32)
    if scheme.by == "range":
        return _by_range(values, scheme)
    words = mix64(_image(values)) % np.uint64(scheme.count)
    if values.null_count:
        words[values.is_null().to_numpy(zero_copy_only=False)] = 0
    return words.astype(np.int32)


def shard_of_value(value: object, t: pa.DataType, scheme: ShardScheme) -> int:
    """Give the shard of one value of a key column of type `t`: the same function as `shard_of`.

    Raises
    ------
    InputError
        When `value` is not a value of type `t`.
    """
    return int(shard_of(key_values([value], t), scheme)[0])


def cut_shards(rows: pa.Table, column: str, count: int) -> list[pa.Table]:
    """Give the rows of each shard, without the int32 `column` that numbers it, by reference.

    Parameters
    ----------
    rows : pa.Table
        In the order of `column`.
    """
    found: list[list[pa.RecordBatch]] = [[] for _ in range(count)]
    place = rows.schema.names.index(column)
    others = [name for name in rows.schema.names if name != column]
    for batch in rows.to_batches():
        numbers = batch.column(place).to_numpy()
        chosen, begin = batch.select(others), 0
        while begin < len(numbers):
            shard = int(numbers[begin])
            ends = len(numbers)
            if numbers[-1] != shard:
                ends = int(np.searchsorted(numbers, shard, side="right"))
            found[shard].append(chosen.slice(begin, ends - begin))
            begin = ends
    schema = pa.schema([rows.schema.field(name) for name in others])
    return [pa.Table.from_batches(batches, schema) for batches in found]


def mix64(words: _Words) -> _Words:
    """Give splitmix64's finaliser of each word: every bit out depends on every bit in."""
    z = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _image(values: pa.Array) -> _Words:
    """Give 64 bits for each value; what a null gets does not matter."""
    kind = type_class(value_type(values.type))
    if kind in {"float", "struct"}:
        raise InputError(f"rows cannot be sharded by hash of a {values.type} column")
    if kind in {"string", "binary"}:
        return _text_image(values)
    values = plain(values)
    if kind == "boolean":
        bits: npt.NDArray[np.uint8] = values.cast(pa.uint8()).fill_null(0).to_numpy()
        return bits.astype(np.uint64)
    if kind == "decimal":
        halves = _stored(values, np.dtype("V16")).view(np.uint64).reshape(-1, 2)
        words: _Words = halves[:, 0] ^ halves[:, 1]
        return words
    letter = "u" if pa.types.is_unsigned_integer(values.type) else "i"
    stored = _stored(values, np.dtype(f"{letter}{values.type.bit_width // 8}"))
    return stored.astype(f"{letter}8").view(np.uint64)


def _stored(values: pa.Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    end = values.offset + len(values)
    return np.frombuffer(values.buffers()[1], dtype, end)[values.offset :]


def _text_image(values: pa.Array) -> _Words:
    whole = pa.types.is_dictionary(values.type)
    encoded = values if whole else plain(values).dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    hashes: _Words = np.array([_text_word(text) for text in texts] or [0], np.uint64)
    codes: npt.NDArray[Any] = encoded.indices.fill_null(0).to_numpy()
    words: _Words = hashes[codes]
    return words


def _text_word(text: str | bytes | None) -> int:
    encoded = text if isinstance(text, bytes) else (text or "").encode()
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "little")


def _by_range(values: pa.Array, scheme: ShardScheme) -> npt.NDArray[np.int32]:
    bounds = key_values(scheme.bounds, values.type)
    comparable = plain(values).cast(bounds.type)
    shards = np.zeros(len(values), np.int32)
    for bound in bounds:
        above = pc.greater_equal(comparable, bound).fill_null(False)
        shards += above.to_numpy(zero_copy_only=False)
    return shards


def key_values(values: Sequence[object], t: pa.DataType) -> pa.Array:
    """Give `values` as an array of the key's type `t`; large_utf8 for text, as large_binary bytes.

    Raises
    ------
    InputError
        When one of them is no value of the type.
    """
    t = value_type(t)
    large = {"string": pa.large_utf8(), "binary": pa.large_binary()}
    try:
        return pa.array(values, large.get(type_class(t), plain_type(t)))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        seen = ", ".join(map(repr, values))
        raise InputError(f"{seen} cannot be of the key's type {t}: {error}") from error
