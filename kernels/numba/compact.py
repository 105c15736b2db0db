"""Columns compacted in step: the rows of all columns that passed, one behind the other.

Columns are read 64 rows at a time, all of them before the next 64, because the processor then
prefetches every one. What is written goes through a stage in the first-level cache, from where
whole lines leave; so nothing before or behind a chunk's own target is written, and chunks that lie
side by side can be compacted at once.

A column is a row of int64: width, source, target, stage, fill, written. `stage` is an address of
STAGE_BYTES at a multiple of 64; `fill` is the byte of the stage that comes next, `written` the
first byte of it that belongs to the target, beyond 0 only before the first line is full.
"""

from numba import njit

from wherry.kernels.layout import (
    BLOCK,
    COLUMN_WORDS,
    COUNT,
    FOUND_WORDS,
    INDEX_BYTES,
    SHARE_WORDS,
    STAGE_BYTES,
    WIDTHS,
)
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    compress_1,
    compress_2,
    compress_4,
    compress_8,
    compress_16,
    copy_line,
    fence,
    load_i64,
    load_u8,
    lowest,
    popcount,
    prefetch,
    store_8,
    store_64,
    stream_line,
    take_next,
)
from wherry.kernels.numba.widths import append_values, copy_text, copy_value

_FLUSH = 4096
_LINE = 64
_COLUMN = COLUMN_WORDS * 8
_INDICES = INDEX_BYTES // 8
_AHEAD = 2048
"""Bytes ahead of a column's next block that are asked for."""
_GROUP = 8
_RARE = 20
"""At most this many rows of a group of blocks are found by their numbers."""


@njit(inline="always")
def _flush(column, streamed):
    """Let the whole lines of a stage go, and move what is left to its beginning."""
    target, stage = load_i64(column + 16), load_i64(column + 24)
    fill, skip = load_i64(column + 32), load_i64(column + 40)
    at = 0
    if skip > 0 and fill >= _LINE:
        for byte in range(skip, _LINE):
            store_8(target + byte - skip, load_u8(stage + byte))
        target += _LINE - skip
        at, skip = _LINE, 0
    if skip == 0:
        if streamed != 0:
            while at + _LINE <= fill:
                stream_line(target, stage + at)
                at += _LINE
                target += _LINE
        else:
            while at + _LINE <= fill:
                copy_line(target, stage + at)
                at += _LINE
                target += _LINE
    if at > 0:
        copy_line(stage, stage + at)
    store_64(column + 16, target)
    store_64(column + 32, fill - at)
    store_64(column + 40, skip)


@njit(inline="always")
def _finish(column):
    """Write what is left in a stage, byte by byte."""
    target, stage = load_i64(column + 16), load_i64(column + 24)
    for byte in range(load_i64(column + 40), load_i64(column + 32)):
        store_8(target, load_u8(stage + byte))
        target += 1


def _of_width(width, compress):
    """Give how columns of `width` bytes are appended to: rows by number, and a block's rows."""

    @njit(inline="always")
    def fetch(columns, count, indices, held, streamed):
        for number in range(count):
            column = columns + number * _COLUMN
            source = load_i64(column + 8)
            done = 0
            while done < held:
                # No more than what the stage surely has room for before it is flushed.
                most = min(held, done + 256)
                at = load_i64(column + 24) + load_i64(column + 32)
                for i in range(done, most):
                    copy_value(width, at, source + load_i64(indices + i * 8) * width)
                    at += width
                done = most
                store_64(column + 32, at - load_i64(column + 24))
                if load_i64(column + 32) >= _FLUSH:
                    _flush(column, streamed)
        return columns + count * _COLUMN

    @njit(inline="always")
    def append(columns, count, block, word, selected, streamed):
        for number in range(count):
            column = columns + number * _COLUMN
            fill = load_i64(column + 32)
            source = load_i64(column + 8) + block * (BLOCK * width)
            for line in range(width):
                prefetch(source + _AHEAD + line * _LINE)
            compress(load_i64(column + 24) + fill, source, word)
            fill += selected * width
            store_64(column + 32, fill)
            if fill >= _FLUSH:
                _flush(column, streamed)
        return columns + count * _COLUMN

    return fetch, append


_fetch_16, _append_16 = _of_width(16, compress_16)
_fetch_8, _append_8 = _of_width(8, compress_8)
_fetch_4, _append_4 = _of_width(4, compress_4)
_fetch_2, _append_2 = _of_width(2, compress_2)
_fetch_1, _append_1 = _of_width(1, compress_1)


@njit(inline="always")
def _fetch(columns, counts, indices, held, streamed):
    """Append rows by number, column by column: so many loads are under way at once."""
    columns = _fetch_16(columns, load_i64(counts), indices, held, streamed)
    columns = _fetch_8(columns, load_i64(counts + 8), indices, held, streamed)
    columns = _fetch_4(columns, load_i64(counts + 16), indices, held, streamed)
    columns = _fetch_2(columns, load_i64(counts + 24), indices, held, streamed)
    _fetch_1(columns, load_i64(counts + 32), indices, held, streamed)


@njit(inline="always")
def _block(columns, counts, block, word, selected, streamed):
    columns = _append_16(columns, load_i64(counts), block, word, selected, streamed)
    columns = _append_8(columns, load_i64(counts + 8), block, word, selected, streamed)
    columns = _append_4(columns, load_i64(counts + 16), block, word, selected, streamed)
    columns = _append_2(columns, load_i64(counts + 24), block, word, selected, streamed)
    _append_1(columns, load_i64(counts + 32), block, word, selected, streamed)


@njit
def _compact_columns(columns, counts, count, words, blocks, tail_rows, indices, streamed):
    """Write the selected rows of `count` columns; give how many rows.

    Parameters
    ----------
    words : int
        The selection.
    indices : int
        Room for INDEX_BYTES.
    """
    held = total = 0
    for first in range(0, blocks, _GROUP):
        last = min(first + _GROUP, blocks)
        found = 0
        for block in range(first, last):
            found += popcount(load_i64(words + block * 8))
        if found == 0:
            continue
        total += found
        if found <= _RARE:
            if held + found > _INDICES:
                _fetch(columns, counts, indices, held, streamed)
                held = 0
            for block in range(first, last):
                word = load_i64(words + block * 8)
                while word != 0:
                    store_64(indices + held * 8, block * BLOCK + lowest(word))
                    held += 1
                    word &= word - 1
            continue
        if held > 0:
            _fetch(columns, counts, indices, held, streamed)
            held = 0
        for block in range(first, last):
            word = load_i64(words + block * 8)
            if word != 0:
                _block(columns, counts, block, word, popcount(word), streamed)
    if held > 0:
        _fetch(columns, counts, indices, held, streamed)
    if tail_rows > 0:
        # Behind the last row there may be nothing to read, so no whole block is.
        word = load_i64(words + blocks * 8)
        total += popcount(word)
        for number in range(count):
            column = columns + number * _COLUMN
            width, fill = load_i64(column), load_i64(column + 32)
            source = load_i64(column + 8) + blocks * (BLOCK * width)
            append_values(width, load_i64(column + 24) + fill, source, word)
            store_64(column + 32, fill + popcount(word) * width)
    for number in range(count):
        _flush(columns + number * _COLUMN, streamed)
        _finish(columns + number * _COLUMN)
    if streamed != 0:
        fence()
    return total


@njit
def _copy_bytes(target, source, size):
    lines = size // _LINE * _LINE
    for at in range(0, lines, _LINE):
        copy_line(target + at, source + at)
    copy_text(target + lines, source + lines, size - lines)


@njit
def _put_fetched(shape, count, room, capacity, rows, targets, first):
    """Write rows that were fetched: `rows` of each column, from row `first` of its target on."""
    for number in range(count):
        width = load_i64(shape + (WIDTHS + number) * 8)
        _copy_bytes(load_i64(targets + number * 8) + first * width, room, rows * width)
        room += capacity * width


@kernel(12)
def place_each(
    share, found, chunks, shape, sources, words, room, targets, area, streamed, counter, most
):
    """Write the rows of chunk after chunk that `keep.keep_each` found, at most `most` chunks.

    A chunk that keeps all its rows is passed over. Gives how many chunks this call did.

    Parameters
    ----------
    share, found, chunks, shape, sources, words, room : int
        As in `keep_each`, after it and `line_up`.
    targets : int
        An int64 a column: where the rows of all chunks go.
    area : int
        This thread's own, at a multiple of 64: INDEX_BYTES, then for each column STAGE_BYTES, then
        COLUMN_WORDS int64 for each.
    streamed : int
        1 writes past the caches: worth it where much is written.
    """
    done, count = 0, load_i64(shape + COUNT * 8)
    columns = area + INDEX_BYTES + count * STAGE_BYTES
    while done < most:
        chunk = take_next(counter)
        if chunk >= chunks:
            break
        done += 1
        at, here = share + chunk * SHARE_WORDS * 8, found + chunk * FOUND_WORDS * 8
        blocks, rest = load_i64(at), load_i64(at + 8)
        rows, fetched, first = load_i64(here), load_i64(here + 8), load_i64(here + 16)
        if rows == 0 or rows == blocks * BLOCK + rest:
            continue
        if fetched != 0:
            place, capacity = room + load_i64(at + 24), load_i64(at + 32)
            _put_fetched(shape, count, place, capacity, rows, targets, first)
            continue
        for number in range(count):
            column, width = columns + number * _COLUMN, load_i64(shape + (WIDTHS + number) * 8)
            target = load_i64(targets + number * 8) + first * width
            skip = target & (_LINE - 1)
            store_64(column, width)
            store_64(column + 8, load_i64(sources + (chunk * count + number) * 8))
            store_64(column + 16, target)
            store_64(column + 24, area + INDEX_BYTES + number * STAGE_BYTES)
            store_64(column + 32, skip)
            store_64(column + 40, skip)
        place = words + load_i64(at + 16)
        _compact_columns(columns, shape, count, place, blocks, rest, area, streamed)
    return done
