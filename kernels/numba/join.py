"""Keys looked up in the table of a join's build, a block at a time.

A key is `words` int64 words. In front of the table stand bits, which block functions test
(`render.probe`), because they tell most keys that have no match: for keys of one word in a small
range a bit for every possible key, which is exact, otherwise two bits for each hash. The table
itself gives the first row of the build that has the key: by the rank of its bit among those set
where they are exact, otherwise by its hash (open addressing). Rows of one key are chained in the
build's order.

A table is described by int64 values at the places that `kernels.layout` names; an address of 0
means that the part is not there.
"""

from numba import njit

from wherry.kernels.layout import (
    BITS,
    BLOCK,
    FIRSTS,
    KEYS,
    LANES,
    LOW,
    MASK,
    RANGE,
    RANKS,
    SLOTS,
    WORDS,
)
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import (
    call_mask,
    call_probe,
    load_i32,
    load_i64,
    load_u8,
    lowest,
    popcount,
    shift_right,
    store_8,
    store_32,
    store_64,
)


@njit(inline="always")
def _mixed(hashed, word):
    hashed = (hashed ^ word) * -7046029254386353131
    return hashed ^ shift_right(hashed, 32)


@njit(inline="always")
def _hash(keys, step, words):
    """Give the hash of the words at `keys`, `step` bytes apart."""
    hashed = 0
    for word in range(words):
        hashed = _mixed(hashed, load_i64(keys + word * step))
    return hashed


@njit(inline="always")
def _first(table, keys, step, hashed):
    """Give the first row of the build with this key, by hash; -1 if there is none."""
    slots, mask = load_i64(table + 8 * SLOTS), load_i64(table + 8 * MASK)
    known, words = load_i64(table + 8 * KEYS), load_i64(table + 8 * WORDS)
    slot = hashed & mask
    while True:
        row = load_i32(slots + slot * 4)
        if row < 0:
            return row
        same = True
        for word in range(words):
            other = load_i64(known + (row * words + word) * 8)
            same = same and other == load_i64(keys + word * step)
        if same:
            return row
        slot = (slot + 1) & mask


@njit(inline="always")
def _rank(table, place):
    """Give how many bits are set before a place."""
    ranks, bits = load_i64(table + 8 * RANKS), load_i64(table + 8 * BITS)
    word = place >> 6
    before = load_i64(bits + word * 8) & ((1 << (place & 63)) - 1)
    return load_i32(ranks + word * 4) + popcount(before)


@kernel(3)
def member(table, keys, needed):
    """Give which of LANES keys (word by word, LANES of each) are in the build, of those needed."""
    words = load_i64(table + 8 * WORDS)
    found = 0
    while needed != 0:
        lane = lowest(needed)
        needed &= needed - 1
        at = keys + lane * 8
        row = _first(table, at, LANES * 8, _hash(at, LANES * 8, words))
        found |= (1 if row >= 0 else 0) << lane
    return found


@kernel(12)
def find(
    mask, probe, context, blocks, tail, tail_rows, table, none, words, rows, scratch, progress
):
    """Find the first match of every row that passes.

    Parameters
    ----------
    probe : int
        Address of the block function that writes keys and tells which of them may have a match.
    none : int
        The row number that stands for no match; -1 leaves rows without a match out.
    words : int
        Gets a word a block: the rows that are kept.
    rows : int
        Gets an int64 for each row kept: its first match.
    scratch : int
        Room for a block of keys.
    progress : int
        Gets the number of rows that passed.

    Returns
    -------
    int
        The number of rows kept.
    """
    exact, low = load_i64(table + 8 * RANGE) > 0, load_i64(table + 8 * LOW)
    size = load_i64(table + 8 * WORDS)
    kept = passed = 0
    for block in range(blocks + (1 if tail_rows > 0 else 0)):
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        if mask != 0:
            word &= call_mask(mask, at, row)
        passed += popcount(word)
        selected = candidates = 0
        if word != 0:
            candidates = call_probe(probe, at, row, table, scratch)
        rest = word if none >= 0 else word & candidates
        while rest != 0:
            lane = lowest(rest)
            rest &= rest - 1
            first = -1
            if (candidates >> lane) & 1:
                key = scratch + lane * 8
                if exact:
                    place = _rank(table, load_i64(key) - low) * 4
                    first = load_i32(load_i64(table + 8 * FIRSTS) + place)
                else:
                    first = _first(table, key, BLOCK * 8, _hash(key, BLOCK * 8, size))
            first = none if first < 0 else first
            if first >= 0:
                selected |= 1 << lane
                store_64(rows + kept * 8, first)
                kept += 1
        store_64(words + block * 8, selected)
    store_64(progress, passed)
    return kept


@kernel(3)
def count_pairs(firsts, count, counts):
    """Give how many pairs `count` rows make, `counts` (int32) holding them by first match."""
    pairs = 0
    for i in range(count):
        pairs += load_i32(counts + load_i64(firsts + i * 8) * 4)
    return pairs


@kernel(5)
def expand(firsts, count, following, left, right):
    """Write for every pair which of the rows it has and which of the build's (both int64).

    `following` holds the chains, as int32.
    """
    made = 0
    for i in range(count):
        row = load_i64(firsts + i * 8)
        while row >= 0:
            store_64(left + made * 8, i)
            store_64(right + made * 8, row)
            made += 1
            row = load_i32(following + row * 4)
    return made


@kernel(4)
def mark(keys, count, low, bits):
    """Set the bit of every one-word key."""
    for i in range(count):
        place = load_i64(keys + i * 8) - low
        store_8(bits + (place >> 3), load_u8(bits + (place >> 3)) | (1 << (place & 7)))
    return count


@kernel(3)
def rank(bits, words, ranks):
    """Write (int32) how many bits are set before each word of 64; give how many are set."""
    total = 0
    for word in range(words):
        store_32(ranks + word * 4, total)
        total += popcount(load_i64(bits + word * 8))
    return total


@kernel(5)
def mark_hashes(keys, count, words, shift, bits):
    """Set two bits of every key's hash in one 32-bit word."""
    for i in range(count):
        hashed = _hash(keys + i * words * 8, 8, words)
        at = bits + shift_right(hashed, shift) * 4
        store_32(at, load_i32(at) | (1 << (hashed & 31)) | (1 << ((hashed >> 5) & 31)))
    return count


@njit(inline="always")
def _chain(row, first, following, counts):
    """Put `row` before the rows of its key that were entered, of which `first` is the first."""
    store_32(following + row * 4, first)
    store_32(counts + row * 4, 1 + (load_i32(counts + first * 4) if first >= 0 else 0))


@kernel(4)
def enter_ranked(table, count, following, counts):
    """Enter rows, last to first, by the rank of their key's bit; give how many keys differ."""
    keys, low = load_i64(table + 8 * KEYS), load_i64(table + 8 * LOW)
    firsts = load_i64(table + 8 * FIRSTS)
    different = 0
    for i in range(count):
        row = count - 1 - i
        place = firsts + _rank(table, load_i64(keys + row * 8) - low) * 4
        first = load_i32(place)
        different += 1 if first < 0 else 0
        _chain(row, first, following, counts)
        store_32(place, row)
    return different


@kernel(4)
def enter_hashed(table, count, following, counts):
    """Enter rows, last to first, into the slots of `table`; give how many keys differ."""
    slots, mask = load_i64(table + 8 * SLOTS), load_i64(table + 8 * MASK)
    keys, words = load_i64(table + 8 * KEYS), load_i64(table + 8 * WORDS)
    different = 0
    for i in range(count):
        row = count - 1 - i
        slot = _hash(keys + row * words * 8, 8, words) & mask
        while True:
            first = load_i32(slots + slot * 4)
            if first < 0:
                different += 1
                break
            same = True
            for word in range(words):
                other = load_i64(keys + (first * words + word) * 8)
                same = same and other == load_i64(keys + (row * words + word) * 8)
            if same:
                break
            slot = (slot + 1) & mask
        _chain(row, first, following, counts)
        store_32(slots + slot * 4, row)
    return different
