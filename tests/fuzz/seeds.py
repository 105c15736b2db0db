"""The sound files that corruptions begin with: small, and of every format and layout there is."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc


def files() -> dict[str, bytes]:
    """Give sound files by name; a name's ending is what a file of that kind ends with."""
    table, plain = _table(), _table().select(["i", "f", "s"])
    found = {
        "file.arrow": _ipc(table, ipc.new_file),
        "stream.arrows": _ipc(table, ipc.new_stream),
        "lz4.arrow": _ipc(plain, ipc.new_file, compression="lz4"),
        "zstd.arrow": _ipc(plain, ipc.new_file, compression="zstd"),
        "empty.arrow": _ipc(table.slice(0, 0), ipc.new_file),
    }
    views = plain.append_column("v", plain["s"].cast(pa.string_view()))
    found["views.arrow"] = _ipc(views, ipc.new_file)
    for name, options in _PARQUET.items():
        found[f"{name}.parquet"] = _parquet(plain.drop_columns([]), **options)
    found["all.parquet"] = _parquet(table, compression="snappy")
    return found


_PARQUET: dict[str, dict[str, object]] = {
    "plain": {"compression": "none", "use_dictionary": False},
    "snappy": {"compression": "snappy"},
    "zstd": {"compression": "zstd", "data_page_version": "2.0"},
    "pages": {"compression": "snappy", "data_page_size": 256, "write_page_index": True},
    "delta": {
        "compression": "snappy",
        "use_dictionary": False,
        "column_encoding": {"i": "DELTA_BINARY_PACKED", "f": "PLAIN", "s": "PLAIN"},
    },
}


def _table() -> pa.Table:
    rows = 150
    cycle: dict[str, tuple[pa.DataType, list[object]]] = {
        "i": (pa.int64(), [5, None, -7, 1 << 40]),
        "f": (pa.float64(), [1.5, float("nan"), None]),
        "s": (pa.utf8(), ["", "near", None, "a text that is longer than a view"]),
        "b": (pa.bool_(), [True, None, False]),
        "d": (pa.date32(), [date(1994, 1, 1), None]),
        "t": (pa.timestamp("us", "UTC"), [datetime(2020, 5, 17, tzinfo=UTC), None]),
        "m": (pa.decimal128(15, 2), [Decimal("12.34"), None, Decimal("-0.01")]),
    }
    columns = {n: pa.array([v[i % len(v)] for i in range(rows)], t) for n, (t, v) in cycle.items()}
    columns["c"] = columns["s"].dictionary_encode()
    return pa.table(columns)


def _ipc(table: pa.Table, opened: Callable[..., object], compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = ipc.IpcWriteOptions(compression=compression)
    with opened(sink, table.schema, options=options) as writer:  # type: ignore[attr-defined]
        for batch in table.to_batches(max_chunksize=70):
            writer.write_batch(batch)
    return sink.getvalue()


def _parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=70, **options)
    return sink.getvalue()
