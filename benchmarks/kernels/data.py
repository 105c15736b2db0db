"""lineitem as the kernels' workloads read it: mapped Arrow files in several typings, and Parquet.

Batches hold 1 Mi rows. At scale factor 1 the Arrow files take 1.9 GB, the Parquet files 0.5 GB.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from pyarrow import ipc, parquet

from wherry.benchmarks.generated import kept_tables, leave_statistics
from wherry.data.arrow_write import write_ipc

LAYOUT: Final = 1
"""Raise it when what follows changes, so that older files are made again."""

BATCH_ROWS: Final = 1 << 20
ROW_GROUPS: Final = 50
KEYS_OF_1000: Final = 10

_FOLDER = "lineitem"
_SEED = 6
_KEYS = ("l_orderkey", "l_partkey", "l_suppkey")
_NUMBERS = ("l_quantity", "l_extendedprice", "l_discount", "l_tax")
_FLAGS = ("l_returnflag", "l_linestatus")
_FEW = (*_FLAGS, "l_shipinstruct", "l_shipmode")
_CODES = pa.dictionary(pa.int8(), pa.utf8())
_POPULATE_READ = 22  # of <linux/mman.h>; Python's mmap does not name it


class Data(Struct, frozen=True):
    """The files of one scale factor.

    Attributes
    ----------
    folder : Path
        Of the files; `path` gives one of them.
    scale_factor : float
        Of TPC-H.
    """

    folder: Path
    scale_factor: float

    def path(self, table: str) -> Path:
        """Give the file of a table: float64, dictionary, decimal, shuffled, keys, or a .parquet."""
        return self.folder / (table if table.endswith(".parquet") else f"{table}.arrow")

    def mapped(self, table: str) -> pa.Table:
        """Give an Arrow table that lies in its file's mapping, with the pages in memory."""
        return _mapped(self.path(table))

    @property
    def parts(self) -> int:
        """How many values l_partkey has: 1 to this, evenly."""
        return round(200_000 * self.scale_factor)


@cache
def _mapped(path: Path) -> pa.Table:
    """Map a file once in a process: everybody then reads the same bytes at the same addresses."""
    with path.open("rb") as file:
        found = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    # Advice: faults then fill the page cache with large folios, and those read faster.
    for advice in (mmap.MADV_HUGEPAGE, _POPULATE_READ):
        with suppress(OSError):
            found.madvise(advice)
    return ipc.open_file(pa.py_buffer(found)).read_all()


def generate(directory: Path, scale_factor: float) -> Data:
    """Make the files in `directory`, unless they are there already (`kept_tables`)."""
    names = (_FOLDER,)
    folders = kept_tables(
        directory,
        scale_factor,
        tables=names,
        folders=names,
        layout=LAYOUT,
        lay_out=lambda parquet, into: _lay_out(parquet, into, scale_factor),
    )
    return Data(folders[_FOLDER], scale_factor)


def _lay_out(generated: Path, into: Path, scale_factor: float) -> None:
    generated.rename(into / _FOLDER)  # One of the files is asked as it was generated.
    data = Data(into / _FOLDER, scale_factor)
    file = parquet.ParquetFile(data.path("lineitem.parquet"))
    typings = {
        "float64": _typed((*_KEYS, *_NUMBERS, "l_shipdate", *_FEW, "l_comment"), pa.float64()),
        "dictionary": _typed(("l_orderkey", *_NUMBERS, "l_shipdate", *_FEW), pa.float64(), _CODES),
        "decimal": _typed((*_NUMBERS, "l_shipdate", *_FLAGS), pa.decimal128(15, 2)),
    }
    for table, schema in typings.items():
        write_ipc(data.path(table), schema, _batches(file, schema))
    _store_shuffled(data)
    _store_keys(data)
    _store_groups(data)
    for table in (*typings, "shuffled", "keys"):
        leave_statistics(data.path(table))


def _typed(
    names: tuple[str, ...], number: pa.DataType, few: pa.DataType | None = None
) -> pa.Schema:
    kinds = {
        **dict.fromkeys(_KEYS, pa.int64()),
        **dict.fromkeys(_NUMBERS, number),
        **dict.fromkeys(_FEW, few or pa.utf8()),
        "l_shipdate": pa.date32(),
        "l_comment": pa.utf8(),
    }
    return pa.schema([(name, kinds[name]) for name in names])


def _batches(file: parquet.ParquetFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Give the rows as `schema`, in batches of BATCH_ROWS but for the last."""
    values = {field.name: _distinct(file, field) for field in schema if field.type == _CODES}
    held: list[pa.Table] = []
    for batch in file.iter_batches(BATCH_ROWS, columns=schema.names):
        columns = [_column(batch[field.name], field, values) for field in schema]
        held.append(pa.table(columns, schema=schema))
        rows = pa.concat_tables(held)
        if rows.num_rows >= BATCH_ROWS:
            yield from rows.slice(0, BATCH_ROWS).combine_chunks().to_batches()
            rows = rows.slice(BATCH_ROWS)
        held = [rows]
    if held and held[0].num_rows:
        yield from held[0].combine_chunks().to_batches()


def _distinct(file: parquet.ParquetFile, field: pa.Field) -> pa.Array:
    """Give the values of a column in order: an IPC file has one dictionary per column."""
    values = file.read(columns=[field.name])[field.name].cast(pa.utf8()).unique()
    return values.take(pc.sort_indices(values))


def _column(array: pa.Array, field: pa.Field, values: dict[str, pa.Array]) -> pa.Array:
    if field.name not in values:
        return array.cast(field.type)
    codes = pc.index_in(array.cast(pa.utf8()), values[field.name]).cast(pa.int8())
    return pa.DictionaryArray.from_arrays(codes, values[field.name])


def _store_shuffled(data: Data) -> None:
    """Write orders and quantities in random order: nothing is sorted, no key is near its like."""
    file = ipc.open_file(pa.memory_map(str(data.path("float64"))))
    rows = file.read_all().select(["l_orderkey", "l_quantity"]).combine_chunks()
    order = np.random.default_rng(_SEED).permutation(rows.num_rows)
    shuffled = rows.take(pa.array(order)).combine_chunks()
    batches = shuffled.to_batches(max_chunksize=BATCH_ROWS)
    # A slice would be written with what lies before it still counted in its offset.
    whole = (pa.concat_batches([batch]) for batch in batches)
    write_ipc(data.path("shuffled"), rows.schema, whole)


def _store_keys(data: Data) -> None:
    """Write 1 % of the keys of parts, at random, in random order."""
    chosen = np.random.default_rng(_SEED).permutation(data.parts)
    keys = np.sort(chosen[: max(1, data.parts * KEYS_OF_1000 // 1000)] + 1)
    rows = pa.table({"l_partkey": pa.array(keys)})
    write_ipc(data.path("keys"), rows.schema, rows.to_batches())


def _store_groups(data: Data) -> None:
    """Write lineitem again as Parquet in ROW_GROUPS row groups, in the generator's order."""
    columns = ["l_orderkey", "l_partkey", "l_quantity", "l_extendedprice", "l_shipdate"]
    rows = parquet.read_table(data.path("lineitem.parquet"), columns=columns)
    size = -(-rows.num_rows // ROW_GROUPS)
    parquet.write_table(rows, data.path("groups.parquet"), row_group_size=size)
