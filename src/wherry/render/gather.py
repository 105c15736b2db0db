"""Rows that passed but are not written yet, and how they are written once, where they meet.

A stage whose rows are only going to be ordered or cut, on the same device, does not compact them:
it hands on where its columns lie and which rows of them are left. The stage where chunks meet puts
the row numbers in order and writes each surviving row once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.arrays import plain, take
from wherry.data.chunk import column_bytes, referenced_bytes
from wherry.data.encoded import Encoded, decode
from wherry.data.segment import SegmentPool
from wherry.data.types import layout_of
from wherry.ir.stage import Order, Take
from wherry.render.buckets import bucket_places, side_by_side
from wherry.render.dealt import Dealt
from wherry.render.output import Selection, gather_parts, gathers_parts, keep_rows
from wherry.render.top_k import first_places
from wherry.render.waiting import Waiting

RowNumbers = np.ndarray[Any, Any]

Arrangement = tuple[Order | Take, ...]


class Deferred(Struct, frozen=True):
    """Rows of columns that lie where they were stored.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the rows.
    columns : tuple of (pyarrow.Array, int64 ndarray or None)
        Each column, and which of its values the rows have, in order; None means all.
    num_rows : int
        How many rows.
    """

    schema: pa.Schema
    columns: tuple[tuple[pa.Array, RowNumbers | None], ...]
    num_rows: int

    @property
    def nbytes(self) -> int:
        """The bytes the rows would take if they were written, text taken at its mean length."""
        return sum(
            column_bytes(array, dictionary=False) * self.num_rows // max(1, len(array))
            for array, _ in self.columns
        )


class Several(Struct, frozen=True):
    """Pieces of several chunks, in order: what a share made.

    Attributes
    ----------
    num_rows, nbytes : int
        Of all parts together.
    """

    parts: tuple[Piece, ...]
    num_rows: int
    nbytes: int


Piece: TypeAlias = Any
"""What a stage makes: a RecordBatch, Table, Deferred, Dealt, Waiting, Encoded or Several."""


def piece_bytes(piece: Piece) -> int:
    """Give the bytes of a piece's rows, or of the stream they are encoded as."""
    known = isinstance(piece, Deferred | Several | Dealt | Waiting | Encoded)
    return int(piece.nbytes) if known else referenced_bytes(batches_of(piece))


def several(parts: Sequence[Piece]) -> Piece:
    """Give pieces as one."""
    if len(parts) == 1:
        return parts[0]
    rows = sum(part.num_rows for part in parts)
    return Several(tuple(parts), rows, sum(map(piece_bytes, parts)))


def parts_of(pieces: Sequence[Piece]) -> list[Piece]:
    """Give pieces none of which is several."""
    found: list[Piece] = []
    for piece in pieces:
        found += piece.parts if isinstance(piece, Several) else [piece]
    return found


def batches_of(piece: Piece) -> list[pa.RecordBatch]:
    """Give the batches of a piece that is written."""
    if isinstance(piece, Several):
        return [batch for part in piece.parts for batch in batches_of(part)]
    if isinstance(piece, Encoded):
        return decode(piece.stream).to_batches()
    return piece.to_batches() if isinstance(piece, pa.Table) else [piece]


def referenced_rows(pieces: Sequence[Piece], steps: Arrangement) -> pa.Table | None:
    """Give what is asked by reference, if pieces that lie whole are only cut, or put in buckets."""
    if len(steps) == 1 and isinstance(steps[0], Order) and steps[0].buckets is not None:
        return side_by_side(pieces, steps[0])
    if not all(isinstance(step, Take) for step in steps):
        return None
    batches = [_whole(piece) for piece in pieces]
    if any(batch is None for batch in batches):
        return None
    count = min(step.count for step in steps if isinstance(step, Take))
    return pa.Table.from_batches(batches).slice(0, count)


def _whole(piece: Piece) -> pa.RecordBatch | None:
    """Give a piece as a batch, if all rows of its columns are its rows."""
    if not isinstance(piece, Deferred):
        return piece
    if any(numbers is not None for _, numbers in piece.columns):
        return None
    return pa.RecordBatch.from_arrays([array for array, _ in piece.columns], schema=piece.schema)


def gather(pieces: Sequence[Piece], steps: Arrangement, pool: SegmentPool) -> pa.RecordBatch:
    """Give the rows of all pieces after orders and takes, each row written once.

    Parameters
    ----------
    pieces : sequence of RecordBatch or Deferred
        Of one schema; at least one.
    steps : tuple of Order or Take
        What is done with the rows, all pieces taken together.
    """
    parts = [_deferred(piece) for piece in pieces]
    schema = parts[0].schema
    rows = sum(part.num_rows for part in parts)
    names = {key.column for step in steps if isinstance(step, Order) for key in step.by}
    located: _Located = {}
    keys = {
        name: _written([part.columns[index] for part in parts], None, pool, located)
        for index, name in enumerate(schema.names)
        if name in names
    }
    places = places_of(keys, rows, steps)
    columns = [
        _written([part.columns[index] for part in parts], places, pool, located)
        for index in range(len(schema.names))
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def choose(batch: pa.RecordBatch, steps: Arrangement) -> Deferred:
    """Give the rows of a batch after orders and takes, unwritten."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    places = places_of(columns, batch.num_rows, steps) if steps else None
    rows = batch.num_rows if places is None else len(places)
    return Deferred(batch.schema, tuple((c, places) for c in batch.columns), rows)


def _deferred(piece: Piece) -> Deferred:
    return piece if isinstance(piece, Deferred) else choose(piece, ())


_Located = dict[tuple[int, ...], tuple[RowNumbers, RowNumbers]]
"""By the ids of row numbers and places: the part of each row, and its number there."""


def _written(
    parts: list[tuple[pa.Array, RowNumbers | None]],
    places: RowNumbers | None,
    pool: SegmentPool,
    located: _Located,
) -> pa.Array:
    """Write one column: the rows of all parts, or those of them that `places` numbers."""
    arrays = [array for array, _ in parts]
    if len(arrays) > 1 and gathers_parts(arrays):
        # Columns of a piece mostly have the same rows: where those are is computed once.
        key = (id(places), *(id(numbers) for _, numbers in parts))
        if key not in located:
            located[key] = _located(parts, places)
        return gather_parts(arrays, *located[key], pool)
    if len(arrays) > 1 and all(chosen is not None for _, chosen in parts):
        # pyarrow would put whole columns together to take a few rows of them.
        parts = [(take(array, pa.array(chosen)), None) for array, chosen in parts]
        arrays = [array for array, _ in parts]
    numbers = _numbers(parts)
    if places is not None:
        numbers = numbers[places]
    if len(arrays) > 1 and layout_of(arrays[0].type) not in {"views", "struct"}:
        whole = pa.chunked_array(arrays).take(pa.array(numbers))
        return whole.chunk(0) if whole.num_chunks == 1 else whole.combine_chunks()
    # pyarrow takes no rows of views; put together, only the 16-byte views are written twice.
    array = arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)
    return keep_rows(array, Selection(len(array), len(numbers), order=numbers), pool)


def _located(
    parts: list[tuple[pa.Array, RowNumbers | None]], places: RowNumbers | None
) -> tuple[RowNumbers, RowNumbers]:
    """Give the part of each row, and its number there; of those rows that `places` numbers."""
    rows = [np.arange(len(a), dtype=np.int64) if c is None else c for a, c in parts]
    owners = np.repeat(np.arange(len(parts)), [len(r) for r in rows])
    numbers = np.concatenate(rows).astype(np.int64, copy=False)
    return (owners, numbers) if places is None else (owners[places], numbers[places])


def _numbers(parts: list[tuple[pa.Array, RowNumbers | None]]) -> RowNumbers:
    """Give the row numbers of all parts, as if their arrays lay behind one another."""
    found, offset = [], 0
    for array, chosen in parts:
        found.append(offset + (np.arange(len(array)) if chosen is None else chosen))
        offset += len(array)
    return np.concatenate(found).astype(np.int64)


def places_of(keys: dict[str, pa.Array], rows: int, steps: Arrangement) -> np.ndarray[Any, Any]:
    """Give the row numbers that are left of `rows` rows, in their order, after `steps`."""
    places: RowNumbers | None = None
    for step in steps:
        if isinstance(step, Order):
            # The second order of two sees the rows as the first one left them.
            columns = [
                c if places is None else plain(c).take(pa.array(places)) for c in keys.values()
            ]
            batch = pa.RecordBatch.from_arrays(columns, names=list(keys))
            if step.buckets is None:
                found = first_places(step.by, batch, step.count)
            else:
                found = bucket_places(batch.column(step.by[0].column), step.buckets)
            places = found if places is None else places[found]
        elif places is None:
            places = np.arange(min(rows, step.count), dtype=np.int64)
        else:
            places = places[: step.count]
    return np.arange(rows, dtype=np.int64) if places is None else np.ascontiguousarray(places)
