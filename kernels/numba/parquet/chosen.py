"""Rows chosen by the values of dictionaries: several columns in one call, none decoded in vain.

First every dictionary is tested; then rows are told by the flags of its values, column by column,
the one that fewest values pass first, each among the rows that are left.
"""

from numba import njit

from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.filter import select
from wherry.kernels.numba.parquet.chunk import decode
from wherry.kernels.numba.parquet.lanes import bits_to_bytes
from wherry.kernels.numba.vector import BLOCK, load_i64, popcount, store_64
from wherry.kernels.parquet_layout import JOB, TEST, UNSOUND

_TEST_BYTES = 8 * TEST.COUNT


@njit(nogil=True, error_model="numpy")
def _get(test, entry):
    return load_i64(test + entry * 8)


@njit(nogil=True, error_model="numpy")
def _set(test, entry, value):
    store_64(test + entry * 8, value)


@njit(nogil=True, error_model="numpy")
def _is_sound(test):
    """Say whether all values of 16 bytes are within what their type allows."""
    values, low, high = _get(test, TEST.VALUES), _get(test, TEST.LOW), _get(test, TEST.HIGH)
    for i in range(_get(test, TEST.ENTRIES)):
        value = load_i64(values + i * 16)
        if value < low or value > high or load_i64(values + i * 16 + 8) != value >> 63:
            return False
    return True


@njit(nogil=True, error_model="numpy")
def _tested(test):
    """Decode a dictionary and write a byte for each value, 1 if it passes; give 0 or a fault."""
    fault = decode(_get(test, TEST.DICTIONARY))
    if fault != 0:
        return fault
    entries, width = _get(test, TEST.ENTRIES), _get(test, TEST.WIDTH)
    if _get(test, TEST.CHECKED) != 0 and not _is_sound(test):
        return UNSOUND
    # Block functions read whole blocks.
    behind = _get(test, TEST.VALUES) + entries * width
    for at in range(0, BLOCK * width, 8):
        store_64(behind + at, 0)
    words, flags = _get(test, TEST.WORDS), _get(test, TEST.FLAGS)
    blocks = entries // BLOCK
    passed = select(
        _get(test, TEST.MASK),
        _get(test, TEST.WHOLE),
        blocks,
        _get(test, TEST.PADDED),
        entries - blocks * BLOCK,
        words,
    )
    if entries & (BLOCK - 1) == 0:
        store_64(words + blocks * 8, 0)
    for block in range(blocks + 1):
        bits_to_bytes(load_i64(words + block * 8), flags + block * BLOCK)
    bits_to_bytes(0, flags + (blocks + 1) * BLOCK)
    _set(test, TEST.PASSED, passed)
    return 0


@njit(nogil=True, error_model="numpy")
def _next(tests, count):
    """Give the test whose values pass least often among those that tell rows apart; -1: none."""
    best = -1
    for number in range(count):
        test = tests + number * _TEST_BYTES
        passed, entries = _get(test, TEST.PASSED), _get(test, TEST.ENTRIES)
        if _get(test, TEST.DONE) != 0 or (passed == entries and _get(test, TEST.NULLS) == 0):
            continue
        if best >= 0:
            other = tests + best * _TEST_BYTES
            if passed * _get(other, TEST.ENTRIES) >= _get(other, TEST.PASSED) * entries:
                continue
        best = number
    return best


@njit(nogil=True, error_model="numpy")
def _match(test, kept, words, bits, target):
    """Write which rows of `kept` (0: of all) pass; give how many, or a fault."""
    job = _get(test, TEST.MATCH)
    for word in range(words):
        store_64(bits + word * 8, 0)
    store_64(job + JOB.KEPT * 8, kept)
    store_64(job + JOB.VALUES * 8, bits)
    store_64(job + JOB.TABLE * 8, _get(test, TEST.FLAGS))
    fault = decode(job)
    if fault != 0:
        return fault
    _set(test, TEST.DONE, 1)
    rows = 0
    for word in range(words):
        found = load_i64(bits + word * 8)
        if kept != 0:
            found &= load_i64(kept + word * 8)
        store_64(target + word * 8, found)
        rows += popcount(found)
    return rows


@kernel(6)
def choose(tests, count, kept, words, bits, target):
    """Write the rows of `kept` (0: of all) that pass all tests; give how many, or a fault.

    Rows are `words` words of bits, in `bits` while they are made. A test that failed is marked
    as `FAILED`. Where every row passes nothing is written, and no test is `DONE`.
    """
    for number in range(count):
        test = tests + number * _TEST_BYTES
        _set(test, TEST.FAILED, 1)
        fault = _tested(test)
        if fault != 0:
            return fault
        _set(test, TEST.FAILED, 0)
        if _get(test, TEST.PASSED) == 0:
            for word in range(words):
                store_64(target + word * 8, 0)
            _set(test, TEST.DONE, 1)
            return 0
    rows = 0
    number = _next(tests, count)
    while number >= 0:
        test = tests + number * _TEST_BYTES
        _set(test, TEST.FAILED, 1)
        rows = _match(test, kept, words, bits, target)
        if rows < 0:
            return rows
        _set(test, TEST.FAILED, 0)
        if rows == 0:
            return 0
        kept = target
        number = _next(tests, count)
    return rows
