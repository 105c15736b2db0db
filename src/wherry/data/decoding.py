"""What it takes to have rows in memory that are not stored as they are used."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from msgspec import Struct

from wherry.data.chunk import referenced_bytes


class Decoding(Struct, frozen=True):
    """Columns that reading writes into memory, because they are not stored as they are used.

    Attributes
    ----------
    columns : tuple of str
        Which columns.
    stored_bytes : int
        Their bytes as stored: what comes from the media; 0 if no media hold them.
    why : str
        Why they are written, as the ledger says it.
    codec : str
        What undoing takes, if it is decompression and nothing else: "lz4", "zstd"; else "".
    """

    columns: tuple[str, ...]
    stored_bytes: int
    why: str
    codec: str = ""

    def share(self, offset: int, rows: int, of: int) -> Decoding:
        """Give the part of rows [offset, offset + rows) of `of`; parts add up to the whole."""
        if rows == of:
            return self
        before, after = (self.stored_bytes * row // of for row in (offset, offset + rows))
        return Decoding(self.columns, after - before, self.why, self.codec)


def repeated_from_path(columns: tuple[str, ...]) -> Decoding:
    """Give the decoding of partition columns: written, though no media hold them."""
    return Decoding(columns, 0, "repeated from the path")


class Packed(Struct, frozen=True):
    """Bytes that are decompressed by `codec` and nothing else: as stored, and as written."""

    codec: str
    stored_bytes: int
    written_bytes: int


class Reading(Struct, frozen=True):
    """What reading one chunk came to.

    Attributes
    ----------
    media_bytes : int
        Bytes as stored: what comes from the media, and travels to where the chunk is first used.
    decoded_bytes, repeated_bytes : int
        Bytes written by whoever uses the chunk first: from stored ones, or of values no media hold.
    whys : tuple of (str, int)
        The same bytes by the ledger's reasons.
    packed : tuple of Packed
        The part that an engine for its codec can decompress.
    """

    media_bytes: int
    decoded_bytes: int
    repeated_bytes: int
    whys: tuple[tuple[str, int], ...]
    packed: tuple[Packed, ...] = ()


def reading_of(batch: pa.RecordBatch, decodings: Iterable[Decoding]) -> Reading:
    """Give what reading `batch` came to; a column that was not decoded is one it refers to."""
    media = decoded = repeated = 0
    whys: list[tuple[str, int]] = []
    packed: list[Packed] = []
    left = list(batch.schema.names)
    for decoding in decodings:
        written = referenced_bytes([batch.select(list(decoding.columns))])
        whys.append((decoding.why, written))
        media += decoding.stored_bytes
        if decoding.codec:
            packed.append(Packed(decoding.codec, decoding.stored_bytes, written))
        decoded += written if decoding.stored_bytes else 0
        repeated += 0 if decoding.stored_bytes else written
        left = [name for name in left if name not in decoding.columns]
    media += referenced_bytes([batch.select(left)]) if left else 0
    return Reading(media, decoded, repeated, tuple(whys), tuple(packed))
