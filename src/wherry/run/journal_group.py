"""Group commit: who comes first commits for all who wait, so that one sync serves many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from wherry.run.journal_tables import Row

Operation = tuple[str, Row]
"""A statement and its values."""


class _Batch:
    """What one thread wants done, and what became of it."""

    __slots__ = ("done", "error", "wanted")

    def __init__(self, wanted: list[Operation]) -> None:
        self.wanted = wanted
        self.done = False
        self.error: Exception | None = None


class GroupCommit:
    """Gathers what threads want written while a commit is under way.

    Parameters
    ----------
    carry_out : callable
        Does a list of operations in one durable transaction, or nothing of it.
    """

    def __init__(self, carry_out: Callable[[list[Operation]], None]) -> None:
        self._carry_out = carry_out
        self._queued: list[_Batch] = []
        self._queue = threading.Lock()
        self.lock = threading.RLock()
        """Held by who commits."""

    @property
    def waiting(self) -> int:
        """How many batches nobody has begun to commit."""
        return len(self._queued)

    def write(self, done: list[Operation]) -> None:
        """Return when the operations are durable; raise what kept them from it."""
        batch = _Batch(done)
        with self._queue:
            self._queued.append(batch)
        with self.lock:
            if not batch.done:
                with self._queue:
                    batches, self._queued = self._queued, []
                self._commit(batches)
        if batch.error is not None:
            raise batch.error

    def _commit(self, batches: list[_Batch]) -> None:
        wanted = [one for batch in batches for one in batch.wanted]
        try:
            self._carry_out(wanted)
        except Exception as error:  # noqa: BLE001 - given to who asked
            if len(batches) > 1:
                for batch in batches:  # so that only who is to blame is told
                    self._commit([batch])
                return
            batches[0].error = error
        for batch in batches:
            batch.done = True
