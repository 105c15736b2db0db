"""Rows as records, dealt into partitions and written past the caches.

Records of a chunk lie in pages of PAGE; a page belongs to one partition, and partitions have lists
of pages, so that no pass is needed to count and one frequent key needs no more room than many rare
ones. A block function gives the words of 64 records column by column: it works in vectors, and a
word goes straight to where its partition's next records are gathered, in the first-level cache.
"""

from numba import njit

from wherry.kernels.layout import BLOCK, PAGE, STAGE
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    call_values,
    copy_line,
    fence,
    load_i64,
    lowest,
    shift_right,
    store_32,
    store_64,
    stream_line,
)

_COLUMN = BLOCK * 8


@njit(inline="always")
def mix(hashed, word):
    """Give a hash that one more word has gone into; its top bits are the good ones."""
    # The high half is folded in, because a product's high bits do not depend on it alone.
    word = hashed ^ word
    return (word ^ shift_right(word, 32)) * -7046029254386353131


@njit(inline="always")
def mix_further(hashed, number, word):
    """Give a hash that word `number` of a key has gone into, which is not its first.

    Words that are 0 change nothing: a chunk without nulls leaves those of null bits out.
    """
    mixed = mix(hashed ^ shift_right(hashed, 29), word + number)
    return mixed if word != 0 else hashed


@njit(inline="always")
def hash_of(key, words):
    """Give the hash of a key of `words` words that lie side by side."""
    hashed = mix(0, load_i64(key))
    for w in range(1, words):
        hashed = mix_further(hashed, w, load_i64(key + w * 8))
    return hashed


@njit(inline="always")
def _new_page(part, page, used, following, first):
    """Add page `used` behind the last one of a partition."""
    if page < 0:
        store_32(first + part * 4, used)
    else:
        store_32(following + page * 4, used)


@njit(inline="always")
def _stage(
    part, source, head, words, number, stage, row_stage, fill, current, pages, rows, following,
    first, used, room,
):  # fmt: skip
    """Put a record where its partition's are gathered, STAGE of which are written at once.

    Gives how many pages are used; -1 if there is no room for one more.
    """
    staged = load_i64(fill + part * 8)
    width = words * 8
    place = part * STAGE + (staged & (STAGE - 1))
    target = stage + place * width
    store_64(target, head)
    if words > 1:
        store_64(target + 8, load_i64(source + _COLUMN))
    for w in range(2, words):
        store_64(target + w * 8, load_i64(source + w * _COLUMN))
    if rows != 0:
        store_32(row_stage + place * 4, number)
    staged += 1
    store_64(fill + part * 8, staged)
    if staged & (STAGE - 1) == 0:
        page = load_i64(current + part * 8)
        if staged & (PAGE - 1) == STAGE & (PAGE - 1):
            if used == room:
                return -1
            _new_page(part, page, used, following, first)
            page = used
            store_64(current + part * 8, page)
            used += 1
        place = page * PAGE + ((staged - STAGE) & (PAGE - 1))
        gathered = stage + part * STAGE * width
        for offset in range(0, STAGE * width, 64):
            stream_line(pages + place * width + offset, gathered + offset)
        if rows != 0:
            stream_line(rows + place * 4, row_stage + part * STAGE * 4)
    return used


@njit(inline="always")
def _write_rest(
    bits, words, stage, row_stage, fill, current, pages, rows, following, first, counts, used, room
):
    """Write what is gathered still; give how many pages are used, -1 if there is no room."""
    width = words * 8
    for part in range(1 << bits):
        staged = load_i64(fill + part * 8)
        rest = staged & (STAGE - 1)
        if rest > 0:
            page = load_i64(current + part * 8)
            start = staged - rest
            if start & (PAGE - 1) == 0:
                if used == room:
                    return -1
                _new_page(part, page, used, following, first)
                page = used
                used += 1
            place = page * PAGE + (start & (PAGE - 1))
            gathered = stage + part * STAGE * width
            # Whole lines: a page has room for STAGE records wherever some of them begin.
            for offset in range(0, STAGE * width, 64):
                copy_line(pages + place * width + offset, gathered + offset)
            if rows != 0:
                copy_line(rows + place * 4, row_stage + part * STAGE * 4)
        store_64(counts + part * 8, staged)
    fence()
    return used


@kernel(20)
def deal(
    record,
    context,
    blocks,
    tail,
    tail_rows,
    chosen,
    key_words,
    words,
    bits,
    scratch,
    parts,
    stage,
    fill,
    current,
    pages,
    rows,
    following,
    first,
    counts,
    room,
):
    """Write the chosen rows of a chunk as records, by hash of their key.

    Parameters
    ----------
    record : int
        Address of `record(context, row, target)`: 64 records of `words` words, word by word.
    chosen : int
        Words of bits, one a block, of the rows that count; 0 for all.
    key_words : int
        How many words of a record are hashed: those of key and null bits.
    bits : int
        Partitions are numbered by so many top bits of the hash.
    scratch, parts, stage, fill, current : int
        Room for a block of records and for as many int64; for STAGE records and STAGE int32 a
        partition, each at a multiple of 64; an int64 a partition, zero; and one more, -1.
    pages, rows : int
        Where records go, a multiple of 64, and the int32 row numbers that go with them.
    following, first, counts : int
        The page behind each page and the first page of each partition, int32; how many records
        each partition has, int64.
    room : int
        Pages there are.

    Returns
    -------
    int
        How many pages were used; -1 if there was no room.
    """
    row_stage = stage + (STAGE * words * 8 << bits)
    used, shift = 0, 64 - bits
    for block in range(blocks + (1 if tail_rows > 0 else 0)):
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        if chosen != 0:
            word = load_i64(chosen + block * 8)
        if word == 0:
            continue
        call_values(record, at, row, scratch)
        for lane in range(BLOCK):
            hashed = mix(0, load_i64(scratch + lane * 8))
            store_64(parts + lane * 8, hashed)
        for w in range(1, key_words):
            for lane in range(BLOCK):
                hashed = load_i64(parts + lane * 8)
                key = load_i64(scratch + w * _COLUMN + lane * 8)
                store_64(parts + lane * 8, mix_further(hashed, w, key))
        while word != 0:
            lane = lowest(word)
            word &= word - 1
            source = scratch + lane * 8
            part = shift_right(load_i64(parts + lane * 8), shift)
            used = _stage(
                part, source, load_i64(source), words, block * BLOCK + lane, stage, row_stage,
                fill, current, pages, rows, following, first, used, room,
            )  # fmt: skip
            if used < 0:
                return -1
    return _write_rest(
        bits, words, stage, row_stage, fill, current, pages, rows, following, first, counts, used,
        room,
    )  # fmt: skip


@kernel(19)
def deal_slots(
    record,
    context,
    blocks,
    tail,
    tail_rows,
    chosen,
    slots,
    words,
    bits,
    shift,
    scratch,
    stage,
    fill,
    current,
    pages,
    following,
    first,
    counts,
    room,
):
    """Do the same for records whose first word is a number below `slots`, by its top bits.

    What `shift` leaves of it numbers the partition. The row's number in the chunk comes into the
    word's high half.

    Returns
    -------
    int
        How many pages were used; -1 if there was no room, -2 if a number is not below `slots`.
    """
    used = 0
    for block in range(blocks + (1 if tail_rows > 0 else 0)):
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        if chosen != 0:
            word = load_i64(chosen + block * 8)
        if word == 0:
            continue
        call_values(record, at, row, scratch)
        while word != 0:
            lane = lowest(word)
            word &= word - 1
            source = scratch + lane * 8
            slot = load_i64(source)
            if slot < 0 or slot >= slots:
                return -2
            head = slot | ((block * BLOCK + lane) << 32)
            used = _stage(
                shift_right(slot, shift), source, head, words, 0, stage, 0, fill, current, pages,
                0, following, first, used, room,
            )  # fmt: skip
            if used < 0:
                return -1
    return _write_rest(
        bits, words, stage, 0, fill, current, pages, 0, following, first, counts, used, room
    )
