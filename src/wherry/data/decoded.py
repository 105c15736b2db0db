"""Decoded columns that are cut into several chunks: kept until each chunk has been read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import pyarrow as pa
from msgspec import Struct, field

KEPT_BYTES = 128 << 20
"""Columns kept beyond the stored batch that is being read. More costs memory when a query stops
early; less decodes a batch again when its chunks are read far apart."""

Key = tuple[int, int, str]
"""Fragment, stored batch and column."""


class _Column(Struct):
    """A column of a stored batch in the making, and the offsets of chunks still to be read."""

    left: set[int]
    array: Future[pa.Array] = field(default_factory=Future)

    @property
    def nbytes(self) -> int:
        return int(self.array.result().nbytes) if self.array.done() else 0


class Decoded(Struct):
    """Decodes each column of a stored batch once, however many threads read chunks of it.

    A thread that needs a column that another is decoding decodes the next one meanwhile, so that
    the chunks of one batch, which are read at about the same time, share the work.
    """

    _columns: dict[Key, _Column] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(
        self,
        batch: tuple[int, int],
        names: Sequence[str],
        offset: int,
        offsets: Sequence[int],
        decode: Callable[[str], pa.Array],
    ) -> list[pa.Array]:
        """Give whole columns for the chunk at `offset`, which is one of `offsets`.

        Parameters
        ----------
        batch : (int, int)
            Fragment and stored batch.
        decode : callable
            Decodes a column of it; what it raises is raised here, and the next reader tries again.
        """
        found = [self._begun((*batch, name), offsets, decode) for name in names]
        arrays = [column.array.result() for column in found]
        with self._lock:
            for name, column in zip(names, found, strict=True):
                column.left.discard(offset)
                if not column.left and self._columns.get((*batch, name)) is column:
                    del self._columns[*batch, name]
            self._forget(batch)
        return arrays

    def _begun(
        self, key: Key, offsets: Sequence[int], decode: Callable[[str], pa.Array]
    ) -> _Column:
        with self._lock:
            column = self._columns.get(key)
            if column is not None:
                return column
            column = self._columns[key] = _Column(set(offsets))
        try:
            column.array.set_result(decode(key[2]))
        except BaseException as error:
            with self._lock:
                del self._columns[key]
            column.array.set_exception(error)
            raise
        return column

    def _forget(self, reading: tuple[int, int]) -> None:
        """Let the oldest columns of other batches go until few enough bytes are kept."""
        others = [key for key in self._columns if key[:2] != reading]
        kept = sum(self._columns[key].nbytes for key in others)
        for key in others:
            if kept <= KEPT_BYTES:
                break
            if self._columns[key].array.done():
                kept -= self._columns.pop(key).nbytes

    @property
    def kept_bytes(self) -> int:
        """Bytes of the columns that are kept."""
        with self._lock:
            return sum(column.nbytes for column in self._columns.values())
