"""Where Parquet becomes Arrow: one column of one row group at a time."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace
from pyarrow import parquet

from wherry.base.errors import CorruptError
from wherry.base.ids import digest
from wherry.data.mapping import decoded, reading
from wherry.data.parquet_footer import Chunk, Footer, parse_footer
from wherry.data.statistics import ColumnStatistics

_MAGIC = b"PAR1"
_LEAST_BYTES = 12
_MOST_FOOTERS = 32
_footers: dict[bytes, ParquetBytes] = {}
"""Files by the bytes of their footers, without the file: what is decoded follows from them."""


class ParquetBytes(Struct, frozen=True):
    """A Parquet file whose footer has been read: what decoders work on; a value.

    Attributes
    ----------
    label : str
        What errors call the file.
    buffer : pa.Buffer or None
        The whole file, mapped; None when it is not on this machine's file system.
    footer : Footer
        Row groups and column chunks.
    footer_digest : bytes
        Of the footer as it is stored.
    schema : pa.Schema
        Of what is decoded; its i-th field is column i of `decode_column`.
    leaves : tuple of range
        For each field, its columns as the file counts them: more than one if it is nested.
    known : (Footer, dict)
        Statistics of column chunks by row group and column that follow from that footer alone;
        shared by all files that have it.
    """

    label: str
    buffer: pa.Buffer | None
    footer: Footer
    footer_digest: bytes
    schema: pa.Schema
    leaves: tuple[range, ...]
    known: tuple[Footer, dict[tuple[int, int], ColumnStatistics]]
    _reader: _Reader

    def chunks(self, row_group: int, column: int) -> tuple[Chunk, ...]:
        """Give the column chunks that a field has in a row group."""
        leaves = self.leaves[column]
        return self.footer.chunks[row_group][leaves.start : leaves.stop]

    def name(self, row_group: int, column: int) -> str:
        """Give what errors call a column chunk: file, row group, column and where it begins."""
        chunk = self.chunks(row_group, column)[0]
        offset = chunk.dictionary_page_offset or chunk.data_page_offset
        field = self.schema.field(column).name
        return f"{self.label}, row group {row_group}, column {field!r} at offset {offset}"


class _Reader:
    """pyarrow's reader of a file, opened when it is first needed; any thread may ask."""

    def __init__(self, whole: pa.Buffer | None, opened: Any = None) -> None:
        self._whole, self._opened = whole, opened
        self._lock = threading.Lock()

    def get(self) -> Any:
        with self._lock:
            if self._opened is None:
                self._opened = _open(pa.BufferReader(self._whole)).reader
        return self._opened


def _open(file: pa.NativeFile) -> parquet.ParquetFile:
    # Reading ahead would change the reader, which threads share.
    return parquet.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)


def read_footer(label: str, file: pa.Buffer | pa.NativeFile) -> ParquetBytes:
    """Read the footer of a Parquet file; one that was read before is not decoded again.

    Raises
    ------
    CorruptError
        When the footer is cut short, cannot be decoded, or contradicts itself.
    """
    whole = file if isinstance(file, pa.Buffer) else None
    stored = None if whole is None else _stored_footer(whole)
    found = None if stored is None else _footers.get(stored)
    if found is not None:
        return replace(found, label=label, buffer=whole, _reader=_Reader(whole))
    found = _read_footer(label, pa.BufferReader(whole) if whole is not None else file, whole)
    if stored is not None:
        for oldest in list(_footers)[: len(_footers) - _MOST_FOOTERS + 1]:
            _footers.pop(oldest, None)
        _footers[stored] = replace(found, label="", buffer=None, _reader=_Reader(None))
    return found


def _read_footer(label: str, opened: pa.NativeFile, whole: pa.Buffer | None) -> ParquetBytes:
    what = f"{label} ({opened.size()} bytes): the footer at its end"
    with reading(what):
        found = _open(opened)
        schema = decoded(found.schema_arrow)
        stored = _footer_bytes(opened)
    try:
        footer = parse_footer(stored)
    except CorruptError as error:
        raise CorruptError(f"{what} cannot be read: {error}") from error
    leaves = _leaves(schema)
    if sum(map(len, leaves)) != len(footer.leaves):
        raise CorruptError(f"{what} has {len(footer.leaves)} columns, its Arrow schema others")
    reader, known = _Reader(whole, found.reader), (footer, dict[tuple[int, int], Any]())
    return ParquetBytes(label, whole, footer, digest(stored), schema, leaves, known, reader)


def _footer_bytes(file: pa.NativeFile) -> bytes:
    """Give the footer of a file that pyarrow has opened: its length is right."""
    size = file.size()
    length = int.from_bytes(file.read_at(4, size - 8), "little")
    return bytes(file.read_at(length, size - 8 - length))


def _stored_footer(file: pa.Buffer) -> bytes | None:
    """Give the footer as it is stored, None if there is none of the length that its end tells."""
    if file.size < _LEAST_BYTES or file[file.size - 4 :].to_pybytes() != _MAGIC:
        return None
    end = file.size - 8
    length = int.from_bytes(file[end : end + 4].to_pybytes(), "little")
    return bytes(file[end - length : end].to_pybytes()) if length <= end - 4 else None


def _leaves(schema: pa.Schema) -> tuple[range, ...]:
    found, begin = [], 0
    for field in schema:
        end = begin + _leaf_count(field.type)
        found.append(range(begin, end))
        begin = end
    return tuple(found)


def _leaf_count(t: pa.DataType) -> int:
    if pa.types.is_dictionary(t) or not t.num_fields:
        return 1
    return sum(_leaf_count(t.field(i).type) for i in range(t.num_fields))


def decode_column(file: ParquetBytes, row_group: int, column: int) -> pa.Array:
    """Decode field `column` of `file.schema` in one row group; any thread may call this.

    Returns
    -------
    pa.Array
        Of the field's type, as long as the row group; in memory of its own.

    Raises
    ------
    CorruptError
        When the stored bytes cannot be decoded, naming file, row group, column and offset.
    """
    with reading(file.name(row_group, column)):
        table = file._reader.get().read_row_group(
            row_group, column_indices=list(file.leaves[column]), use_threads=False
        )
        array = _without_bitmap(_in_one_piece(table.column(0)))
    rows, field = file.footer.rows[row_group], file.schema.field(column)
    if len(array) != rows or not array.type.equals(field.type):
        raise CorruptError(
            f"{file.name(row_group, column)} holds {len(array)} values of type {array.type}, "
            f"not {rows} of type {field.type}"
        )
    return array


def _in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    if not column.num_chunks:
        return pa.array([], column.type)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return pa.concat_arrays(column.chunks)


def _without_bitmap(array: pa.Array) -> pa.Array:
    """Give an array without nulls no bitmap: pyarrow makes one for every column that may have some.

    Programs are faster without.
    """
    t = array.type
    if array.null_count or pa.types.is_nested(t) or pa.types.is_dictionary(t) or not len(array):
        return array
    buffers = array.buffers()
    if buffers[0] is None:
        return array
    return pa.Array.from_buffers(t, len(array), [None, *buffers[1:]], 0, array.offset)
