"""The pages of a column chunk: their headers read (Thrift, compact protocol) and checked."""

from numba import njit

from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.vector import load_i64, load_u8, shift_right, store_64
from wherry.kernels.parquet_layout import CODEC, ENCODING, FAULT, KIND, PAGE, PAGES

_TRUE, _FALSE, _BYTE, _SHORT, _INT, _LONG, _DOUBLE, _BINARY, _LIST, _SET = range(1, 11)
_STRUCT = 12
_DEEPEST = 8
_PAGE_BYTES = 8 * PAGE.COUNT
_START, _STORED, _SIZE = (8 * p for p in (PAGE.START, PAGE.STORED, PAGE.SIZE))
_VALUES, _ENCODING, _LEVELS = (8 * p for p in (PAGE.VALUES, PAGE.ENCODING, PAGE.LEVELS))
_REPEATS, _PACKED, _HEADER = (8 * p for p in (PAGE.REPEATS, PAGE.PACKED, PAGE.HEADER))
_ROWS, _CHECKSUM = 8 * PAGE.ROWS, 8 * PAGE.CHECKSUM
_LEVEL_CODING = _LEVELS  # version 1 has no size of levels, but says how they are encoded
_MOST_SNAPPY = 32
"""Bytes that a byte of snappy can stand for, rounded up: 3 bytes give 64 at most."""


@njit(nogil=True, error_model="numpy")
def varint(at, end):
    """Give an unsigned number of at most 64 bits and where it ends, or a fault as that."""
    value = shift = 0
    while at < end:
        byte = load_u8(at)
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            return 0, FAULT.HEADER_FIELD
    return 0, FAULT.HEADER_ENDS


@njit(nogil=True, error_model="numpy")
def zigzag(value):
    """Give the signed number that `value` stands for."""
    return shift_right(value, 1) ^ -(value & 1)


@njit(nogil=True, error_model="numpy")
def _number(at, end):
    """Give a signed number of 32 bits and where it ends, or a fault as that."""
    value, at = varint(at, end)
    value = zigzag(value)
    return value, at if value == (value << 32) >> 32 else FAULT.HEADER_FIELD


@njit(nogil=True, error_model="numpy")
def _field(at, end, last):
    """Give type, number and place of the next field; type 0 ends a struct."""
    if at >= end:
        return 0, 0, FAULT.HEADER_ENDS
    byte = load_u8(at)
    at += 1
    kind = byte & 15
    if byte == 0:
        return 0, 0, at
    if byte >> 4 != 0:
        return kind, last + (byte >> 4), at
    number, at = varint(at, end)
    return kind, zigzag(number), at


@njit(nogil=True, error_model="numpy")
def _skip_one(kind, at, end):
    """Give where a field that is no struct ends."""
    if kind in (_TRUE, _FALSE):
        return at
    if kind in (_BYTE, _DOUBLE):
        size = 1 if kind == _BYTE else 8
        return at + size if size <= end - at else FAULT.HEADER_ENDS
    if kind in (_SHORT, _INT, _LONG):
        _, at = varint(at, end)
        return at
    if kind == _BINARY:
        size, at = varint(at, end)
        if at < 0:
            return at
        return at + size if 0 <= size <= end - at else FAULT.HEADER_ENDS
    return FAULT.HEADER_FIELD


@njit(nogil=True, error_model="numpy")
def _skip_list(at, end):
    """Give where a list of plain values ends."""
    if at >= end:
        return FAULT.HEADER_ENDS
    byte = load_u8(at)
    at += 1
    size, kind = byte >> 4, byte & 15
    if size == 15:
        size, at = varint(at, end)
    if size < 0 or size > end - at:
        return FAULT.HEADER_FIELD
    for _ in range(size):
        if at < 0:
            return at
        at = _skip_one(_BYTE if kind <= _FALSE else kind, at, end)
    return at


@njit(nogil=True, error_model="numpy")
def _skip(kind, at, end):
    """Give where a field of any type ends; a struct's own fields are skipped in a loop."""
    depth = 0
    while True:
        if kind == _STRUCT:
            depth += 1
            if depth > _DEEPEST:
                return FAULT.HEADER_FIELD
        elif kind in (_LIST, _SET):
            at = _skip_list(at, end)
        else:
            at = _skip_one(kind, at, end)
        while True:
            if at < 0 or depth == 0:
                return at
            kind, _, at = _field(at, end, 0)
            if at < 0 or kind != 0:
                break
            depth -= 1
        if at < 0:
            return at


@njit(nogil=True, error_model="numpy")
def _place(page_kind, number):
    """Give which entry of a page holds field `number` of its kind's header; -1 for none."""
    if number == 1:
        return _VALUES
    if page_kind == KIND.DATA_2:
        if number == 3:
            return _ROWS
        if number == 4:
            return _ENCODING
        if number == 5:
            return _LEVELS
        return _REPEATS if number == 6 else -1
    if number == 2:
        return _ENCODING
    return _LEVEL_CODING if page_kind == KIND.DATA and number == 3 else -1


@njit(nogil=True, error_model="numpy")
def _kind_header(at, end, page, page_kind):
    number = 0
    while True:
        kind, number, at = _field(at, end, number)
        if at < 0 or kind == 0:
            return at
        place = _place(page_kind, number)
        if kind == _INT and place >= 0:
            value, at = _number(at, end)
            store_64(page + place, value)
        else:
            if page_kind == KIND.DATA_2 and number == 7:
                store_64(page + _PACKED, 1 if kind == _TRUE else 0)
            at = _skip(kind, at, end)
        if at < 0:
            return at


@njit(nogil=True, error_model="numpy")
def _header_of(page_kind):
    """Give the number of the field that holds the header of such pages."""
    if page_kind == KIND.DATA:
        return 5
    return 7 if page_kind == KIND.DICTIONARY else 8 if page_kind == KIND.DATA_2 else -1


@njit(nogil=True, error_model="numpy")
def _header(at, end, page):
    """Fill `page` from the header at `at`; give where the header ends."""
    for entry in range(0, _PAGE_BYTES, 8):
        store_64(page + entry, -1)
    store_64(page + _PACKED, 1)
    store_64(page + _HEADER, at)
    number = 0
    while True:
        kind, number, at = _field(at, end, number)
        if at < 0 or kind == 0:
            return at
        if kind == _INT and 1 <= number <= 4:
            value, at = _number(at, end)
            if number == 4:
                store_64(page + _CHECKSUM, value & 0xFFFFFFFF)
            else:
                store_64(page + (0 if number == 1 else _SIZE if number == 2 else _STORED), value)
        elif kind == _STRUCT and number >= 5 and number != 6:
            page_kind = load_i64(page)
            if number != _header_of(page_kind):
                return FAULT.HEADER_FIELD
            at = _kind_header(at, end, page, page_kind)
        else:
            at = _skip(kind, at, end)
        if at < 0:
            return at


@njit(nogil=True, error_model="numpy")
def _check(page, left, codec):
    """Give 0 or the fault of a page's sizes; `left` bytes of the chunk lie behind its header."""
    kind, stored, size = load_i64(page), load_i64(page + _STORED), load_i64(page + _SIZE)
    if kind < KIND.DATA or kind > KIND.DATA_2:
        return FAULT.PAGE_KIND
    if stored < 0 or stored > left or size < 0:
        return FAULT.PAGE_SIZE
    packed = load_i64(page + _PACKED) == 1 and codec != CODEC.NONE
    if packed and codec == CODEC.SNAPPY and size > stored * _MOST_SNAPPY:
        return FAULT.PAGE_SIZE
    if not packed and size != stored:
        return FAULT.PAGE_SIZE
    if kind == KIND.INDEX:
        return 0
    if load_i64(page + _VALUES) < 0 or load_i64(page + _ENCODING) < 0:
        return FAULT.HEADER_FIELD
    if kind == KIND.DATA_2:
        levels, repeats = load_i64(page + _LEVELS), load_i64(page + _REPEATS)
        if levels < 0 or repeats < 0 or levels + repeats > min(stored, size):
            return FAULT.PAGE_SIZE
    return 0


@njit(nogil=True, error_model="numpy")
def _raise_to(address, value):
    store_64(address, max(load_i64(address), value))


@njit(nogil=True, error_model="numpy")
def _sum_up(page, summary):
    """Note what a data page adds to what is known of them all."""
    encoding = load_i64(page + _ENCODING)
    _raise_to(summary + 8 * PAGES.MOST_VALUES, load_i64(page + _VALUES))
    _raise_to(summary + 8 * PAGES.MOST_SIZE, load_i64(page + _SIZE))
    if encoding != ENCODING.DICTIONARY and encoding != ENCODING.PLAIN_DICTIONARY:
        plain, size = summary + 8 * PAGES.PLAIN, summary + 8 * PAGES.PLAIN_SIZE
        store_64(plain, load_i64(plain) + 1)
        store_64(size, load_i64(size) + load_i64(page + _SIZE))


@kernel(7)
def read_pages(start, end, rows, codec, pages, room, summary):
    """Write the pages from `start` to `end`, index pages left out; give how many, or a fault.

    The data pages of a chunk hold exactly `rows` values; a dictionary is the first page or none.
    `summary` is what `PAGES` of the layout names, zeros before.
    """
    at, count, seen = start, 0, 0
    while at < end and seen < rows:
        store_64(summary + 8 * PAGES.FAULT_AT, at)
        if count >= room:
            return FAULT.TOO_MANY_PAGES
        page = pages + count * _PAGE_BYTES
        at = _header(at, end, page)
        if at < 0:
            return at
        fault = _check(page, end - at, codec)
        if fault < 0:
            return fault
        store_64(page + _START, at)
        at += load_i64(page + _STORED)
        kind = load_i64(page)
        if kind == KIND.INDEX:
            continue
        if load_i64(page + _CHECKSUM) >= 0:
            store_64(summary + 8 * PAGES.CHECKED, 1)
        if kind == KIND.DICTIONARY:
            if count > 0:
                return FAULT.DICTIONARY_PLACE
            store_64(summary + 8 * PAGES.ENTRIES, load_i64(page + _VALUES))
            store_64(summary + 8 * PAGES.TABLE_SIZE, load_i64(page + _SIZE))
            store_64(summary + 8 * PAGES.HAS_TABLE, 1)
        else:
            seen += load_i64(page + _VALUES)
            if seen > rows:
                return FAULT.VALUE_COUNT
            _sum_up(page, summary)
        count += 1
    return count if seen == rows else FAULT.VALUE_COUNT
