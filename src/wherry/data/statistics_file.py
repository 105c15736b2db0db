"""Statistics kept beside their data file, so that a file is validated and measured once.

One small file, `.<name>.wherry-stats`: 16 bytes of digest, then msgpack. It belongs to the data
file's size and modification time and to its schema; anything else is as good as absent. It is only
ever written after every batch was validated, and says so. Where the data's folder cannot be
written, the user's cache folder holds it; where neither can, statistics last as long as the source.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import platformdirs
import pyarrow as pa

from wherry.base.errors import InputError
from wherry.base.ids import DIGEST_BYTES, digest
from wherry.data.statistics import ChunkStatistics, ColumnStatistics
from wherry.data.types import Plain, from_plain, to_plain

SUFFIX = ".wherry-stats"
VERSION = 1


class _Column(msgspec.Struct, array_like=True, frozen=True):
    min: Plain
    max: Plain
    nulls: int | None


class _Batch(msgspec.Struct, array_like=True, frozen=True):
    rows: int
    columns: list[_Column]


class _Key(msgspec.Struct, array_like=True, frozen=True):
    version: int
    size: int
    mtime_ns: int
    schema: bytes
    validated: bool


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    key: _Key
    batches: list[_Batch]


# Made by one thread: see wherry.base.decoders.
_decoder = msgspec.msgpack.Decoder(_Kept)


def places(data: Path) -> tuple[Path, Path]:
    """Give where the statistics of file `data` may lie: beside it, or in the user's cache."""
    identity = digest(os.fsencode(data.resolve())).hex()
    cache = Path(platformdirs.user_cache_dir("wherry")) / "statistics"
    return data.with_name(f".{data.name}{SUFFIX}"), cache / f"{identity}{SUFFIX}"


def load(
    data: Path, stat: os.stat_result, schema: pa.Schema, rows: Sequence[int]
) -> tuple[ChunkStatistics, ...] | None:
    """Give the kept statistics of `data`, or None when there are none that belong to it.

    Parameters
    ----------
    stat : os.stat_result
        Of the data file as it was mapped.
    rows : sequence of int
        Rows of each stored batch, as the file says.
    """
    for place in places(data):
        with suppress(OSError, msgspec.DecodeError, InputError, ArithmeticError):
            kept = _decode(place.read_bytes())
            if kept.key == _key(stat, schema) and [b.rows for b in kept.batches] == list(rows):
                return tuple(_chunk(batch, schema) for batch in kept.batches)
    return None


def save(
    data: Path, stat: os.stat_result, schema: pa.Schema, chunks: Sequence[ChunkStatistics]
) -> Path | None:
    """Keep the statistics of `data`, whose batches were validated; give where, None if nowhere."""
    kept = _Kept(_key(stat, schema), [_plain_batch(chunk, schema) for chunk in chunks])
    payload = msgspec.msgpack.encode(kept)
    for place in places(data):
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(place, digest(payload) + payload)
            return place
    return None


def _write_whole(place: Path, content: bytes) -> None:
    part = place.with_name(f"{place.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.write_bytes(content)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _decode(content: bytes) -> _Kept:
    payload = content[DIGEST_BYTES:]
    if digest(payload) != content[:DIGEST_BYTES]:
        raise InputError("the statistics do not match their digest")
    return _decoder.decode(payload)


def _key(stat: os.stat_result, schema: pa.Schema) -> _Key:
    identity = digest(schema.remove_metadata().serialize().to_pybytes())
    return _Key(VERSION, stat.st_size, stat.st_mtime_ns, identity, validated=True)


def _plain_batch(chunk: ChunkStatistics, schema: pa.Schema) -> _Batch:
    columns = [chunk.columns[name] for name in schema.names]
    return _Batch(chunk.rows, [_Column(to_plain(c.min), to_plain(c.max), c.nulls) for c in columns])


def _chunk(batch: _Batch, schema: pa.Schema) -> ChunkStatistics:
    if len(batch.columns) != len(schema):
        raise InputError("the statistics have another number of columns")
    columns = {
        field.name: ColumnStatistics(
            from_plain(column.min, field.type), from_plain(column.max, field.type), column.nulls
        )
        for field, column in zip(schema, batch.columns, strict=True)
    }
    return ChunkStatistics(batch.rows, columns)
