"""A `pyarrow.dataset.Dataset` as a source: its files through our readers, what is left through it.

Parquet fragments keep their row groups and statistics, Arrow IPC files on this machine their
mapping. Fragments of other formats (CSV, JSON, ORC), of other file systems' IPC files and of memory
are read through pyarrow, whole, when the dataset is opened.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import dataset as datasets
from pyarrow import fs

from wherry.base.errors import InputError
from wherry.base.ids import digest
from wherry.data.decoding import Decoding
from wherry.data.formats import open_file
from wherry.data.fragments import Constants, Fragment, FragmentSource
from wherry.data.mapping import map_file, reading
from wherry.data.memory import Batches
from wherry.data.parquet import ParquetFragment, open_parquet
from wherry.data.parquet_columns import read_footer
from wherry.data.statistics import ChunkStatistics, ColumnStatistics
from wherry.data.types import check_schema


def open_dataset(dataset: Any) -> FragmentSource:
    """Open a dataset; its schema, partitions and order of fragments are kept.

    A column that a file lacks is null there; one of another type than the dataset says is cast.

    Raises
    ------
    InputError
        When it has a filter of its own, no fragment, or a type Wherry does not read.
    CorruptError
        When a file is truncated or cannot be decoded.
    """
    if getattr(dataset, "_scan_options", None):
        raise InputError("the dataset has a filter of its own; scan it without, and filter then")
    schema = dataset.schema
    check_schema(schema, "the dataset")
    with reading("the dataset"):
        fragments = list(dataset.get_fragments())
    if not fragments:
        return FragmentSource("dataset", schema, (Batches("the dataset", schema, ()),))
    opened = [_open(fragment, schema) for fragment in fragments]
    parts = tuple(part for part, _ in opened)
    constants = tuple(fixed for _, fixed in opened)
    name = _name([fragment.path for fragment in fragments if hasattr(fragment, "path")])
    return FragmentSource(name, schema, parts, None, constants if any(constants) else ())


def _name(paths: Sequence[str]) -> str:
    if not paths:
        return "dataset"
    if len(paths) == 1:
        return Path(paths[0]).stem or "dataset"
    return os.path.basename(os.path.commonpath(paths)) or "dataset"  # noqa: PTH119  of any system


def _open(fragment: Any, schema: pa.Schema) -> tuple[Fragment, Constants]:
    """Give a fragment and the columns of `schema` that have one value throughout it."""
    part: Fragment | None = None
    if isinstance(fragment, datasets.ParquetFileFragment):
        part = _parquet(fragment)
    elif _is_local(fragment) and isinstance(fragment.format, datasets.IpcFileFormat):
        part = open_file(Path(fragment.path))
    if part is None:
        with reading(_label(fragment)):
            batches = list(fragment.to_batches(schema=schema))
        return Batches(_label(fragment), schema, batches), {}
    keys = datasets.get_partition_keys(fragment.partition_expression)
    fixed = {
        field.name: pa.scalar(keys.get(field.name), field.type)
        for field in schema
        if field.name in keys or field.name not in part.schema.names
    }
    stored = pa.schema([field for field in schema if field.name not in fixed])
    return _conformed(part, stored), fixed


def _label(fragment: Any) -> str:
    return fragment.path if getattr(fragment, "path", "") else "the dataset's fragment"


def _is_local(fragment: Any) -> bool:
    system = getattr(fragment, "filesystem", None)
    return isinstance(system, fs.LocalFileSystem) and fragment.buffer is None


def _parquet(fragment: Any) -> ParquetFragment:
    if _is_local(fragment):
        found = open_parquet(map_file(Path(fragment.path)))
    else:
        with reading(_label(fragment)):
            file = fragment.open()
        read = read_footer(_label(fragment), file)
        found = ParquetFragment(read, digest(read.label.encode(), read.footer_digest))
    with reading(_label(fragment)):
        groups = tuple(group.id for group in fragment.row_groups)
    return found.subset(groups)


def _conformed(part: Fragment, schema: pa.Schema) -> Fragment:
    others = [f for f in schema if not part.schema.field(f.name).type.equals(f.type)]
    return _Cast(part, schema, others) if others else part


class _Cast:
    """A fragment some of whose columns are cast to the types of the dataset when they are read."""

    decodes = True

    def __init__(self, part: Fragment, schema: pa.Schema, others: Sequence[pa.Field]) -> None:
        self._part, self._others = part, {field.name: field.type for field in others}
        self.label, self.rows, self.schema = part.label, part.rows, schema
        self.identity = digest(part.identity, schema.serialize().to_pybytes())

    def read(self, batch: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Give `columns` of stored batch `batch`, cast.

        Raises
        ------
        CorruptError
            When a value is none of the dataset's type.
        """
        stored = self._part.read(batch, columns)
        arrays = []
        for name, array in zip(columns, stored.columns, strict=True):
            with reading(f"{self.label}, record batch {batch}, column {name!r}"):
                wanted = self._others.get(name)
                arrays.append(array if wanted is None else array.cast(wanted))
        return pa.RecordBatch.from_arrays(arrays, list(columns))

    def decoding(self, batch: int, columns: Sequence[str]) -> Decoding | None:
        """Give what reading takes: all columns asked, if one of them is cast."""
        stored = self._part.decoding(batch, columns)
        if stored is not None or not self._others.keys() & set(columns):
            return stored
        read = self._part.read(batch, columns)
        return Decoding(tuple(columns), max(1, int(read.nbytes)), "cast to the dataset's types")

    def check_unchanged(self) -> None:
        """Refuse what was changed after it was opened."""
        self._part.check_unchanged()

    def statistics(self, batch: int) -> ChunkStatistics:
        """Give the statistics of the columns that are not cast."""
        known = self._part.statistics(batch)
        unknown = dict.fromkeys(self._others, ColumnStatistics(None, None, None))
        kept = {f.name: known.columns[f.name] for f in self.schema if f.name not in unknown}
        return ChunkStatistics(known.rows, unknown | kept)
