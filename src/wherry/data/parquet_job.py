"""What a decoding job is told of pages: worked out once for a column chunk, filled in for each run.

Most runs are short, and between two of them Python finds nothing in the caches any more: what does
not change is therefore kept as the table of numbers that a skeleton takes.
"""

from __future__ import annotations

from array import array
from typing import Final

import pyarrow as pa
from msgspec import Struct

from wherry.data.parquet_forms import ColumnForm
from wherry.data.parquet_pages import Pages
from wherry.kernels.parquet_layout import FAULT, FORM, JOB, PAGE, PAGES, SINK

OFFSET_WIDTHS: Final = {SINK.TEXT_4: 4, SINK.TEXT_8: 8}
ROOMS: Final = slice(JOB.TABLE, JOB.STRIP + 1)
"""The rooms that a job works in, in the order of `Job.rooms`."""
_STRIP_BYTES: Final = 128
_WORD: Final = 8
_MOST_GUESSED: Final = 1 << 31
_BRIEF_BYTES: Final = 1 << 14
"""Decompressed bytes of a job of a few microseconds: shorter than to take a lock again."""


class Job(Struct, frozen=True):
    """A job for all of `pages`, as far as they and `form` determine it.

    Attributes
    ----------
    words : array of int64
        `kernels.parquet_layout.JOB`, all but addresses of what is written and worked in.
    rooms : tuple of int
        Bytes of the rooms to work in.
    brief : bool
        Whether it takes so little time that others may wait for it.
    """

    form: ColumnForm
    pages: Pages
    words: array[int]
    rooms: tuple[int, ...]
    brief: bool

    def range_of(self, job: array[int]) -> tuple[int, int] | None:
        """Give the range of the dictionary once `job` has run, None if it was not looked for."""
        kind = self.words[JOB.RANGE]
        if not kind:
            return None
        low, high = job[JOB.LOW], job[JOB.HIGH]
        return (low, high) if kind != -_WORD else (low % (1 << 64), high % (1 << 64))

    @property
    def holds_text(self) -> bool:
        """Whether bytes of text are written besides values."""
        return self.form.form == FORM.TEXT and self.form.sink in (*OFFSET_WIDTHS, SINK.VIEWS)

    def value_bytes(self, count: int) -> int:
        """Give the bytes of so many values, offsets, views or indices."""
        sink = self.form.sink
        if sink in OFFSET_WIDTHS:
            return (count + 1) * OFFSET_WIDTHS[sink]
        if sink == SINK.BITS:
            return (count + 7) // 8
        return int(count * (16 if sink == SINK.VIEWS else self.form.type.bit_width // 8))

    def text_room(self, count: int) -> int:
        """Give how many bytes of text to make room for: enough, unless long ones come often."""
        known = self.pages.known
        plain, entries = known[PAGES.PLAIN_SIZE], known[PAGES.ENTRIES]
        if self.form.sink == SINK.VIEWS:
            return known[PAGES.TABLE_SIZE] + plain
        if not entries:
            return plain
        mean = max(0, known[PAGES.TABLE_SIZE] // entries - 4) + 1
        return plain + min(count * mean * 5 // 4, _MOST_GUESSED)


def job_of(form: ColumnForm, pages: Pages) -> Job:
    """Give the job that decodes `pages`.

    Raises
    ------
    CorruptError
        When the dictionary's values do not fit its page.
    """
    known = pages.known
    most, entries = known[PAGES.MOST_VALUES], known[PAGES.ENTRIES]
    if entries * (form.stored_width or 4) > known[PAGES.TABLE_SIZE]:
        raise pages.fault(FAULT.DICTIONARY_END, pages.table[PAGE.HEADER])
    wide = max(form.width, _WORD)
    rooms = (
        entries * wide,
        known[PAGES.TABLE_SIZE],
        known[PAGES.MOST_SIZE],
        most * _WORD,
        most * wide,
        most * wide,
        most // 8 + 8,
        _STRIP_BYTES,
    )
    words = array("q", bytes(_WORD * JOB.COUNT))
    words[JOB.PAGES], words[JOB.PAGE_COUNT] = pages.table.buffer_info()[0], pages.count
    words[JOB.CODEC] = pages.skeleton_codec
    words[JOB.FORM], words[JOB.STORED_WIDTH] = form.form, form.stored_width
    words[JOB.WIDTH], words[JOB.SINK], words[JOB.NULLABLE] = form.width, form.sink, form.nullable
    words[JOB.TABLE_COUNT], words[JOB.RANGE] = -1, _ranged(form, pages)
    brief = known[PAGES.TABLE_SIZE] + pages.count * known[PAGES.MOST_SIZE] <= _BRIEF_BYTES
    return Job(form, pages, words, rooms, brief)


def _ranged(form: ColumnForm, pages: Pages) -> int:
    """Give `JOB.RANGE` if the dictionary's values are exact and no others lie beside it, else 0."""
    t, width = form.type, form.table_width
    exact = pa.types.is_integer(t) or pa.types.is_decimal(t) or pa.types.is_date32(t)
    if (
        not (exact and pages.codes_only and pages.entries)
        or width > _WORD
        or form.sink != SINK.FIXED
    ):
        return 0
    return -width if pa.types.is_unsigned_integer(t) else width
