"""Parquet column chunks decoded by skeletons: what is faster than pyarrow, and only that.

`open_chunk` says from footer and page headers whether a column chunk is decoded natively, or why
not; `decode` then gives its values, its dictionary and indices, or only the rows that are wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wherry.base.errors import CorruptError
from wherry.data.parquet_columns import ParquetBytes
from wherry.data.parquet_forms import ColumnForm, column_form, unsupported
from wherry.data.parquet_pages import MOST_ROWS, Pages, Table, read_pages, ready, scratch
from wherry.kernels.layout import SLACK
from wherry.kernels.parquet_layout import ENCODING, FAULT, JOB, KIND, MORE_TEXT, PAGE, SINK
from wherry.kernels.skeletons import skeletons

_skeletons = skeletons("parquet.chunk")

Allocate = Callable[[int], pa.Buffer]
"""Gives a mutable buffer of so many bytes, at a multiple of 64."""

_CODE_SINKS = {1: SINK.CODES_1, 2: SINK.CODES_2, 4: SINK.CODES_4}
_OFFSET_WIDTHS = {SINK.TEXT_4: 4, SINK.TEXT_8: 8}
_MOST_VIEWED = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class NativeChunk:
    """A column chunk that is decoded natively."""

    form: ColumnForm
    pages: Pages

    @property
    def codes_only(self) -> bool:
        """Whether every value is an index of the chunk's dictionary."""
        return self.pages.dictionary is not None and not len(self.pages.plain)


def open_chunk(file: ParquetBytes, row_group: int, column: int) -> NativeChunk | str:
    """Give the column chunk of field `column` in a row group, or why pyarrow has to decode it.

    Reads the headers of its pages; nothing is decoded.

    Raises
    ------
    CorruptError
        When the pages are not what their headers or the footer say.
    """
    if file.buffer is None:
        return "the file is not mapped"
    form = column_form(file, column)
    if isinstance(form, str):
        return form
    reason = unsupported(form, file.chunks(row_group, column)[0])
    if reason is not None:
        return reason
    if file.metadata.row_group(row_group).num_rows > MOST_ROWS:
        return f"a row group of more than {MOST_ROWS} rows"
    chunk = NativeChunk(form, read_pages(file, row_group, column))
    return _too_large(chunk) or chunk


def _too_large(chunk: NativeChunk) -> str | None:
    form, pages = chunk.form, chunk.pages
    if form.sink == SINK.VIEWS and _viewed_bytes(pages) > _MOST_VIEWED:
        return "more text than one buffer of views holds"
    if form.index_type is None:
        return None
    if pages.rows and not chunk.codes_only:
        return "a dictionary column with pages that are not dictionary-encoded"
    bits = form.index_type.bit_width - pa.types.is_signed_integer(form.index_type)
    count = 0 if pages.dictionary is None else int(pages.dictionary[PAGE.VALUES])
    if count > 1 << bits:
        return f"{count} dictionary values, more than {form.index_type} numbers"
    return None


def _viewed_bytes(pages: Pages) -> int:
    held = 0 if pages.dictionary is None else int(pages.dictionary[PAGE.SIZE])
    return held + int(pages.plain[:, PAGE.SIZE].sum())


def decode(
    chunk: NativeChunk,
    kept: npt.NDArray[np.uint64] | None = None,
    *,
    as_dictionary: bool = False,
    allocate: Allocate = pa.allocate_buffer,
) -> pa.Array:
    """Decode a column chunk; any thread may call this.

    Parameters
    ----------
    kept : ndarray of uint64, optional
        A bit per row of the row group, and one word more: the rows that are wanted, all unless
        given. Pages without one are neither decompressed nor decoded.
    as_dictionary : bool
        True gives indices (int8, int16 or int32, as few bytes as do) and the stored dictionary
        where every page is dictionary-encoded, and plain values where one is not.
    allocate : callable
        Where the array's buffers come from.

    Returns
    -------
    pa.Array
        The wanted rows, of the field's type, or of dictionary type if that was asked for.

    Raises
    ------
    CorruptError
        When the stored bytes cannot be decoded, naming file, row group, column and offset.
    """
    try:
        if chunk.form.index_type is not None or (as_dictionary and chunk.codes_only):
            return _dictionary_array(chunk, kept, allocate)
        return _array(chunk.form, chunk.pages, kept, allocate)
    except MemoryError:
        what = f"{chunk.pages.name}: its pages promise more bytes than there is memory for"
        raise CorruptError(what) from None


def _dictionary_array(
    chunk: NativeChunk, kept: npt.NDArray[np.uint64] | None, allocate: Allocate
) -> pa.Array:
    form, pages = chunk.form, chunk.pages
    held = pages.dictionary
    count = 0 if held is None else int(held[PAGE.VALUES])
    index_type = form.index_type or _index_type(count)
    codes = replace(
        form, type=index_type, index_type=None, width=4,
        sink=_CODE_SINKS[index_type.bit_width // 8],
    )  # fmt: skip
    indices = _array(codes, replace(pages, table=pages.data), kept, allocate, count)
    return pa.DictionaryArray.from_arrays(indices, dictionary(chunk, allocate), safe=False)


def _index_type(count: int) -> pa.DataType:
    return pa.int8() if count <= 1 << 7 else pa.int16() if count <= 1 << 15 else pa.int32()


def dictionary(chunk: NativeChunk, allocate: Allocate = pa.allocate_buffer) -> pa.Array:
    """Give the values of the chunk's dictionary; none if it has none."""
    form, pages = replace(chunk.form, index_type=None, nullable=False), chunk.pages
    held = pages.dictionary
    if held is None:
        return pa.array([], form.type)
    # A dictionary's page is laid out like a page of plain values without levels.
    page = held.copy()
    page[PAGE.KIND], page[PAGE.ENCODING] = KIND.DATA, ENCODING.PLAIN
    rows = int(page[PAGE.VALUES])
    return _array(form, replace(pages, rows=rows, table=page[None, :]), None, allocate)


def _array(
    form: ColumnForm,
    pages: Pages,
    kept: npt.NDArray[np.uint64] | None,
    allocate: Allocate,
    codes: int = -1,
) -> pa.Array:
    """Decode `pages`; `codes` is the size of the dictionary when only indices are wanted."""
    bits = 0 if kept is None else kept.ctypes.data
    count = pages.rows if kept is None else int(_skeletons.wanted(bits, 0, pages.rows))
    pages, codec = ready(pages, bits)
    job = np.zeros(JOB.COUNT, np.int64)
    held = _scratch_of(job, form, pages)
    job[JOB.CODEC], job[JOB.KEPT], job[JOB.TABLE_COUNT] = codec, bits, codes
    values = allocate(_value_bytes(form, count) + SLACK)
    valid = allocate((count + 7) // 8 + SLACK) if form.nullable else None
    text = allocate(_text_room(form, pages, count) + SLACK) if form.is_text else None
    _place(job, values, valid, text)
    while True:
        result = _skeletons.decode(job.ctypes.data)
        if result != MORE_TEXT:
            break
        assert text is not None
        text = _grown(text, job, count, allocate)
        _place(job, values, valid, text)
    if result < 0:
        raise pages.fault(result, int(job[JOB.FAULT_AT]))
    del held
    size = _value_bytes(form, count)
    if form.sink in _OFFSET_WIDTHS and not count:
        np.frombuffer(values, np.uint8)[:size] = 0  # No page wrote where the first text begins.
    nulls = count - int(job[JOB.VALID_COUNT]) if form.nullable else 0
    buffers = [valid[: (count + 7) // 8] if valid is not None and nulls else None, values[:size]]
    if text is not None and form.sink in (*_OFFSET_WIDTHS, SINK.VIEWS):
        buffers.append(text[: int(job[JOB.TEXT_USED])])
    return pa.Array.from_buffers(form.type, count, buffers, nulls)


def _scratch_of(job: Table, form: ColumnForm, pages: Pages) -> list[npt.NDArray[Any]]:
    """Fill in what a job is told of form and pages, and the scratch it works in."""
    data, held = pages.data, pages.dictionary
    most = int(data[:, PAGE.VALUES].max(initial=0))
    size = int(data[:, PAGE.SIZE].max(initial=0))
    entries, table_size = 0, 0
    if held is not None:
        entries, table_size = int(held[PAGE.VALUES]), int(held[PAGE.SIZE])
        if entries * (form.stored_width or 4) > table_size:
            raise pages.fault(FAULT.DICTIONARY_END, int(held[PAGE.HEADER]))
    wide = max(form.width, 8)
    rooms = {
        JOB.PLAIN_PAGE: size,
        JOB.TABLE: entries * wide,
        JOB.TABLE_TEXT: table_size,
        JOB.CODES: most * 8,
        JOB.DENSE: most * wide,
        JOB.SPREAD: most * wide,
        JOB.BITS: most // 8 + 8,
        JOB.STRIP: 256,
    }
    found = {entry: scratch.room(f"job {entry}", nbytes) for entry, nbytes in rooms.items()}
    for entry, memory in found.items():
        job[entry] = memory.ctypes.data
    table = np.ascontiguousarray(pages.table)
    job[JOB.PAGES], job[JOB.PAGE_COUNT] = table.ctypes.data, len(table)
    job[JOB.FORM], job[JOB.STORED_WIDTH] = form.form, form.stored_width
    job[JOB.WIDTH], job[JOB.SINK], job[JOB.NULLABLE] = form.width, form.sink, form.nullable
    return [*found.values(), table]


def _place(job: Table, values: pa.Buffer, valid: pa.Buffer | None, text: pa.Buffer | None) -> None:
    job[JOB.VALUES] = values.address
    job[JOB.VALID] = 0 if valid is None else valid.address
    job[JOB.TEXT] = 0 if text is None else text.address
    job[JOB.TEXT_ROOM] = 0 if text is None else text.size - SLACK


def _value_bytes(form: ColumnForm, count: int) -> int:
    if form.sink in _OFFSET_WIDTHS:
        return (count + 1) * _OFFSET_WIDTHS[form.sink]
    if form.sink == SINK.BITS:
        return (count + 7) // 8
    return count * (form.type.bit_width // 8 if form.sink != SINK.VIEWS else 16)


def _text_room(form: ColumnForm, pages: Pages, count: int) -> int:
    """Give how many bytes of text to make room for: enough, unless long values come often."""
    if form.sink == SINK.VIEWS:
        return _viewed_bytes(pages)
    plain = int(pages.plain[:, PAGE.SIZE].sum())
    held = pages.dictionary
    if held is None or not held[PAGE.VALUES]:
        return plain
    mean = max(0, int(held[PAGE.SIZE]) // int(held[PAGE.VALUES]) - 4) + 1
    return plain + min(count * mean * 5 // 4, _MOST_VIEWED)


def _grown(text: pa.Buffer, job: Table, count: int, allocate: Allocate) -> pa.Buffer:
    """Give a larger buffer of text that begins as the old one does."""
    used, needed, written = (int(job[i]) for i in (JOB.TEXT_USED, JOB.NEEDED, JOB.WRITTEN))
    expected = needed * count // max(written, 1) if written else needed * 2
    larger = allocate(max(needed, min(expected, needed * 2)) + SLACK)
    np.frombuffer(larger, np.uint8)[:used] = np.frombuffer(text, np.uint8)[:used]
    return larger
