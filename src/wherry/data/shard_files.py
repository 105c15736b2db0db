"""Files of shards: writing them, and recovering the scheme that they record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from wherry.base.compute import pc
from wherry.base.errors import InputError, unknown_name
from wherry.data.arrays import movable_type, plain
from wherry.data.arrow_write import write_ipc
from wherry.data.sharding import ShardScheme, key_values, shard_of
from wherry.data.types import Plain, from_plain, to_plain

METADATA_KEY = b"wherry.shard"
STORED_ROWS = 65536
"""Rows of a stored batch unless told otherwise: small enough to skip, large enough to stream."""


class _Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a shard's file says of itself, as JSON under `METADATA_KEY` of its schema."""

    by: Literal["hash", "range"]
    key: str
    count: int
    bounds: list[Plain]
    index: int


def write_shards(
    table: pa.Table,
    directory: Path,
    scheme: ShardScheme,
    sort_by: str | None = None,
    batch_rows: int = STORED_ROWS,
) -> tuple[Path, ...]:
    """Write `table` as one Arrow IPC file for each shard, `shard-00.arrow` and so on.

    Parameters
    ----------
    table : pa.Table
        Held in memory together with one copy of it.
    directory : Path
        Made if need be; must hold no shard yet.
    sort_by : str, optional
        Column that each shard is sorted by (stable, ascending, nulls last), so that statistics skip
        most batches; otherwise rows keep their order.
    batch_rows : int
        Rows of a stored batch.

    Raises
    ------
    InputError
        When the table has no such column, or the directory holds a shard already.
    """
    for name in {scheme.key, sort_by or scheme.key} - set(table.column_names):
        raise unknown_name("column", name, table.column_names)
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.glob("shard-*.arrow")):
        raise InputError(f"{directory} holds shards already")
    bounds = key_values(scheme.bounds, table.schema.field(scheme.key).type)
    recorded = replace(scheme, bounds=tuple(bounds.to_pylist()))
    owners = [shard_of(piece, scheme) for piece in table.column(scheme.key).chunks]
    owner = np.concatenate([*owners, np.empty(0, np.int32)])
    movable = _movable(table)
    paths = tuple(directory / f"shard-{index:02}.arrow" for index in range(scheme.count))
    for index, path in enumerate(paths):
        rows = pa.array(np.flatnonzero(owner == index))
        if sort_by is not None:
            rows = rows.take(pc.sort_indices(plain(movable[sort_by].take(rows))))
        schema = _with_shard(table.schema, recorded, index)
        write_ipc(path, schema, _batches(movable, rows, schema, batch_rows))
    return paths


def _movable(table: pa.Table) -> pa.Table:
    """Give `table` in one piece, of types that pyarrow takes rows of."""
    fields = [field.with_type(movable_type(field.type)) for field in table.schema]
    return table.unify_dictionaries().cast(pa.schema(fields)).combine_chunks()


def _batches(
    movable: pa.Table, rows: pa.Array, schema: pa.Schema, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(rows), batch_rows):
        yield from movable.take(rows.slice(start, batch_rows)).cast(schema).to_batches()


def _with_shard(schema: pa.Schema, scheme: ShardScheme, index: int) -> pa.Schema:
    bounds = [to_plain(bound) for bound in scheme.bounds]
    shard = _Shard(scheme.by, scheme.key, scheme.count, bounds, index)
    return schema.with_metadata(
        {**(schema.metadata or {}), METADATA_KEY: msgspec.json.encode(shard)}
    )


def without_shard(schema: pa.Schema) -> pa.Schema:
    """Give `schema` without what one shard's file says of itself."""
    kept = {k: v for k, v in (schema.metadata or {}).items() if k != METADATA_KEY}
    return schema.with_metadata(kept or None)


def recover_scheme(files: Sequence[tuple[str, pa.Schema]], *, complete: bool) -> ShardScheme | None:
    """Give the scheme that shard files record, or None when they record none.

    Parameters
    ----------
    files : sequence of (label, schema)
        In the order of the source's fragments.
    complete : bool
        True requires the whole set, in order; False gives None when it is not (a user may well
        open one shard).

    Raises
    ------
    InputError
        When a record cannot be read or, with `complete`, a shard is missing, doubled, out of order
        or of another set.
    """
    shards = [_recorded(label, schema) for label, schema in files]
    first = next((shard for shard in shards if shard is not None), None)
    if first is None:
        return None
    wanted = [msgspec.structs.replace(first, index=i) for i in range(first.count)]
    if shards == wanted:
        return _scheme(first, *files[0])
    if not complete:
        return None
    seen = ", ".join("none" if shard is None else str(shard.index) for shard in shards)
    raise InputError(
        f"the folder of {files[0][0]} should hold shards 0 to {first.count - 1} of one set "
        f"by {first.by} of {first.key!r}; its files in order hold: {seen}"
    )


def _recorded(label: str, schema: pa.Schema) -> _Shard | None:
    record = (schema.metadata or {}).get(METADATA_KEY)
    if record is None:
        return None
    try:
        return msgspec.json.decode(record, type=_Shard)
    except msgspec.DecodeError as error:
        raise InputError(f"{label} has a shard record that cannot be read: {error}") from error


def _scheme(shard: _Shard, label: str, schema: pa.Schema) -> ShardScheme:
    if shard.key not in schema.names:
        raise InputError(f"{label} says it is sharded by {shard.key!r}, which is no column of it")
    key_type = schema.field(shard.key).type
    bounds = tuple(from_plain(bound, key_type) for bound in shard.bounds)
    return ShardScheme(shard.by, shard.key, shard.count, bounds)
