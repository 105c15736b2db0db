"""Rows that are left of a decoded chunk, apart from it.

Rows are handed on as views of text, or as numbers of rows, that lie where they were read. Of a
file's mapping that costs nothing; but memory that a chunk was decoded into stays as long as anyone
refers to it, and an answer of one row in a hundred would hold all that was decoded for it.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from msgspec.structs import replace

from wherry.data.chunk import referenced_bytes
from wherry.data.encoded import trimmed
from wherry.data.segment import SegmentPool
from wherry.devices.work import Work
from wherry.render.gather import Deferred, gather
from wherry.render.ledger import account
from wherry.render.outcome import ChunkOutput
from wherry.render.waiting import Waiting

HELD_SHARE: Final = 1.2
"""How many times their own bytes rows may hold. Less copies nearly all text for nothing."""
APART: Final = "rows are written apart from what was decoded"


def apart(output: ChunkOutput, given: pa.RecordBatch, pool: SegmentPool) -> ChunkOutput:
    """Give an output that holds little more than its own rows of `given`, a decoded chunk."""
    made = output.batch
    if isinstance(made, Deferred):
        if made.nbytes * HELD_SHARE >= referenced_bytes([given]):
            return output
        made = gather([made], (), pool)
    if isinstance(made, Waiting):
        return _dealt(output, made, given, pool)
    if not isinstance(made, pa.RecordBatch):
        return output  # Dealt rows are records of their own.
    whole = trimmed(made, HELD_SHARE)
    if whole is output.batch:
        return output
    referenced, copied = account(whole, given)
    return replace(
        output,
        batch=whole,
        referenced_bytes=referenced,
        copied_bytes=copied,
        why=APART,
        work=output.work + Work(write_bytes=max(0, copied - output.copied_bytes)),
    )


def _dealt(
    output: ChunkOutput, made: Waiting, given: pa.RecordBatch, pool: SegmentPool
) -> ChunkOutput:
    """Give rows that wait as records, if the chunk that they would hold is much larger."""
    if made.nbytes * HELD_SHARE >= referenced_bytes([given]):
        return output
    dealt = made.dealt(pool)
    return replace(
        output,
        batch=dealt,
        referenced_bytes=0,
        copied_bytes=dealt.nbytes,
        why=APART,
        work=output.work + Work(write_bytes=dealt.nbytes),
    )
