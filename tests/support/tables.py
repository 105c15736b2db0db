"""Tables in every shape a query may find: nulls, no rows, slices, several chunks, several files."""

from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
from pyarrow import ipc, parquet
from support.duals import Draw
from support.typed import TYPES, Known, pool

from wherry.data.arrays import empty_batch, restored

BLOCKS = (63, 64, 65, 128, 200)
"""Rows around the ends of a program's blocks of 64."""

ROW = "rn"
"""Numbers the rows as stored: what SQL needs to speak of stored order."""


def drawn_table(draw: Draw) -> tuple[pa.Table, dict[str, Known]]:
    """Give a table of several chunks, and what is known of its columns."""
    types = draw(st.lists(st.sampled_from(TYPES), min_size=2, max_size=5))
    length = st.integers(0, 14) | st.sampled_from(BLOCKS)
    lengths = draw(st.lists(length, min_size=1, max_size=4))
    columns: dict[str, Known] = {}
    values: dict[str, list[object]] = {}
    for number, t in enumerate(types):
        wide = pa.types.is_integer(t) and draw(st.integers(0, 3)) == 0
        found = pool(t, wide=wide)
        nulls = draw(st.sampled_from((0, 0, 1, 6)))
        choice = st.sampled_from((*found, *[None] * nulls))
        name = f"c{number}"
        some = draw(st.lists(choice, min_size=1, max_size=15))
        # Each round begins one further, so that columns of equal length do not run in step.
        values[name] = [some[(i + i // len(some)) % len(some)] for i in range(sum(lengths))]
        ends = (min(found), max(found)) if pa.types.is_integer(t) else (0, 0)
        columns[name] = Known(t, *ends)
    columns[ROW] = Known(pa.int64(), 0, 1000)
    values[ROW] = list(range(sum(lengths)))
    padding = draw(st.integers(0, 9))
    schema = pa.schema([(name, k.type) for name, k in columns.items()])
    return _in_chunks(values, schema, lengths, padding), columns


def _in_chunks(
    values: dict[str, list[object]], schema: pa.Schema, lengths: list[int], padding: int
) -> pa.Table:
    """Cut the values into chunks; `padding` rows before each are sliced away again."""
    batches, start = [], 0
    for length in lengths:
        arrays = [
            array_of([None] * padding + values[f.name][start : start + length], f.type)
            for f in schema
        ]
        batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema).slice(padding))
        start += length
    return pa.Table.from_batches(batches, schema)


def array_of(values: list[object], t: pa.DataType) -> pa.Array:
    """Give values as an array; dictionary arrays get a dictionary of their own."""
    if pa.types.is_dictionary(t):
        return restored(pa.array(values, t.value_type), t)
    return pa.array(values, t)


def stored(draw: Draw, table: pa.Table, folder: Path) -> object:
    """Give the table as it is, as batches of one table, or as one to three files."""
    form = draw(st.sampled_from(("table", "table", "stream", "files", "parquet")))
    if form == "table":
        return table
    if form == "stream":
        return table.to_reader()
    folder.mkdir()
    if form == "parquet" and all(map(_parquet_keeps, table.schema.types)):
        return _in_parquet(draw, table, folder)
    batches = [unified(table)] if _has_dictionary(table) else table.to_batches()
    batches = batches or [empty_batch(table.schema)]
    count = draw(st.integers(1, min(3, len(batches))))
    paths = [folder / f"part{number}.arrow" for number in range(count)]
    return _written(paths, batches, table.schema)


def _parquet_keeps(t: pa.DataType) -> bool:
    """Tell whether Parquet gives back the type that was written."""
    if pa.types.is_dictionary(t):
        return t.value_type == pa.utf8()
    return t != pa.date64() and getattr(t, "unit", None) != "s"


def _in_parquet(draw: Draw, table: pa.Table, folder: Path) -> list[Path]:
    """Write one to three files of small row groups, in some encoding and codec."""
    count = draw(st.integers(1, 3))
    share = max(1, -(-table.num_rows // count))
    paths = [folder / f"part{number}.parquet" for number in range(count)]
    for number, path in enumerate(paths):
        parquet.write_table(
            table.slice(number * share, share),
            path,
            row_group_size=draw(st.sampled_from((7, 64, 1000))),
            compression=draw(st.sampled_from(("snappy", "zstd", "none", "gzip"))),
            use_dictionary=draw(st.booleans()),
            data_page_version=draw(st.sampled_from(("1.0", "2.0"))),
        )
    return paths


def _written(paths: list[Path], batches: list[pa.RecordBatch], schema: pa.Schema) -> list[Path]:
    share = -(-len(batches) // len(paths))
    for number, path in enumerate(paths):
        with ipc.new_file(path, schema) as writer:
            for batch in batches[number * share : (number + 1) * share]:
                writer.write_batch(batch)
    return paths


def _has_dictionary(table: pa.Table) -> bool:
    return any(pa.types.is_dictionary(f.type) for f in table.schema)


def unified(table: pa.Table) -> pa.RecordBatch:
    """Give all rows as one batch: an IPC file has one dictionary for each column."""
    batches = table.unify_dictionaries().combine_chunks().to_batches()
    return batches[0] if batches else empty_batch(table.schema)
