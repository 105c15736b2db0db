"""Rows of chunks chosen, and fetched at once while they are few.

What few rows need of other columns lies in lines that nobody else reads. They are asked for as soon
as a row has passed and copied a little later, when they have arrived: so most of their way from
memory is hidden behind the predicate. Where a chunk's rows belong is known only after all chunks
before it, so they wait in a room of the chunk's own; `compact.place_each` writes them.
"""

from numba import njit

from wherry.kernels.layout import BLOCK, COUNT, FEW_ROWS, FOUND_WORDS, SHARE_WORDS, WIDTHS
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    call_mask,
    load_i64,
    lowest,
    popcount,
    prefetch,
    shift_right,
    store_64,
    take_next,
)
from wherry.kernels.numba.widths import copy_value

_WAITING = 64
"""So many rows were asked for before they are copied: enough for the first to have arrived."""


@njit(inline="always")
def _ask(shape, count, sources, first, word, waiting, held):
    """Ask for the rows of a word, and note their numbers."""
    while word != 0:
        row = first + lowest(word)
        word &= word - 1
        store_64(waiting + held * 8, row)
        held += 1
        for number in range(count):
            width = load_i64(shape + (WIDTHS + number) * 8)
            prefetch(load_i64(sources + number * 8) + row * width)
    return held


def _of_width(width, place):
    """Give how rows are copied from the columns of `width` bytes; their count is at `place`."""

    @njit(inline="always")
    def copy(shape, sources, room, capacity, done, waiting, held):
        count = load_i64(shape + place * 8)
        for number in range(count):
            source, at = load_i64(sources + number * 8), room + done * width
            for i in range(held):
                copy_value(width, at + i * width, source + load_i64(waiting + i * 8) * width)
            room += capacity * width
        return sources + count * 8, room

    return copy


_copy_16, _copy_8, _copy_4, _copy_2, _copy_1 = (
    _of_width(width, place) for place, width in enumerate((16, 8, 4, 2, 1))
)


@njit
def _copy(shape, sources, room, capacity, done, waiting, held):
    """Copy the rows that were asked for behind the `done` that are in the room."""
    sources, room = _copy_16(shape, sources, room, capacity, done, waiting, held)
    sources, room = _copy_8(shape, sources, room, capacity, done, waiting, held)
    sources, room = _copy_4(shape, sources, room, capacity, done, waiting, held)
    sources, room = _copy_2(shape, sources, room, capacity, done, waiting, held)
    _copy_1(shape, sources, room, capacity, done, waiting, held)


@njit
def _keep(mask, context, tail, blocks, rest, words, shape, sources, room, capacity, shift, waiting):
    """Choose the rows of a chunk; give how many, and 1 if they are in the room."""
    count = load_i64(shape + COUNT * 8)
    few = capacity > 0
    selected = done = held = block = 0
    while few and block < blocks:
        word = call_mask(mask, context, block * BLOCK)
        store_64(words + block * 8, word)
        if word != 0:
            selected += popcount(word)
            few = selected <= FEW_ROWS + shift_right(block * BLOCK, shift)
            if few:
                held = _ask(shape, count, sources, block * BLOCK, word, waiting, held)
                if held >= _WAITING:
                    _copy(shape, sources, room, capacity, done, waiting, held)
                    done += held
                    held = 0
        block += 1
    while block < blocks:
        word = call_mask(mask, context, block * BLOCK)
        store_64(words + block * 8, word)
        selected += popcount(word)
        block += 1
    if rest > 0:
        word = call_mask(mask, tail, 0) & ((1 << rest) - 1)
        store_64(words + blocks * 8, word)
        selected += popcount(word)
        if few:
            held = _ask(shape, count, sources, blocks * BLOCK, word, waiting, held)
    if few:
        _copy(shape, sources, room, capacity, done, waiting, held)
    return selected, 1 if few else 0


@kernel(14)
def keep_each(
    mask,
    contexts,
    context_words,
    share,
    found,
    chunks,
    shape,
    sources,
    words,
    room,
    shift,
    waiting,
    counter,
    most,
):
    """Choose the rows of chunk after chunk, at most `most` chunks; give how many this call did.

    Parameters
    ----------
    contexts, context_words : int
        Two contexts a chunk, for the whole blocks and for the padded rest, of so many int64.
    share : int
        SHARE_WORDS int64 a chunk: whole blocks, rows of the rest, where its words begin (bytes
        from `words` on), where its room begins (from `room` on), and how many rows of each column
        fit there: FEW_ROWS + BLOCK and as many as `shift` lets pass, or 0 if none is to be fetched.
    found : int
        FOUND_WORDS int64 a chunk; gets how many rows passed, and 1 if the room has them all.
    shape, sources : int
        What columns there are, and for each chunk an int64 a column: where its values lie.
    words : int
        Gets a word of 64 bits a block.
    shift : int
        Rows are few as long as at most FEW_ROWS and one in 2 ** shift passed.
    waiting : int
        This thread's own room for 2 * BLOCK int64.
    """
    done, count = 0, load_i64(shape + COUNT * 8)
    while done < most:
        chunk = take_next(counter)
        if chunk >= chunks:
            break
        done += 1
        at, context = share + chunk * SHARE_WORDS * 8, contexts + chunk * context_words * 16
        selected, fetched = _keep(
            mask,
            context,
            context + context_words * 8,
            load_i64(at),
            load_i64(at + 8),
            words + load_i64(at + 16),
            shape,
            sources + chunk * count * 8,
            room + load_i64(at + 24),
            load_i64(at + 32),
            shift,
            waiting,
        )
        store_64(found + chunk * FOUND_WORDS * 8, selected)
        store_64(found + chunk * FOUND_WORDS * 8 + 8, fetched)
    return done


@kernel(3)
def line_up(share, found, chunks):
    """Write which row of all that are written is each chunk's first; give how many there are.

    Chunks that keep all their rows are not written. Behind the last chunk `found` gets the number
    of those, the number of rows that were not fetched, and 0.
    """
    total = wholes = unfetched = 0
    for chunk in range(chunks):
        at, here = share + chunk * SHARE_WORDS * 8, found + chunk * FOUND_WORDS * 8
        rows = load_i64(here)
        store_64(here + 16, total)
        if rows > 0 and rows == load_i64(at) * BLOCK + load_i64(at + 8):
            wholes += 1
        else:
            total += rows
            unfetched += rows if load_i64(here + 8) == 0 else 0
    end = found + chunks * FOUND_WORDS * 8
    store_64(end, wholes)
    store_64(end + 8, unfetched)
    store_64(end + 16, 0)
    return total
