"""Which bytes of an output are the input's own and which are new, read off buffer addresses."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import pyarrow as pa

from wherry.data.arrays import fields_of, leaves
from wherry.data.chunk import column_bytes
from wherry.data.types import layout_of
from wherry.ir.resolve import call_type, type_of
from wherry.ir.stage import Groups, Matches, Pass, Rows, Step

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


def writes_all(step: Step) -> bool:
    """Tell whether nothing that a step makes can lie in what it was given."""
    if not isinstance(step, Pass) or isinstance(step.sink, Rows | Matches):
        return False
    keys = step.sink.keys if isinstance(step.sink, Groups) else ()
    if any(pa.types.is_dictionary(type_of(node)) for _, node in keys):
        return False
    # Values of rows found by number may be views of the chunk's texts, in structs too.
    picks = [call for _, call in step.sink.calls if call.kind in {"first", "last"}]
    return all(layout_of(call_type(call)) not in {"views", "struct"} for call in picks)


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
        for array in leaves(column):
            yield from (b for b in array.buffers() if b is not None and b.size)


def _parts(array: pa.Array) -> Iterator[Part]:
    if len(array) == 0:
        return
    if pa.types.is_dictionary(array.type):
        yield from _parts(array.indices)
        yield from _parts(array.dictionary)
        return
    for field in fields_of(array):
        yield from _parts(field)
    rows = len(array)
    validity, *rest = array.buffers()
    total = column_bytes(array)
    if validity is not None:
        bits = (array.offset % 8 + rows + 7) // 8
        total -= bits
        yield validity, bits
    match layout_of(array.type):
        case "struct":
            return
        case "views":
            yield rest[0], 16 * rows
            yield from ((data, total - 16 * rows) for data in rest[1:2])
        case "narrow" | "wide" as kind:
            offsets = (rows + 1) * (8 if kind == "wide" else 4)
            yield rest[0], offsets
            yield from ((data, total - offsets) for data in rest[1:] if data is not None)
        case _:
            yield rest[0], total
