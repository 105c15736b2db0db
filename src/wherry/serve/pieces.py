"""Pieces as batches that may leave a process, and batches that came as pieces again."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from wherry.base.errors import CorruptError, InputError
from wherry.data.arrays import empty_batch
from wherry.data.encoded import Encoded
from wherry.render.gather import Piece, batches_of, parts_of, several
from wherry.serve.requests import PieceId

STREAM: Final = "wherry.stream"
"""Column of a batch that stands for a piece which is encoded: one row, the bytes of the stream."""
_ROWS: Final = b"wherry.rows"
"""Key of the schema's metadata that says how many rows are encoded."""


def as_batches(piece: Piece, number: PieceId) -> list[pa.RecordBatch]:
    """Give what stands for a piece on its way: one batch or more, because a schema is told by them.

    Raises
    ------
    InputError
        If its rows are not written: they wait for the stage that will put them in order.
    """
    if isinstance(piece, Encoded):
        return [_of_stream(piece)]
    parts = parts_of([piece])
    for part in parts:
        if not isinstance(part, pa.RecordBatch | pa.Table):
            raise InputError(f"piece {number} waits for its next stage here; it cannot leave")
    return batches_of(piece) or [empty_batch(parts[0].schema)]


def as_piece(batches: list[pa.RecordBatch]) -> Piece:
    """Give the piece that batches stand for: rows, or an encoded answer.

    Raises
    ------
    CorruptError
        If there is no batch, or one that is no encoded answer says that it is.
    """
    if not batches:
        raise CorruptError("a piece came without a batch; possible: one or more")
    schema = batches[0].schema
    rows = (schema.metadata or {}).get(_ROWS)
    if rows is None:
        return several(batches)
    whole = len(batches) == 1 == batches[0].num_rows and schema.types == [pa.large_binary()]
    if not whole or not rows.isdigit():
        raise CorruptError("a piece came that says it is encoded, and is not")
    stream = batches[0].column(0).buffers()[2]
    return Encoded(pa.py_buffer(b"") if stream is None else stream, int(rows))


def _of_stream(piece: Encoded) -> pa.RecordBatch:
    offsets = pa.py_buffer(b"".join(n.to_bytes(8, "little") for n in (0, piece.stream.size)))
    array = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, piece.stream])
    field = pa.field(STREAM, pa.large_binary())
    schema = pa.schema([field], {_ROWS: str(piece.num_rows)})
    return pa.RecordBatch.from_arrays([array], schema=schema)
