"""How TPC-H tables are stored: types, dictionaries, files, batches and shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wherry.data.arrow_write import write_ipc
from wherry.data.shard_files import write_shards
from wherry.data.sharding import ShardScheme

FEW_VALUES = frozenset(
    {
        "c_mktsegment",
        "l_linestatus",
        "l_returnflag",
        "l_shipinstruct",
        "l_shipmode",
        "o_orderpriority",
        "o_orderstatus",
    }
)
ORDERS_SCHEME = ShardScheme("hash", "o_custkey", 2)
_CODES = pa.dictionary(pa.int8(), pa.utf8())


def store(parquet: Path, folder: Path, files: int, batch_rows: int = 65536) -> None:
    """Write `parquet` to `folder` as `files` files of equal rows, one batch in memory at a time."""
    stored = _Parquet(parquet)
    rows, digits = -(-stored.rows // files), max(2, len(str(files - 1)))
    folder.mkdir()
    batches = stored.batches(batch_rows)
    left: list[pa.RecordBatch] = []
    for index in range(files):
        part = _take(batches, left, rows)
        path = folder / f"part-{index:0{digits}}.arrow"
        write_ipc(path, stored.schema, _rebatch(part, batch_rows))


def _take(
    batches: Iterator[pa.RecordBatch], left: list[pa.RecordBatch], rows: int
) -> Iterator[pa.RecordBatch]:
    """Give the next `rows` rows; what is cut off the last batch goes to `left` for the next."""
    while rows:
        batch = left.pop() if left else next(batches, None)
        if batch is None:
            return
        yield batch.slice(0, rows)
        if batch.num_rows > rows:
            left.append(batch.slice(rows))
        rows -= min(rows, batch.num_rows)


def _rebatch(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Give the same rows in batches of exactly `rows` rows, the last one apart."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(piece.num_rows for piece in held) >= rows:
            joined = pa.concat_batches(held)
            whole = joined.num_rows // rows * rows
            yield from (joined.slice(start, rows) for start in range(0, whole, rows))
            held = [joined.slice(whole)]
    if any(piece.num_rows for piece in held):
        yield pa.concat_batches(held)


def store_orders(parquet: Path, folder: Path) -> None:
    """Write `parquet` to `folder` as shards, each sorted by the key; it is held in memory."""
    stored = _Parquet(parquet)
    table = pa.Table.from_batches(stored.batches(65536), stored.schema)
    write_shards(table, folder, ORDERS_SCHEME, sort_by=ORDERS_SCHEME.key, batch_rows=8192)


class _Parquet:
    """The generator's file, read as the types that are stored."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet  # noqa: PLC0415  only this module's users pay for it

        self._file: Any = parquet.ParquetFile(path)
        self.rows = int(self._file.metadata.num_rows)
        self.schema = pa.schema([_stored_field(field) for field in self._file.schema_arrow])
        self._values = {
            name: self._distinct(name) for name in self.schema.names if name in FEW_VALUES
        }

    def _distinct(self, name: str) -> pa.Array:
        """Give the values of a column in order: an IPC file has one dictionary per column."""
        values = self._file.read(columns=[name])[name].cast(pa.utf8()).unique()
        return values.take(pc.sort_indices(values))

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Give the rows in stored order, at most `rows` at a time."""
        for batch in self._file.iter_batches(rows):
            columns = [
                self._column(field, array)
                for field, array in zip(self.schema, batch.columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _column(self, field: pa.Field, array: pa.Array) -> pa.Array:
        if field.type != _CODES:
            return array.cast(field.type)
        values = self._values[field.name]
        codes = pc.index_in(array.cast(pa.utf8()), values).cast(pa.int8())
        return pa.DictionaryArray.from_arrays(codes, values)


def _stored_field(field: pa.Field) -> pa.Field:
    text = pa.types.is_string_view(field.type) or pa.types.is_string(field.type)
    kind = _CODES if field.name in FEW_VALUES else pa.utf8() if text else field.type
    return pa.field(field.name, kind, field.nullable)
