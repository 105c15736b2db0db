"""Parquet column chunks decoded by skeletons: what is faster than pyarrow, and only that.

`why_not` says from the footer whether a column chunk is decoded natively; `open_chunk` reads the
headers of its pages; `decode` gives all values, or only wanted ones, or a dictionary and indices.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wherry.base.errors import CorruptError, InputError
from wherry.data.mapping import reading
from wherry.data.parquet_columns import ParquetBytes
from wherry.data.parquet_forms import ColumnForm, column_form, unsupported
from wherry.data.parquet_pages import (
    MOST_ROWS,
    Pages,
    code_pages,
    decompressed,
    dictionary_page,
    read_pages,
)
from wherry.data.scratch import Scratch
from wherry.kernels.layout import SLACK
from wherry.kernels.parquet_layout import CODEC, FAULT, FORM, JOB, MORE_TEXT, PAGE, PAGES, SINK
from wherry.kernels.skeletons import skeletons

_skeletons = skeletons("parquet.chunk")
_scratch = Scratch()

Allocate = Callable[[int], pa.Buffer]
"""Gives a mutable buffer of so many bytes, at a multiple of 64."""
Rows = npt.NDArray[np.uint64]
"""A bit per row, and a word more than they take."""

_CODE_SINKS = {1: SINK.CODES_1, 2: SINK.CODES_2, 4: SINK.CODES_4}
_OFFSET_WIDTHS = {SINK.TEXT_4: 4, SINK.TEXT_8: 8}
_ROOMS = (
    JOB.TABLE,
    JOB.TABLE_TEXT,
    JOB.PLAIN_PAGE,
    JOB.CODES,
    JOB.DENSE,
    JOB.SPREAD,
    JOB.BITS,
    JOB.STRIP,
)
"""The rooms that a job works in, in the order of `_set_up`."""
_STRIP_BYTES = 128
_MOST_GUESSED = 1 << 31


@dataclass(frozen=True, slots=True)
class NativeChunk:
    """A column chunk that is decoded natively."""

    form: ColumnForm
    pages: Pages


def why_not(file: ParquetBytes, row_group: int, column: int) -> str | None:
    """Give why pyarrow has to decode field `column` in a row group; None: it is decoded natively.

    The footer alone decides, before a page is looked at.
    """
    if file.buffer is None:
        return "the file is not mapped"
    leaves, t = file.leaves[column], file.schema.field(column).type
    if len(leaves) != 1:
        return f"type {t} is nested"
    form = column_form(file.footer.leaves[leaves.start], t)
    if isinstance(form, str):
        return form
    if file.footer.rows[row_group] > MOST_ROWS:
        return f"row groups of more than {MOST_ROWS} rows"
    return unsupported(form, file.chunks(row_group, column)[0])


def open_chunk(file: ParquetBytes, row_group: int, column: int) -> NativeChunk:
    """Read the headers of the pages of field `column` in a row group; nothing is decoded.

    Raises
    ------
    InputError
        When the column is not decoded natively: see `why_not`.
    CorruptError
        When the pages are not what their headers or the footer say.
    """
    reason = why_not(file, row_group, column)
    if reason is not None:
        raise InputError(f"{file.name(row_group, column)} is not decoded natively: {reason}")
    leaf, t = file.footer.leaves[file.leaves[column].start], file.schema.field(column).type
    form = column_form(leaf, t)
    assert isinstance(form, ColumnForm)
    return NativeChunk(form, read_pages(file, row_group, column))


def _viewed_bytes(pages: Pages) -> int:
    return pages.known[PAGES.TABLE_SIZE] + pages.known[PAGES.PLAIN_SIZE]


def decode(
    chunk: NativeChunk,
    kept: Rows | None = None,
    *,
    as_dictionary: bool = False,
    allocate: Allocate = pa.allocate_buffer,
) -> pa.Array:
    """Decode a column chunk; any thread may call this.

    Parameters
    ----------
    kept : ndarray of uint64, optional
        The rows that are wanted, all unless given: a bit per row of the row group, in one word more
        than they take. Pages without a wanted row are neither decompressed nor decoded.
    as_dictionary : bool
        True gives indices (int8, int16 or int32, as few bytes as do) and the stored dictionary
        where every page is dictionary-encoded, and plain values where one is not. Columns that are
        dictionaries to Arrow are given as such in any case.
    allocate : callable
        Where the array's buffers come from.

    Returns
    -------
    pa.Array
        The wanted rows, of the field's type, or of dictionary type if that was asked for. Offsets
        and indices are right; that text is UTF-8 and decimals fit their precision is not looked at.

    Raises
    ------
    CorruptError
        When the stored bytes cannot be decoded, naming file, row group, column and offset.
    """
    try:
        index_type = chunk.form.index_type
        if chunk.pages.codes_only and (index_type is not None or as_dictionary):
            entries = chunk.pages.known[PAGES.ENTRIES]
            smallest = _index_type(entries)
            if index_type is None or _numbers(index_type) >= entries:
                return _dictionary_array(chunk, index_type or smallest, kept, allocate)
        values = _array(chunk.form, chunk.pages, kept, allocate)[0]
        if index_type is None:
            return values
        with reading(f"{chunk.pages.name} as a dictionary with indices of {index_type}"):
            return values.dictionary_encode().cast(pa.dictionary(index_type, values.type))
    except MemoryError:
        what = f"{chunk.pages.name}: its pages promise more bytes than there is memory for"
        raise CorruptError(what) from None


def decode_with_range(
    chunk: NativeChunk, allocate: Allocate = pa.allocate_buffer
) -> tuple[pa.Array, tuple[int, int] | None]:
    """Decode a column chunk of integers, decimals or days, and give their least and largest.

    They are those of the dictionary, where every page is dictionary-encoded and it holds integers
    of 64 bits; None elsewhere. Rows need not use every value of a dictionary.

    Returns
    -------
    (pa.Array, (int, int) or None)
        Decimals as integers, unscaled; days since 1970.
    """
    return _array(chunk.form, chunk.pages, None, allocate)


def _dictionary_array(
    chunk: NativeChunk, index_type: pa.DataType, kept: Rows | None, allocate: Allocate
) -> pa.Array:
    width = index_type.bit_width // 8
    codes = replace(chunk.form, type=index_type, width=4, sink=_CODE_SINKS[width])
    entries = chunk.pages.known[PAGES.ENTRIES]
    indices, _ = _array(codes, code_pages(chunk.pages), kept, allocate, codes=entries)
    return pa.DictionaryArray.from_arrays(indices, dictionary(chunk, allocate), safe=False)


def matching(chunk: NativeChunk, passing: npt.NDArray[np.bool_]) -> Rows:
    """Give the rows whose value passes, told by value of the dictionary: a filter without values.

    Parameters
    ----------
    chunk : NativeChunk
        One whose pages hold nothing but indices (`pages.codes_only`).
    passing : ndarray of bool
        Whether each value of `dictionary(chunk)` passes. Rows that are null do not.

    Returns
    -------
    ndarray of uint64
        As `decode` takes them.

    Raises
    ------
    CorruptError
        When the stored bytes cannot be decoded.
    """
    pages, entries = chunk.pages, chunk.pages.known[PAGES.ENTRIES]
    assert pages.codes_only
    assert len(passing) == entries
    table = np.zeros(entries + SLACK, np.uint8)
    table[:entries] = passing
    form = replace(chunk.form, type=pa.bool_(), form=FORM.BOOLEAN, width=1, sink=SINK.BITS)
    flags = table.ctypes.data
    found, _ = _array(form, code_pages(pages), None, pa.allocate_buffer, codes=entries, flags=flags)
    rows = np.zeros(pages.rows // 64 + 2, np.uint64)
    bits = np.frombuffer(found.buffers()[1], np.uint8)
    rows.view(np.uint8)[: len(bits)] = bits
    return rows


def _numbers(index_type: pa.DataType) -> int:
    return 1 << (index_type.bit_width - pa.types.is_signed_integer(index_type))


def _index_type(count: int) -> pa.DataType:
    return pa.int8() if count <= 1 << 7 else pa.int16() if count <= 1 << 15 else pa.int32()


def dictionary(chunk: NativeChunk, allocate: Allocate = pa.allocate_buffer) -> pa.Array:
    """Give the values of the chunk's dictionary; none if it has none."""
    form = replace(chunk.form, nullable=False)
    if not chunk.pages.known[PAGES.HAS_TABLE]:
        return pa.array([], form.type)
    return _array(form, dictionary_page(chunk.pages), None, allocate)[0]


def _array(
    form: ColumnForm,
    pages: Pages,
    kept: Rows | None,
    allocate: Allocate,
    *,
    codes: int | None = None,
    flags: int = 0,
) -> tuple[pa.Array, tuple[int, int] | None]:
    """Decode `pages`.

    Parameters
    ----------
    codes : int, optional
        The size of the dictionary, when it is not among the pages.
    flags : int
        Address of a byte for each value of the dictionary, which then take the values' place.
    """
    bits = 0 if kept is None else kept.ctypes.data
    count = pages.rows if kept is None else int(_skeletons.wanted(bits, 0, pages.rows))
    if pages.skeleton_codec == CODEC.OTHER:
        pages = decompressed(pages, bits)
    job = array("q", bytes(8 * JOB.COUNT))
    block = _set_up(job, form, pages)
    job[JOB.KEPT], job[JOB.TABLE_COUNT] = bits, -1 if codes is None else codes
    job[JOB.TABLE] = flags or job[JOB.TABLE]
    size = _value_bytes(form, count)
    values = allocate(size + SLACK)
    valid = allocate((count + 7) // 8 + SLACK) if form.nullable else None
    text = allocate(_text_room(form, pages, count) + SLACK) if _holds_text(form) else None
    _place(job, values, valid, text)
    while True:
        result = _skeletons.decode(job.buffer_info()[0])
        if result != MORE_TEXT:
            break
        text = _grown(text, job, count, allocate)
        _place(job, values, valid, text)
    if result < 0:
        raise pages.fault(result, job[JOB.FAULT_AT])
    found = _table_range(form, pages, job[JOB.TABLE]) if codes is None else None
    del block  # The table may lie in it.
    if form.sink in _OFFSET_WIDTHS and not count:
        np.frombuffer(values, np.uint8)[:size] = 0  # No page wrote where the first text begins.
    nulls = count - job[JOB.VALID_COUNT] if form.nullable else 0
    buffers = [valid[: (count + 7) // 8] if valid is not None and nulls else None, values[:size]]
    if text is not None:
        buffers.append(text[: job[JOB.TEXT_USED]])
    return pa.Array.from_buffers(form.type, count, buffers, nulls), found


def _set_up(job: array[int], form: ColumnForm, pages: Pages) -> npt.NDArray[np.uint8]:
    """Fill in what a job is told of form and pages, and the scratch it works in; give that."""
    known = pages.known
    most, entries = known[PAGES.MOST_VALUES], known[PAGES.ENTRIES]
    if entries * (form.stored_width or 4) > known[PAGES.TABLE_SIZE]:
        raise pages.fault(FAULT.DICTIONARY_END, pages.table[PAGE.HEADER])
    wide = max(form.width, 8)
    sizes = (
        entries * wide,
        known[PAGES.TABLE_SIZE],
        known[PAGES.MOST_SIZE],
        most * 8,
        most * wide,
        most * wide,
        most // 8 + 8,
        _STRIP_BYTES,
    )
    block, addresses = _scratch.rooms("job", sizes, SLACK)
    for entry, address in zip(_ROOMS, addresses, strict=True):
        job[entry] = address
    job[JOB.PAGES], job[JOB.PAGE_COUNT] = pages.table.buffer_info()[0], pages.count
    job[JOB.CODEC] = pages.skeleton_codec
    job[JOB.FORM], job[JOB.STORED_WIDTH] = form.form, form.stored_width
    job[JOB.WIDTH], job[JOB.SINK], job[JOB.NULLABLE] = form.width, form.sink, form.nullable
    return block


def _table_range(form: ColumnForm, pages: Pages, table: int) -> tuple[int, int] | None:
    """Give the range of a dictionary of exact values, unless other values lie beside it."""
    t = form.type
    exact = pa.types.is_integer(t) or pa.types.is_decimal(t) or pa.types.is_date32(t)
    entries = pages.known[PAGES.ENTRIES]
    if not exact or not pages.codes_only or not entries or form.table_width > 8:
        return None
    size = entries * form.table_width
    kind = "u" if pa.types.is_unsigned_integer(form.type) else "i"
    values = np.frombuffer(pa.foreign_buffer(table, size), f"{kind}{form.table_width}")
    return int(values.min()), int(values.max())


def _holds_text(form: ColumnForm) -> bool:
    return form.form == FORM.TEXT and form.sink in (*_OFFSET_WIDTHS, SINK.VIEWS)


def _place(
    job: array[int], values: pa.Buffer, valid: pa.Buffer | None, text: pa.Buffer | None
) -> None:
    job[JOB.VALUES] = values.address
    job[JOB.VALID] = 0 if valid is None else valid.address
    job[JOB.TEXT] = 0 if text is None else text.address
    job[JOB.TEXT_ROOM] = 0 if text is None else text.size - SLACK


def _value_bytes(form: ColumnForm, count: int) -> int:
    if form.sink in _OFFSET_WIDTHS:
        return (count + 1) * _OFFSET_WIDTHS[form.sink]
    if form.sink == SINK.BITS:
        return (count + 7) // 8
    return int(count * (16 if form.sink == SINK.VIEWS else form.type.bit_width // 8))


def _text_room(form: ColumnForm, pages: Pages, count: int) -> int:
    """Give how many bytes of text to make room for: enough, unless long values come often."""
    if form.sink == SINK.VIEWS:
        return _viewed_bytes(pages)
    plain, entries = pages.known[PAGES.PLAIN_SIZE], pages.known[PAGES.ENTRIES]
    if not entries:
        return plain
    mean = max(0, pages.known[PAGES.TABLE_SIZE] // entries - 4) + 1
    return plain + min(count * mean * 5 // 4, _MOST_GUESSED)


def _grown(text: pa.Buffer, job: array[int], count: int, allocate: Allocate) -> pa.Buffer:
    """Give a larger buffer of text that begins as the old one does."""
    used, needed, written = job[JOB.TEXT_USED], job[JOB.NEEDED], job[JOB.WRITTEN]
    expected = needed * count // written if written else needed * 2
    larger = allocate(max(needed, min(expected, needed * 2)) + SLACK)
    np.frombuffer(larger, np.uint8)[:used] = np.frombuffer(text, np.uint8)[:used]
    return larger
