"""A stream of batches that can be read only once: in rounds, or kept in memory at first use."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.data.chunk import ChunkRef
from wherry.data.decoding import Decoding
from wherry.data.fragments import MAX_CHUNK_ROWS, FragmentSource
from wherry.data.memory import Batches
from wherry.data.statistics import ChunkStatistics, ColumnStatistics
from wherry.data.types import check_schema

_NAME: Final = "memory"
_ROUND_BATCHES: Final = 16
_UNKNOWN: Final = ColumnStatistics(None, None, None)


class OneShot:
    """A `Source` over a RecordBatchReader, or whatever else has `__arrow_c_stream__`.

    A query that has to see the rows more than once, or to know how many there are, reads them all
    into memory, once for all queries. One that works batch by batch may take them in `rounds`,
    which keep nothing; then no other query can.
    """

    name = _NAME
    shards = None
    decodes = False

    def __init__(self, stream: Any) -> None:
        self._kind = type(stream).__name__
        try:
            self._reader = pa.RecordBatchReader.from_stream(stream)
        except pa.ArrowException as error:
            raise self._unreadable(error) from error
        self.schema = self._reader.schema
        check_schema(self.schema, "the stream")
        self._kept: FragmentSource | None = None
        self._taken = False
        self._lock = threading.Lock()

    def rounds(self) -> Iterator[FragmentSource]:
        """Give the rows as sources of a few batches each, in order; nothing of them is kept.

        Raises
        ------
        InputError
            When the stream was begun before, or fails.
        """
        with self._lock:
            self._check_there()
            self._taken = True
        batches: list[pa.RecordBatch] = []
        for batch in self._batches():
            batches.append(batch)
            rows = sum(b.num_rows for b in batches)
            if rows >= MAX_CHUNK_ROWS or len(batches) == _ROUND_BATCHES:
                yield self._round(batches)
                batches = []
        if batches:
            yield self._round(batches)

    @property
    def kept(self) -> bool:
        """Whether its rows are in memory already."""
        return self._kept is not None

    def _round(self, batches: Sequence[pa.RecordBatch]) -> FragmentSource:
        return FragmentSource(
            self.name, self.schema, (_Unmeasured("the stream", self.schema, batches),)
        )

    def _whole(self) -> FragmentSource:
        with self._lock:
            if self._kept is None:
                self._check_there()
                self._taken = True
                parts = (Batches("the stream", self.schema, list(self._batches())),)
                self._kept = FragmentSource(self.name, self.schema, parts)
            return self._kept

    def _check_there(self) -> None:
        if self._taken:
            raise InputError(
                f"the {self._kind} was read to its end or in part by an earlier stream(); "
                "it can be read once: scan a new one, or a table"
            )

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._reader
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"the {self._kind} cannot be read: {error}")

    @property
    def fragments(self) -> int:
        """One: all of it."""
        return 1

    @property
    def fingerprint(self) -> bytes:
        """Give the digest of the rows, which are read into memory for it."""
        return self._whole().fingerprint

    def chunks(self) -> tuple[ChunkRef, ...]:
        """Give every row once; they are read into memory for it."""
        return self._whole().chunks()

    def read(self, ref: ChunkRef, columns: Sequence[str]) -> pa.RecordBatch:
        """Give `columns` of the rows of `ref`, by reference to memory."""
        return self._whole().read(ref, columns)

    def few(self, refs: Sequence[ChunkRef], columns: Sequence[str]) -> list[pa.RecordBatch]:
        """Give the rows of several short references."""
        return self._whole().few(refs, columns)

    def decoding(self, ref: ChunkRef, columns: Sequence[str]) -> tuple[Decoding, ...]:
        """Give nothing: what is read is a reference to memory."""
        return self._whole().decoding(ref, columns)

    def late(self, refs: Sequence[ChunkRef], columns: Sequence[str]) -> None:
        """Give nothing: it lies in memory."""

    def statistics(self, ref: ChunkRef) -> ChunkStatistics:
        """Give the statistics of the batch that `ref` lies in."""
        return self._whole().statistics(ref)


class _Unmeasured(Batches):
    """Batches that are read once: measuring them would cost as much as the query.

    Without bounds, every round has the same program.
    """

    def statistics(self, batch: int) -> ChunkStatistics:
        return ChunkStatistics(self.rows[batch], dict.fromkeys(self.schema.names, _UNKNOWN))
