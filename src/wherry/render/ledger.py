"""Which bytes of an output are the input's own and which are new, read off buffer addresses."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import pyarrow as pa

from wherry.data.chunk import column_bytes

Part = tuple[pa.Buffer, int]
"""A buffer and how many of its bytes an array's own rows refer to."""


def account(made: pa.RecordBatch, *given: pa.RecordBatch) -> tuple[int, int]:
    """Give how many bytes of `made` lie in buffers of `given`, and how many were newly written.

    Bytes are what the rows refer to (`wherry.data.chunk.column_bytes`), not what buffers hold
    besides. A column of text views splits: its views may be new while what they point to is not.
    """
    inside = _Regions(given)
    referenced = copied = 0
    for column in made.columns:
        for buffer, nbytes in _parts(column):
            if buffer.address in inside:
                referenced += nbytes
            else:
                copied += nbytes
    return referenced, copied


def written(made: pa.RecordBatch) -> int:
    """Give the bytes of a batch that is known to be all new."""
    return sum(column_bytes(column) for column in made.columns)


class _Regions:
    def __init__(self, batches: tuple[pa.RecordBatch, ...]) -> None:
        found = {(b.address, b.size) for batch in batches for b in _buffers(batch)}
        self._starts = sorted(found)

    def __contains__(self, address: int) -> bool:
        at = bisect_right(self._starts, (address, 1 << 63)) - 1
        return at >= 0 and address < sum(self._starts[at])


def _buffers(batch: pa.RecordBatch) -> Iterator[pa.Buffer]:
    for column in batch.columns:
        dictionary = pa.types.is_dictionary(column.type)
        for array in (column.indices, column.dictionary) if dictionary else (column,):
            yield from (b for b in array.buffers() if b is not None and b.size)


def _parts(array: pa.Array) -> Iterator[Part]:
    if len(array) == 0:
        return
    if pa.types.is_dictionary(array.type):
        yield from _parts(array.indices)
        yield from _parts(array.dictionary)
        return
    rows = len(array)
    validity, *rest = array.buffers()
    total = column_bytes(array)
    if validity is not None:
        bits = (array.offset % 8 + rows + 7) // 8
        total -= bits
        yield validity, bits
    if pa.types.is_string_view(array.type):
        yield rest[0], 16 * rows
        yield from ((data, total - 16 * rows) for data in rest[1:2])
    elif len(rest) == 2:
        offsets = (rows + 1) * (8 if pa.types.is_large_string(array.type) else 4)
        yield rest[0], offsets
        yield from ((data, total - offsets) for data in rest[1:] if data is not None)
    else:
        yield rest[0], total
