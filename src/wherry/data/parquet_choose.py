"""Rows of a Parquet row group chosen by what their columns' dictionaries hold, in one call."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.late import Rows, ValueTest, count
from wherry.data.parquet_job import ROOMS
from wherry.data.parquet_native import NativeChunk, Tally
from wherry.data.scratch import Scratch
from wherry.kernels.layout import BLOCK, SLACK
from wherry.kernels.parquet_layout import CODEC, FORM, JOB, SINK, TEST, UNSOUND
from wherry.kernels.skeletons import skeletons

_skeletons = skeletons("parquet.chosen")
_scratch = Scratch()
_MOST_INT64 = (1 << 63) - 1
Words: TypeAlias = "array[int]"


class Asked(Struct, frozen=True):
    """A column chunk, whether it may have nulls, and the test of its values."""

    chunk: NativeChunk
    nullable: bool
    test: ValueTest


def is_testable(chunk: NativeChunk) -> bool:
    """Tell whether `choose` can test a column: what all rows refer to are values of a fixed size.

    Times of day and decimals of more than 64 bits are not, as what is stored of them may be what
    their type excludes.
    """
    form, pages = chunk.form, chunk.pages
    wide = form.form == FORM.BIG_ENDIAN and form.stored_width > 8
    return (
        pages.codes_only
        and form.index_type is None
        and form.sink == SINK.FIXED
        and pages.skeleton_codec != CODEC.OTHER
        and not (wide or pa.types.is_time(form.type))
    )


def choose(
    asked: Sequence[Asked], kept: Rows | None, tally: Tally
) -> tuple[Rows | None, int, int] | None:
    """Give the rows of `kept` that pass all tests, how many, and the bytes that were written.

    All chunks are of one row group and `is_testable`. None in place of rows: all of them pass. None
    for all: a dictionary has a value that its type excludes, which perhaps no row has.

    Raises
    ------
    CorruptError
        When the stored bytes cannot be decoded.
    """
    rows = asked[0].chunk.pages.rows
    words = rows // BLOCK + 2
    block, rooms = _scratch.rooms("job", _largest(asked), SLACK)
    sizes = [8 * words, (rows + 7) // 8]
    for one in asked:
        entries, width = one.chunk.pages.entries, one.chunk.form.width
        sizes += [(entries + BLOCK) * width, entries // 8 + 16, entries + 3 * BLOCK]
    held, places = _scratch.rooms("tests", tuple(sizes), SLACK)
    ready = [_bound(one, rooms, places[1], places[2 + 3 * n :]) for n, one in enumerate(asked)]
    tests = array("q")
    for bound in ready:
        tests += bound.words
    target = np.empty(words + SLACK // 8, np.uint64)
    address = 0 if kept is None else kept.ctypes.data
    passed = _skeletons.choose(
        tests.buffer_info()[0], len(ready), address, words, places[0], target.ctypes.data
    )
    del block, held
    if passed == UNSOUND:
        return None
    found = [tests[at : at + TEST.COUNT] for at in range(0, len(tests), TEST.COUNT)]
    written = 0
    for one, test, bound in zip(asked, found, ready, strict=True):
        if test[TEST.FAILED]:
            job = bound.match if bound.match[JOB.FAULT_AT] else bound.dictionary
            raise one.chunk.pages.fault(passed, job[JOB.FAULT_AT])
        tally.unpacked += bound.dictionary[JOB.UNPACKED] + bound.match[JOB.UNPACKED]
        written += test[TEST.ENTRIES] * test[TEST.WIDTH] if bound.dictionary[JOB.NEXT] else 0
        written += 8 * words if bound.match[JOB.NEXT] else 0
    if not any(test[TEST.DONE] for test in found):
        return None, count(kept, rows), written
    return target[:words], int(passed), written


class _Bound(Struct, frozen=True):
    """A test with its jobs and contexts, whose addresses are in `words`."""

    words: Words
    dictionary: Words
    match: Words
    contexts: tuple[Words, Words]


def _bound(asked: Asked, rooms: Words, valid: int, places: Words) -> _Bound:
    """Give a test ready to run; `places` begin with rooms for values, their bits and bytes."""
    chunk, test, values = asked.chunk, asked.test, places[0]
    entries, width, t = chunk.pages.entries, chunk.form.width, chunk.form.type
    dictionary = array("q", chunk.job("dictionary").words)
    match = array("q", chunk.job("flags").words)
    dictionary[ROOMS] = match[ROOMS] = rooms
    dictionary[JOB.VALUES] = values
    match[JOB.TABLE_COUNT], match[JOB.IN_PLACE], match[JOB.VALID] = entries, 1, valid
    whole, padded = array("q", test.context), array("q", test.context)
    for place in test.places:
        whole[place], padded[place] = values, values + (entries & -BLOCK) * width
    low, high = _range(t) if pa.types.is_decimal128(t) else (0, 0)
    words = array("q", bytes(8 * TEST.COUNT))
    words[TEST.DICTIONARY], words[TEST.MATCH] = _address(dictionary), _address(match)
    words[TEST.VALUES], words[TEST.ENTRIES], words[TEST.WIDTH] = values, entries, width
    words[TEST.CHECKED], words[TEST.LOW], words[TEST.HIGH] = high != 0, low, high
    words[TEST.MASK], words[TEST.WHOLE] = test.mask, _address(whole)
    words[TEST.PADDED], words[TEST.WORDS] = _address(padded), places[1]
    words[TEST.FLAGS], words[TEST.NULLS] = places[2], asked.nullable
    return _Bound(words, dictionary, match, (whole, padded))


def _address(words: Words) -> int:
    return words.buffer_info()[0]


def _largest(asked: Sequence[Asked]) -> tuple[int, ...]:
    """Give rooms that every job finds large enough: one runs after the other."""
    jobs = [one.chunk.job(what) for one in asked for what in ("dictionary", "flags")]
    return tuple(map(max, zip(*(job.rooms for job in jobs), strict=True)))


def _range(t: pa.DataType) -> tuple[int, int]:
    """Give the least and the largest unscaled value of a decimal, as far as 64 bits hold them."""
    most = 10**t.precision - 1
    return max(-most, -_MOST_INT64 - 1), min(most, _MOST_INT64)
