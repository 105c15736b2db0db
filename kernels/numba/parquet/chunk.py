"""A column chunk decoded page by page: into Arrow's buffers, or as indices of its dictionary.

The caller has read the pages and made room; `codes.Job` says what it hands over. Pages of which no
row is wanted are neither decompressed nor looked at.
"""

from numba import njit

from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.parquet.delta import differences
from wherry.kernels.numba.parquet.lanes import copy_bytes
from wherry.kernels.numba.parquet.levels import count_bits, integers, validity
from wherry.kernels.numba.parquet.rows import (
    keep_bits,
    keep_rows,
    put_codes,
    put_flags,
    put_texts,
    spread_rows,
    text_size,
)
from wherry.kernels.numba.parquet.snappy import decompress
from wherry.kernels.numba.parquet.values import (
    bytes_of_bits,
    check_codes,
    converted,
    integer_range,
    is_coded,
    is_slim,
    looked_up,
    looked_up_wide,
    slim,
    spans,
    views,
)
from wherry.kernels.numba.vector import load_i32, load_i64, load_u8, store_64
from wherry.kernels.parquet_layout import (
    CODEC,
    ENCODING,
    FAULT,
    FORM,
    JOB,
    KIND,
    MORE_TEXT,
    PAGE,
    SINK,
)

_PAGE_BYTES = 8 * PAGE.COUNT
_MOST_OFFSET = (1 << 31) - 1


@njit(nogil=True, error_model="numpy")
def _get(job, entry):
    return load_i64(job + entry * 8)


@njit(nogil=True, error_model="numpy")
def _set(job, entry, value):
    store_64(job + entry * 8, value)


@njit(nogil=True, error_model="numpy")
def _unpacked(job, page, skipped, target):
    """Give where the body of a page lies decompressed, its first `skipped` bytes left out."""
    source = _get(page, PAGE.START) + skipped
    if _get(job, JOB.CODEC) != CODEC.SNAPPY or _get(page, PAGE.PACKED) == 0:
        return source
    stored = _get(page, PAGE.STORED) - skipped
    size = _get(page, PAGE.SIZE) - skipped
    if size == 0 and stored == 0:
        return source
    fault = decompress(source, stored, target, size)
    return fault if fault < 0 else target


@njit(nogil=True, error_model="numpy")
def _table(job, page):
    """Make the dictionary's page into a table of values, or into a buffer of text and views."""
    count, size = _get(page, PAGE.VALUES), _get(page, PAGE.SIZE)
    at = _unpacked(job, page, 0, _get(job, JOB.TABLE_TEXT))
    if at < 0:
        return at
    form, table = _get(job, JOB.FORM), _get(job, JOB.TABLE)
    _set(job, JOB.TABLE_COUNT, count)
    if form == FORM.TEXT:
        if _get(job, JOB.SINK) == SINK.VIEWS:
            copy_bytes(_get(job, JOB.TEXT), at, size)
            _set(job, JOB.TEXT_USED, size)
            return views(at, at + size, count, 0, table)
        _set(job, JOB.TABLE_TEXT, at)
        return spans(at, at + size, count, table)
    stored_width = _get(job, JOB.STORED_WIDTH)
    if count * stored_width > size:
        return FAULT.DICTIONARY_END
    if form == FORM.SAME or form == FORM.WIDEN_8:
        _set(job, JOB.TABLE, at)  # It is a table as it lies.
        return 0
    if is_slim(form, stored_width):
        return slim(form, stored_width, at, count, table)
    return converted(form, stored_width, _get(job, JOB.WIDTH), at, count, table)


@njit(nogil=True, error_model="numpy")
def _find_range(job):
    kind, count = _get(job, JOB.RANGE), _get(job, JOB.TABLE_COUNT)
    if kind != 0 and count > 0:
        low, high = integer_range(kind, _get(job, JOB.TABLE), count)
        _set(job, JOB.LOW, low)
        _set(job, JOB.HIGH, high)


@njit(nogil=True, error_model="numpy")
def _plain(job, at, end, count, target):
    form, stored_width = _get(job, JOB.FORM), _get(job, JOB.STORED_WIDTH)
    if form == FORM.TEXT:
        if _get(job, JOB.SINK) != SINK.VIEWS:
            return spans(at, end, count, target)
        used = _get(job, JOB.TEXT_USED)
        if used + (end - at) > _get(job, JOB.TEXT_ROOM):
            return FAULT.TEXT_TOTAL
        copy_bytes(_get(job, JOB.TEXT) + used, at, end - at)
        _set(job, JOB.TEXT_USED, used + (end - at))
        return views(at, end, count, used, target)
    if form == FORM.BOOLEAN:
        if (count + 7) >> 3 > end - at:
            return FAULT.VALUES_END
        return bytes_of_bits(at, count, target)
    if count * stored_width > end - at:
        return FAULT.VALUES_END
    return converted(form, stored_width, _get(job, JOB.WIDTH), at, count, target)


@njit(nogil=True, error_model="numpy")
def _flags(job, at, end, count, target):
    """Read booleans that are run-length encoded behind their size in bytes."""
    if end - at < 4:
        return FAULT.VALUES_END
    size = load_i32(at) & 0xFFFFFFFF
    if size > end - at - 4:
        return FAULT.VALUES_END
    bits = _get(job, JOB.CODES)
    found = validity(at + 4, at + 4 + size, count, bits, 0)
    return found if found < 0 else bytes_of_bits(bits, count, target)


@njit(nogil=True, error_model="numpy")
def _deltas(job, at, end, count, target):
    stored_width, form = _get(job, JOB.STORED_WIDTH), _get(job, JOB.FORM)
    if form == FORM.SAME:
        return differences(at, end, stored_width, count, _get(job, JOB.STRIP), target)
    held = _get(job, JOB.CODES)
    fault = differences(at, end, stored_width, count, _get(job, JOB.STRIP), held)
    if fault < 0:
        return fault
    return converted(form, stored_width, _get(job, JOB.WIDTH), held, count, target)


@njit(nogil=True, error_model="numpy")
def _coded(job, at, end, count, kept_row, target):
    """Read values that are indices; from `kept_row` on only those of wanted rows, unless -1."""
    limit, codes = _get(job, JOB.TABLE_COUNT), _get(job, JOB.CODES)
    as_codes = _get(job, JOB.SINK) >= SINK.CODES_1
    if limit < 0:
        return FAULT.DICTIONARY_PLACE
    if at >= end:
        return 0 if count == 0 else FAULT.VALUES_END
    place = target if as_codes and kept_row < 0 else codes
    fault = integers(at + 1, end, load_u8(at), count, place)
    if fault < 0:
        return fault
    if as_codes:
        fault = check_codes(limit, place, count)
        if fault == 0 and kept_row >= 0:
            keep_rows(4, codes, _get(job, JOB.KEPT), kept_row, count, target)
        return fault
    if kept_row >= 0:
        # What was a page's indices becomes those of its wanted rows: read ahead, written behind.
        chosen = count_bits(_get(job, JOB.KEPT), kept_row, count)
        held = _get(job, JOB.SPREAD)
        keep_rows(4, codes, _get(job, JOB.KEPT), kept_row, count, held)
        codes, count = held, chosen
    table = _get(job, JOB.TABLE)
    if is_slim(_get(job, JOB.FORM), _get(job, JOB.STORED_WIDTH)):
        return looked_up_wide(table, limit, codes, count, target)
    return looked_up(_get(job, JOB.WIDTH), table, limit, codes, count, target)


@njit(nogil=True, error_model="numpy")
def _decoded(job, page, at, end, count, kept_row, target):
    """Write the `count` values of a page at their width; give 0 or a fault."""
    encoding = _get(page, PAGE.ENCODING)
    if is_coded(encoding):
        return _coded(job, at, end, count, kept_row, target)
    if encoding == ENCODING.PLAIN:
        return _plain(job, at, end, count, target)
    if encoding == ENCODING.RLE and _get(job, JOB.FORM) == FORM.BOOLEAN:
        return _flags(job, at, end, count, target)
    if encoding == ENCODING.DELTA:
        return _deltas(job, at, end, count, target)
    return FAULT.ENCODING


@njit(nogil=True, error_model="numpy")
def _levels(job, page, rows, bits, row):
    """Give where the values of a page begin and end and how many there are, or a fault as that."""
    nullable = _get(job, JOB.NULLABLE)
    if _get(page, PAGE.KIND) == KIND.DATA_2:
        before = _get(page, PAGE.LEVELS)
        if _get(page, PAGE.REPEATS) != 0:
            return 0, 0, FAULT.REPEATED
        at = _get(page, PAGE.START)
        found = validity(at, at + before, rows, bits, row) if nullable else rows
        if found < 0:
            return 0, 0, found
        at = _unpacked(job, page, before, _get(job, JOB.PLAIN_PAGE))
        return at, at + (_get(page, PAGE.SIZE) - before), found if at >= 0 else at
    at = _unpacked(job, page, 0, _get(job, JOB.PLAIN_PAGE))
    if at < 0:
        return 0, 0, at
    end = at + _get(page, PAGE.SIZE)
    if nullable == 0:
        return at, end, rows
    if _get(page, PAGE.LEVELS) != ENCODING.RLE:
        return 0, 0, FAULT.LEVEL_ENCODING
    if end - at < 4:
        return 0, 0, FAULT.LEVELS
    size = load_i32(at) & 0xFFFFFFFF
    at += 4
    if size > end - at:
        return 0, 0, FAULT.LEVELS
    found = validity(at, at + size, rows, bits, row)
    return at + size, end, found


@njit(nogil=True, error_model="numpy")
def _put(job, source, base, count):
    """Put `count` rows down where they do not lie already; give 0, a fault or `MORE_TEXT`."""
    sink, written = _get(job, JOB.SINK), _get(job, JOB.WRITTEN)
    values = _get(job, JOB.VALUES)
    if sink == SINK.TEXT_4 or sink == SINK.TEXT_8:
        used = _get(job, JOB.TEXT_USED)
        needed = used + text_size(source, count)
        if sink == SINK.TEXT_4 and needed > _MOST_OFFSET:
            return FAULT.TEXT_TOTAL
        if needed > _get(job, JOB.TEXT_ROOM):
            _set(job, JOB.NEEDED, needed)
            return MORE_TEXT
        width = 4 if sink == SINK.TEXT_4 else 8
        offsets = values + written * width
        put_texts(source, count, base, width, offsets, used, _get(job, JOB.TEXT))
        _set(job, JOB.TEXT_USED, needed)
    elif sink == SINK.BITS:
        put_flags(source, count, values, written)
    elif sink == SINK.CODES_1:
        put_codes(1, source, count, values + written)
    elif sink == SINK.CODES_2:
        put_codes(2, source, count, values + written * 2)
    return 0


@njit(nogil=True, error_model="numpy")
def _lies_in_place(sink):
    return sink == SINK.FIXED or sink == SINK.VIEWS or sink == SINK.CODES_4


@njit(nogil=True, error_model="numpy")
def _page(job, page, rows, chosen):
    """Decode one data page of `rows` rows, of which `chosen` are wanted."""
    width, sink = _get(job, JOB.WIDTH), _get(job, JOB.SINK)
    kept = 0 if _get(job, JOB.IN_PLACE) != 0 else _get(job, JOB.KEPT)
    row, written, valid = _get(job, JOB.ROW), _get(job, JOB.WRITTEN), _get(job, JOB.VALID)
    bits, bit = (_get(job, JOB.BITS), 0) if kept != 0 else (valid, written)
    at, end, count = _levels(job, page, rows, bits, bit)
    if count < 0:
        return count
    in_place = _get(job, JOB.VALUES) + written * width
    final = in_place if _lies_in_place(sink) else _get(job, JOB.SPREAD)
    nulls = count < rows
    early = kept != 0 and not nulls and is_coded(_get(page, PAGE.ENCODING))
    late = kept != 0 and not early
    direct = not nulls and not late and _lies_in_place(sink)
    target = final if direct else _get(job, JOB.DENSE)
    fault = _decoded(job, page, at, end, count, row if early else -1, target)
    if fault < 0:
        return fault
    if nulls:
        spread = final if not late and _lies_in_place(sink) else _get(job, JOB.SPREAD)
        spread_rows(width, target, bits, bit, rows, spread)
        target = spread
    if late:
        other = _get(job, JOB.DENSE) if target == _get(job, JOB.SPREAD) else _get(job, JOB.SPREAD)
        moved = in_place if _lies_in_place(sink) else other
        keep_rows(width, target, kept, row, rows, moved)
        target = moved
    base = _get(job, JOB.TABLE_TEXT) if is_coded(_get(page, PAGE.ENCODING)) else at
    fault = _put(job, target, base, chosen)
    if fault != 0:
        return fault
    if _get(job, JOB.NULLABLE) != 0:
        if kept != 0:
            count = keep_bits(bits, kept, row, rows, valid, written)
        _set(job, JOB.VALID_COUNT, _get(job, JOB.VALID_COUNT) + count)
    return 0


@kernel(1)
def decode(job):
    """Run a job from its next page on; give 0, a fault, or `MORE_TEXT` and then be called again."""
    kept, number = _get(job, JOB.KEPT), _get(job, JOB.NEXT)
    in_place = _get(job, JOB.IN_PLACE)
    while number < _get(job, JOB.PAGE_COUNT):
        page = _get(job, JOB.PAGES) + number * _PAGE_BYTES
        _set(job, JOB.FAULT_AT, _get(page, PAGE.HEADER))
        if _get(page, PAGE.KIND) == KIND.DICTIONARY:
            result = _table(job, page)
            if result == 0:
                _find_range(job)
            _set(job, JOB.UNPACKED, _get(job, JOB.UNPACKED) + _get(page, PAGE.SIZE))
        else:
            rows = _get(page, PAGE.VALUES)
            row = _get(job, JOB.ROW)
            chosen = count_bits(kept, row, rows) if kept != 0 else rows
            result = 0
            found = chosen
            if in_place != 0:
                chosen = rows
            if found > 0:
                result = _page(job, page, rows, chosen)
            elif rows > 0:
                _set(job, JOB.SKIPPED, _get(job, JOB.SKIPPED) + 1)
            if result == 0:
                if found > 0:
                    _set(job, JOB.UNPACKED, _get(job, JOB.UNPACKED) + _get(page, PAGE.SIZE))
                _set(job, JOB.ROW, row + rows)
                _set(job, JOB.WRITTEN, _get(job, JOB.WRITTEN) + chosen)
        if result != 0:
            return result
        number += 1
        _set(job, JOB.NEXT, number)
    return 0


@kernel(3)
def wanted(kept, row, count):
    """Give how many of the bits of `count` rows from `row` on are set."""
    return count_bits(kept, row, count)
