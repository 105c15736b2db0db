"""Parquet column chunks decoded by skeletons: what is faster than pyarrow, and only that.

`why_not` says from the footer whether a column chunk is decoded natively; `open_chunk` reads the
headers of its pages; `decode` gives all values, or only wanted ones, or a dictionary and indices.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import CorruptError, InputError
from wherry.data.mapping import reading
from wherry.data.parquet_columns import ParquetBytes
from wherry.data.parquet_forms import ColumnForm, column_form, unsupported
from wherry.data.parquet_job import OFFSET_WIDTHS, ROOMS, Job, job_of
from wherry.data.parquet_pages import (
    MOST_ROWS,
    Pages,
    code_pages,
    decompressed,
    dictionary_page,
    read_pages,
)
from wherry.data.parquet_statistics import Limits, limits_of
from wherry.data.scratch import Scratch
from wherry.data.statistics import ColumnStatistics
from wherry.kernels.layout import SLACK
from wherry.kernels.parquet_layout import CODEC, FORM, JOB, MORE_TEXT, PAGES, SINK
from wherry.kernels.skeletons import skeletons

_skeletons = skeletons("parquet.chunk")
_scratch = Scratch()

Allocate = Callable[[int], pa.Buffer]
"""Gives a mutable buffer of so many bytes, at a multiple of 64."""
Rows = npt.NDArray[np.uint64]
"""A bit per row, and a word more than they take."""

_CODE_SINKS = {1: SINK.CODES_1, 2: SINK.CODES_2, 4: SINK.CODES_4}


class Tally(Struct):
    """What decoding has come to: `unpacked` bytes of pages, decompressed where they were packed."""

    unpacked: int = 0


class NativeChunk(Struct, frozen=True):
    """A column chunk that is decoded natively.

    Attributes
    ----------
    pages : Pages
        All of them.
    codes, table : Pages or None
        Those behind the dictionary's, and the dictionary's as a chunk of its own, if it has one.
    """

    form: ColumnForm
    pages: Pages
    codes: Pages | None
    table: Pages | None
    _jobs: dict[str, Job] = field(default_factory=dict)
    _limits: list[tuple[ColumnStatistics, Limits]] = field(default_factory=list)

    def limits(self, known: ColumnStatistics) -> Limits:
        """Give what integers of the column may be, decimals unscaled and days since 1970."""
        if not self._limits or self._limits[-1][0] is not known:
            self._limits[:] = [(known, limits_of(known, self.form.type))]
        return self._limits[-1][1]

    def job(self, what: str) -> Job:
        """Give the job that decodes `"rows"`, the `"dictionary"`, or `"flags"` of its values."""
        found = self._jobs.get(what)
        if found is None:
            form, pages = self.form, self.pages
            if what == "dictionary":
                assert self.table is not None
                form, pages = _required(form), self.table
            elif what == "flags":
                assert self.codes is not None
                form, pages = _flags_of(form), self.codes
            found = self._jobs[what] = job_of(form, pages)
        return found


@lru_cache(maxsize=256)
def _required(form: ColumnForm) -> ColumnForm:
    return replace(form, nullable=False)


@lru_cache(maxsize=256)
def _flags_of(form: ColumnForm) -> ColumnForm:
    """Give how truths are decoded that take the place of a dictionary's values."""
    return replace(form, type=pa.bool_(), form=FORM.BOOLEAN, width=1, sink=SINK.BITS)


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
    pages = read_pages(file, row_group, column)
    if not pages.known[PAGES.HAS_TABLE]:
        return NativeChunk(form, pages, None, None)
    return NativeChunk(form, pages, code_pages(pages), dictionary_page(pages))


def decode(
    chunk: NativeChunk,
    kept: Rows | None = None,
    *,
    as_dictionary: bool = False,
    allocate: Allocate = pa.allocate_buffer,
    tally: Tally | None = None,
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
    tally : Tally, optional
        What this takes is added to it.

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
                return _dictionary_array(chunk, index_type or smallest, kept, allocate, tally)
        values = _array(chunk.job("rows"), kept, allocate, tally=tally)[0]
        if index_type is None:
            return values
        with reading(f"{chunk.pages.name} as a dictionary with indices of {index_type}"):
            return values.dictionary_encode().cast(pa.dictionary(index_type, values.type))
    except MemoryError:
        what = f"{chunk.pages.name}: its pages promise more bytes than there is memory for"
        raise CorruptError(what) from None


def decode_with_range(
    chunk: NativeChunk,
    kept: Rows | None = None,
    allocate: Allocate = pa.allocate_buffer,
    tally: Tally | None = None,
) -> tuple[pa.Array, tuple[int, int] | None]:
    """Decode a column chunk of integers, decimals or days, and give their least and largest.

    They are those of the dictionary, where every page is dictionary-encoded and it holds integers
    of 64 bits; None elsewhere. Rows need not use every value of a dictionary.

    Returns
    -------
    (pa.Array, (int, int) or None)
        Decimals as integers, unscaled; days since 1970.
    """
    return _array(chunk.job("rows"), kept, allocate, tally=tally)


def _dictionary_array(
    chunk: NativeChunk,
    index_type: pa.DataType,
    kept: Rows | None,
    allocate: Allocate,
    tally: Tally | None,
) -> pa.Array:
    width = index_type.bit_width // 8
    codes = replace(chunk.form, type=index_type, width=4, sink=_CODE_SINKS[width])
    entries = chunk.pages.known[PAGES.ENTRIES]
    assert chunk.codes is not None
    indices, _ = _array(job_of(codes, chunk.codes), kept, allocate, codes=entries, tally=tally)
    values = dictionary(chunk, allocate, tally)
    return pa.DictionaryArray.from_arrays(indices, values, safe=False)


def matching(
    chunk: NativeChunk,
    passing: npt.NDArray[np.bool_],
    within: Rows | None = None,
    tally: Tally | None = None,
) -> Rows:
    """Give the rows whose value passes, told by value of the dictionary: a filter without values.

    Parameters
    ----------
    chunk : NativeChunk
        One whose pages hold nothing but indices (`pages.codes_only`).
    passing : ndarray of bool
        Whether each value of `dictionary(chunk)` passes; `SLACK` more, which are false, save a
        copy. Rows that are null do not.
    within : ndarray of uint64, optional
        The rows that matter: no other row is given, and pages without one are not decompressed.

    Returns
    -------
    ndarray of uint64
        As `decode` takes them.

    Raises
    ------
    CorruptError
        When the stored bytes cannot be decoded.
    """
    entries, rows = chunk.pages.entries, chunk.pages.rows
    assert chunk.pages.codes_only
    table = passing.view(np.uint8)
    if len(table) < entries + SLACK:
        assert len(table) == entries
        table = np.zeros(entries + SLACK, np.uint8)
        table[:entries] = passing
    ready = _unpacked(chunk.job("flags"), within)
    job, block = _started(ready, within)
    job[JOB.TABLE], job[JOB.TABLE_COUNT], job[JOB.IN_PLACE] = table.ctypes.data, entries, 1
    # Rows of skipped pages are not written, and a word may be read and written behind the last.
    words = np.zeros(rows // 64 + 2 + SLACK // 8, np.uint64)
    valid = None
    if ready.form.nullable:
        valid, job[JOB.VALID] = _scratch.room("valid", (rows + 7) // 8 + SLACK)
    job[JOB.VALUES] = words.ctypes.data
    _finish(ready, job, tally)
    del block, valid
    found = words[: rows // 64 + 2]
    return found if within is None else np.bitwise_and(found, within, out=found)


def _numbers(index_type: pa.DataType) -> int:
    return 1 << (index_type.bit_width - pa.types.is_signed_integer(index_type))


def _index_type(count: int) -> pa.DataType:
    return pa.int8() if count <= 1 << 7 else pa.int16() if count <= 1 << 15 else pa.int32()


def dictionary(
    chunk: NativeChunk, allocate: Allocate = pa.allocate_buffer, tally: Tally | None = None
) -> pa.Array:
    """Give the values of the chunk's dictionary; none if it has none."""
    if chunk.table is None:
        return pa.array([], chunk.form.type)
    return _array(chunk.job("dictionary"), None, allocate, tally=tally)[0]


def _unpacked(ready: Job, kept: Rows | None) -> Job:
    """Give the job for pages that skeletons can read."""
    if ready.pages.skeleton_codec != CODEC.OTHER:
        return ready
    return job_of(ready.form, decompressed(ready.pages, 0 if kept is None else kept.ctypes.data))


def _started(ready: Job, kept: Rows | None) -> tuple[array[int], object]:
    """Give a job with room to work in; the room is the thread's, and kept by the second."""
    job = array("q", ready.words)
    block, addresses = _scratch.rooms("job", ready.rooms, SLACK)
    job[ROOMS] = addresses
    job[JOB.KEPT] = 0 if kept is None else kept.ctypes.data
    return job, block


def _finish(ready: Job, job: array[int], tally: Tally | None) -> int:
    """Run a job; give 0, or `MORE_TEXT` after which it is to be run again."""
    run = _skeletons.decode
    result: int = (run.brief if ready.brief else run)(job.buffer_info()[0])
    if result < 0:
        raise ready.pages.fault(result, job[JOB.FAULT_AT])
    if result == 0 and tally is not None:
        tally.unpacked += job[JOB.UNPACKED]
    return result


def _array(
    ready: Job,
    kept: Rows | None,
    allocate: Allocate,
    *,
    codes: int | None = None,
    tally: Tally | None = None,
) -> tuple[pa.Array, tuple[int, int] | None]:
    """Run a job; give what it decodes, and the range of the dictionary if it was looked for.

    Parameters
    ----------
    codes : int, optional
        The size of the dictionary, when it is not among the pages.
    """
    count = ready.pages.rows
    if kept is not None:
        count = int(_skeletons.wanted.brief(kept.ctypes.data, 0, count))
    ready = _unpacked(ready, kept)
    form = ready.form
    job, block = _started(ready, kept)
    if codes is not None:
        job[JOB.TABLE_COUNT] = codes
    size = ready.value_bytes(count)
    values = allocate(size + SLACK)
    job[JOB.VALUES] = values.address
    valid = text = None
    if form.nullable:
        valid = allocate((count + 7) // 8 + SLACK)
        job[JOB.VALID] = valid.address
    if ready.holds_text:
        text = allocate(ready.text_room(count) + SLACK)
        _place(job, text)
    while _finish(ready, job, tally) == MORE_TEXT:
        assert text is not None
        text = _grown(text, job, count, allocate)
        _place(job, text)
    del block
    seen = ready.range_of(job)
    if form.sink in OFFSET_WIDTHS and not count:
        np.frombuffer(values, np.uint8)[:size] = 0  # No page wrote where the first text begins.
    nulls = count - job[JOB.VALID_COUNT] if form.nullable else 0
    buffers = [valid[: (count + 7) // 8] if valid is not None and nulls else None, values[:size]]
    if text is not None:
        buffers.append(text[: job[JOB.TEXT_USED]])
    return pa.Array.from_buffers(form.type, count, buffers, nulls), seen


def _place(job: array[int], text: pa.Buffer) -> None:
    job[JOB.TEXT], job[JOB.TEXT_ROOM] = text.address, text.size - SLACK


def _grown(text: pa.Buffer, job: array[int], count: int, allocate: Allocate) -> pa.Buffer:
    """Give a larger buffer of text that begins as the old one does."""
    used, needed, written = job[JOB.TEXT_USED], job[JOB.NEEDED], job[JOB.WRITTEN]
    expected = needed * count // written if written else needed * 2
    larger = allocate(max(needed, min(expected, needed * 2)) + SLACK)
    np.frombuffer(larger, np.uint8)[:used] = np.frombuffer(text, np.uint8)[:used]
    return larger
